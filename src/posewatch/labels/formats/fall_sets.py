"""Public data sets of falls in which every moment has a posture or an act: OmniFall's labels and UR Fall Detection's.

OmniFall (arXiv 2505.19889) labels eight staged sets (CMDFall, UP-Fall, Le2i, GMDCSA-24, CAUCAFall, EDF, OCCU, MCFD),
accidents from the web and synthetic videos anew, with the same sixteen acts. Who lies where they fell is neither
falling nor up: without a class for that ("fallen") such moments stay unlabelled.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from posewatch.config import LabelConfig
from posewatch.datasets import tables
from posewatch.datasets.intervals import Interval
from posewatch.errors import LabelError
from posewatch.names import folded, readable
from posewatch.text import read_text

FALL, FALLEN, OTHER = "fall", "fallen", "other"
ACTS = (
    "walk", FALL, FALLEN, "sit_down", "sitting", "lie_down", "lying", "stand_up", "standing", OTHER,
    "kneel_down", "kneeling", "squat_down", "squatting", "crawl", "jump",
)  # fmt: skip
"""OmniFall's, by its numbers."""
OMNIFALL = ("path", "label", "start", "end", "subject", "cam", "dataset")
_URFD = re.compile(r"((?:fall|adl)-\d+)(-cam\d)?\s*,\s*(\d+)\s*,\s*(-1|0|1)\s*(?:,.*)?")
"""A sequence, a frame's number, and -1 for somebody up, 0 falling, 1 lying."""
_CAMERA = re.compile(r"-cam\d")
URFD_FPS = 30.0


def read(source: Path, config: LabelConfig, warn: Callable[[str], None]) -> list[Interval] | None:
    """The labels of such a file, or of a folder of them; None for what is none.

    An act has the class of its name; else falls have the class "fall" or the positive one, and all other acts but
    "fallen" the default one. Videos that were not ingested are no error. Raises LabelError for a row that is not like
    the others, and where no class is left for falls.
    """
    acts = [*_omnifall(source)] or [*_urfd(source)]
    if not acts:
        return None
    known = {folded(label): label for label in config.classes}
    falls = known.get(FALL, config.positive)
    if not falls:
        raise LabelError(f"{source.name}: none of {', '.join(config.classes)} is for falls: set labels.positive")
    if FALL not in known:
        warn(f"{source.name}: falls count as {falls!r}, no class is called {FALL!r}")
    classes = {folded(act): known.get(folded(act), config.default) for act in ACTS} | {FALL: falls}
    kept = [one for one in acts if one.act != FALLEN or FALLEN in known]
    if left := len(acts) - len(kept):
        warn(f"{source.name}: {left} times somebody lies where they fell: left out, no class is called {FALLEN!r}")
    return [replace(one, label=classes[folded(one.act)]) for one in kept]


def _sheets(source: Path) -> list[Path]:
    if source.is_file():
        return [source] if source.suffix.lower() == ".csv" else []
    return sorted([*source.glob("*.csv"), *source.glob("labels/*.csv")])


def _act(file: str, start_s: float, end_s: float, act: str, where: str) -> Interval:
    """What is done, before it has a class."""
    return Interval(file, start_s, end_s, "", where, act=act, listed=True)


def _omnifall(source: Path) -> Iterator[Interval]:
    """``labels/<set>.csv``: path (without suffix), act's number, start and end in seconds, subject, camera, set."""
    for sheet in _sheets(source):
        if not _is_omnifall(sheet):
            continue
        for row in tables.table(sheet, OMNIFALL):
            where, number = f"{readable(sheet.name)} row {row.number}", row["label"].strip()
            if not number.isdecimal() or int(number) >= len(ACTS):
                raise LabelError(f"{where}: label {number!r} is none of OmniFall's 0 to {len(ACTS) - 1}")
            start, end = (tables.positive_seconds(row, name, where) for name in ("start", "end"))
            if end > start:  # a few of its stretches have no length
                yield _act(row["path"].strip(), start, end, ACTS[int(number)], where)


def _is_omnifall(sheet: Path) -> bool:
    try:
        return set(OMNIFALL) <= set(tables.header(sheet))
    except LabelError:
        return False


def _urfd(source: Path) -> Iterator[Interval]:
    """``urfall-cam0-falls.csv``: a row for each frame of ``fall-01-cam0.mp4``; of ADL sequences all is everyday."""
    for sheet in _sheets(source):
        camera = _CAMERA.search(sheet.name)
        for (file, act), run in groupby(_frames(sheet, camera[0] if camera else "-cam0"), lambda row: row[:2]):
            frames = [frame for *_, frame in run]
            where = f"{readable(sheet.name)}, frame {frames[0]} of {file}"
            yield _act(file, (frames[0] - 1) / URFD_FPS, frames[-1] / URFD_FPS, act, where)


def _frames(sheet: Path, camera: str) -> Iterator[tuple[str, str, int]]:
    """(video, act, frame) of each frame that a sheet lists; none for somebody else's sheet."""
    try:
        lines = read_text(sheet, error=LabelError).splitlines()
    except LabelError:
        return
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        found = _URFD.fullmatch(line.strip())
        if found is None:
            if number == 1:
                return
            where = f"{readable(sheet.name)} row {number}"
            raise LabelError(f"{where}: {line[:60]!r} is not like the rows before: correct it")
        falls = found[1].startswith("fall")
        act = {"-1": OTHER, "0": FALL if falls else "lie_down", "1": FALLEN if falls else "lying"}[found[4]]
        yield f"{found[1]}{found[2] or camera}", act, int(found[3])
