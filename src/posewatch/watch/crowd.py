"""Whose turn it is in a crowd: more persons than may be asked about in one window, and nobody left out for ever."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence

from posewatch.watch.stats import WatchStats

QUIET_S = 60.0
"""A crowd is over, for the log, when nobody was left out for so long."""
_LOG = logging.getLogger(__name__)


class Turns:
    """Whose turn it is: at most ``most`` persons are asked about at a time, those first who have waited longest.

    Persons with an alarm go before the others, in at most half of the places, so that nobody is left out for ever.
    """

    def __init__(self, most: int) -> None:
        self._most, self._round = most, 0
        self._since: dict[int, int] = {}

    def choose(self, persons: Sequence[int], urgent: Collection[int] = ()) -> list[int]:
        """The persons of the next window to ask about, in the order of ``persons``."""
        self._round += 1
        self._since = {person: self._since.get(person, self._round) for person in persons}
        waiting = sorted(persons, key=lambda person: self._since[person])
        first = [person for person in waiting if person in urgent][: self._most // 2]
        chosen = {*first, *[person for person in waiting if person not in first][: self._most - len(first)]}
        self._since.update(dict.fromkeys(chosen, self._round))
        return [person for person in persons if person in chosen]


class Crowd:
    """Chooses by ``Turns``, counts who is left out in ``stats``, and says on the log when that begins and ends."""

    def __init__(self, most: int, source: str, stats: WatchStats) -> None:
        self._turns, self._most, self._source, self._stats = Turns(most), most, source, stats
        self._since_s: float | None = None

    def choose(self, persons: Sequence[int], urgent: Collection[int], at_s: float) -> list[int]:
        """The persons to ask about in the window that ends at ``at_s`` seconds."""
        chosen, stats = self._turns.choose(persons, urgent), self._stats
        stats.asked = len(chosen)
        stats.left_out_now = len(persons) - len(chosen)
        stats.left_out += stats.left_out_now
        if stats.left_out_now:
            if self._since_s is None:
                _LOG.warning(
                    "%s: %d persons, %d of them are asked about at a time and the others in turn (--max-persons)",
                    self._source, len(persons), self._most,
                )  # fmt: skip
            self._since_s = at_s
        elif self._since_s is not None and at_s - self._since_s > QUIET_S:
            _LOG.warning("%s: everybody is asked about again (left out so far: %d)", self._source, stats.left_out)
            self._since_s = None
        return chosen
