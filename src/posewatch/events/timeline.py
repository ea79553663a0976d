"""Probabilities of overlapping windows → one probability per moment of a video."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from posewatch.datasets.clipset import ClipSet
from posewatch.errors import ConfigError, InputError
from posewatch.names import known_as, nfc

if TYPE_CHECKING:
    from posewatch.recognition.recogniser import Recogniser

BATCH = 256
"""Windows scored at once, which bounds the memory for a long video."""
MAX_CELLS = 10_000_000
"""Largest time grid of one video (a week at 0.1 s is 6 million cells); beyond it, times are not in seconds."""


@dataclass(frozen=True)
class Window:
    """``p`` in [0, 1], the probability that something abnormal happens in ``video`` in [start_s, end_s) seconds."""

    video: str
    start_s: float
    end_s: float
    p: float

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
    """A video on a grid of cells of ``step_s`` seconds, the first of which begins at second 0.

    p        float64 (T,): the probability in each cell, 0 where no window covers it
    covered  bool (T,): whether any window does; only those cells count as watched
    ready_s  float64 (T,): the end of the last window that covers a cell, when a live system can compute ``p``
    """

    video: str
    step_s: float
    p: NDArray[np.float64]
    covered: NDArray[np.bool_]
    ready_s: NDArray[np.float64]

    @property
    def watched_s(self) -> float:
        """Seconds that any window covers."""
        return float(self.covered.sum()) * self.step_s

    @property
    def end_s(self) -> float:
        """End of the last cell."""
        return len(self.p) * self.step_s


def smooth(windows: Iterable[Window], step_s: float = 0.1) -> list[Timeline]:
    """One timeline per video, sorted by name: in each cell the mean ``p`` of the windows that cover its middle.

    A cell's middle must lie in [start_s, end_s). Raises InputError where there is no window.
    """
    videos: dict[str, list[Window]] = {}
    for window in windows:
        videos.setdefault(window.video, []).append(window)
    if not videos:
        raise InputError("there is no window for a timeline (score a video first)")
    return [_one(name, videos[name], step_s) for name in sorted(videos)]


def _one(video: str, windows: list[Window], step_s: float) -> Timeline:
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
    return Timeline(video, step_s, p, count > 0, ready)


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
    video shorter than ``window_s`` is one window. Raises ConfigError, InputError.
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
    whole = ClipSet((keypoints,), zero, recogniser.labels, (video,), (video,), fps, recogniser.layout.name)
    length = keypoints.shape[1]
    span = min(length, max(2, round(window_s * fps)))
    starts = [*range(0, length - span, max(1, round(stride_s * fps))), length - span]
    visible = [s for s in starts if (keypoints[:, s : s + span, :, 2] > 0).any()]
    p: dict[int, float] = {}
    for i in range(0, len(visible), BATCH):
        part = visible[i : i + BATCH]
        names = tuple(f"{video}@{s}" for s in part)
        clips = dataclasses.replace(
            whole,
            keypoints=tuple(keypoints[:, s : s + span] for s in part),
            labels=np.zeros(len(part), np.int64),
            ids=names,
            groups=names,
        )
        scores = scores_of(recogniser, clips)[:, recogniser.labels.index(known)]
        p.update(zip(part, (round(float(v), 6) for v in scores), strict=True))
    return [Window(video, s / fps, (s + span) / fps, p.get(s, 0.0)) for s in starts]
