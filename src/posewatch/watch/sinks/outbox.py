"""A durable queue of messages: one file per message in a folder, which outlives the process.

A message is complete from the moment its file exists, and stays until it is removed or refused. What a process left
when it ended, or was killed, is found by the next one on the same folder.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from posewatch.files import write_durably
from posewatch.watch.own_folder import OwnFolder


class Outbox(OwnFolder):
    """A folder of messages, in the order in which they were put; locked until ``close``.

    Raises InputError when another process has the folder.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._last = max((int(path.name[:20]) for path in self.messages()), default=0)

    def put(self, key: str, message: Mapping[str, Any]) -> None:
        """Queue a message; it is on disk when this returns. ``key`` names it for the receiver."""
        body = json.dumps({"key": key, "message": message}, ensure_ascii=False, sort_keys=True).encode()
        name = "".join(c if c.isalnum() or c in "-_" else "_" for c in key)[:80]
        self._last = max(time.time_ns(), self._last + 1)  # a clock that was set back changes no order
        write_durably(self.folder / f"{self._last:020d}-{name}.json", body)

    def messages(self) -> list[Path]:
        """The files of the queued messages, the oldest first."""
        return sorted(self.folder.glob("[0-9]" * 20 + "-*.json"))

    def read(self, path: Path) -> tuple[str, dict[str, Any]]:
        """Key and content of a message. Raises ValueError for a file that is no message."""
        record = json.loads(path.read_bytes())
        try:
            return str(record["key"]), record["message"]
        except (KeyError, TypeError):
            raise ValueError(f"{path.name} is no message") from None

    def remove(self, path: Path) -> None:
        """Delete a message that was delivered."""
        path.unlink(missing_ok=True)

    def refuse(self, path: Path) -> Path:
        """Move a message that the receiver refuses to the folder ``refused``; returns its new path."""
        target = self.folder / "refused" / path.name
        target.parent.mkdir(exist_ok=True)
        path.replace(target)
        return target
