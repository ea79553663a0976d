"""pyskl's annotation files → ClipSet, and back."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch.datasets.annotations import (
    annotations_of,
    count,
    doubt,
    keypoints_of,
    labels_of,
    layout_of,
    overruled,
    some,
    without_sentinels,
)
from posewatch.datasets.clipset import ClipSet
from posewatch.datasets.layouts import FLOW, OF_PERSON, OF_SCENE, WITH_FLOW, Layout, require_alike
from posewatch.datasets.paper import righted
from posewatch.datasets.pickles import read_pickle
from posewatch.datasets.split import split_by_group
from posewatch.datasets.subjects import Subjects, name_subjects
from posewatch.datasets.tables import table
from posewatch.errors import InputError, LabelError
from posewatch.files import write_atomically
from posewatch.units import unit_entry, unit_of

_POSES = (".json", ".npz", ".npy", ".skeleton", ".txt", ".csv")
"""Endings of what other tools write."""


def read_pyskl(
    path: Path | str,
    classes: Sequence[str] | None = None,
    groups: Mapping[str, str] | None = None,
    *,
    layout: str | Layout | None = None,
    subject_pattern: str | None = None,
    drop_empty: bool = False,
    keep_empty: bool = False,
    labels: Path | str | None = None,
    resplit: float = 0.0,
    labelled: bool = True,
    acts: Path | str | None = None,
    for_model: bool = False,
    model_layout: Layout | None = None,
) -> tuple[ClipSet, dict[str, list[int]]]:
    """An annotation file → all its clips, and its splits as indices into them ({} for a bare list of annotations).

    classes          names of the labels; default: the file's own, else class_0, class_1, ...
    groups           each clip's video or subject by ``frame_dir``; default: see ``subjects.name_subjects``
    layout           default: the file's own, else the built-in one with as many joints
    subject_pattern  regular expression that finds the subjects in a ``frame_dir``
    drop_empty       leave out clips without a visible person or with fewer than 2 frames, and add a note on them
    keep_empty       keep them, to be tested on, and add a note
    labels           the ``label.csv`` of a file of the paper's tools, which marks missing labels as class 0
    resplit          share of a new split ``test``, beside ``train``, by group; 0 keeps the file's splits
    labelled         False: the clips need no labels, as for pretraining
    acts             a csv with the columns clip and act: what is done in each; default: the rows' own ``act``
    for_model        the clips are for a trained model: without labels, of any joints (the model knows its own layout)
                     and with those in which nobody is seen (it has an answer to them)
    model_layout     that of the trained model which the clips are for: ``layout``, else the file's own, must have the
                     same joints

    docs/data.md describes the format. Raises InputError, LabelError or ConfigError naming the clips that do not fit.
    """
    if Path(path).is_dir() or Path(path).suffix.lower() in _POSES:
        raise InputError(
            f"{path} is no pickle in pyskl's format: `posewatch import-poses` makes one of poses of other tools"
        )
    data = read_pickle(path)
    labelled = labelled and not for_model
    theirs = righted(data, path, labels, classes=classes, labelled=labelled)
    if theirs is None and labels is not None:
        raise InputError(f"{path} has labels of its own: --labels is for the files of the paper's tools")
    file = annotations_of(theirs.data if theirs else data, path)
    if not labelled:
        classes = [f"class_{k}" for k in range(2)]
        file = replace(file, rows=tuple({**row, "label": 0} for row in file.rows))
    numbers, known = labels_of(file, classes)
    rows = list(zip(file.rows, file.names, strict=True))
    keypoints = [keypoints_of(row, name) for row, name in rows]
    joints = {name: k.shape[2] for name, k in zip(file.names, keypoints, strict=True)}
    told = str(file.about.get("layout") or "")
    named = told if for_model else layout_of(file, joints, layout or model_layout).name
    if model_layout is not None:
        require_alike(told if layout is None else named, model_layout, "the model's")
    missing = without_sentinels(keypoints, file.names)
    by_number = not (for_model or layout or model_layout or told)
    doubted = doubt(keypoints, named) if by_number else overruled(told, layout)
    shown = [i for i, k in enumerate(keypoints) if k.shape[1] > 1 and k[..., 2].any()]
    used = list(range(len(keypoints))) if for_model or (keep_empty and shown) else shown
    nobody = f"{count(file.nobody, 'annotation')} without a body (None) left out, in the splits, too."
    notes = [*(theirs.notes if theirs else ()), *filter(None, (nobody if file.nobody else "", missing, doubted))]
    if len(shown) < len(keypoints) and not for_model:
        empty = [file.names[i] for i in sorted(set(range(len(keypoints))) - set(shown))]
        message = f"{len(empty)} of {len(keypoints)} clips show nobody or have fewer than 2 frames: {some(empty)}"
        if not (drop_empty or keep_empty) or not used:
            raise InputError(f"{path}: {message} (leave them out with --drop-empty, or test on them with --keep-empty)")
        notes.append(f"Tested on only: {message}." if keep_empty else f"Left out: {message}.")
    names = tuple(file.names[i] for i in used)
    if len(used) > 2 and shown and len({hash(keypoints[i].tobytes()) for i in used}) == 1:
        raise InputError(f"{path}: all {len(used)} clips are the same skeleton (the file is broken: get it again)")
    who = name_subjects([file.rows[i] for i in used], names, subject_pattern)
    if theirs and not subject_pattern:
        who = Subjects(who.groups, names, False)  # their split is told to share videos, not refused
    unknown = [name for name, group in zip(names, who.groups, strict=True) if subject_pattern and group == name]
    if unknown:
        notes.append(f"The subject pattern finds nobody in {len(unknown)} clips: {some(unknown)}.")
    if groups is not None:
        own = tuple(groups.get(name, group) for name, group in zip(names, who.groups, strict=True))
        who = Subjects(own, own, True)
    flow = any("pixel_flow" in row for row in file.rows)
    kept = [_with_flow(keypoints[i], file.rows[i], file.names[i]) if flow else keypoints[i] for i in used]
    clips = ClipSet(
        tuple(k if k.size else np.zeros((1, max(1, k.shape[1]), *k.shape[2:]), np.float32) for k in kept),
        numbers[used],
        known,
        names,
        who.groups,
        _fps(file.about.get("fps", 10.0)),
        named.removesuffix(WITH_FLOW) + WITH_FLOW * flow,
        who.takes,
        who.certain,
        tuple(notes),
        unit_of(file.about),
        file.about.get("coordinates") == "hips",
        acts=_acts([file.rows[i] for i in used]) if acts is None else read_acts(acts, names),
    )
    if resplit:
        parts = split_by_group(clips.labels, clips.groups, 0.0, resplit, 0, clips.classes)
        return clips, {"train": np.flatnonzero(parts == 0).tolist(), "test": np.flatnonzero(parts == 2).tolist()}
    index = {name: i for i, name in enumerate(names)}
    return clips, {part: [index[m] for m in members if m in index] for part, members in file.splits.items()}


def read_classes(path: Path | str) -> dict[str, str]:
    """An annotation file → the class of each clip. Its skeletons are not looked at: they may be of any layout, and show
    nobody. Raises InputError or LabelError."""
    data = read_pickle(path)
    theirs = righted(data, path)
    file = annotations_of(theirs.data if theirs else data, path)
    numbers, known = labels_of(file, None)
    return {name: known[int(number)] for name, number in zip(file.names, numbers, strict=True)}


def _with_flow(keypoints: NDArray[np.float32], row: Mapping[str, Any], name: str) -> NDArray[np.float32]:
    """Keypoints (M, T, V, 3) and the row's ``pixel_flow`` (M, T, FLOW, 3), or zeros: (M, T, V + FLOW, 3). A file may
    have the persons' columns only."""
    shape = (*keypoints.shape[:2], FLOW, 3)
    try:
        flow = np.asarray(row["pixel_flow"], np.float32)[:, : shape[1]]
        if flow.shape[2] == OF_PERSON:
            flow = np.pad(flow, ((0, 0), (0, 0), (0, OF_SCENE), (0, 0)))
    except KeyError:
        flow = np.zeros(shape, np.float32)
    except (TypeError, ValueError, IndexError):
        flow = np.zeros(0, np.float32)
    if flow.shape != shape or not np.isfinite(flow).all():
        raise InputError(
            f"clip {name}: pixel_flow must be finite numbers {shape}, not {flow.shape} (leave it out, or prepare the "
            "clip again with pose.flow)"
        )
    return np.concatenate([keypoints, flow], 2)


