"""Checks of clips and settings before the first epoch."""

from __future__ import annotations

import numpy as np
import torch

from posewatch.config import TrainConfig
from posewatch.datasets.clipset import ClipSet
from posewatch.datasets.layouts import Layout, require_alike
from posewatch.errors import ConfigError, InputError, LabelError
from posewatch.recognition import distributed as parallel
from posewatch.recognition.recogniser import Recogniser
from posewatch.units import PERSON


def check(
    train_set: ClipSet, val_set: ClipSet, config: TrainConfig, positive: str, layout: Layout, allow_shared: bool = False
) -> None:
    """Raise ConfigError, LabelError or InputError for settings and clips that cannot be trained on."""
    if positive and positive not in train_set.classes:
        raise LabelError(f"the positive class {positive!r} is none of {', '.join(train_set.classes)}")
    counts = np.bincount(train_set.labels, minlength=len(train_set.classes))
    for name, count in zip(train_set.classes, counts, strict=True):
        if count == 0:
            raise LabelError(
                f"no training clip is labelled {name!r}: label some, or take the class out (a file numbers its classes "
                "from 0 on, without gaps)"
            )
    if len(val_set) and val_set.classes != train_set.classes:
        raise LabelError("training and validation clips have different classes")
    shared = sorted(set(train_set.groups) & set(val_set.groups))
    if shared and not allow_shared:
        raise InputError(f"{shared[0]} is on both sides of the split, training and validation (split by group)")
    train_set.require_pixels(config.features)
    if train_set.unit == PERSON and config.people != 1:
        raise ConfigError(f"the clips show one person each, train.people is {config.people}: set train.people=1")
    joints = train_set.keypoints[0].shape[2] - train_set.flow
    if joints != layout.observed:
        raise InputError(f"the clips have {joints} joints, layout {layout.name!r} wants {layout.observed}")
    if config.layout:
        require_alike(train_set.layout, layout, "train.layout's")
    with torch.device("meta"):
        Recogniser(config, layout, train_set.classes, positive, train_set.fps)
    if config.batch % parallel.world():
        raise ConfigError(f"train.batch {config.batch} must be a multiple of the {parallel.world()} processes")
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("train.device is cuda, but torch finds no GPU here (use auto or cpu)")
