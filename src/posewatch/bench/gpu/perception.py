"""Frames per second of detection, masks and skeletons at random weights: as fast as with trained ones.

The detectors get pictures in batches; masks follow people from frame to frame, one frame at a time, as in a live
stream. Random weights find nobody, so boxes of people who walk about are given.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from posewatch.bench.gpu.card import Card
from posewatch.bench.gpu.scale import Scale
from posewatch.errors import PosewatchError, first_line
from posewatch.perception.ports import Image
from posewatch.progress import say
from posewatch.records import Detections

CAMERA_FPS = 10.0
NO_POSE = "RTMO: its network comes as an ONNX file only (`posewatch weights fetch rtmo-s`, then --rtmo FILE)"


def measure(card: Card, scale: Scale, left: Callable[[], float], rtmo: Path | None = None) -> dict[str, Any]:
    """Rows of {part, network, batch, frames_per_s, busy}, and the chain of the quickest of each part."""
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (*scale.picture, 3)).astype(np.uint8) for _ in range(max(scale.pictures))]
    rows: list[dict[str, Any]] = []
    left_out: list[str] = []
    chain: dict[str, tuple[float, Callable[[], Any]]] = {}

    def try_out(
        part: str, network: str, batches: tuple[int, ...], build: Callable[[], Callable[[list[Image]], Any]]
    ) -> None:
        label = f"{part}, {network}"
        if left() < 0:
            left_out.append(f"{label}: no time left")
            return
        try:
            run = build()
            for batch in batches:
                given = pictures[:batch]
                timing = card.timed(lambda: run(given), scale.seconds)  # noqa: B023 - called at once
                rate, busy = timing.rate(batch), card.busy(lambda: run(given), 3)  # noqa: B023
                rows.append(
                    {
                        "part": part, "network": network, "batch": batch, "frames_per_s": round(rate, 2),
                        "busy": None if busy is None else round(busy, 3), "memory_gib": card.peak_memory(),
                    }
                )  # fmt: skip
                if rate > chain.get(part, (0.0, None))[0]:
                    chain[part] = (rate, lambda: run(given))  # noqa: B023
            say(f"{label}: {max(r['frames_per_s'] for r in rows if r['network'] == network):,.1f} frames/s")
        except (Exception, PosewatchError) as error:  # a library that is missing here must not end the others
            left_out.append(f"{label}: {first_line(error)[:160]}")

    with tempfile.TemporaryDirectory(prefix="posewatch-gpu-") as temp:
        for name in scale.yolo:
            try_out("detection", name, scale.pictures, lambda: _yolo(Path(temp), name, card))  # noqa: B023
        for name in scale.segmenters:
            try_out("masks", name, (1,), lambda: _masks(Path(temp), name, card, scale))  # noqa: B023
        if rtmo is not None:
            try_out("skeletons", rtmo.name, scale.pictures, lambda: _rtmo(rtmo, card))
        else:
            left_out.append(NO_POSE)
    result: dict[str, Any] = {
        "rows": rows,
        "left_out": left_out,
        "picture": list(scale.picture),
        "persons": scale.persons,
    }
    if {"detection", "masks"} <= chain.keys():
        rate = 1 / sum(1 / rate for rate, _ in chain.values())
        result["chain"] = {
            "parts": sorted(chain), "frames_per_s": round(rate, 2), "cameras_at_10_fps": int(rate // CAMERA_FPS)
        }  # fmt: skip
    return result


def _yolo(folder: Path, name: str, card: Card) -> Callable[[list[Image]], Any]:
    import torch

    from posewatch.perception.networks.yolo import YoloDetector, load_ultralytics

    ultralytics = load_ultralytics()
    torch.manual_seed(0)
    file = folder / f"{name}.pt"
    ultralytics.YOLO(f"{name}.yaml", verbose=False).save(str(file))
    return YoloDetector(str(file), card.device.type).detect


def _masks(folder: Path, name: str, card: Card, scale: Scale) -> Callable[[list[Image]], Any]:
    from posewatch.perception.networks.sam2 import Sam2Segmenter

    segmenter = Sam2Segmenter(str(_random(folder / name, name)), card.device.type)
    segmenter.begin()
    height, width = scale.picture
    frame = 0

    def run(images: list[Image]) -> Any:
        nonlocal frame
        masks = None
        for image in images:
            if frame % 64 == 0:  # as the shards of a video
                segmenter.begin()
            at = np.linspace(0.1, 0.7, scale.persons) * width + 2 * (frame % 64)
            low, high = np.full_like(at, 0.2 * height), np.full_like(at, 0.9 * height)
            boxes = np.stack([at, low, at + 0.1 * width, high], 1).astype(np.float32)
            given = Detections(boxes, np.ones(len(at), np.float32), ids=np.arange(len(at)))
            masks = segmenter.segment(image, given)
            frame += 1
        return masks

    return run


def _random(folder: Path, name: str) -> Path:
    """A video network of transformers at random weights, in the published size of its name (``tiny``: very small)."""
    import torch

    from posewatch.perception.networks.pytorch import need_torchvision

    need_torchvision()
    torch.manual_seed(0)
    if name == "edgetam":
        from transformers import EdgeTamVideoConfig
        from transformers.models.edgetam_video.modeling_edgetam_video import EdgeTamVideoModel

        EdgeTamVideoModel(EdgeTamVideoConfig()).save_pretrained(folder)
        return folder
    from transformers import Sam2VideoConfig, Sam2VideoModel

    config: Any = Sam2VideoConfig()
    backbone = config.vision_config.backbone_config
    if name == "sam2.1-small":
        backbone.blocks_per_stage, backbone.global_attention_blocks = [1, 2, 11, 2], [7, 10, 13]
    if name == "tiny":
        backbone.image_size, backbone.blocks_per_stage, backbone.global_attention_blocks = [256, 256], [1, 1, 2, 1], [3]
        config.vision_config.backbone_feature_sizes = [[64, 64], [32, 32], [16, 16]]
        config.prompt_encoder_config.image_size = config.image_size = 256
        config.memory_attention_rope_feat_sizes, config.memory_attention_num_layers = [16, 16], 1
    Sam2VideoModel(config).save_pretrained(folder)
    return folder


def _rtmo(file: Path, card: Card) -> Callable[[list[Image]], Any]:
    from posewatch.config import PoseConfig
    from posewatch.perception.networks import build_estimator

    return build_estimator(PoseConfig(estimator="rtmo", weights=str(file), device=card.device.type)).estimate
