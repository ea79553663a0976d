"""Labelled skeleton clips: what training and evaluation read, and how they are split without leaking a scene.

The pyskl annotation format is read and written, by an unpickler that lets numpy arrays and plain data through only.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch.errors import InputError, LabelError
from posewatch.recognition.split import split_by_group

__all__ = ["ClipSet", "read_pickle", "read_pyskl", "resample", "sample", "split_by_group", "write_pyskl"]


@dataclass(frozen=True)
class ClipSet:
    """N labelled clips of any length.

    keypoints  N arrays float32 (M_i, T_i, V, 3): x, y in pixels and a score in [0, 1]; absent persons are zero
    labels     int64 (N,), indices into ``classes``
    groups     N names of source videos or subjects; a split keeps each on one side
    fps        frames per second that the clips were sampled at
    """

    keypoints: tuple[NDArray[np.float32], ...]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    ids: tuple[str, ...]
    groups: tuple[str, ...]
    fps: float = 10.0
    layout: str = "coco17"

    def __post_init__(self) -> None:
        n = len(self.keypoints)
        if not len(self.labels) == len(self.ids) == len(self.groups) == n:
            raise InputError(
                f"{n} clips need as many labels, ids and groups, not {len(self.labels)}, {len(self.ids)}, "
                f"{len(self.groups)}"
            )
        if len(self.classes) < 2 or len(set(self.classes)) != len(self.classes):
            raise LabelError(f"a recogniser needs at least two different classes, not {', '.join(self.classes)!r}")
        outside = [int(k) for k in self.labels if not 0 <= k < len(self.classes)]
        if outside:
            raise LabelError(f"label {outside[0]} is none of the {len(self.classes)} classes {', '.join(self.classes)}")
        for name, k in zip(self.ids, self.keypoints, strict=True):
            if k.ndim != 4 or k.shape[3] != 3 or not all(k.shape):
                raise InputError(
                    f"clip {name}: keypoints must be (M, T, V, 3) with a person and a frame, not {k.shape}"
                )
            if k.shape[2] != self.keypoints[0].shape[2]:
                raise InputError(f"clip {name} has {k.shape[2]} joints, the first clip {self.keypoints[0].shape[2]}")
            if not np.isfinite(k).all():
                raise InputError(
                    f"clip {name}: keypoints hold NaN or infinite values (give missing joints a score of 0)"
                )

    def __len__(self) -> int:
        return len(self.keypoints)

    def subset(self, indices: Sequence[int] | NDArray[Any]) -> ClipSet:
        """The clips at ``indices``, in that order."""
        i = [int(k) for k in indices]
        return ClipSet(
            tuple(self.keypoints[k] for k in i),
            self.labels[i],
            self.classes,
            tuple(self.ids[k] for k in i),
            tuple(self.groups[k] for k in i),
            self.fps,
            self.layout,
        )


def sample(clip: NDArray[np.float32], times: NDArray[np.float64], people: int) -> NDArray[np.float32]:
    """One clip (M, T_i, V, 3) at ``times`` (T,), in frames → (people, T, V, 3).

    Between two frames a joint is interpolated where both saw it; else it is taken from the nearer frame, so that a
    missing joint (score 0) never pulls a seen one to the corner. Of too many persons the most present ones stay.
    """
    m, length, v, _ = clip.shape
    if m > people:
        presence = (clip[..., 2] > 0).sum((1, 2))
        clip = clip[np.sort(np.argsort(-presence, kind="stable")[:people])]
    times = np.clip(times, 0, length - 1)
    low = np.floor(times).astype(int)
    high = np.minimum(low + 1, length - 1)
    part = (times - low).astype(np.float32)[None, :, None, None]
    a, b = clip[:, low], clip[:, high]
    both = (a[..., 2:] > 0) & (b[..., 2:] > 0)
    found = np.where(both, a + (b - a) * part, np.where(part < 0.5, a, b))
    out = np.zeros((people, len(times), v, 3), np.float32)
    out[: len(found)] = found
    return out


def resample(keypoints: Sequence[NDArray[np.float32]], frames: int, people: int) -> NDArray[np.float32]:
    """Clips (M_i, T_i, V, 3) → (N, people, frames, V, 3), uniform in time from the first frame to the last."""
    if not keypoints:
        return np.zeros((0, people, frames, 0, 3), np.float32)
    return np.stack([sample(k, np.linspace(0, k.shape[1] - 1, frames), people) for k in keypoints])


class _Unpickler(pickle.Unpickler):
    """Plain data and numpy arrays only: a pickle from elsewhere must not run code."""

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "numpy" and name in (
            *("ndarray", "dtype", "scalar", "_reconstruct", "_frombuffer"),
            *("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool_"),
        ):
            # Old pickles say numpy.core, new ones numpy._core.
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        raise pickle.UnpicklingError(f"it wants to load {module}.{name}")


def read_pickle(path: Path | str) -> Any:
    """Plain data and numpy arrays from a pickle. Raises InputError for anything else, without running it."""
    try:
        return _Unpickler(io.BytesIO(Path(path).read_bytes())).load()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} is not a safe pickle: {error} (only numpy arrays and plain data are allowed)"
        ) from None
    except Exception as error:
        raise InputError(f"{path} is not a pickle of skeletons: {type(error).__name__}") from None


def read_pyskl(
    path: Path | str, classes: Sequence[str] | None = None, groups: dict[str, str] | None = None
) -> tuple[ClipSet, dict[str, list[int]]]:
    """A pyskl annotation file → all its clips, and its splits as indices into them. Raises InputError, LabelError.

    ``classes`` default to those that the file names, else to class_0, class_1, ...; ``groups`` maps a clip's
    ``frame_dir`` to its video or subject and defaults to the part of it before the first underscore.
    """
    data = read_pickle(path)
    try:
        rows, splits = data["annotations"], data["split"]
        keypoints, labels, ids = [], [], []
        for row in rows:
            xy = np.asarray(row["keypoint"], np.float32)
            score = row.get("keypoint_score")
            score = np.ones(xy.shape[:3]) if score is None else np.asarray(score)
            joined = np.concatenate([xy[..., :2], np.clip(score, 0, 1)[..., None]], -1).astype(np.float32)
            keypoints.append(joined)
            labels.append(int(row["label"]))
            ids.append(str(row["frame_dir"]))
        index = {name: i for i, name in enumerate(ids)}
        parts = {str(name): [index[str(i)] for i in members] for name, members in splits.items()}
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise InputError(f"{path} is not in pyskl's annotation format: {type(error).__name__}: {error}") from None
    known = classes or data.get("classes") or [f"class_{k}" for k in range(max(labels, default=0) + 1)]
    names = tuple(ids)
    clips = ClipSet(
        tuple(keypoints),
        np.array(labels, np.int64),
        tuple(str(c) for c in known),
        names,
        tuple((groups or {}).get(i, i.split("_")[0]) for i in names),
        float(data.get("fps", 10.0)),
        str(data.get("layout", "coco17")),
    )
    return clips, parts


def write_pyskl(
    path: Path | str, clips: ClipSet, splits: dict[str, Sequence[int]], size: tuple[int, int] = (480, 640)
) -> None:
    """Write clips and splits (indices) in pyskl's annotation format; ``size`` is the frames' (height, width)."""
    rows = [
        {
            "frame_dir": name,
            "label": int(label),
            "img_shape": size,
            "original_shape": size,
            "total_frames": k.shape[1],
            "keypoint": k[..., :2],
            "keypoint_score": k[..., 2],
        }
        for name, label, k in zip(clips.ids, clips.labels, clips.keypoints, strict=True)
    ]
    data = {
        "split": {part: [clips.ids[i] for i in members] for part, members in splits.items()},
        "annotations": rows,
        "classes": list(clips.classes),
        "fps": clips.fps,
        "layout": clips.layout,
    }
    path = Path(path)
    partial = path.with_name(f".{path.name}.part")
    partial.write_bytes(pickle.dumps(data, protocol=4))
    partial.replace(path)
