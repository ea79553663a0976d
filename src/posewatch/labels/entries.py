"""What the label store holds, as plain records, and the fold that turns label events into current labels.

Nothing here needs a database, so importers and tests work without one.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from posewatch.errors import LabelError
from posewatch.records import Clip, LabelEvent, Source
from posewatch.rules import MARKS as MARKS
from posewatch.units import shown

RANK: dict[Source, int] = {"model": 0, "import": 1, "verdict": 2, "bulk": 3, "human": 3}
"""Precedence of label sources: a label never replaces one of a higher rank. A person's label survives a repeated
import, and a model's pre-label never replaces the label of a person or a label file."""

WITHOUT_OPINION: tuple[Source, ...] = ("verdict", "import")
"""Sources of labels that nobody gave in the grid, in the order in which they count: such a clip is labelled, without an
opinion that another one could contradict."""

UNSURE, BAD = MARKS
"""What a person may record instead of a class: somebody else should look, or the clip shows nothing to label. Marks
never reach a snapshot."""

ADJUDICATE = "adjudicate"
"""The act with which a reviewer settles a clip. It takes precedence over all other labels."""

RELABEL = "relabel"
"""The act of a person who labels a clip although the page shows them somebody else's label of it."""

DEPENDENT = (ADJUDICATE, RELABEL, "accept")
"""Acts whose labels are no independent opinion: their author knew another label."""


@dataclass(frozen=True)
class ClipEntry:
    """A clip that can be labelled, and where its video file is stored.

    ``names`` are the names of the source video (files with the same content are one video), ``key`` is the object key
    of the clip's mp4 and ``store`` the URI of its object store. ``preview`` is the key of a smaller mp4 and
    ``skeleton`` the key of its joints as JSON; both are optional.
    """

    clip: Clip
    names: tuple[str, ...]
    key: str
    store: str
    preview: str | None = None
    skeleton: str | None = None

    def __post_init__(self) -> None:
        if not self.names:
            raise LabelError(f"clip {self.clip.id} needs the name of its video")

    @property
    def video(self) -> str:
        """The name of the video that people see: the first of ``names``."""
        return self.names[0]

    @property
    def shown(self) -> str:
        """The video, with the person's number where the clip shows one person: ``yard.mp4 #2``."""
        return shown(self.video, self.clip.person)


@dataclass(frozen=True)
class VideoProgress:
    """How many clips of one video are labelled. A model's pre-label and "unsure" do not count."""

    video_id: str
    name: str
    clips: int
    labelled: int


@dataclass(frozen=True)
class ClipState:
    """The result of folding the events of one clip.

    ``label`` is the event that gives the clip its label: a reviewer's decision, else the majority of people's votes
    (the latest of a tie), else the last verdict on an alarm, else the last import, else the last model. ``votes``
    holds each person's current label event, by name.
    """

    label: LabelEvent | None = None
    votes: dict[str, LabelEvent] = field(default_factory=dict)
    settled: bool = False

    @property
    def label_name(self) -> str | None:
        """The class or mark of ``label``."""
        return self.label.new if self.label else None

    @property
    def opinions(self) -> dict[str, LabelEvent]:
        """The votes without those for "unsure"."""
        return {who: event for who, event in self.votes.items() if event.new != UNSURE}

    @property
    def differ(self) -> bool:
        """Whether people disagree and no reviewer has settled the clip."""
        return not self.settled and len({event.new for event in self.opinions.values()}) > 1


def hash_fraction(clip_id: str, purpose: str) -> float:
    """A fixed number of a clip, uniform in [0, 1) and independent between purposes, that selects shares of clips."""
    return int(hashlib.sha256(f"{purpose}/{clip_id}".encode()).hexdigest()[:13], 16) / 16**13


def timestamp() -> str:
    """The current time in UTC as ISO 8601 with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def fold(events: Iterable[LabelEvent]) -> ClipState:
    """Fold the events of one clip, oldest first.

    An undo names the event that it reverts, a redo the one that it restores. An undo that names none (written by the
    first version of the store) reverts the label that was current then.
    """
    labels: list[tuple[int, LabelEvent]] = []
    undone: set[int] = set()
    for number, event in enumerate(events):
        if event.undoes is not None:
            (undone.add if event.new is None else undone.discard)(event.undoes)
        elif event.new is None:
            current = _resolve([e for n, e in labels if _key(n, e) not in undone]).label
            undone |= {_key(n, e) for n, e in labels if e is current}
        else:
            labels.append((number, event))
    return _resolve([event for n, event in labels if _key(n, event) not in undone])


def _key(number: int, event: LabelEvent) -> int:
    return event.id or -1 - number  # events that were never stored have no id


def _resolve(live: list[LabelEvent]) -> ClipState:
    """The state that follows from the events that are not undone."""
    people = [e for e in live if e.source in ("human", "bulk")]
    votes = {e.who: e for e in people}
    decisions = [e for e in people if e.act == ADJUDICATE]
    if decisions:
        return ClipState(decisions[-1], votes, True)
    latest = [e for e in people if votes[e.who] is e]
    sure = [e for e in latest if e.new != UNSURE]
    if sure:
        counts = Counter(e.new for e in sure)
        return ClipState([e for e in sure if counts[e.new] == max(counts.values())][-1], votes)
    for source in WITHOUT_OPINION:
        if given := [e for e in live if e.source == source]:
            return ClipState(given[-1], votes)
    candidates = latest or live
    return ClipState(candidates[-1] if candidates else None, votes)
