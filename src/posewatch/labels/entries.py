"""What the label store holds, as plain records, and the fold that turns label events into current labels.

Nothing here needs a database, so that importers and tests can do without one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from posewatch.errors import LabelError
from posewatch.records import Clip, LabelEvent, Source

RANK: dict[Source, int] = {"model": 0, "import": 1, "bulk": 2, "human": 2}
"""Who may overrule whom: a label of a lower rank never replaces one of a higher rank. A person's label outlives a
repeated import, and a model's pre-label never touches what a person or a label file said."""

UNSURE, BAD = "(unsure)", "(bad clip)"
MARKS = (UNSURE, BAD)
"""What a person may say instead of a class: somebody else should look, or the clip shows nothing to label. Marks never
reach a snapshot."""

ADJUDICATE = "adjudicate"
"""The act of a reviewer that settles a clip: it stands above everybody's labels."""


@dataclass(frozen=True)
class ClipEntry:
    """A clip that can be labelled, and where its video file lies.

    ``names`` are the names that the user knows the source video by (files of the same content are one video),
    ``key`` is the object key of the clip's mp4 and ``store`` the URI of the object store that holds it. ``preview`` is
    the key of a smaller mp4 and ``skeleton`` that of its joints as JSON, where there are any.
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
        """The first of ``names``, which is shown to people."""
        return self.names[0]


@dataclass(frozen=True)
class VideoProgress:
    """How far the labelling of one video is; a model's pre-label and "unsure" do not count as labelled."""

    video_id: str
    name: str
    clips: int
    labelled: int


@dataclass(frozen=True)
class State:
    """What the events of one clip amount to.

    ``label`` is the event that gives the clip its label: a reviewer's decision, else what most people say (the latest
    of a tie), else the last import, else the last model. ``votes`` is what each person says now.
    """

    label: LabelEvent | None = None
    votes: dict[str, LabelEvent] = field(default_factory=dict)
    settled: bool = False

    @property
    def opinions(self) -> dict[str, LabelEvent]:
        """The votes of those who were sure."""
        return {who: event for who, event in self.votes.items() if event.new != UNSURE}

    @property
    def differ(self) -> bool:
        """People disagree, and nobody has settled it."""
        return not self.settled and len({event.new for event in self.opinions.values()}) > 1


def draw(clip_id: str, purpose: str) -> float:
    """A number in [0, 1) that is fixed for a clip and independent between purposes: who falls into a share of clips."""
    return int(hashlib.sha256(f"{purpose}/{clip_id}".encode()).hexdigest()[:13], 16) / 16**13


def state(events: Iterable[LabelEvent]) -> State:
    """Fold the events of one clip, oldest first.

    An undo names the event that it takes back, a redo the one that it brings back. An undo that names none (as written
    by the first version of the store) takes back the label that was current then.
    """
    made: list[tuple[int, LabelEvent]] = []
    gone: set[int] = set()
    for number, event in enumerate(events):
        if event.undoes is not None:
            (gone.add if event.new is None else gone.discard)(event.undoes)
        elif event.new is None:
            top = _winner([e for n, e in made if _key(n, e) not in gone]).label
            gone |= {_key(n, e) for n, e in made if e is top}
        else:
            made.append((number, event))
    return _winner([event for n, event in made if _key(n, event) not in gone])


def _key(number: int, event: LabelEvent) -> int:
    return event.id or -1 - number  # events that never were in a store have no id


def _winner(live: list[LabelEvent]) -> State:
    people = [e for e in live if e.source in ("human", "bulk")]
    votes = {e.who: e for e in people}
    settled = next((e for e in reversed(people) if e.act == ADJUDICATE), None)
    if settled is not None:
        return State(settled, votes, True)
    sure = [e for e in people if votes[e.who] is e and e.new != UNSURE]
    unsure = [e for e in people if votes[e.who] is e and e.new == UNSURE]
    if sure:
        said = [e.new for e in sure]
        most = max(said.count(label) for label in said)
        return State([e for e in sure if said.count(e.new) == most][-1], votes)
    files = [e for e in live if e.source == "import"]
    found = files or unsure or live
    return State(found[-1] if found else None, votes)


def fold(events: Iterable[LabelEvent]) -> LabelEvent | None:
    """The event that gives one clip its current label, or None; ``events`` of that clip, oldest first."""
    return state(events).label
