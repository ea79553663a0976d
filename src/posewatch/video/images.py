"""Single images for reports: a poster of a video, a contact sheet, files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from posewatch.errors import ConfigError, VideoError
from posewatch.files import write_atomically
from posewatch.video.reading import Image, probe, read


def poster(path: Path, max_side: int | None = None) -> Image:
    """The image in the middle of a video, uint8 (H, W, 3) RGB."""
    middle = probe(path).duration_s / 2
    frame = next(read(path, 1.0, max_side, start_s=middle), None) or next(read(path, 1.0, max_side))
    return frame.image


def contact_sheet(images: Sequence[Image], columns: int = 4, gap: int = 4) -> Image:
    """Images side by side on one white sheet, each fitted into a cell of the first one's size."""
    import cv2

    if not images or columns < 1:
        raise ConfigError("a contact sheet needs at least one image and one column")
    height, width = images[0].shape[:2]
    columns = min(columns, len(images))
    rows = math.ceil(len(images) / columns)
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, 3), 255, np.uint8)
    for i, image in enumerate(images):
        scale = min(width / image.shape[1], height / image.shape[0])
        small = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        cell = image if small == image.shape[1::-1] else cv2.resize(image, small, interpolation=cv2.INTER_AREA)
        top = gap + i // columns * (height + gap) + (height - cell.shape[0]) // 2
        left = gap + i % columns * (width + gap) + (width - cell.shape[1]) // 2
        sheet[top : top + cell.shape[0], left : left + cell.shape[1]] = cell
    return sheet


def save_image(path: Path, image: Image) -> Path:
    """Write an RGB image as PNG or JPEG, by the suffix of ``path``."""
    import cv2

    ok, data = cv2.imencode(Path(path).suffix, np.ascontiguousarray(image[..., ::-1]))
    if not ok:
        raise VideoError(f"cannot write {path} (use .png or .jpg)")
    write_atomically(path, data.tobytes())
    return Path(path)
