"""What verdicts say of a watcher: the precision of its alarms, and the share of random moments that it missed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate

from posewatch.labels.verdicts import VERDICTS, Verdict, counting

RIGHT, WRONG = ("true",), ("false", "not_a_person")
FEWEST = 30
"""Samples with a verdict from which on a share of them says something."""
DELAYS_S = (60, 300, 900, 3600, 14_400, 86_400, 604_800)
"""Bounds of the time from an alarm to its first verdict."""
VERSIONS, OLDER = 10, "older"
"""Versions of the model that figures name, those with the latest records; what the others have together. Each is some
series for each camera, and ``refresh`` makes versions for ever."""
_Z = 1.959964
_About = tuple[str, str, str, str]


@dataclass(frozen=True)
class Share:
    """``hits`` of ``n``, and Wilson's 95 % interval of that share."""

    hits: int
    n: int

    @property
    def share(self) -> float:
        return self.hits / self.n if self.n else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson (1927), doi:10.1080/01621459.1927.10502953."""
        if not self.n:
            return 0.0, 1.0
        p, z2 = self.share, _Z**2 / self.n
        middle, half = p + z2 / 2, _Z * math.sqrt(p * (1 - p) / self.n + z2 / (4 * self.n))
        return max(0.0, (middle - half) / (1 + z2)), min(1.0, (middle + half) / (1 + z2))


@dataclass(frozen=True)
class Figures:
    """``judged`` records; ``cameras``: of each camera's alarms with a verdict those that were right; ``missed``: of the
    random moments without an alarm those that should have been one. "unsure" counts in neither."""

    judged: int
    cameras: dict[str, Share]
    missed: Share


def figures(verdicts: Iterable[Verdict]) -> Figures:
    """Of the verdicts that count, one of each record."""
    judged, alarms, right = 0, Counter[str](), Counter[str]()
    samples = missed = 0
    for verdict in verdicts:
        judged += 1
        if verdict.verdict not in (*RIGHT, *WRONG):
            continue
        hit = verdict.verdict in RIGHT
        if verdict.kind == "alarm":
            alarms[verdict.camera] += 1
            right[verdict.camera] += hit
        elif verdict.kind == "sample":
            samples += 1
            missed += hit
    by_camera = {camera: Share(right[camera], n) for camera, n in alarms.most_common()}
    return Figures(judged, by_camera, Share(missed, samples))


@dataclass(frozen=True)
class Tally:
    """``now``: records by camera, version (`VERSIONS`), kind and the verdict that counts. ``said``: how often each
    verdict was said since the beginning. ``delays``: alarms whose first verdict came within each of ``DELAYS_S``
    seconds, then all; ``delay_s``: the sum of these times."""

    now: dict[_About, int]
    said: dict[str, int]
    delays: tuple[int, ...]
    delay_s: float


def tally(events: Iterable[Iterable[Verdict]]) -> Tally:
    """Of all events, those of one record after the other."""
    now, said = Counter[tuple[str, str, str, str]](), dict.fromkeys(VERDICTS, 0)
    places, total = [0] * (len(DELAYS_S) + 1), 0.0
    last = dict[str, str]()
    for one in events:
        history = sorted(one, key=lambda event: event.id)
        for event in history:
            if event.verdict is not None:
                said[event.verdict] = said.get(event.verdict, 0) + 1
        if (counts := counting(history)) is not None:
            about = counts.camera, counts.version, counts.kind
            last[counts.version] = max(last.get(counts.version, ""), counts.began or counts.when)
            now.update({(*about, verdict): 0 for verdict in VERDICTS})
            now[*about, str(counts.verdict)] += 1
        if history[0].kind == "alarm" and history[0].began:
            passed = datetime.fromisoformat(history[0].when) - datetime.fromisoformat(history[0].began)
            seconds = max(0.0, passed.total_seconds())
            total += seconds
            places[sum(seconds > bound for bound in DELAYS_S)] += 1
    return Tally(_named(now, last), said, tuple(accumulate(places)), total)


def _named(now: Mapping[_About, int], last: Mapping[str, str]) -> dict[_About, int]:
    """``now`` with the versions but for the newest in one; ``last`` are the times of their latest records."""
    newest = set(sorted(last, key=lambda version: (last[version], version))[-VERSIONS:])
    named = Counter[_About]()
    for (camera, version, kind, verdict), count in now.items():
        named[camera, version if version in newest else OLDER, kind, verdict] += count
    return dict(named)
