"""What the label store holds, as plain records, and the fold that turns label events into current labels.

Nothing here needs a database, so that importers and tests can do without one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from posewatch.errors import LabelError
from posewatch.records import Clip, LabelEvent, Source

RANK: dict[Source, int] = {"model": 0, "import": 1, "bulk": 2, "human": 2}
"""Who may overrule whom: a label of a lower rank never replaces one of a higher rank. A person's label outlives a
repeated import, and a model's pre-label never touches what a person or a label file said."""


@dataclass(frozen=True)
class ClipEntry:
    """A clip that can be labelled, and where its video file lies.

    ``names`` are the names that the user knows the source video by (files of the same content are one video),
    ``key`` is the object key of the clip's mp4 and ``store`` the URI of the object store that holds it.
    """

    clip: Clip
    names: tuple[str, ...]
    key: str
    store: str

    def __post_init__(self) -> None:
        if not self.names:
            raise LabelError(f"clip {self.clip.id} needs the name of its video")

    @property
    def video(self) -> str:
        """The first of ``names``, which is shown to people."""
        return self.names[0]


@dataclass(frozen=True)
class VideoProgress:
    """How far the labelling of one video is; a model's pre-label does not count as labelled."""

    video_id: str
    name: str
    clips: int
    labelled: int


def fold(events: Iterable[LabelEvent]) -> LabelEvent | None:
    """The event that gives one clip its current label, or None; ``events`` of that clip, oldest first.

    An event whose ``new`` is None takes the current label back: the one before it counts again.
    """
    stack: list[LabelEvent] = []
    for event in events:
        if event.new is None:
            if stack:
                stack.pop()
        elif not stack or RANK[event.source] >= RANK[stack[-1].source]:
            stack.append(event)
    return stack[-1] if stack else None
