"""Pictures for the report: raw, masked and skeleton side by side, as JPEG bytes."""

from __future__ import annotations

import base64
import io
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from posewatch import video
from posewatch.artifact import Artifact
from posewatch.perception.draw import overlay
from posewatch.records import Clip, Skeleton

Image = NDArray[np.uint8]
CELL = (320, 240)
"""Width and height in pixels of one picture in a sheet."""


@dataclass(frozen=True)
class Scene:
    """One clip with what it was made from."""

    name: str
    clip: Clip
    raw: Artifact
    masked: Artifact
    clips: Artifact
    skeleton: Skeleton
    label: str | None = None


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
    """The frame in which the people are seen best, ties to the middle of the clip."""
    seen = skeleton.keypoints[..., 2].sum(axis=(0, 2))
    middle = np.abs(np.arange(len(seen)) - len(seen) / 2) / max(len(seen), 1)
    return int(np.argmax(seen - 0.5 * middle * max(float(seen.max()), 1e-6)))


def frame_at(path: Path, fps: float, index: int, max_side: int | None = None) -> Image:
    """Frame ``index`` of a video read at ``fps``; the last one where it is shorter."""
    start = max(index / fps - 0.5 / fps, 0.0)
    found = None
    for frame in video.read(path, fps=fps, max_side=max_side, start_s=start, end_s=start + 1.5 / fps):
        return frame.image
    for frame in video.read(path, fps=fps, max_side=max_side):
        found = frame.image
        if frame.index >= index:
            break
    if found is None:
        return np.zeros((CELL[1], CELL[0], 3), np.uint8)
    return found


def triptych(scene: Scene) -> Image:
    """Raw, masked and skeleton of one moment of a clip, (240, 960, 3) RGB."""
    moment = busiest(scene.skeleton)
    index = round(scene.clip.start_s * scene.clip.fps) + moment
    side = max(scene.clip.width, scene.clip.height)
    raw_name = next(n for n in scene.raw.files if n.startswith("video.") and n != "video.json")
    with tempfile.TemporaryDirectory(prefix="posewatch-report-") as temp:
        before = frame_at(scene.raw.fetch(raw_name, Path(temp)), scene.clip.fps, index, side)
        after = frame_at(scene.masked.fetch("masked.mp4", Path(temp)), scene.clip.fps, index)
    dark = (after * 0.45).astype(np.uint8)
    bones = overlay(dark, scene.skeleton.keypoints[:, moment])
    return np.hstack([fit(before), fit(after), fit(bones)])


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
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def clip_uri(scene: Scene) -> str:
    """The clip itself, as labelers see it, to be played inside the page."""
    return data_uri(io.BytesIO(scene.clips.read(f"{scene.clip.id}.mp4")).getvalue(), "video/mp4")
