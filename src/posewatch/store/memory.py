"""An object store in memory: the shipped double."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from posewatch.errors import NotFound
from posewatch.store.base import ObjectInfo, check_key


class MemoryStore:
    """Objects live in this process, shared by all who open the same name."""

    _all: ClassVar[dict[str, dict[str, bytes]]] = {}
    shared = False

    def __init__(self, name: str = "default") -> None:
        self.name, self.uri = name, f"memory://{name}"
        self._objects = self._all.setdefault(name, {})

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.name,)

    def get(self, key: str) -> bytes:
        try:
            return self._objects[check_key(key)]
        except KeyError:
            raise NotFound(f"no such object: {self.uri}/{key}") from None

    def put(self, key: str, data: bytes) -> None:
        self._objects[check_key(key)] = bytes(data)

    def fetch(self, key: str, path: Path) -> Path:
        path.write_bytes(self.get(key))
        return path

    def upload(self, key: str, path: Path) -> None:
        self.put(key, path.read_bytes())

    def exists(self, key: str) -> bool:
        return check_key(key) in self._objects

    def list(self, prefix: str = "") -> list[ObjectInfo]:
        return [ObjectInfo(k, len(v)) for k, v in sorted(self._objects.items()) if k.startswith(prefix)]

    def folders(self, prefix: str) -> tuple[str, ...]:
        rests = (key[len(prefix) :] for key in list(self._objects) if key.startswith(prefix))
        return tuple(sorted({rest.partition("/")[0] for rest in rests if "/" in rest}))

    def delete(self, key: str) -> None:
        self._objects.pop(check_key(key), None)

    def url(self, key: str, expires_s: int = 3600) -> str:
        return f"{self.uri}/{key}"
