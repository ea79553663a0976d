"""Batch statistics of a trained network, measured on its training clips."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from posewatch.config import TrainConfig
from posewatch.datasets.clipset import ClipSet
from posewatch.recognition.recogniser import Recogniser
from posewatch.recognition.sampling import sampled
from posewatch.recognition.training.augment import Augment

NORM_CLIPS, NORM_BATCH = 4096, 64
"""Clips that the final batch statistics are measured on, and how many at a time."""


def measure_norms(recogniser: Recogniser, clips: ClipSet, config: TrainConfig, augment: Augment) -> None:
    """Set all batch statistics to those of the training clips, once as they are and once augmented.

    Running averages of small batches under changing weights are off, in some runs by far (arXiv 2105.07576).
    """
    norms: list[Any] = [m for m in recogniser.modules() if hasattr(m, "running_mean") and hasattr(m, "momentum")]
    device = recogniser.device
    rng = np.random.default_rng([config.seed, config.epochs])
    draws = torch.Generator(device).manual_seed(config.seed)
    order = rng.permutation(len(clips))[:NORM_CLIPS]
    size = max(config.batch, NORM_BATCH)
    batches = np.array_split(order, math.ceil(len(order) / size))
    recogniser.train()
    before = [m.momentum for m in norms]
    with torch.no_grad():
        for step, picked in enumerate(batches * 2):
            x = torch.from_numpy(sampled(clips.subset(picked), config, int(step >= len(batches)))).to(device)
            for norm in norms:
                norm.momentum = 1 / (step + 1)
            recogniser.run(augment(x, draws) if step >= len(batches) else x)
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
