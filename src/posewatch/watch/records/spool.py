"""Records on disk until they are in the object store: what a killed process wrote is found by the next one.

A record is a folder, there from the moment it has its name:

    about.json     what alarm.json will hold; with ``"closed": true`` once nothing more is written
    windows.jsonl  one row per window, and windows.npys with its keypoints as arrays one after the other
    people.jsonl   one row per frame; masked/<index>.jpg, and raw/<index>.jpg
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch.files import sync_folder, write_durably
from posewatch.perception.ports import Image
from posewatch.watch.own_folder import OwnFolder

ABOUT, ROWS, ARRAYS, PEOPLE = "about.json", "windows.jsonl", "windows.npys", "people.jsonl"
_BAD = "bad"
_QUALITY = 92
"""Of the JPEG files: the clip is made from them."""


class OpenRecord:
    """A record that is being written, in ``folder``. ``about`` is written durably when it begins, and on ``update``."""

    def __init__(self, folder: Path, about: dict[str, Any]) -> None:
        self.folder, self.about = folder, about
        draft = folder.with_name(f".{folder.name}.new")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        _durable(draft / ABOUT, about)
        draft.rename(folder)
        sync_folder(folder.parent)

    def update(self, **changes: Any) -> None:
        """Change what is known about the record."""
        self.about |= changes
        _durable(self.folder / ABOUT, self.about)

    def window(self, row: dict[str, Any], keypoints: NDArray[np.float32] | None) -> None:
        """A window; ``keypoints`` (M, T, V, 3) if anybody was seen."""
        if keypoints is not None:
            with (self.folder / ARRAYS).open("ab") as file:
                np.save(file, keypoints.astype(np.float32))
        _append(self.folder / ROWS, {**row, "seen": keypoints is not None})

    def frame(self, index: int, row: dict[str, Any], masked: Image | None, raw: Image | None) -> None:
        """A frame, uint8 (H, W, 3) RGB, by its place on the grid of frames."""
        _append(self.folder / PEOPLE, {"index": index, **row})
        for name, image in (("masked", masked), ("raw", raw)):
            if image is not None:
                _jpeg(self.folder / name / f"{index:09d}.jpg", image)

    def close(self) -> None:
        """Nothing more is written: the record may be stored."""
        self.update(closed=True)


class Spool(OwnFolder):
    """The records in ``folder``; locked until ``close``. Raises InputError when another process has it."""

    def folders(self) -> list[Path]:
        """The records, the oldest first."""
        found = []
        for path in self.folder.iterdir():
            with suppress(FileNotFoundError):  # stored and deleted meanwhile
                if path.is_dir() and path.name[0] != "." and path.name != _BAD:
                    found.append((path.stat().st_ctime_ns, path))
        return [path for _, path in sorted(found)]

    def read(self, folder: Path) -> dict[str, Any]:
        """What is known about a record. Raises ValueError for a folder that is none."""
        try:
            about = json.loads((folder / ABOUT).read_bytes())
        except FileNotFoundError:
            raise ValueError(f"{folder} is no record") from None
        if not isinstance(about, dict):
            raise ValueError(f"{folder} is no record")
        return about

    def rewrite(self, folder: Path, about: dict[str, Any]) -> None:
        """Replace what is known about a record."""
        _durable(folder / ABOUT, about)

    def remove(self, folder: Path) -> None:
        """Delete a record that is stored: it is gone at once, its files after that."""
        gone = folder.with_name(f".{folder.name}.gone")
        folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)

    def refuse(self, folder: Path) -> Path:
        """Put a folder aside that is no record; returns its new path."""
        target = self.folder / _BAD / folder.name
        target.parent.mkdir(exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        folder.rename(target)
        return target

    def tidy(self) -> None:
        """Delete what a killed process was about to make or to delete."""
        for path in (*self.folder.glob(".*.new"), *self.folder.glob(".*.gone")):
            shutil.rmtree(path, ignore_errors=True)


def windows_of(folder: Path) -> list[tuple[dict[str, Any], NDArray[np.float32] | None]]:
    """The whole windows of a record: rows and keypoints. A last one that was cut off is left out."""
    rows, found = list(lines(folder / ROWS)), []
    arrays = (folder / ARRAYS).open("rb") if (folder / ARRAYS).exists() else None
    try:
        for row in rows:
            seen = row.pop("seen", False)
            if seen and arrays is None:
                break
            try:
                keypoints = np.load(arrays, allow_pickle=False) if seen and arrays is not None else None
            except (ValueError, EOFError):
                break
            found.append((row, keypoints))
    finally:
        if arrays is not None:
            arrays.close()
    return found


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a file of JSON lines; none where there is no file."""
    with suppress(FileNotFoundError):
        for line in path.read_bytes().split(b"\n"):
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict):
                yield row


def _append(path: Path, row: dict[str, Any]) -> None:
    with path.open("ab") as file:
        file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")


def _jpeg(path: Path, image: Image) -> None:
    import cv2

    path.parent.mkdir(exist_ok=True)
    _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    path.write_bytes(data.tobytes())


def _durable(path: Path, content: dict[str, Any]) -> None:
    write_durably(path, json.dumps(content, ensure_ascii=False, sort_keys=True).encode())
