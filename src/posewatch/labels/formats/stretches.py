"""Labelled stretches of clips or videos, as other tools keep them, and who marked them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from posewatch.config import LabelConfig
from posewatch.datasets.annotations import some
from posewatch.errors import LabelError
from posewatch.names import folded

CLIP = re.compile(r"(?:.*[^0-9a-f])?(c-[0-9a-f]{16})")


class NoLabels(LabelError):
    """A file of another tool in which nothing is labelled yet."""


@dataclass(frozen=True)
class Stretch:
    """``label`` holds in ``file``, a clip's or a video's, for [first, last) frames, or seconds where ``seconds``.

    ``fps`` is the frame rate of the file, None where the tool does not tell; ``person`` the person of the video whom
    the label is about, None for the scene.
    """

    where: str
    file: str
    label: str
    first: float
    last: float
    seconds: bool = False
    fps: float | None = None
    who: str = ""
    person: int | None = None

    @property
    def clip(self) -> str | None:
        """The clip that the file is named after; None for another video."""
        named = CLIP.fullmatch(PurePosixPath(self.file.replace("\\", "/")).stem)
        return named[1] if named else None

    def times(self, fps: float) -> tuple[float, float]:
        """Start and end in seconds; ``fps`` counts where the tool told no frame rate."""
        rate = 1.0 if self.seconds else self.fps or fps
        return self.first / rate, self.last / rate


def of_classes(found: Iterable[Stretch], config: LabelConfig, name: str, warn: Callable[[str], None]) -> list[Stretch]:
    """The stretches whose labels are classes; ``warn`` names the other labels. Raises LabelError when none is."""
    found = list(found)
    classes = {folded(label) for label in config.classes}
    others = Counter(one.label for one in found if folded(one.label) not in classes)
    if others and len(others) == len({one.label for one in found}):
        raise LabelError(
            f"{name}: none of its labels ({some(sorted(others), 20)}) is one of {', '.join(config.classes)}"
        )
    if others:
        warn(f"{name}: left out what is labelled {some(sorted(others), 20)}, which is no class")
    return [one for one in found if one.label not in others]


def person_of(text: object) -> int | None:
    """The number of a person in an attribute; None without one."""
    number = str(text or "").strip().removeprefix("#")
    return int(number) if number.isdigit() and int(number) else None


def rows(found: Iterable[Stretch]) -> Iterator[tuple[str, str, str, str]]:
    """(where, clip id, label, who) of stretches of clips. Raises LabelError for a stretch of another video."""
    for one in found:
        if one.clip is None:
            raise LabelError(f"{one.where}{one.file!r} is no clip, but others are (export one kind)")
        yield one.where, one.clip, one.label, one.who