def _acts(rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Each row's ``act``, "" for one without; () where none has one."""
    told = [str(row.get("act") or "").strip() for row in rows]
    return tuple(told) if any(told) else ()


def read_acts(path: Path | str, names: Sequence[str]) -> tuple[str, ...]:
    """The acts of the clips ``names`` from a csv with the columns clip and act. Raises LabelError for one without."""
    path = Path(path)
    known = {
        row["clip"].strip(): row["act"].strip()
        for row in table(path, ("clip", "act"), {"clip": ("clip", "frame_dir", "name"), "act": ("act", "sub_label")})
    }
    lacking = [name for name in names if not known.get(name)]
    if lacking:
        raise LabelError(f"{path.name} tells no act of {len(lacking)} of {len(names)} clips: {some(lacking)}")
    return tuple(known[name] for name in names)


def _fps(value: Any) -> float:
    try:
        fps = float(value)
    except (TypeError, ValueError):
        fps = 0.0
    if not 0 < fps < 1e4:
        raise InputError(f"the file's fps is {str(value)[:40]!r}: it must be a number of frames per second above 0")
    return fps


def write_pyskl(
    path: Path | str,
    clips: ClipSet,
    splits: Mapping[str, Sequence[int]],
    size: tuple[int, int] | list[tuple[int, int] | None] = (480, 640),
) -> None:
    """Write clips and splits (indices) in pyskl's annotation format; ``size`` is the frames' (height, width), for each
    clip or of all; None where nobody knows it.

    Groups are written unless ``name_subjects`` guesses the same ones from the clips' names.
    """
    guessed = name_subjects([{"frame_dir": name} for name in clips.ids], clips.ids)
    with_groups = clips.certain or clips.groups != guessed.groups
    sizes = size if isinstance(size, list) else [size] * len(clips)
    rows: list[dict[str, Any]] = [
        {
            "frame_dir": name,
            "label": int(label),
            **({} if shape is None else {"img_shape": shape, "original_shape": shape}),
            "total_frames": k.shape[1],
            "keypoint": k[..., :2],
            "keypoint_score": k[..., 2],
        }
        for name, label, k, shape in zip(clips.ids, clips.labels, clips.with_flow(0).keypoints, sizes, strict=True)
    ]
    for row, k in zip(rows, clips.keypoints, strict=True):
        row |= {"pixel_flow": k[:, :, -clips.flow :]} if clips.flow else {}
    for row, group in zip(rows, clips.groups, strict=True):
        row |= {"group": group} if with_groups else {}
    for row, act in zip(rows, clips.acts, strict=False):
        row |= {"act": act} if act else {}
    data = {
        "split": {part: [clips.ids[i] for i in members] for part, members in splits.items()},
        "annotations": rows,
        "classes": list(clips.classes),
        "fps": clips.fps,
        "layout": clips.with_flow(0).layout,
        **unit_entry(clips.unit),
        **({"coordinates": "hips"} if clips.relative else {}),
    }
    write_atomically(path, pickle.dumps(data, protocol=4))
