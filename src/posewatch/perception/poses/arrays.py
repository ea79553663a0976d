"""Arrays of whole sets: CTR-GCN's ``NTU60_CS.npz`` (x_train, y_train, x_test, y_test), and ``train_data_joint.npy``
with ``train_label.pkl`` as 2s-AGCN and ST-GCN make them."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch.datasets.paper import stem
from posewatch.datasets.pickles import read_pickle
from posewatch.errors import InputError, first_line
from posewatch.perception.poses import kinetics
from posewatch.perception.poses.clip import Floats, PoseClip, shown

PARTS = ("train", "val", "test")
_PEOPLE, _JOINTS = 2, 25
"""M and V of the sets of NTU RGB+D."""


def keys_of(path: Path) -> list[str]:
    """The names of the arrays in a .npz, or the shape of a .npy as text. Raises InputError."""
    try:
        if path.suffix == ".npz":
            with zipfile.ZipFile(path) as archive:
                return sorted(Path(name).stem for name in archive.namelist())
        return [str(np.load(path, mmap_mode="r", allow_pickle=False).shape)]
    except Exception as error:  # a damaged archive or header can raise nearly anything
        raise InputError(f"{shown(path)} is not a file of arrays: {first_line(error)}") from None


def claims_archive(keys: Any) -> bool:
    return {"x_train", "y_train"} <= set(keys) or {"x_test", "y_test"} <= set(keys)


def claims_array(keys: Any) -> bool:
    """An array (N, C, T, V, M)."""
    return len(keys) == 1 and str(keys[0]).count(",") == 4


def read_archive(files: Iterable[tuple[Path, Any]]) -> Iterator[PoseClip]:
    """A clip of each row of x; y has the classes, as numbers or one of them 1."""
    for path, keys in files:
        for part in PARTS:
            if f"x_{part}" not in keys or f"y_{part}" not in keys:
                continue
            labels = _classes(path, f"y_{part}")
            for i, row in enumerate(_rows(path, f"x_{part}")):
                if row.ndim != 2 or row.shape[1] != _PEOPLE * _JOINTS * 3 or i >= len(labels):
                    raise InputError(
                        f"{shown(path)}: x_{part} must be (clips, frames, {_PEOPLE * _JOINTS * 3}: 2 persons of 25 "
                        f"joints x, y, z) with as many labels, not {row.shape} for a clip"
                    )
                tracks = row.reshape(len(row), _PEOPLE, _JOINTS, 3).transpose(1, 0, 2, 3)
                yield _in_space(f"{part}_{i}", tracks, shown(path), int(labels[i]), part)


def _classes(path: Path, key: str) -> NDArray[np.int64]:
    """(N,) class indices from numbers, or from rows in which one of the classes is 1."""
    try:
        labels = np.load(path, allow_pickle=False)[key]
        return np.asarray(labels.argmax(1) if labels.ndim == 2 else labels).astype(np.int64).reshape(-1)
    except Exception as error:  # a damaged archive or header can raise nearly anything
        raise InputError(f"{shown(path)}: {key} is damaged: {first_line(error)}") from None


def _rows(path: Path, key: str) -> Iterator[Floats]:
    """The rows of one array, one after the other: the file may be larger than the memory."""
    formats = np.lib.format
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{key}.npy") as file:
            header = (
                formats.read_array_header_1_0 if formats.read_magic(file) == (1, 0) else formats.read_array_header_2_0
            )
            shape, fortran, dtype = header(file)
            if fortran or dtype.kind not in "fiu":
                raise InputError(f"{shown(path)}: {key} is no array of numbers in rows")
            for _ in range(shape[0]):
                row = file.read(math.prod(shape[1:]) * dtype.itemsize)
                yield np.frombuffer(row, dtype).reshape(shape[1:]).astype(np.float32)
    except InputError:
        raise
    except Exception as error:  # likewise
        raise InputError(f"{shown(path)}: {key} is damaged: {first_line(error)}") from None


def read_array(files: Iterable[tuple[Path, Any]]) -> Iterator[PoseClip]:
    """A clip of each of N; the names and classes are in ``<part>_label.pkl`` beside the array."""
    for path, _ in files:
        part = path.stem.partition("_")[0]
        beside = path.with_name(f"{part}_label.pkl")
        if not beside.is_file():
            raise InputError(
                f"{shown(path)} needs {beside.name} beside it, with the names of its clips and their classes"
            )
        told = read_pickle(beside)
        clips = np.load(path, mmap_mode="r", allow_pickle=False)
        fits = (
            isinstance(told, list | tuple)
            and len(told) == 2
            and all(isinstance(one, list | tuple | np.ndarray) for one in told)
        )
        fits = fits and len(told[0]) == len(told[1]) == len(clips)
        fits = fits and all(isinstance(k, int | np.integer) and k >= 0 for k in told[1])
        if not fits or clips.shape[1] != 3:
            raise InputError(
                f"{shown(beside)} must hold {len(clips)} names and as many classes, {path.name} an array "
                f"(N, 3, T, V, M), not {clips.shape}"
            )
        for name, label, clip in zip(*told, clips, strict=True):
            tracks = np.asarray(clip, np.float32).transpose(3, 1, 2, 0)
            known = part if part in PARTS else ""
            if tracks.shape[2] == 18:  # Kinetics-skeleton: shares of the picture about its middle, and scores
                seen = tracks[..., 2:] > 0
                picture = np.concatenate([tracks[..., :2] + 0.5, tracks[..., 2:]], -1) * seen
                yield PoseClip(
                    stem(str(name)), _ended(picture), shown(path), "openpose18", kinetics.SIZE, True,
                    label=f"class_{label}", number=int(label), part=known,
                )  # fmt: skip
            else:
                yield _in_space(stem(str(name)), tracks, shown(path), int(label), known)


def _in_space(name: str, tracks: Floats, where: str, label: int, part: str) -> PoseClip:
    """A clip of tracks (M, T, V, 3) in metres, y upwards, of which x and y are taken, as a picture has them."""
    tracks = np.nan_to_num(tracks)
    seen = np.broadcast_to(np.any(tracks, axis=(2, 3))[..., None, None], (*tracks.shape[:3], 1)).astype(np.float32)
    flat = np.concatenate([tracks[..., :1], -tracks[..., 1:2], seen], -1)
    layout = "ntu25" if tracks.shape[2] == _JOINTS else ""
    return PoseClip(name, _ended(flat), where, layout, measured=True, label=f"class_{label}", number=label, part=part)


def _ended(tracks: Floats) -> Floats:
    """Without the frames at the end that fill it up."""
    last = np.flatnonzero(np.any(tracks[..., 2] > 0, axis=(0, 2)))
    return tracks[:, : last[-1] + 1] if len(last) else tracks[:, :1]
