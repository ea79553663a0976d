"""What BORIS's aggregated events (csv, tsv) say beside times and behaviours, by its ``export_observation.py``.

Times count from the beginning of an observation. Where its player has several files, the second one begins where the
first ends, and so on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import accumulate

from posewatch.datasets.tables import key_of
from posewatch.errors import LabelError

_FIRST_PLAYER = re.compile(r"player #1:(?P<files>[^|]*)")
Part = tuple[str, float, float]


def is_point(row: Mapping[str, object]) -> bool:
    """Whether a row is an event at one moment, which has no length."""
    told = {key_of(name): value for name, value in row.items() if name}
    return str(told.get("behavior_type", "")).strip().upper() == "POINT"


def parts(row: Mapping[str, object], file: str, start: float, end: float, where: str) -> Iterator[Part]:
    """(file, start, end) in seconds of each file: the row's own, but for an observation of several. Raises LabelError
    where their lengths are no numbers."""
    told = {key_of(name): str(value) for name, value in row.items() if name}
    player = _FIRST_PLAYER.match(told.get("source", "").strip())
    files = [name.strip() for name in player["files"].split(";")] if player else []
    if len(files) < 2:
        yield file, start, end
        return
    given = told.get("media_duration_s", "").split("|")[0].split(";")
    try:
        ends = list(accumulate(float(text) for text in given))
    except ValueError:
        ends = []
    if len(ends) != len(files):
        raise LabelError(f"{where}: the lengths of the {len(files)} files are not told: export each observation anew")
    for name, since, until in zip(files, [0.0, *ends], [*ends[:-1], float("inf")], strict=False):
        if start < until and end > since:
            yield name, max(0.0, start - since), min(end, until) - since
