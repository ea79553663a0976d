"""Labels + skeletons → a frozen dataset, split by source video so that no scene is on both sides."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posewatch.artifact import Artifact, Job, produce
from posewatch.config import DatasetConfig, LabelConfig
from posewatch.datasets.clipset import levelled
from posewatch.datasets.split import split_by_group
from posewatch.datasets.subjects import video_groups
from posewatch.digests import canonical, digest
from posewatch.errors import LabelError
from posewatch.labels.formats.snapshot import outside
from posewatch.progress import say
from posewatch.records import Skeleton
from posewatch.stages.contents import (
    CLIPS,
    DATASET,
    SKELETONS,
    SKELETONS_ABOUT,
    alarms_of,
    label_rows,
    skeletons_of,
    videos_of,
)
from posewatch.store import ObjectStore
from posewatch.units import PERSON, unit_entry, unit_of, unit_of_persons

PARTS = ("train", "validation", "test")
NEWEST = "newest"
"""The part of the newest judged alarms, on which a new model is compared with the served one."""


def dataset(
    store: ObjectStore,
    snapshot: Artifact,
    skeletons: Artifact,
    config: DatasetConfig,
    labels: LabelConfig,
    before: Artifact | None = None,
    newest: float = 0.0,
) -> Artifact:
    """Freeze the labelled skeletons with their split, in which no group of videos is in two parts.

    Files: ``clips.jsonl`` (clip, video, names, label, source, part, person where it shows one, group where it is not
    the video), ``skeletons.npz`` (clip id → (M, T, V, 3)) and ``dataset.json`` (classes, layout, fps, counts, unit
    where it is the person, clips left out because nobody is visible).

    With ``before``, an earlier dataset, its videos stay in their parts, so that its test part stays the one that no
    model has seen, and new videos are where their group is. Of the other new ones about the share ``newest`` of the
    judged alarms, whole days of cameras from the newest on, become the part "newest", and about ``config.validation``
    of the rest go to validation: a threshold is to be chosen on what cameras show now. A camera's only new day is for
    training.

    Raises LabelError when labels and skeletons are of different units, when a class has too
    few clips or source videos to be split, when a labelled clip has no skeletons, when a label is no class any more,
    and when nobody is visible in any clip.
    """
    settings = {**dataclasses.asdict(config), "classes": list(labels.classes), "positive": labels.positive}
    settings |= {} if before is None else {"newest": newest, "new_validation": True}

    def write(folder: Path) -> None:
        rows = label_rows(snapshot)
        _require_classes(rows, labels)
        unit = unit_of_persons({row.get("person") for row in rows}, "the label snapshot")
        _require_unit(unit, skeletons)
        wanted: dict[str, set[str]] = {}
        for row in rows:
            wanted.setdefault(row["video_id"], set()).add(row["clip_id"])
        names: dict[str, list[str]] = {}
        found: dict[str, Skeleton] = {}
        judged: dict[str, str] = {}
        known = {} if before is None else _parts_of(before)
        for item in videos_of(skeletons):
            names[item.video] = list(item.names)
            if item.video not in wanted:
                continue  # skeletons of unlabelled videos, millions of clips perhaps, are not read
            if before is not None and item.video not in known and (told := alarms_of(item.artifact)) is not None:
                judged[item.video] = max(one["time"] for one in told["alarms"])
            found |= skeletons_of(item.artifact, wanted[item.video])
        missing = [row["clip_id"] for row in rows if row["clip_id"] not in found]
        if missing:
            raise LabelError(
                f"{len(missing)} labelled clips have no skeletons, the first is {missing[0]}: run `posewatch pose`"
            )
        empty = [row["clip_id"] for row in rows if not found[row["clip_id"]].persons]
        unseen = set(empty)
        used = [row for row in rows if row["clip_id"] not in unseen]
        if not used:
            raise LabelError(
                f"nobody is seen in any of the {len(rows)} labelled clips: label clips with people, or look for them "
                "with another estimator (pose.estimator) or a lower pose.min_score"
            )
        if empty:
            say(f"posewatch: note: nobody is seen in {len(empty)} of {len(rows)} labelled clips: they are left out")
        index = {name: i for i, name in enumerate(labels.classes)}
        labelled = {row["video_id"]: names[row["video_id"]] for row in rows}  # also those in which nobody is seen
        groups = video_groups(labelled, config.group_pattern, config.groups)
        if before is None:
            split = split_by_group(
                np.array([index[row["label"]] for row in used]),
                np.array([groups[row["video_id"]] for row in used]),
                validation=config.validation,
                test=config.test,
                seed=config.seed,
                classes=labels.classes,
            )
            parts = [PARTS[int(part)] for part in split]
        else:
            near = {groups[video]: part for video, part in known.items() if video in groups}
            new = Counter(groups[row["video_id"]] for row in used if groups[row["video_id"]] not in near)
            times: dict[str, str] = {}
            for video, when in judged.items():
                if (group := groups.get(video, "")) in new:
                    times[group] = max(when, times.get(group, ""))
            near |= dict.fromkeys(_newest(times, new, newest), NEWEST)
            left = {group: count for group, count in new.items() if group not in near}
            near |= dict.fromkeys(_validated(left, config.validation, config.seed), PARTS[1])
            parts = [known.get(row["video_id"], near.get(groups[row["video_id"]], PARTS[0])) for row in used]
        lines = [
            canonical(
                {
                    "clip": row["clip_id"],
                    "video": row["video_id"],
                    "names": names[row["video_id"]],
                    "label": row["label"],
                    "source": row["source"],
                    "part": part,
                    **({"person": row["person"]} if unit == PERSON else {}),
                    **({"group": group} if (group := groups[row["video_id"]]) != row["video_id"] else {}),
                }
            )
            for row, part in zip(used, parts, strict=True)
        ]
        counts = Counter((part, row["label"]) for row, part in zip(used, parts, strict=True))
        arrays, layout = levelled([found[row["clip_id"]] for row in used])
        about = {
            "classes": list(labels.classes),
            "positive": labels.positive,
            "layout": layout,
            "fps": min(one.fps for one in found.values()),
            "left_out_nobody_seen": empty,
            "counts": {
                part: {label: counts[part, label] for label in labels.classes}
                for part in (*PARTS, *([NEWEST] if NEWEST in parts else []))
            },
            **unit_entry(unit),
        }
        (folder / CLIPS).write_text("\n".join(lines) + "\n", encoding="utf-8")
        named = zip((row["clip_id"] for row in used), arrays, strict=True)
        np.savez_compressed(folder / SKELETONS, **dict(named))  # type: ignore[arg-type]
        (folder / DATASET).write_text(canonical(about) + "\n", encoding="utf-8")

    parents = (snapshot, skeletons, *([] if before is None else [before]))
    return produce(store, Job("datasets", "", settings, parents), write)


def _parts_of(before: Artifact) -> dict[str, str]:
    """Video → part, of an earlier dataset; without what was held out as the newest then."""
    return {row["video"]: row["part"] for row in before.lines(CLIPS) if row["part"] in PARTS}


def _newest(times: Mapping[str, str], clips: Mapping[str, int], share: float) -> set[str]:
    """Of the groups (camera days) of judged alarms, with the time of their last one, those to hold out: the newest, of
    about ``share`` of all their ``clips``; none where there is one only."""
    order = sorted(times, key=lambda group: (times[group], group), reverse=True)
    held: set[str] = set()
    for group in order[:-1]:
        if sum(clips[one] for one in held) >= share * sum(clips[one] for one in order) - 1e-9:
            break
        held.add(group)
    return held


def _validated(clips: Mapping[str, int], share: float, seed: int) -> set[str]:
    """Of new groups with their numbers of ``clips`` those for validation, drawn by ``seed``: about ``share`` of all
    clips, in whole groups, which is none where they are few."""
    drawn: set[str] = set()
    for group in sorted(clips, key=lambda one: digest([seed, one])):
        if sum(clips[one] for one in drawn) + clips[group] / 2 <= share * sum(clips.values()):
            drawn.add(group)
    return drawn


def _require_unit(unit: str, skeletons: Artifact) -> None:
    """Raises LabelError when the skeletons are of another unit than the labels."""
    first = next(videos_of(skeletons), None)
    found = unit_of(first.artifact.json(SKELETONS_ABOUT)) if first else unit
    if found != unit:
        raise LabelError(
            f"the labels are of the unit {unit}, the skeletons of the unit {found}: make both with one mask.unit"
        )


def _require_classes(rows: Sequence[Mapping[str, Any]], labels: LabelConfig) -> None:
    """Raises LabelError for labels of classes that the experiment does not have, such as one that was taken out."""
    if gone := outside(rows, labels.classes):
        raise LabelError(
            f"the snapshot labels {'; '.join(gone)}: add it to labels.classes, or label these clips again and take a"
            " new snapshot"
        )
