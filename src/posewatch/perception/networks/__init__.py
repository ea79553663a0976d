"""The networks of perception, chosen by name: each is one file of this folder and one row of ``NETWORKS``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from posewatch import weights
from posewatch.config import MaskConfig, PoseConfig
from posewatch.errors import ConfigError
from posewatch.perception.ports import Detector, PoseEstimator, Segmenter

DETECTOR, SEGMENTER, ESTIMATOR = "detector", "segmenter", "pose estimator"


@dataclass(frozen=True)
class Entry:
    """One row: the roles of a network, and how its class is found and constructed.

    ``builder`` is "module:Class" in this folder, imported on use. ``weights`` are the default ones, ``licence`` is that
    of the code and of these weights, and ``extra`` installs the packages. ``takes`` lists the arguments of the class:
    "weights" (without it the network has one set of weights only) and fields of the configuration section.
    ``checkpoint`` is "module:function" that returns the weights file, where the configured weights name more than one
    file. ``bytetrack``: persons found by this detector are tracked by ByteTrack. ``topdown``: this pose estimator is
    constructed with a detector, too. ``forks``: it has no thread and no GPU, so that a process that has it loaded
    may be forked.
    """

    name: str
    roles: tuple[str, ...]
    builder: str
    weights: str
    licence: str
    extra: str
    takes: tuple[str, ...] = ("weights", "device")
    checkpoint: str = ""
    bytetrack: bool = False
    topdown: bool = False
    forks: bool = False

    def build(self, config: MaskConfig | PoseConfig, chosen: str, **more: Any) -> Any:
        """The network with the weights ``chosen``."""
        arguments = {name: getattr(config, name) for name in self.takes if name != "weights"} | more
        return imported(self.builder)(*[chosen] if "weights" in self.takes else [], **arguments)


NETWORKS: Mapping[str, Entry] = {
    network.name: network
    for network in (
        Entry(
            "movenet", (DETECTOR, ESTIMATOR), "movenet:MoveNet", "movenet", "Apache-2.0", "masking", (), forks=True
        ),
        Entry("blazepose", (SEGMENTER,), "blazepose:BlazePoseSegmenter", "blazepose", "Apache-2.0", "masking", ()),
        Entry("bbox", (SEGMENTER,), "boxes:BoxSegmenter", "", "Apache-2.0", "masking", ()),
        Entry("yolo11", (DETECTOR,), "yolo:YoloDetector", "yolo11n", "AGPL-3.0", "yolo", bytetrack=True),
        Entry(
            "yolo-seg", (DETECTOR, SEGMENTER), "yolo:YoloSegmenter", "yolo11n-seg", "AGPL-3.0", "yolo", bytetrack=True
        ),
        Entry("yolo-pose", (ESTIMATOR,), "yolo:YoloPoseEstimator", "yolo11n-pose", "AGPL-3.0", "yolo"),
        Entry(
            "sam2", (SEGMENTER,), "sam2:Sam2Segmenter", "sam2.1-tiny", "Apache-2.0", "sam2",
            ("weights", "device", "reprompt"),
        ),
        Entry(
            "edgetam", (SEGMENTER,), "sam2:Sam2Segmenter", "edgetam", "Apache-2.0", "edgetam",
            ("weights", "device", "reprompt"),
        ),
        Entry(
            "sam2-package", (SEGMENTER,), "sam2_package:Sam2PackageSegmenter", "sam2.1_hiera_tiny", "Apache-2.0",
            "sam2-package", ("weights", "device", "reprompt"),
        ),
        Entry(
            "sam2-ultralytics", (SEGMENTER,), "sam_ultralytics:UltralyticsSamSegmenter", "sam2.1_b", "AGPL-3.0", "yolo"
        ),
        Entry("yolox", (DETECTOR,), "yolox:YoloxDetector", "yolox-s", "Apache-2.0", "yolox"),
        Entry("detr", (DETECTOR,), "detr:DetrDetector", "rtdetr-v2-r18", "Apache-2.0", "detr"),
        Entry("rtmo", (ESTIMATOR,), "rtmo:RtmoEstimator", "rtmo-s", "Apache-2.0", "rtmo"),
        Entry(
            "rtmpose", (ESTIMATOR,), "rtmpose:RtmposeEstimator", "rtmpose-m", "Apache-2.0", "rtmpose", topdown=True
        ),
        Entry(
            "mmpose", (ESTIMATOR,), "mmpose:MMPoseEstimator", "", "Apache-2.0", "mmpose",
            checkpoint="mmpose:checkpoint_of",
        ),
    )
}  # fmt: skip


_KEPT: dict[PoseConfig, PoseEstimator] = {}


def imported(reference: str) -> Any:
    """What "module:name" refers to in this folder."""
    module, _, name = reference.partition(":")
    return getattr(import_module(f"{__name__}.{module}"), name)


def build_detector(config: MaskConfig) -> Detector:
    """The configured detector.

    Raises WeightsError when its weights are missing, PosewatchError when its packages are not installed.
    """
    network, chosen = _chosen(config)[0]
    return network.build(config, chosen)


def build_segmenter(config: MaskConfig, detector: Detector | None = None) -> Segmenter:
    """The configured segmenter: ``detector`` itself, when it is the same network. Raises as ``build_detector`` does."""
    (_, detector_weights), (network, chosen) = _chosen(config)
    if chosen == detector_weights and isinstance(detector, imported(network.builder)):
        return detector  # type: ignore[return-value]
    return network.build(config, chosen)


def build_estimator(config: PoseConfig) -> PoseEstimator:
    """The configured pose estimator. Raises as ``build_detector`` does."""
    if (kept := _KEPT.pop(config, None)) is not None:
        return kept
    (network, chosen), *more = _chosen(config)
    if not more:
        return network.build(config, chosen)
    ((detector, boxes),) = more
    return network.build(config, chosen, detector=detector.build(config, boxes))


def keep_estimator(config: PoseConfig, side: int) -> None:
    """Load the configured pose estimator before this process is forked: what it does not change, all forks share. The
    first ``build_estimator`` of each gets it. ``side`` is the longer one of their images, in pixels.

    Nothing happens for a network that a fork would break.
    """
    import cv2

    if NETWORKS[config.estimator].forks:
        cv2.setNumThreads(1)
        estimator = build_estimator(config)
        estimator.estimate([np.zeros((side * 9 // 16, side, 3), np.uint8)])  # it takes its memory when it computes
        _KEPT[config] = estimator


def weights_of(config: MaskConfig | PoseConfig) -> dict[str, dict[str, str]]:
    """The weights that a stage uses, for the lineage: name → {"sha256", "licence"}; loads no network."""
    files = [imported(n.checkpoint)(chosen) if n.checkpoint else chosen for n, chosen in _chosen(config)]
    return weights.records([file for file in dict.fromkeys(files) if file])


def _chosen(config: MaskConfig | PoseConfig) -> list[tuple[Entry, str]]:
    """The networks of a configuration section, each with the weights to load: a detector and its segmenter, or a pose
    estimator and, where it takes one, its detector."""
    if isinstance(config, PoseConfig):
        networks = [(NETWORKS[config.estimator], config.weights)]
        if networks[0][0].topdown:
            networks.append((NETWORKS[config.boxes], config.boxes_weights))
        elif (config.boxes, config.boxes_weights) != (PoseConfig.boxes, PoseConfig.boxes_weights):
            raise ConfigError(
                f"pose.boxes is for estimators such as rtmpose; {config.estimator} finds persons by itself"
            )
    else:
        detector, segmenter = config.detector_weights, config.segmenter_weights
        if config.detector == config.segmenter:  # one network in both roles: weights given once are for both
            detector, segmenter = detector or segmenter, segmenter or detector
        networks = [(NETWORKS[config.detector], detector), (NETWORKS[config.segmenter], segmenter)]
    for network, given in networks:
        if given and "weights" not in network.takes:
            raise ConfigError(f"{network.name} takes no weights of its own, but {given!r} were given")
    return [(network, given or network.weights) for network, given in networks]
