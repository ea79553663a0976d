"""An official ProtoGCN checkpoint → a recogniser of ours. What the weights do not say is taken from the training's
configuration, which mmcv's runner keeps in the file, or from the caller."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from posewatch.config import load
from posewatch.datasets import layouts
from posewatch.datasets.layouts import Layout
from posewatch.errors import InputError, LabelError
from posewatch.recognition.models.protogcn.network import ProtoGCN
from posewatch.recognition.models.protogcn.official import from_official, read_official
from posewatch.recognition.recogniser import Recogniser, load_checkpoint
from posewatch.rules import STREAMS
from posewatch.units import PERSON, SCENE

WIDTH = 96
"""Channels of the published network's first block."""
PEOPLE, HIPS_PEOPLE = 2, 1
"""M of the published recipes, and of the paper on self-harm, whose coordinates are relative to the hips."""
LAYOUTS = {17: "coco17", 18: "openpose18", 20: "coco20", 25: "ntu25"}
"""The layouts of the published recipes by their number of joints, virtual ones included."""


def any_checkpoint(path: Path | str) -> tuple[Recogniser, list[str]]:
    """The recogniser of a checkpoint of ours, or of the official code, and notes on it. Raises InputError."""
    held = read_official(path)
    if isinstance(held, Mapping) and "branches" in held:
        return load_checkpoint(path, pretraining=True), []
    return import_official(path)


def import_official(
    path: Path | str,
    classes: Sequence[str] = (),
    positive: str | None = None,
    *,
    layout: Layout | None = None,
    features: str = "raw",
    stream: str = "",
    frames: int = 0,
    people: int = 0,
    fps: float = 30.0,
) -> tuple[Recogniser, list[str]]:
    """The recogniser of an official checkpoint, in eval mode, and notes on what was taken from where.

    ``classes`` in the order of the network's outputs (default: class_0, ...); ``positive`` raises alarms (default:
    none); ``features`` "hips" for a network trained on coordinates relative to the hips. ``stream``, ``frames`` and
    ``people`` are by default what the file says, else those of the published recipe. Raises InputError,
    LabelError or ConfigError.
    """
    held = read_official(path)
    network = from_official(held)
    joints, channels = _joints(network), network.classify.in_features // 4
    k = network.classify.out_features
    told = _told(held)
    recipe = load("paper").train
    layout = layout or layouts.get(_layout(joints, path))
    if len(layout.joints) != joints:
        raise InputError(f"{path} has {joints} joints, layout {layout.name!r} has {len(layout.joints)} (see --layout)")
    if classes and len(classes) != k:
        raise LabelError(f"{path} has {k} classes, but {len(classes)} are named: {', '.join(classes[:5])}")
    if channels % 8:
        raise InputError(f"{path} has a first block of {channels} channels: the width must be a multiple of 8")
    config = replace(
        recipe,
        width=channels / WIDTH,
        model_options={"prototypes": network.prototypes.query.out_features if network.prototypes else 1},
        layout=layout.name if layout.name in layouts.names() else "",
        features=features,
        stream=stream or told.get("stream", recipe.stream),
        clip_frames=frames or int(told.get("frames", recipe.clip_frames)),
        people=people or int(told.get("people", HIPS_PEOPLE if features == "hips" else PEOPLE)),
        test_clips=int(told.get("test_clips", 1)),
    )
    names = tuple(classes) or tuple(f"class_{i}" for i in range(k))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # the class memory, which the file does not hold, is the same in every run
        unit = PERSON if config.people == 1 else SCENE
        recogniser = Recogniser(config, layout, names, positive or "", fps, unit=unit)
    own = recogniser.networks[0]
    weights = {name: value for name, value in network.state_dict().items() if name != "contrast.memory"}
    try:
        own.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise InputError(f"{path} does not fit a network of ours: {str(error).splitlines()[-1].strip()}") from None
    given = {"stream": stream, "frames": frames, "people": people}
    return recogniser.eval(), _notes(recogniser, told, bool(classes), given)


def _joints(network: ProtoGCN) -> int:
    return int(network.blocks[0].graph.topology.shape[-1])  # type: ignore[union-attr, operator, index]


def _layout(joints: int, path: Path | str) -> str:
    if joints not in LAYOUTS:
        raise InputError(f"{path} has {joints} joints, and no published layout has as many (give --layout FILE.yaml)")
    return LAYOUTS[joints]


def _told(held: Mapping[str, Any]) -> dict[str, str]:
    """What the configuration's text in ``meta`` says of stream, frames, people and test clips; {} without one."""
    meta = held.get("meta") if isinstance(held, Mapping) else None
    text = meta.get("config") if isinstance(meta, Mapping) else None
    if not isinstance(text, str):
        return {}
    wanted = {
        "stream": rf"feats=\[\s*'({'|'.join(STREAMS)})'\s*\]",
        "frames": r"clip_len=(\d{1,4})\b",
        "people": r"num_person=(\d{1,2})\b",
    }
    told = {key: found[1] for key, pattern in wanted.items() if (found := re.search(pattern, text))}
    clips = [int(n) for n in re.findall(r"num_clips=(\d{1,3})\b", text)]
    return told | ({"test_clips": str(max(clips))} if clips else {})


def _notes(recogniser: Recogniser, told: Mapping[str, str], named: bool, given: Mapping[str, Any]) -> list[str]:
    config = recogniser.config
    values = {"stream": config.stream, "frames": config.clip_frames, "people": config.people}
    origin = {
        key: "as given" if given[key] else "from the file" if key in told else "assumed, as published" for key in values
    }
    notes = [f"{key} {value} ({origin[key]})" for key, value in values.items()]
    lines = [
        f"{recogniser.layout.name}, {len(recogniser.labels)} classes, width {config.width:g}, "
        + ", ".join(notes)
        + f", unit {recogniser.unit}, {recogniser.fps:g} frames per second (the file does not say)"
    ]
    if not named:
        lines.append("the file does not name its classes: they are class_0, class_1, ... (name them with --classes)")
    if not recogniser.layout.virtual and recogniser.layout.name == "ntu25":
        lines.append(
            "published networks for 25 joints saw depth where ours see a score: train them on with --pretrained"
        )
    return lines
