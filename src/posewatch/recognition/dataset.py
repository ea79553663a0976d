"""Labelled skeleton clips: what training and evaluation read, and the annotation files that they come from."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch.errors import InputError, LabelError
from posewatch.layouts import Layout
from posewatch.recognition.annotations import annotations_of, keypoints_of, labels_of, layout_of, some
from posewatch.recognition.pickles import read_pickle
from posewatch.recognition.split import split_by_group
from posewatch.recognition.subjects import Subjects, name_subjects

__all__ = ["ClipSet", "read_pickle", "read_pyskl", "resample", "sample", "split_by_group", "write_pyskl"]


@dataclass(frozen=True)
class ClipSet:
    """N labelled clips of any length.

    keypoints  N arrays float32 (M_i, T_i, V, 3): x, y in pixels and a score in [0, 1]; absent persons are zero
    labels     int64 (N,), indices into ``classes``
    groups     N names of source videos, or of subjects joined by "+"; a split keeps each on one side
    fps        frames per second that the clips were sampled at
    takes      N groups as the file writes them (s05s03 is of the group s03+s05), or none: the groups
    certain    groups are given by somebody, not guessed from the clips' names
    notes      what a user should know of how the clips were read
    """

    keypoints: tuple[NDArray[np.float32], ...]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    ids: tuple[str, ...]
    groups: tuple[str, ...]
    fps: float = 10.0
    layout: str = "coco17"
    takes: tuple[str, ...] = ()
    certain: bool = False
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.keypoints)
        if not len(self.labels) == len(self.ids) == len(self.groups) == n:
            raise InputError(
                f"{n} clips need as many labels, ids and groups, not {len(self.labels)}, {len(self.ids)}, "
                f"{len(self.groups)}"
            )
        if len(self.takes) not in (0, n):
            raise InputError(f"{n} clips need as many takes, or none, not {len(self.takes)}")
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
        return replace(
            self,
            keypoints=tuple(self.keypoints[k] for k in i),
            labels=self.labels[i],
            ids=tuple(self.ids[k] for k in i),
            groups=tuple(self.groups[k] for k in i),
            takes=tuple(self.takes[k] for k in i) if self.takes else (),
        )

    def joined(self, other: ClipSet) -> ClipSet:
        """These clips, then ``other``'s; classes, layout and the like are taken from these."""
        takes = self.takes + other.takes if len(self.takes) == len(self) and len(other.takes) == len(other) else ()
        return replace(
            self,
            keypoints=self.keypoints + other.keypoints,
            labels=np.concatenate([self.labels, other.labels]),
            ids=self.ids + other.ids,
            groups=self.groups + other.groups,
            takes=takes,
            certain=self.certain and other.certain,
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


def read_pyskl(
    path: Path | str,
    classes: Sequence[str] | None = None,
    groups: Mapping[str, str] | None = None,
    *,
    layout: str | Layout | None = None,
    subject_pattern: str | None = None,
    drop_empty: bool = False,
) -> tuple[ClipSet, dict[str, list[int]]]:
    """An annotation file → all its clips, and its splits as indices into them ({} for a bare list of annotations).

    classes          names of the labels; default: the file's own, else class_0, class_1, ...
    groups           each clip's video or subject by ``frame_dir``; default: see ``subjects.name_subjects``
    layout           default: the file's own, else the built-in one with as many joints
    subject_pattern  regular expression that finds the subjects in a ``frame_dir``
    drop_empty       leave clips out in which nobody is seen or that have fewer than 2 frames, and say so in ``notes``

    docs/data.md describes the format. Raises InputError, LabelError or ConfigError naming the clips that do not fit.
    """
    found = annotations_of(read_pickle(path), path)
    labels, known = labels_of(found, classes)
    rows = list(zip(found.rows, found.names, strict=True))
    keypoints = [keypoints_of(row, name) for row, name in rows]
    named = layout_of(found, {name: k.shape[2] for name, k in zip(found.names, keypoints, strict=True)}, layout)
    used = [i for i, k in enumerate(keypoints) if k.shape[1] > 1 and k[..., 2].any()]
    notes = []
    if len(used) < len(keypoints):
        empty = [found.names[i] for i in sorted(set(range(len(keypoints))) - set(used))]
        said = f"{len(empty)} of {len(keypoints)} clips show nobody or have fewer than 2 frames: {some(empty)}"
        if not drop_empty or not used:
            raise InputError(f"{path}: {said} (leave them out with --drop-empty)")
        notes.append(f"Left out: {said}.")
    names = tuple(found.names[i] for i in used)
    if len(used) > 2 and len({hash(keypoints[i].tobytes()) for i in used}) == 1:
        raise InputError(f"{path}: all {len(used)} clips are the same skeleton (the file is broken: get it again)")
    who = name_subjects([found.rows[i] for i in used], names, subject_pattern)
    unknown = [name for name, group in zip(names, who.groups, strict=True) if subject_pattern and group == name]
    if unknown:
        notes.append(f"The subject pattern finds nobody in {len(unknown)} clips: {some(unknown)}.")
    if groups is not None:
        own = tuple(groups.get(name, group) for name, group in zip(names, who.groups, strict=True))
        who = Subjects(own, own, True)
    clips = ClipSet(
        tuple(keypoints[i] for i in used),
        labels[used],
        known,
        names,
        who.groups,
        _fps(found.about.get("fps", 10.0)),
        named.name,
        who.takes,
        who.certain,
        tuple(notes),
    )
    index = {name: i for i, name in enumerate(names)}
    return clips, {part: [index[m] for m in members if m in index] for part, members in found.splits.items()}


def _fps(value: Any) -> float:
    try:
        fps = float(value)
    except (TypeError, ValueError):
        fps = 0.0
    if not 0 < fps < 1e4:
        raise InputError(f"the file's fps is {str(value)[:40]!r}: it must be a number of frames per second above 0")
    return fps


def write_pyskl(
    path: Path | str, clips: ClipSet, splits: dict[str, Sequence[int]], size: tuple[int, int] = (480, 640)
) -> None:
    """Write clips and splits (indices) in pyskl's annotation format; ``size`` is the frames' (height, width).

    Groups that the clips' names do not tell are written as well, so that who reads the file can keep them apart.
    """
    guessed = name_subjects([{"frame_dir": name} for name in clips.ids], clips.ids)
    told = clips.certain or clips.groups != guessed.groups
    rows: list[dict[str, Any]] = [
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
    for row, group in zip(rows, clips.groups, strict=True):
        row |= {"group": group} if told else {}
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
