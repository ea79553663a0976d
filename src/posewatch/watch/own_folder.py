"""A folder that one process at a time may write: what waits in it must not be sent twice."""

from __future__ import annotations

import fcntl
from pathlib import Path

from posewatch.errors import InputError


class OwnFolder:
    """Makes ``folder``, and holds it locked until ``close``. Raises InputError when another process has it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self._lock = folder, (folder / ".lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.close()
            raise InputError(f"{folder} is in use by another watcher: give each its own --out") from None

    def close(self) -> None:
        """Release the folder."""
        self._lock.close()
