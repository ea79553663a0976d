"""The annotations of the GMDCSA-24 fall data set (Subject_<n>_<Fall|ADL>.csv beside Subject_<n>_<Fall|ADL>_<nn>.mp4).

Its ``Classes`` column was written by hand: brackets are missing, a class may have several stretches or none at all.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path

from posewatch.config import LabelConfig
from posewatch.datasets.intervals import Interval
from posewatch.datasets.tables import table
from posewatch.errors import LabelError
from posewatch.names import nfc, readable
from posewatch.video.files import SUFFIXES

log = logging.getLogger(__name__)

PATTERN = re.compile(r"^(?P<prefix>.*_(?P<kind>Fall|ADL))\.csv$")
_NUMBER = r"\d+(?:\.\d+)?"
_TOKEN = re.compile(
    rf"(?P<pair>({_NUMBER})(?:\s*(?:to|-|–)\s*|\s+)({_NUMBER}))|(?P<number>{_NUMBER})"
    r"|(?P<name>(?!to\b)[A-Za-z][A-Za-z /&]*(?:\(\s*[A-Za-z]+\s*\)?)?)"
)


def read_gmdcsa24(
    folder: str | Path,
    config: LabelConfig | None = None,
    warn: Callable[[str], None] = log.warning,
) -> list[Interval]:
    """Intervals of the videos in ``folder``: classes that begin with "Fall" are the positive class, others
    the default; the class is the interval's act.

    Rows of missing videos are skipped. ``warn`` is called with one line for each entry that cannot be read. A video of
    a fall without a readable time for it gets no interval at all: its other intervals would label the fall as normal.
    Raises LabelError when the folder holds no such csv, or none of the videos.
    """
    folder, config = Path(folder), config or LabelConfig()
    sheets = [(path, match) for path in sorted(folder.glob("*.csv")) if (match := PATTERN.match(path.name))]
    if not sheets:
        raise LabelError(f"no GMDCSA-24 annotations in {folder}: expected files such as Subject_1_Fall.csv")
    out: list[Interval] = []
    videos = {nfc(readable(path.name)) for path in folder.iterdir() if path.suffix.lower() in SUFFIXES}
    seen: set[str] = set()
    for path, match in sheets:
        for row in table(path, ("File Name", "Classes")):
            name, prefix = nfc(row["File Name"].strip()), nfc(match["prefix"])
            name = name if name.startswith(prefix) else f"{prefix}_{name}"
            if name not in videos:
                continue
            seen.add(name)
            where = f"{path.name} row {row.number}"
            # An unquoted comma in the description shifts the columns; the classes are always in the last one.
            classes = next((c.strip() for c in (*row[""][::-1], row["Classes"]) if c.strip()), "")
            stretches, problems = parse_classes(classes)
            for problem in problems:
                warn(f"{where} ({name}): {problem}")
            falls = [s for s in stretches if s[0].lower().startswith("fall")]
            if (match["kind"] == "Fall" and not falls) or not stretches:
                warn(f"{where} ({name}): no readable time in {classes!r}, the video stays unlabelled")
                continue
            for stretch in stretches:
                label = config.positive if stretch in falls else config.default
                out.append(Interval(name, stretch[1], stretch[2], label, where, act=stretch[0]))
    for path, match in sheets:
        for video in sorted(videos - seen):
            if video.startswith(f"{nfc(match['prefix'])}_"):
                warn(f"{path.name} has no row for {video}, the video stays unlabelled")
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
