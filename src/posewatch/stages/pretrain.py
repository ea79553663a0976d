"""Skeletons, labelled or not → a checkpoint that training begins with. Goes on after a crash."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from posewatch.artifact import Artifact, Job, produce
from posewatch.config import PretrainConfig, TrainConfig
from posewatch.cores import share_cores
from posewatch.datasets.clipset import ClipSet
from posewatch.errors import InputError
from posewatch.files import home
from posewatch.progress import say
from posewatch.stages.contents import CLIPS, SKELETONS_ABOUT, skeletons_of, videos_of
from posewatch.store import ObjectStore
from posewatch.units import unit_of

NETWORK = ("model", "width", "model_options", "layout", "clip_frames", "people", "people_by", "stream", "features")
"""Settings of ``train`` that pretraining depends on, beside its augmentation and seed."""
MOST = 20_000
"""Clips that are read at the most; of more, a part is drawn."""


def pretrain(
    store: ObjectStore, skeletons: Artifact, config: PretrainConfig, train: TrainConfig, dataset: Artifact | None = None
) -> Artifact:
    """Pretrain the network of ``train`` on a set of skeletons; writes ``checkpoint.pt`` and ``history.jsonl``.

    The videos of the test part of ``dataset`` are left out, so that an evaluation stays one on scenes never seen.
    Raises InputError when nobody is seen in any of the clips.
    """
    settings = {key: getattr(train, key) for key in (*NETWORK, "augment", "seed")}
    settings["augment"] = dataclasses.asdict(train.augment)
    settings["pretrain"] = {k: v for k, v in dataclasses.asdict(config).items() if k != "enabled"}
    parents = (skeletons, *([dataset] if dataset is not None else []))
    job = Job("pretrained", "", settings, parents)
    without = set()
    if dataset is not None:
        without = {row["video"] for row in dataset.lines(CLIPS) if row["part"] == "test"}
    work = home() / "work" / job.fingerprint
    return produce(store, job, lambda folder: _pretrain(skeletons, without, config, train, folder), work)


def _pretrain(skeletons: Artifact, without: set[str], config: PretrainConfig, train: TrainConfig, folder: Path) -> None:
    share_cores()
    from posewatch.recognition.training.pretrain import pretrain, source_of

    pretrain(source_of(unlabelled(skeletons, without), train, config), train, config, folder)


def unlabelled(skeletons: Artifact, without: set[str]) -> ClipSet:
    """The clips of a set of skeletons in which somebody is seen, but those of the videos ``without``.

    Of more than ``MOST`` some are drawn, every clip with the same chance. Raises InputError when there is none.
    """
    rng = np.random.default_rng(0)
    kept: list[tuple[str, str, NDArray[np.float32]]] = []
    seen = 0
    fps, layout, unit = 10.0, "", "scene"
    for item in videos_of(skeletons):
        if item.video in without:
            continue
        unit = unit_of(item.artifact.json(SKELETONS_ABOUT))
        for name, skeleton in sorted(skeletons_of(item.artifact).items()):
            if skeleton.keypoints.shape[1] < 2 or not skeleton.keypoints[..., 2].any():
                continue
            fps, layout = skeleton.fps, skeleton.layout
            seen += 1
            if len(kept) < MOST:
                kept.append((name, item.video, skeleton.keypoints))
            elif (place := int(rng.integers(seen))) < MOST:
                kept[place] = (name, item.video, skeleton.keypoints)
    if not kept:
        raise InputError(f"nobody is seen in any clip of {skeletons.uri}: there is nothing to pretrain on")
    if seen > len(kept):
        say(f"posewatch: note: pretraining on {len(kept)} of {seen} clips, drawn at random")
    ids, videos, keypoints = zip(*kept, strict=True)
    labels, classes = np.zeros(len(kept), np.int64), ("class_0", "class_1")
    return ClipSet(keypoints, labels, classes, ids, videos, fps, layout, certain=True, unit=unit)
