"""The annotations of the GMDCSA-24 fall data set: ``Subject <n>/<Fall|ADL>.csv`` beside the folder of its videos, as
its authors publish it, or flat, ``Subject_<n>_<Fall|ADL>.csv`` beside ``Subject_<n>_<Fall|ADL>_<nn>.mp4``.

Its ``Classes`` column was written by hand: brackets are missing, a class may have several stretches or none at all.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from posewatch.config import LabelConfig
from posewatch.datasets import tables
from posewatch.datasets.intervals import Interval
from posewatch.errors import LabelError
from posewatch.names import nfc, readable
from posewatch.video.files import SUFFIXES

log = logging.getLogger(__name__)

_FLAT = re.compile(r"(?P<prefix>.*_(?P<kind>Fall|ADL))\.csv")
_TREE = re.compile(r"(?P<kind>Fall|ADL)\.csv", re.IGNORECASE)
COLUMNS = ("File Name", "Classes")
_NUMBER = r"\d+(?:\.\d+)?"
_TOKEN = re.compile(
    rf"(?P<pair>({_NUMBER})(?:\s*(?:to|-|–)\s*|\s+)({_NUMBER}))|(?P<number>{_NUMBER})"
    r"|(?P<name>(?!to\b)[A-Za-z][A-Za-z /&]*(?:\(\s*[A-Za-z]+\s*\)?)?)"
)


@dataclass(frozen=True)
class Sheet:
    """One csv: its ``path``, whether its videos show falls, and its ``videos``: name in a row → path in the folder."""

    path: Path
    falls: bool
    videos: dict[str, str]


def is_sheet(path: Path) -> bool:
    """Whether a file is such a csv, by its name; one with a name that others may have, by its columns, too."""
    if _FLAT.fullmatch(path.name):
        return True
    if not _TREE.fullmatch(path.name) or not path.is_file():
        return False
    with contextlib.suppress(LabelError):
        return {tables.key_of(name) for name in COLUMNS} <= set(tables.header(path))
    return False


def sheets_of(folder: Path) -> list[Sheet]:
    """The csv files in ``folder`` and up to two folders deeper, as the data set is unpacked."""
    found = []
    for path in sorted(chain.from_iterable(folder.glob(f"{depth}*.csv") for depth in ("", "*/", "*/*/"))):
        if not is_sheet(path):
            continue
        base = path.parent.relative_to(folder)
        if flat := _FLAT.fullmatch(path.name):
            prefix = f"{nfc(readable(flat['prefix']))}_"
            own = {name: name for name in _videos(path.parent) if name.startswith(prefix)}
            own |= {name.removeprefix(prefix): name for name in own}
        else:
            own = {}
            for beside in path.parent.iterdir():
                if beside.is_dir() and beside.name.lower() == path.stem.lower():
                    own |= {name: f"{nfc(readable(beside.name))}/{name}" for name in _videos(beside)}
        within = "" if base == Path() else f"{nfc(readable(base.as_posix()))}/"
        videos = {name: f"{within}{video}" for name, video in own.items()}
        found.append(Sheet(path, path.stem.lower().endswith("fall"), videos))
    return found


def _videos(folder: Path) -> list[str]:
    return sorted(nfc(readable(path.name)) for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)


def read_gmdcsa24(
    folder: str | Path,
    config: LabelConfig | None = None,
    warn: Callable[[str], None] = log.warning,
) -> list[Interval]:
    """Intervals of the videos in ``folder``: classes that begin with "Fall" are the positive class, others
    the default; the class is the interval's act. Videos are named by their path in the folder.

    Rows of missing videos are skipped. ``warn`` is called with one line for each entry that cannot be read. A video of
    a fall without a readable time for it gets no interval at all: its other intervals would label the fall as normal.
    Raises LabelError when the folder holds no such csv, or none of the videos.
    """
    folder, config = Path(folder), config or LabelConfig()
    sheets = sheets_of(folder)
    if not sheets:
        raise LabelError(
            f"no GMDCSA-24 annotations in {folder}: expected files such as Subject 1/Fall.csv, or Subject_1_Fall.csv"
        )
    out: list[Interval] = []
    for sheet in sheets:
        seen: set[str] = set()
        told = sheet.path.relative_to(folder).as_posix()
        for row in tables.table(sheet.path, COLUMNS):
            name = sheet.videos.get(nfc(row["File Name"].strip()))
            if name is None:
                continue
            seen.add(name)
            where = f"{told} row {row.number}"
            # An unquoted comma in the description shifts the columns; the classes are always in the last one.
            classes = next((c.strip() for c in (*row[""][::-1], row["Classes"]) if c.strip()), "")
            stretches, problems = parse_classes(classes)
            for problem in problems:
                warn(f"{where} ({name}): {problem}")
            falls = [s for s in stretches if s[0].lower().startswith("fall")]
            if (sheet.falls and not falls) or not stretches:
                warn(f"{where} ({name}): no readable time in {classes!r}, the video stays unlabelled")
                continue
            for stretch in stretches:
                label = config.positive if stretch in falls else config.default
                out.append(Interval(name, stretch[1], stretch[2], label, where, act=stretch[0]))
        for video in sorted(set(sheet.videos.values()) - seen):
            warn(f"{told} has no row for {video}, the video stays unlabelled")
    if not out:
        raise LabelError(f"the GMDCSA-24 annotations in {folder} name none of its videos")
    return out


def parse_classes(text: str) -> tuple[list[tuple[str, float, float]], list[str]]:
    """ "Falling (SW)[3.4 to 6]; Sitting[0 to 1; 2 to 3]" → (class, start_s, end_s) of each, and the errors in it."""
    out: list[tuple[str, float, float]] = []
    problems: list[str] = []
    name, timed = "", True
    for token in _TOKEN.finditer(text):
        if token["name"]:
            if not timed:
                problems.append(f"{name!r} has no time")
            name, timed = token["name"].strip(), False
        elif token["pair"]:
            start, end = float(token[2]), float(token[3])
            timed = True
            if not name:
                problems.append(f"the time {token['pair']!r} has no class")
            elif end <= start:
                problems.append(f"{name!r} ends at {end:g} s before it starts at {start:g} s")
            else:
                out.append((name, start, end))
        else:
            problems.append(f"the time {token['number']!r} of {name!r} is only half a stretch")
            timed = True
    if not timed:
        problems.append(f"{name!r} has no time")
    return out, problems
