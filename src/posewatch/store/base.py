"""The ObjectStore protocol and what all stores share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from posewatch.errors import InputError


@dataclass(frozen=True)
class ObjectInfo:
    """A stored object: its key below the store's root, and its size in bytes."""

    key: str
    size: int


class ObjectStore(Protocol):
    """A flat map from keys ("a/b/c") to bytes, rooted at ``uri``.

    Raises NotFound, AccessDenied or Unreachable; each names the object or the bucket. A store can be pickled: another
    process opens its own connections.
    """

    uri: str
    shared: bool
    """Whether another process that opens ``uri`` sees the same objects."""

    def get(self, key: str) -> bytes:
        """The bytes of one object."""
        ...

    def put(self, key: str, data: bytes) -> None:
        """Write one object; an existing one is replaced."""
        ...

    def fetch(self, key: str, path: Path) -> Path:
        """Copy one object into a local file and return its path."""
        ...

    def upload(self, key: str, path: Path) -> None:
        """Copy a local file into one object."""
        ...

    def exists(self, key: str) -> bool: ...

    def list(self, prefix: str = "") -> list[ObjectInfo]:
        """All objects whose key starts with ``prefix``, sorted by key."""
        ...

    def folders(self, prefix: str) -> tuple[str, ...]:
        """The names that follow ``prefix`` ("a/b/") before the next "/", sorted: what lies below is not listed.

        Some servers (SeaweedFS) go on naming a folder for a while whose objects were deleted.
        """
        ...

    def delete(self, key: str) -> None:
        """Remove one object; a missing one is no error."""
        ...

    def url(self, key: str, expires_s: int = 3600) -> str:
        """A URL (or a local path) from which a browser reads the object for ``expires_s`` seconds."""
        ...


def check_key(key: str) -> str:
    """The key itself. Raises InputError for one that could leave the store's root."""
    if not key or key.startswith("/") or "\\" in key or any(part in ("", ".", "..") for part in key.split("/")):
        raise InputError(f"bad object key: {key!r} (parts joined by '/', none of them empty or '..')")
    return key
