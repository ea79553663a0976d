"""The content of an annotation file in pyskl's format, checked clip by clip; errors name the clips and the remedy.

docs/data.md describes what is read of the format.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch.datasets import layouts
from posewatch.datasets.layouts import Layout
from posewatch.errors import InputError, LabelError, did_you_mean
from posewatch.names import folded

BY_JOINTS = {
    17: "coco17", 18: "openpose18", 15: "kinect15", 20: "kinect20", 25: "ntu25", 16: "mpii16", 24: "smpl24",
    26: "halpe26", 33: "blazepose33", 133: "wholebody133",
}  # fmt: skip
"""The layout of a file that names none, by its number of joints; not of a number that says nothing (14)."""
_SHORTER = 0.7
"""Share of the bones' length in one layout that they have in another where the skeletons are of the other one."""
MAX_CLASSES = 10_000
SPARSE = 100
"""A file in pyskl's compressed form becomes at most so many times as large."""
FAR = 100_000
"""Pixels from the corner of a picture within which all joints are, also those outside of the picture."""


@dataclass(frozen=True)
class Annotations:
    """The N rows of a file, their ``names``, the names in each split, and the file's other keys in ``about``.

    ``nobody`` counts the rows that are None, as pyskl's ``ntu_preproc.py`` writes them for clips without a body; they
    are left out, in the splits, too.
    """

    rows: tuple[Mapping[str, Any], ...]
    names: tuple[str, ...]
    splits: dict[str, tuple[str, ...]]
    about: Mapping[str, Any]
    nobody: int = 0


def some(names: Iterable[str], most: int = 5) -> str:
    """The first few names, and the number of the rest."""
    known = [str(name)[:80] for name in names]
    more = len(known) - most
    return ", ".join(known[:most]) + (f" and {more} more" if more > 0 else "")


def count(n: int, noun: str) -> str:
    """1 clip, 2 clips."""
    return f"{n} {noun}" + ("" if n == 1 else "s")


def annotations_of(data: Any, path: Path | str) -> Annotations:
    """Rows, names and splits of unpickled ``data``: pyskl's dict; or, without splits, a bare list of annotations, or a
    single one, as MMAction2's ``ntu_pose_extraction.py`` writes it.

    Raises InputError when it is neither, when a clip is annotated twice, and when a split names an unknown clip.
    """
    if isinstance(data, Mapping) and "keypoint" in data and "annotations" not in data:
        data = [data]
    bare = isinstance(data, list | tuple)
    about: Mapping[str, Any] = data if isinstance(data, Mapping) else {}
    rows = data if bare else about.get("annotations")
    whole = len(rows) if isinstance(rows, list | tuple) else 0
    if isinstance(rows, list | tuple):
        rows = [row for row in rows if row is not None]
    nobody = whole - len(rows or ())
    if not isinstance(rows, list | tuple) or not all(isinstance(row, Mapping) for row in rows):
        raise InputError(f"{path} is not in pyskl's annotation format: no list of annotations in it (see docs/data.md)")
    if not rows:
        raise InputError(f"{path} has no clips: its list of annotations is empty")
    names = tuple(_name(row, i, path) for i, row in enumerate(rows))
    twice = [name for name, n in Counter(names).items() if n > 1]
    if twice:
        raise InputError(
            f"{path}: {count(len(twice), 'clip')} annotated twice: {some(twice)} (give each a frame_dir of its own)"
        )
    splits = about.get("split") or {}
    if not isinstance(splits, Mapping) or not all(_is_list(members) for members in splits.values()):
        raise InputError(f"{path} is not in pyskl's annotation format: split must map names to lists of frame_dir")
    found = {str(part): tuple(map(str, _ordered(members))) for part, members in splits.items()}
    known = set(names)
    lacking = {member for members in found.values() for member in members if member not in known}
    if len(lacking) <= nobody:
        found = {part: tuple(member for member in members if member in known) for part, members in found.items()}
    for part, members in found.items():
        unknown = [member for member in members if member not in known]
        if unknown:
            raise InputError(
                f"{path}: split {part!r} names {count(len(unknown), 'clip')} without an annotation: {some(unknown)} "
                "(annotate them, or take them out of the split)"
            )
        twice = [member for member, n in Counter(members).items() if n > 1]
        if twice:
            raise InputError(
                f"{path}: split {part!r} names {count(len(twice), 'clip')} twice: {some(twice)} (once is enough)"
            )
    return Annotations(tuple(rows), names, found, about, nobody)


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple | set | frozenset) or (isinstance(value, np.ndarray) and value.ndim == 1)


def _ordered(members: Any) -> Any:
    return sorted(members, key=str) if isinstance(members, set | frozenset) else members


