"""Clips of single persons in a folder as the paper's tools leave it, for `posewatch bench paper`.

``train/``, ``val/`` and ``test/`` hold ``<video>_<person>_<i>.mp4``, dealt at random as the tools deal them, and a
``label.csv`` without a header.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from posewatch import video
from posewatch.files import write_atomically
from posewatch.perception.persons import Person

PARTS = {"train": 0.7, "val": 0.1, "test": 0.2}
"""Parts and their shares of the clips."""


class PersonClips:
    """The folder ``out``; ``classes`` are the names of the labels 0, 1, ..."""

    def __init__(self, out: Path, classes: Sequence[str], seed: int) -> None:
        self._out, self._classes, self._rng = Path(out), tuple(classes), np.random.default_rng(seed)
        self._rows: dict[str, list[str]] = {part: [] for part in PARTS}
        for part in PARTS:
            (self._out / part).mkdir(parents=True, exist_ok=True)

    def add(
        self, name: str, person: Person, masked: Path, windows: Sequence[tuple[int, int]], labels: list[int]
    ) -> None:
        """The clips of a person of the video ``name``: ``windows`` (first frame, frames) of the scene with their
        labels, cut out of the person's video ``masked``."""
        with tempfile.TemporaryDirectory(prefix=".clips-", dir=self._out) as temp:
            for i, span in enumerate(video.cut(masked, Path(temp), windows, person.first)):
                part = str(self._rng.choice(list(PARTS), p=list(PARTS.values())))
                clip = f"{name}_{person.person}_{i}.mp4"
                span.path.replace(self._out / part / clip)
                self._rows[part].append(f"{clip}, {self._classes[labels[i]]}\n")

    def finish(self) -> None:
        """Write the label files."""
        for part, rows in self._rows.items():
            write_atomically(self._out / part / "label.csv", "".join(rows))
