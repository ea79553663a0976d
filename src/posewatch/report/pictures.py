"""Pictures for the report: raw, masked and skeleton side by side, as JPEG bytes."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from posewatch import video
from posewatch.perception.draw import overlay
from posewatch.records import Clip, Skeleton

Image = NDArray[np.uint8]
CELL = (320, 240)
"""Width and height in pixels of one picture in a sheet."""


def triptych(raw: Path, masked: Path, clip: Clip, skeleton: Skeleton, first: int) -> Image:
    """Raw, masked and skeleton of the frame in which people are most visible, (240, 960, 3) RGB.

    ``raw`` and ``masked`` are files of the whole video that the clip was cut from; ``first`` is the clip's first frame
    in the masked one, which has no gaps.
    """
    frame = busiest(skeleton)
    before = frame_at(raw, clip.fps, round(clip.start_s * clip.fps) + frame, max(clip.width, clip.height))
    after = frame_at(masked, clip.fps, first + frame)
    dark = (after * 0.45).astype(np.uint8)
    bones = overlay(dark, skeleton.keypoints[:, frame])
    return np.hstack([fit(before), fit(after), fit(bones)])


def fit(image: Image, size: tuple[int, int] = CELL) -> Image:
    """Letterbox an RGB image (H, W, 3) into ``size`` (width, height)."""
    scale = min(size[0] / image.shape[1], size[1] / image.shape[0])
    inner = cv2.resize(
        image, (round(image.shape[1] * scale), round(image.shape[0] * scale)), interpolation=cv2.INTER_AREA
    )
    out = np.zeros((size[1], size[0], 3), np.uint8)
    y, x = (size[1] - inner.shape[0]) // 2, (size[0] - inner.shape[1]) // 2
    out[y : y + inner.shape[0], x : x + inner.shape[1]] = inner
    return out


def busiest(skeleton: Skeleton) -> int:
    """The frame with the highest sum of joint scores, ties to the middle of the clip."""
    scores = skeleton.keypoints[..., 2].sum(axis=(0, 2))
    middle = np.abs(np.arange(len(scores)) - len(scores) / 2) / max(len(scores), 1)
    return int(np.argmax(scores - 0.5 * middle * max(float(scores.max()), 1e-6)))


def frame_at(path: Path, fps: float, index: int, max_side: int | None = None) -> Image:
    """Frame ``index`` of a video read at ``fps``; the last frame where the video is shorter, else a black one."""
    start = index / fps
    for frame in video.read(path, fps=fps, max_side=max_side, start_s=start, end_s=start + 1 / fps):
        return frame.image
    last = np.zeros((CELL[1], CELL[0], 3), np.uint8)
    for frame in video.read(path, fps=fps, max_side=max_side):
        last = frame.image
        if frame.index >= index:
            break
    return last


def caption(image: Image, text: str, colour: tuple[int, int, int] = (255, 255, 255)) -> Image:
    """The image with a line of text on a dark band at its lower edge."""
    out = image.copy()
    out[-22:] = (out[-22:] * 0.3).astype(np.uint8)
    cv2.putText(out, text, (6, out.shape[0] - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, 1, cv2.LINE_AA)
    return out


def sheet(images: Sequence[Image], columns: int) -> Image:
    """Images of equal size in a grid, the last row filled up with black."""
    blank = np.zeros_like(images[0])
    cells = [*images, *[blank] * (-len(images) % columns)]
    return np.vstack([np.hstack(cells[i : i + columns]) for i in range(0, len(cells), columns)])


def jpeg(image: Image, quality: int = 82) -> bytes:
    """RGB image (H, W, 3) as JPEG."""
    done, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done, "opencv could not encode a JPEG"
    return data.tobytes()


def data_uri(data: bytes, kind: str) -> str:
    """Bytes of a MIME type as a URI that is played or shown inside the page."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