def _name(row: Mapping[str, Any], i: int, path: Path | str) -> str:
    # The oldest files have filename.
    name = row.get("frame_dir", row.get("filename"))
    if not isinstance(name, str | int | np.integer | np.str_) or not str(name):
        raise InputError(f"{path} is not in pyskl's annotation format: annotation {i} has no frame_dir")
    return str(name)


def keypoints_of(row: Mapping[str, Any], name: str) -> NDArray[np.float32]:
    """One clip's x, y and score, float32 (M, T, V, 3); M or T may be 0, a missing joint has score 0.

    A third coordinate is left out, but for a score (see `_scored`). The keypoints (N, V, 3) of pyskl's compressed form,
    with the frame of each person in ``frame_inds``, become those of persons in the order in which a frame has them.
    Without ``keypoint_score``, joints at exactly zero are missing, all others have score 1. Raises InputError naming
    the clip when shapes do not fit, or a joint with a score is NaN or infinite.
    """
    if "keypoint" not in row and "raw_file" in row:
        raise InputError(
            f"clip {name}: its keypoints are in another file ({str(row['raw_file'])[:60]}), as those of pyskl's "
            "k400_hrnet.pkl, which is a table of contents only"
        )
    try:
        if "frame_inds" in row:
            row = _decompressed(row)
        xy, given = _scored(np.asarray(row["keypoint"], np.float32), row.get("keypoint_score"))
        score: NDArray[Any] = np.asarray(xy.any(-1) if given is None else given, np.float32)
        length = int(row.get("total_frames", xy.shape[1] if xy.ndim > 1 else 0))
    except KeyError as error:
        raise InputError(f"clip {name} has no {error.args[0]}") from None
    except (TypeError, ValueError, OverflowError):
        keys = "keypoint, keypoint_score, frame_inds" if "frame_inds" in row else "keypoint, keypoint_score"
        raise InputError(f"clip {name}: {keys} or total_frames are not numbers, or do not fit each other") from None
    if xy.ndim != 4 or xy.shape[3] not in (2, 3) or not xy.shape[2]:
        raise InputError(f"clip {name}: keypoint must be (persons, frames, joints, 2 or 3 coordinates), not {xy.shape}")
    if score.shape != xy.shape[:3]:
        raise InputError(f"clip {name}: keypoint_score must be {xy.shape[:3]}, like keypoint, not {score.shape}")
    if not 0 <= length <= xy.shape[1]:
        raise InputError(f"clip {name}: total_frames is {length}, but its keypoints have {xy.shape[1]} frames")
    out = np.concatenate([xy[:, :length, :, :2], score[:, :length, :, None]], -1)
    out[out[..., 2] <= 0] = 0
    lost = ~np.isfinite(out).all(-1)
    if lost.any():
        frame = int(np.argwhere(lost)[0][1])
        raise InputError(
            f"clip {name}: {count(int(lost.sum()), 'keypoint')} NaN or infinite, the first in frame {frame} "
            "(give missing joints a score of 0)"
        )
    np.minimum(out[..., 2], 1, out=out[..., 2])
    return out


def _scored(xy: NDArray[np.float32], given: Any) -> tuple[NDArray[np.float32], Any]:
    """Keypoints and scores where other tools have them in another place; else both as they are.

    A third coordinate from 0 to about 1 beside pixels is the score, as pyskl's and MMAction2's ``PreNormalize2D`` take
    it. MMAction2's ``gen_ntu_rgbd_raw.py`` (0.x) has (3, T, V, 2): three coordinates of two persons, in metres about
    the first, with a score of 1 everywhere.
    """
    if xy.ndim != 4 or not ((xy.shape[3] == 3 and given is None) or xy.shape[::3] == (3, 2)):
        return xy, given
    known = xy[np.isfinite(xy).all(-1)]
    pixels = float(np.abs(known[:, :2]).max(initial=0)) > 10
    if xy.shape[3] == 3:
        third = known[:, 2]
        scored = pixels and third.min(initial=0) >= 0 and 0 < third.max(initial=0) <= 1.5
        return xy, xy[..., 2] if scored else given
    whole = given is not None and np.shape(given) == xy.shape[:3] and bool((np.asarray(given) == 1).all())
    return (xy.transpose(3, 1, 2, 0), None) if whole and not pixels else (xy, given)


