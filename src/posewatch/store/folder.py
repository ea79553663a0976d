"""An object store in a local folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from posewatch.errors import NotFound, StoreError
from posewatch.files import atomic
from posewatch.names import uri_of
from posewatch.store.base import ObjectInfo, check_key


class FolderStore:
    """One file per object below ``root``; hidden files are writes that have not ended."""

    shared = True

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).expanduser().resolve()
        self.uri = uri_of(self.root)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.root,)

    def get(self, key: str) -> bytes:
        try:
            return self._path(key).read_bytes()
        except (FileNotFoundError, IsADirectoryError):
            raise NotFound(f"no such object: {self.uri}/{key}") from None

    def put(self, key: str, data: bytes) -> None:
        self._write(key, lambda path: path.write_bytes(data))

    def fetch(self, key: str, path: Path) -> Path:
        try:
            shutil.copyfile(self._path(key), path)
        except (FileNotFoundError, IsADirectoryError):
            if self.exists(key):
                raise
            raise NotFound(f"no such object: {self.uri}/{key}") from None
        return path

    def upload(self, key: str, path: Path) -> None:
        self._write(key, lambda to: shutil.copyfile(path, to))

    def exists(self, key: str) -> bool:
        return self._path(key).is_file()

    def list(self, prefix: str = "") -> list[ObjectInfo]:
        objects = []
        base = self.root / prefix.rpartition("/")[0]
        for folder, _, files in os.walk(base):
            for name in files:
                path = Path(folder) / name
                key = path.relative_to(self.root).as_posix()
                if key.startswith(prefix) and not (name.startswith(".") and ".part" in name):
                    with suppress(FileNotFoundError):  # somebody deletes it meanwhile
                        objects.append(ObjectInfo(key, path.stat().st_size))
        return sorted(objects, key=lambda o: o.key)

    def folders(self, prefix: str) -> tuple[str, ...]:
        try:
            with os.scandir(self.root / prefix) as entries:
                below = [entry for entry in entries if entry.is_dir()]
        except (FileNotFoundError, NotADirectoryError):
            return ()
        # deleted objects leave their folders behind
        return tuple(sorted(one.name for one in below if any(files for _, _, files in os.walk(one.path))))

    def delete(self, key: str) -> None:
        self._path(key).unlink(missing_ok=True)

    def url(self, key: str, expires_s: int = 3600) -> str:
        return str(self._path(key))

    def _path(self, key: str) -> Path:
        return self.root / check_key(key)

    def _write(self, key: str, write: Callable[[Path], object]) -> None:
        path = self._path(key)
        try:
            with atomic(path, marked=False) as partial:
                write(partial)
        except OSError as error:
            # a copy names the file that it reads, which is on another disk, as the one that failed
            own = error.filename2 or error.filename in (None, str(path))
            place = "" if own else f"{error.filename}: "
            raise StoreError(
                f"cannot write {path}: {place}{error.strerror} (check the disk and the folder's permissions)"
            ) from None
