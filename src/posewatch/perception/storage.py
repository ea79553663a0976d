"""The persons of every frame as a file: written beside the masked video, and by the pose stage."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch.errors import InputError
from posewatch.files import atomic
from posewatch.records import Detections

DETECTIONS = "detections.npz"


def write_detections(path: Path, frames: Sequence[Detections], *, ids: bool = False) -> None:
    """Persons of each frame as npz: ``frames`` (), ``frame`` (N,), ``boxes`` (N, 4), ``scores`` (N,), ``keypoints``.

    With ``ids`` also ``ids`` (N,), who is who.
    """
    filled = [d for d in frames if len(d)]
    joints = next((d.keypoints.shape[1] for d in filled if d.keypoints is not None), 0)
    arrays: dict[str, NDArray[Any]] = {
        "frames": np.array(len(frames), np.int32),
        "frame": np.repeat(np.arange(len(frames), dtype=np.int32), [len(d) for d in frames]),
        "boxes": np.concatenate([d.boxes for d in filled]) if filled else np.zeros((0, 4), np.float32),
        "scores": np.concatenate([d.scores for d in filled]) if filled else np.zeros(0, np.float32),
    }
    if joints:
        arrays["keypoints"] = np.concatenate([d.keypoints for d in filled if d.keypoints is not None])
    if ids:
        arrays["ids"] = np.concatenate([np.zeros(0, np.int64), *(d.ids for d in filled if d.ids is not None)])
    with atomic(path) as partial, partial.open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **arrays)


def read_detections(path: Path) -> list[Detections]:
    """The frames that ``write_detections`` wrote. Raises InputError for another kind of file."""
    try:
        with np.load(path, allow_pickle=False) as data:
            arrays = {name: data[name] for name in data.files}
        return list(_frames(arrays))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"not a detections file: {path} ({error}; run mask again)") from None


def _frames(arrays: dict[str, NDArray[Any]]) -> Iterator[Detections]:
    ends = np.searchsorted(arrays["frame"], np.arange(int(arrays["frames"]) + 1))
    keypoints = arrays.get("keypoints")
    for a, b in pairwise(ends):
        points = None if keypoints is None else keypoints[a:b]
        ids = None if "ids" not in arrays else arrays["ids"][a:b]
        yield Detections(arrays["boxes"][a:b], arrays["scores"][a:b], points, ids)
