"""Files are written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path


def write_atomically(path: Path, data: bytes) -> None:
    # Nodes of one training may share a disk: each has a name of its own, as they write at the same time.
    node = os.environ.get("GROUP_RANK", "0")
    partial = path.with_name(f".{path.name}{'' if node == '0' else '.' + node}.part")
    partial.write_bytes(data)
    partial.replace(path)
