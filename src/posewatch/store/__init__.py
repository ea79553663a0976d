"""Object stores behind one URI scheme: S3, a local folder, or memory (the shipped double).

    s3://bucket[/prefix]     endpoint and credentials come from the environment, see `s3.S3Store`
    file:///folder, folder   a local folder
    memory://name            this process only, for tests

Every write is whole or absent: a reader never sees half an object.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from posewatch.errors import InputError, NotFound
from posewatch.names import path_of
from posewatch.store.base import ObjectInfo, ObjectStore
from posewatch.store.folder import FolderStore
from posewatch.store.memory import MemoryStore
from posewatch.store.s3 import S3Store

__all__ = ["FolderStore", "MemoryStore", "ObjectInfo", "ObjectStore", "S3Store", "local_copy", "open_store"]


def open_store(uri: str | None = None) -> ObjectStore:
    """Open the store that ``uri`` names, by default POSEWATCH_STORE. Raises InputError for an unknown scheme."""
    uri = uri or os.environ.get("POSEWATCH_STORE", "")
    if not uri:
        raise InputError(
            "no object store: give --store (s3://bucket or a folder), set POSEWATCH_STORE, or run `posewatch up`"
        )
    scheme, sep, rest = uri.partition("://")
    if not sep:
        return FolderStore(uri)
    if scheme == "s3":
        bucket, _, prefix = rest.partition("/")
        if not bucket:
            raise InputError(f"no bucket in {uri!r}: write s3://bucket/prefix")
        return S3Store(bucket, prefix)
    if scheme == "file":
        return FolderStore(path_of(uri))
    if scheme == "memory":
        return MemoryStore(rest)
    raise InputError(f"unknown store {uri!r}: s3://bucket, file:///folder, a folder, or memory://name")


@contextmanager
def local_copy(source: str) -> Iterator[Path]:
    """A local file or folder for ``source``: itself, or a temporary copy of what is below an ``s3://`` URI.

    Raises NotFound where there is nothing below the URI.
    """
    scheme, sep, rest = source.partition("://")
    if not sep or scheme == "file":
        yield path_of(source)
        return
    head, _, key = rest.partition("/")
    store = open_store(f"{scheme}://{head}")
    # The slash asks for this folder alone, without its neighbours of a longer name. And some versions of SeaweedFS
    # (4.08 to 4.12) tell only the first thousand objects of a prefix that ends within a name (seaweedfs#8287).
    objects = store.list(f"{key.rstrip('/')}/" if key else "")
    if not objects and key and not key.endswith("/") and store.exists(key):
        objects = [ObjectInfo(key, 0)]
    if not objects:
        raise NotFound(f"nothing below {source} (check the bucket and the prefix)")
    with tempfile.TemporaryDirectory(prefix="posewatch-source-") as temp:
        for item in objects:
            path = Path(temp) / (item.key[len(key) :].lstrip("/") or Path(item.key).name)
            path.parent.mkdir(parents=True, exist_ok=True)
            store.fetch(item.key, path)
        yield Path(temp) / Path(key).name if len(objects) == 1 and objects[0].key == key else Path(temp)
