"""The video around a clip of one person: the masked scene or, for who may see it, the raw one, with everybody's boxes.

Clips in full frames need no such video: they lie over each other. A crop does not say where it was cut out.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from labeling_ui import media
from posewatch.artifact import Artifact, get
from posewatch.errors import NotFound, PosewatchError
from posewatch.labels.entries import ClipEntry
from posewatch.perception.persons import PERSONS, Person
from posewatch.stages.contents import MASKED, VIDEO, mask_report, masked_frame, masked_of, persons_of, raw_of


@lru_cache(maxsize=64)
def _masked(store: str, prefix: str) -> tuple[Artifact, dict[str, Any], list[Person]]:
    """The masked video that clips were cut from, its report and its persons. Raises NotFound for clips of the scene."""
    masked = masked_of(get(media.object_store(store), prefix))
    if PERSONS not in masked.files:
        raise NotFound(f"{masked.uri} has no persons")
    return masked, mask_report(masked), persons_of(masked)


def around(entry: ClipEntry, base: str, raw: bool) -> dict[str, Any] | None:
    """What the browser needs to play the scene around a clip: ``url`` of a video in which it begins at ``begin``
    seconds, and of each frame everybody's box, in pixels of a picture of ``w`` x ``h``. None where there is none."""
    clip = entry.clip
    try:
        masked, report, persons = _masked(entry.store, entry.key.rpartition("/")[0])
        own = next((person for person in persons if person.person == clip.person), None)
        if own is None or not (raw or own.views):
            return None
        first = masked_frame(report, clip.start_s)
        video, begin = (_raw(masked), clip.start_s) if raw else (f"{masked.prefix}/{MASKED}", first / report["fps"])
    except PosewatchError:
        return None
    shown = [(person, [_box(person, first + i) for i in range(clip.frames)]) for person in persons]
    return {
        "raw": raw,
        "url": media.video_url(entry.store, video, base),
        "away": media.away(entry.store),
        "begin": begin,
        "seconds": clip.frames / report["fps"],
        "fps": report["fps"],
        "w": report["width"],
        "h": report["height"],
        "people": [{"person": person.person, "boxes": boxes} for person, boxes in shown if any(boxes)],
    }


def _raw(masked: Artifact) -> str:
    raw = raw_of(masked)
    name = next(n for n in raw.files if n.startswith(f"{VIDEO}.") and n != f"{VIDEO}.json")
    return f"{raw.prefix}/{name}"


def _box(person: Person, frame: int) -> list[float] | None:
    """The person's box in a frame of the masked video; where the person was lost for a moment, the last one."""
    place = frame - person.first
    seen = person.boxes[: place + 1] if 0 <= place < person.frames else ()
    return next((box for box in reversed(seen) if box is not None), None)
