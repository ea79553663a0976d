"""Imported by the fork server of ``forked.py``: loads what all cameras of a service need, before they are forked.

Nothing here may start a thread, which a fork would not copy. Whatever cannot be loaded is left to the camera's process,
which says why.
"""

from __future__ import annotations

import gc
import json
import os
from contextlib import suppress
from importlib import import_module

from posewatch.config import load
from posewatch.perception import networks
from posewatch.watch.forked import EXPERIMENT

MODULES = (
    "cv2", "av", "PIL.Image", "PIL.ImageDraw", "PIL.ImageFont", "scipy.optimize", "urllib3", "tritonclient.grpc",
    "posewatch.inference.open", "posewatch.inference.triton", "posewatch.watch.watcher",
    "posewatch.watch.sinks.table", "posewatch.watch.sources", "posewatch.watch.records.upload",
)  # fmt: skip


def _load() -> None:
    for name in MODULES:
        with suppress(Exception):
            import_module(name)
    if told := os.environ.pop(EXPERIMENT, ""):
        with suppress(Exception):
            experiment, overrides = json.loads(told)
            config = load(experiment, tuple(overrides))
            networks.keep_estimator(config.pose, config.mask.max_side)
    gc.collect()
    gc.freeze()  # a collection would write to every object, and each process have a copy


_load()
