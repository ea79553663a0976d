"""Labels + skeletons → a frozen dataset, split by source video so that no scene sits on two sides."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from posewatch.artifact import Artifact, Job, produce, walk
from posewatch.config import DatasetConfig, LabelConfig
from posewatch.datasets.split import split_by_group
from posewatch.digests import canonical
from posewatch.errors import LabelError
from posewatch.stages.contents import labels_of, skeletons_of
from posewatch.store import ObjectStore

PARTS = ("train", "validation", "test")


def dataset(
    store: ObjectStore, snapshot: Artifact, skeletons: Artifact, config: DatasetConfig, labels: LabelConfig
) -> Artifact:
    """Freeze the labelled skeletons with their split.

    Files: ``clips.jsonl`` (clip, video, names, label, source, part), ``skeletons.npz`` (clip id → (M, T, V, 3)) and
    ``dataset.json`` (classes, layout, fps, counts, clips left out because nobody was seen in them). Raises LabelError
    when a class has too few clips or source videos to be split.
    """
    told = {**dataclasses.asdict(config), "classes": list(labels.classes), "positive": labels.positive}
    job = Job("datasets", "", told, (snapshot, skeletons))

    def make(folder: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="posewatch-labels-") as temp:
            rows = labels_of(snapshot, Path(temp))
        wanted: dict[str, set[str]] = {}
        for row in rows:
            wanted.setdefault(row["video_id"], set()).add(row["clip_id"])
        names: dict[str, list[str]] = {}
        arrays: dict[str, Any] = {}
        rates, layouts = set(), set()
        for member, artifact in walk(skeletons):
            names[member["video"]] = member["names"]
            if member["video"] not in wanted:
                continue  # millions of clips that nobody labelled are neither read nor kept
            for clip, skeleton in skeletons_of(artifact, wanted[member["video"]]).items():
                arrays[clip] = skeleton.keypoints
                rates.add(skeleton.fps)
                layouts.add(skeleton.layout)
        gone = [row["clip_id"] for row in rows if row["clip_id"] not in arrays]
        if gone:
            raise LabelError(
                f"{len(gone)} labelled clips have no skeletons, the first is {gone[0]}: run `posewatch pose`"
            )
        empty = [row["clip_id"] for row in rows if not arrays[row["clip_id"]][..., 2].any()]
        used = [row for row in rows if row["clip_id"] not in set(empty)]
        index = {name: i for i, name in enumerate(labels.classes)}
        parts = split_by_group(
            np.array([index[row["label"]] for row in used]),
            np.array([row["video_id"] for row in used]),
            validation=config.validation,
            test=config.test,
            seed=config.seed,
            classes=labels.classes,
        )
        lines = [
            canonical(
                {
                    "clip": row["clip_id"],
                    "video": row["video_id"],
                    "names": names[row["video_id"]],
                    "label": row["label"],
                    "source": row["source"],
                    "part": PARTS[int(part)],
                }
            )
            for row, part in zip(used, parts, strict=True)
        ]
        (folder / "clips.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        np.savez_compressed(folder / "skeletons.npz", **{row["clip_id"]: arrays[row["clip_id"]] for row in used})
        about = {
            "classes": list(labels.classes),
            "positive": labels.positive,
            "layout": sorted(layouts)[0],
            "fps": sorted(rates)[0],
            "left_out_nobody_seen": empty,
            "counts": {
                part: {
                    c: sum(r["label"] == c for r, p in zip(used, parts, strict=True) if PARTS[int(p)] == part)
                    for c in labels.classes
                }
                for part in PARTS
            },
        }
        (folder / "dataset.json").write_text(canonical(about) + "\n", encoding="utf-8")

    return produce(store, job, make)
