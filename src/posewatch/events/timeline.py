"""Probabilities of overlapping windows → one probability per moment of a video, or of each person in it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from posewatch.datasets.clipset import ClipSet
from posewatch.errors import ConfigError, InputError
from posewatch.names import known_as, nfc
from posewatch.units import PERSON

if TYPE_CHECKING:
    from posewatch.recognition.recogniser import Recogniser

BATCH = 256
"""Windows scored at once, which bounds the memory for a long video."""
MAX_CELLS = 10_000_000
"""Largest time grid of one video (a week at 0.1 s is 6 million cells); beyond it, times are not in seconds."""


@dataclass(frozen=True)
class Window:
    """``p`` in [0, 1], the probability that something abnormal happens in ``video`` in [start_s, end_s) seconds; that
    ``person`` does it, from a model of single persons."""

    video: str
    start_s: float
    end_s: float
    p: float
    person: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "video", nfc(self.video))
        where = f"window of {self.video!r} at {self.start_s:g} s"
        if not (math.isfinite(self.start_s) and math.isfinite(self.end_s) and self.start_s >= 0):
            raise InputError(f"{where}: times must be 0 or more seconds, not {self.start_s:g} and {self.end_s:g}")
        if self.end_s <= self.start_s:
            raise InputError(f"{where}: it ends at {self.end_s:g} s, before it starts (are the columns swapped?)")
        if not 0 <= self.p <= 1:
            raise InputError(f"{where}: the probability must be between 0 and 1, not {self.p:g}")


@dataclass(frozen=True, eq=False)
class Timeline:
    """A video, or one ``person`` of it, on a grid of cells of ``step_s`` seconds, the first of them at second 0.

    p        float64 (T,): the probability in each cell, 0 where no window covers it
    covered  bool (T,): whether any window does; only those cells count as watched
    ready_s  float64 (T,): the end of the last window that covers a cell, when a live system can compute ``p``
    """

    video: str
    step_s: float
    p: NDArray[np.float64]
    covered: NDArray[np.bool_]
    ready_s: NDArray[np.float64]
    person: int | None = None

    @property
    def watched_s(self) -> float:
        """Seconds that any window covers."""
        return float(self.covered.sum()) * self.step_s

    @property
    def end_s(self) -> float:
        """End of the last cell."""
        return len(self.p) * self.step_s


def smooth(windows: Iterable[Window], step_s: float = 0.1) -> list[Timeline]:
    """One timeline per video and person, sorted: in each cell the mean ``p`` of the windows that cover its middle.

    A cell's middle must lie in [start_s, end_s). Raises InputError where there is no window.
    """
    found: dict[tuple[str, int], list[Window]] = {}
    for window in windows:
        found.setdefault((window.video, window.person or 0), []).append(window)
    if not found:
        raise InputError("there is no window for a timeline (score a video first)")
    return [_one(video, person or None, found[video, person], step_s) for video, person in sorted(found)]


def by_video(timelines: Iterable[Timeline]) -> dict[str, list[Timeline]]:
    """The timelines of each video."""
    found: dict[str, list[Timeline]] = {}
    for timeline in timelines:
        found.setdefault(timeline.video, []).append(timeline)
    return found


def highest(timelines: Sequence[Timeline]) -> Timeline:
    """The timeline of a video: the highest probability of anybody in each cell."""
    cells = max(len(t.p) for t in timelines)

    def joined(name: str) -> NDArray[Any]:
        return np.max([np.pad(getattr(t, name), (0, cells - len(t.p))) for t in timelines], 0)

    first = timelines[0]
    return Timeline(first.video, first.step_s, joined("p"), joined("covered"), joined("ready_s"))


def watched_s(timelines: Sequence[Timeline]) -> float:
    """Seconds of a video that any window covers."""
    return highest(timelines).watched_s


def _one(video: str, person: int | None, windows: list[Window], step_s: float) -> Timeline:
    # Sorted, so that rounding does not depend on the order of the windows.
    windows = sorted(windows, key=lambda w: (w.start_s, w.end_s, w.p))
    # The first cell with its middle inside, and the first with its middle past the end; 1e-9 because of 0.3 / 0.1.
    first = [max(0, math.ceil(w.start_s / step_s - 0.5 - 1e-9)) for w in windows]
    last = [math.ceil(w.end_s / step_s - 0.5 - 1e-9) for w in windows]
    cells = max(1, *last)
    if cells > MAX_CELLS:
        raise InputError(f"{video!r} lasts {max(w.end_s for w in windows):g} s: are its times in seconds?")
    total, count, ready = np.zeros(cells), np.zeros(cells), np.zeros(cells)
    for window, a, b in zip(windows, first, last, strict=True):
        total[a:b] += window.p
        count[a:b] += 1
        ready[a:b] = np.maximum(ready[a:b], window.end_s)
    # Rounded, so that the mean of three times 0.7 is 0.7 and reaches a threshold of 0.7.
    p = np.where(count > 0, total / np.maximum(count, 1), 0.0).round(9)
    return Timeline(video, step_s, p, count > 0, ready, person)


def sliding(
    recogniser: Recogniser,
    keypoints: NDArray[np.float32],
    fps: float,
    window_s: float,
    stride_s: float,
    *,
    video: str = "video",
    label: str = "",
) -> list[Window]:
    """Score a whole video's skeletons (M, T, V, 3), sampled at ``fps`` frames per second, in overlapping windows.

    ``p`` is the probability of ``label`` (default: the recogniser's positive class), 0 where nobody is visible. Window
    (best as long as the training clips) and stride are rounded to whole frames. The last window ends with the video; a
    video shorter than ``window_s`` is one window. A model of single persons scores each of the M by themselves where
    they are visible, as the persons 1 to M. Raises ConfigError, InputError.
    """
    from posewatch.recognition.evaluation.evaluate import scores_of

    label = label or recogniser.positive
    if not label:
        raise ConfigError(f"the model has no positive class: choose one of {', '.join(recogniser.labels)} (--label)")
    known = known_as(label, recogniser.labels)
    if known is None:
        raise ConfigError(f"{label!r} is none of the model's classes {', '.join(recogniser.labels)}")
    if stride_s > window_s:
        raise ConfigError(
            f"a stride of {stride_s:g} s leaves gaps between windows of {window_s:g} s: use a shorter one"
        )
    # A ClipSet checks the shape and refuses NaN.
    zero = np.zeros(1, np.int64)
    whole = ClipSet(
        (keypoints,), zero, recogniser.labels, (video,), (video,), fps, recogniser.layout.name, unit=recogniser.unit
    )
    length = keypoints.shape[1]
    span = min(length, max(2, round(window_s * fps)))
    starts = [*range(0, length - span, max(1, round(stride_s * fps))), length - span]
    people = range(len(keypoints)) if recogniser.unit == PERSON else (slice(None),)
    parts = [(s, m, keypoints[_as_slice(m), s : s + span]) for s in starts for m in people]
    visible = [(s, m, part) for s, m, part in parts if (part[..., 2] > 0).any()]
    scored = []
    for i in range(0, len(visible), BATCH):
        batch = visible[i : i + BATCH]
        names = tuple(f"{video}@{i + n}" for n in range(len(batch)))
        clips = dataclasses.replace(
            whole,
            keypoints=tuple(part for _, _, part in batch),
            labels=np.zeros(len(batch), np.int64),
            ids=names,
            groups=names,
        )
        scores = scores_of(recogniser, clips)[:, recogniser.labels.index(known)]
        scored += [
            Window(video, s / fps, (s + span) / fps, round(float(p), 6), m + 1 if isinstance(m, int) else None)
            for (s, m, _), p in zip(batch, scores, strict=True)
        ]
    seen = {s for s, _, _ in visible}
    empty = [Window(video, s / fps, (s + span) / fps, 0.0) for s in starts if s not in seen]
    return sorted([*scored, *empty], key=lambda w: (w.start_s, w.person or 0))


def _as_slice(m: int | slice) -> slice:
    """One person of (M, T, V, 3) as (1, T, V, 3)."""
    return m if isinstance(m, slice) else slice(m, m + 1)
