"""What the tools of the paper's authors leave on disk (docs/from-the-paper.md): read, put right, or refused with the
reason."""

from __future__ import annotations

from pathlib import Path

from posewatch.errors import LabelError
from posewatch.names import folded
from posewatch.text import read_text


def read_label_map(path: Path | str) -> list[str]:
    """The classes of a ``label_map.txt``, one a line, in the order of their index. Raises LabelError."""
    names = [line.strip() for line in read_text(path, error=LabelError).splitlines()]
    while names and not names[-1]:
        names.pop()
    if "" in names:
        raise LabelError(f"{Path(path).name} line {names.index('') + 1} is empty: a class's index is its line")
    if len(names) < 2 or len(set(map(folded, names))) < len(names):
        raise LabelError(f"{Path(path).name} must name at least two different classes, one a line, not {names}")
    return names


def class_names(text: str | None) -> list[str]:
    """The classes that an option gives: the lines of a file such as ``label_map.txt``, else names between commas."""
    if not text:
        return []
    if Path(text).is_file():
        return read_label_map(text)
    return [name.strip() for name in text.split(",")]
