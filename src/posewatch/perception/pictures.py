"""Raw pictures of a video as what looks at their pixels wants them: grey, small, and those of a clip together."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from posewatch.perception.ports import Image

WIDTH = 480
"""Pixels of the pictures from left to right, at most."""


@dataclass(frozen=True)
class Grey:
    """A picture without colour, ``pixels`` uint8 (H, W); ``scale`` of its pixels are one of the frame."""

    pixels: NDArray[np.uint8]
    scale: float

    @classmethod
    def of(cls, image: Image) -> Grey:
        """A frame (H, W, 3), made smaller where it is wider than ``WIDTH``."""
        import cv2

        height, width = image.shape[:2]
        scale = min(1.0, WIDTH / width)
        grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
        if scale < 1:
            size = (round(width * scale), max(1, round(height * scale)))
            grey = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)
        return cls(grey, scale)


Clip = tuple[int, NDArray[np.float32]]
"""The number of its first frame, and keypoints (M, T, V, 3)."""
Work = Callable[[int, NDArray[np.float32], Sequence[Grey | None]], NDArray[np.float32]]
"""First frame, keypoints (M, T, V, 3) and the T pictures, None for a frame that nobody kept → new keypoints."""


def over_clips(frames: Iterable[tuple[int, Image]], clips: Sequence[Clip], work: Work) -> list[NDArray[np.float32]]:
    """What ``work`` makes of each clip with the pictures of the numbered ``frames`` of its video.

    Clips may overlap; no more pictures are kept than those of the clips that a frame is in.
    """
    out = [keypoints for _, keypoints in clips]
    waiting = deque(sorted(range(len(clips)), key=lambda i: clips[i][0]))
    open_: list[int] = []
    kept: dict[int, Grey] = {}

    def close(number: float) -> None:
        for i in [i for i in open_ if clips[i][0] + clips[i][1].shape[1] <= number]:
            first, keypoints = clips[i]
            out[i] = work(first, keypoints, [kept.get(first + t) for t in range(keypoints.shape[1])])
            open_.remove(i)
        begin = min((clips[i][0] for i in open_), default=math.inf)
        for old in [n for n in kept if n < begin]:
            del kept[old]

    for number, image in frames:
        close(number)
        while waiting and clips[waiting[0]][0] <= number:
            open_.append(waiting.popleft())
        if open_:
            kept[number] = Grey.of(image)
        elif not waiting:
            break
    close(math.inf)
    for i in waiting:  # the video ended before them
        first, keypoints = clips[i]
        out[i] = work(first, keypoints, [None] * keypoints.shape[1])
    return out