def _decompressed(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row in pyskl's compressed form as others are. Raises ValueError where its arrays do not fit each other."""
    flat, places = np.asarray(row["keypoint"], np.float32), np.asarray(row["frame_inds"], np.int64)
    length = int(row.get("total_frames", places.max(initial=-1) + 1))
    if flat.ndim != 3 or flat.shape[2] != 3 or places.shape != flat.shape[:1] or (places < 0).any():
        raise ValueError
    order = np.argsort(places, kind="stable")
    begin = np.searchsorted(places[order], places[order])
    person = np.arange(len(order)) - begin
    people = int(person.max(initial=-1)) + 1
    if (places >= length).any() or people * length > SPARSE * (len(flat) + SPARSE):
        raise ValueError
    out = np.zeros((people, length, *flat.shape[1:]), np.float32)
    out[person, places[order]] = flat[order]
    return {**row, "keypoint": out[..., :2], "keypoint_score": out[..., 2], "total_frames": length}


def without_sentinels(clips: Sequence[NDArray[np.float32]], names: Sequence[str]) -> str:
    """Make joints missing that stand at a number that tools write for "missing", such as (-1, -1), though they have a
    score; returns a note on them, or "".

    Such a joint has twice the same coordinate, negative or farther away than any picture, as 1 of 1,000 joints of the
    ``clips`` (N arrays (M, T, V, 3), changed in place) have or more. Raises InputError for other joints that are so
    far away, naming the clips.
    """
    found: Counter[float] = Counter()
    total = 0
    for clip in clips:
        x, y, seen = clip[..., 0], clip[..., 1], clip[..., 2] > 0
        total += int(seen.sum())
        values, counts = np.unique(x[seen & (x == y) & ((x < 0) | (x > FAR))], return_counts=True)
        found.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
    sentinels = [value for value, n in found.items() if n >= max(3, total / 1000)]
    marked, far = [], []
    for clip, name in zip(clips, names, strict=True):
        missing = (clip[..., 0] == clip[..., 1]) & np.isin(clip[..., 0], sentinels) & (clip[..., 2] > 0)
        if missing.any():
            clip[missing] = 0
            marked.append(name)
        if (np.abs(clip[..., :2]) > FAR).any():
            far.append(name)
    if far:
        raise InputError(
            f"{count(len(far), 'clip')} with keypoints beyond {FAR:,} pixels: {some(far)} "
            "(give missing joints a score of 0)"
        )
    if not marked:
        return ""
    points = ", ".join(f"({value:g}, {value:g})" for value in sorted(sentinels))
    share = sum(found[value] for value in sentinels) / total
    return (
        f"Joints at {points} are read as missing, {share:.1%} of all, in {count(len(marked), 'clip')}: {some(marked)}."
    )


def labels_of(found: Annotations, classes: Sequence[str] | None) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Labels (N,) and the names of the classes: those given, else the file's own, else class_0, class_1, ...

    Raises LabelError naming the clips whose label is no number or outside the classes.
    """
    labels = []
    for name, row in zip(found.names, found.rows, strict=True):
        label = row.get("label")
        if isinstance(label, np.ndarray):
            label = label.tolist()
        if isinstance(label, list | tuple) and len(label) == 1:
            label = label[0]
        if label is None:
            raise LabelError(f"clip {name} has no label (to learn without: posewatch pretrain)")
        if isinstance(label, list | tuple):
            raise LabelError(f"clip {name} has the labels {str(label)[:40]}: give each clip one class")
        whole = isinstance(label, int | np.integer) or (isinstance(label, float | np.floating) and label % 1 == 0)
        if not whole or isinstance(label, bool):
            raise LabelError(f"clip {name}: label {str(label)[:40]!r} is not a class index (0, 1, ...)")
        labels.append(int(label or 0))
    own = found.about.get("classes")
    if classes is None and own is not None and not (_is_list(own) and len(own)):
        raise LabelError("the file's classes are not a list of names (name them with --classes)")
    if classes is None and own is None:
        top = max(labels)
        if top >= MAX_CLASSES:
            worst = found.names[labels.index(top)]
            raise LabelError(f"clip {worst}: label {top} is above {MAX_CLASSES - 1} (name the classes with --classes)")
        own = [f"class_{k}" for k in range(top + 1)]
    named = classes if classes is not None else own  # an array has no truth value
    known = tuple(str(name) for name in (named if named is not None else ()))
    if classes is not None and own is not None:
        labels = _renumbered(labels, [str(name) for name in own], known)
    if nameless := [k for k, name in enumerate(known) if not name.strip()]:
        raise LabelError(f"class {nameless[0]} of {', '.join(map(repr, known[:20]))} has no name: give each class one")
    alike = [name for name, n in Counter(map(folded, known)).items() if n > 1]
    if alike:
        raise LabelError(f"two classes are named {alike[0]!r} but for upper and lower case: rename one")
    outside = [i for i, label in enumerate(labels) if not 0 <= label < len(known)]
    if outside:
        clips = some(f"{found.names[i]} (label {labels[i]})" for i in outside)
        raise LabelError(
            f"{count(len(outside), 'clip')} with a label outside the {len(known)} classes {some(known)}, 0 to "
            f"{len(known) - 1}: {clips} (correct them, or name all classes with --classes)"
        )
    return np.array(labels, np.int64), known


def _renumbered(labels: list[int], own: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Labels of a file that names the ``wanted`` classes in another order, by name; else as they are."""
    places = {folded(name): i for i, name in enumerate(wanted)}
    alike = len(own) == len(wanted) and set(places) == set(map(folded, own))
    if not alike or not all(0 <= label < len(own) for label in labels):
        return labels
    return [places[folded(own[label])] for label in labels]


def layout_of(found: Annotations, joints: Mapping[str, int], layout: str | Layout | None) -> Layout:
    """The joint layout: the one given, else the file's own, else the one with as many joints as the clips have.

    ``joints`` is each clip's number of joints. Raises InputError or ConfigError when there is none or it does not fit.
    """
    first, joint_count = next(iter(joints.items()))
    other = [name for name, v in joints.items() if v != joint_count]
    if other:
        raise InputError(
            f"{count(len(other), 'clip')} with another number of joints than {first} with its {joint_count}: "
            f"{some(f'{name} ({joints[name]})' for name in other)} (one file holds one joint layout)"
        )
    own = found.about.get("layout")
    remedy = "describe your own in YAML and give it with --layout FILE.yaml, see docs/data.md"
    if layout is None and own is not None and str(own) not in layouts.names():
        raise InputError(
            f"the file's joint layout {str(own)[:40]!r} is unknown: {did_you_mean(str(own)[:40], layouts.names())} "
            f"({remedy})"
        )
    if layout is None and own is None and joint_count not in BY_JOINTS:
        if as_many := layouts.of_size(joint_count):
            raise InputError(f"the clips have {joint_count} joints, which may be {' or '.join(as_many)}: say --layout")
        raise InputError(f"the clips have {joint_count} joints, and no built-in layout has as many ({remedy})")
    wanted = layout if layout is not None else str(own) if own is not None else BY_JOINTS[joint_count]
    known = wanted if isinstance(wanted, Layout) else layouts.get(wanted)
    if known.observed != joint_count:
        fitting = ", ".join(layouts.of_size(joint_count)) or "none that is built in"
        raise InputError(
            f"the clips have {joint_count} joints, layout {known.name!r} wants {known.observed} (--layout: {fitting})"
        )
    return known


def overruled(told: str, layout: str | Layout | None) -> str:
    """A note where the given ``layout`` has other joints than ``told``, the one that a file names itself; else "".
    Of one that nobody knows but the file only the name counts."""
    if layout is None or not told:
        return ""
    given = layout if isinstance(layout, Layout) else layouts.get(layout)
    own = layouts.get(told) if told in layouts.names() else None
    if given.name == told if own is None else given.joints[: given.observed] == own.joints[: own.observed]:
        return ""
    return f"The file says that its joints are those of {told}; they are read as {given.name}, as --layout says."


def doubt(clips: Sequence[NDArray[np.float32]], name: str) -> str:
    """A note where ``clips`` (N arrays (M, T, V, 3)), taken for layout ``name`` by their number of joints, are rather
    of another one with as many: joints that a bone connects are near each other. Else ""."""
    others = [other for other in layouts.of_size(clips[0].shape[2]) if other != name] if clips else []
    if not others:
        return ""
    some_clips = clips[:: max(1, len(clips) // 50)]
    length = {one: _bone_length(some_clips, layouts.get(one)) for one in (name, *others)}
    best = min(length, key=lambda one: length[one])
    if not length[best] < _SHORTER * length[name]:
        return ""
    return (
        f"The {clips[0].shape[2]} joints are taken for {name}, but fit {best} better (shorter bones): say "
        f"--layout {best} if that is what they are."
    )


def _bone_length(clips: Sequence[NDArray[np.float32]], layout: Layout) -> float:
    """The mean distance, in the clips' units, of joints that a bone connects where both are seen; infinite without."""
    edges = np.array([edge for edge in layout.edges if max(edge) < layout.observed])
    total, seen = 0.0, 0
    for clip in clips:
        both = (clip[..., edges, 2] > 0).all(-1)
        apart = np.linalg.norm(clip[..., edges[:, 0], :2] - clip[..., edges[:, 1], :2], axis=-1)
        total, seen = total + float(apart[both].sum()), seen + int(both.sum())
    return total / seen if seen else float("inf")
