"""Masking: people stay, everything else turns black. Detectors and segmenters are built by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from posewatch import weights
from posewatch.config import MaskConfig, PoseConfig
from posewatch.errors import ConfigError
from posewatch.perception.ports import Detector, FixedDetector, PoseEstimator, Segmenter, VideoSegmenter

T = TypeVar("T")


def _movenet(config: MaskConfig) -> Detector:
    from posewatch.perception.networks.movenet import MoveNetDetector

    return MoveNetDetector()


def _yolo11(config: MaskConfig) -> Detector:
    from posewatch.perception.networks.yolo import YoloDetector

    return YoloDetector(config.detector_weights, device=config.device)


def _yolo_seg_detector(config: MaskConfig) -> Detector:
    from posewatch.perception.networks.yolo import YoloSegmenter

    return YoloSegmenter(config.detector_weights or config.segmenter_weights, device=config.device)


def _blazepose(config: MaskConfig, detector: Detector | None) -> Segmenter:
    from posewatch.perception.networks.blazepose import BlazePoseSegmenter

    return BlazePoseSegmenter()


def _bbox(config: MaskConfig, detector: Detector | None) -> Segmenter:
    from posewatch.perception.networks.boxes import BoxSegmenter

    return BoxSegmenter()


def _yolo_seg(config: MaskConfig, detector: Detector | None) -> Segmenter:
    from posewatch.perception.networks.yolo import YoloSegmenter

    if isinstance(detector, YoloSegmenter) and config.segmenter_weights in ("", config.detector_weights):
        return detector  # one network for both
    return YoloSegmenter(config.segmenter_weights, device=config.device)


def _sam2(config: MaskConfig, detector: Detector | None) -> Segmenter:
    from posewatch.perception.networks.sam2 import Sam2Segmenter

    return Sam2Segmenter(config.segmenter_weights or _WEIGHTS[config.segmenter], config.reprompt, config.device)


DETECTORS: Mapping[str, Callable[[MaskConfig], Detector]] = {
    "movenet": _movenet,
    "yolo11": _yolo11,
    "yolo-seg": _yolo_seg_detector,
}
SEGMENTERS: Mapping[str, Callable[[MaskConfig, Detector | None], Segmenter]] = {
    "blazepose": _blazepose,
    "bbox": _bbox,
    "yolo-seg": _yolo_seg,
    "sam2": _sam2,
    "edgetam": _sam2,
}
_WEIGHTS: Mapping[str, str] = {
    "movenet": "movenet", "yolo11": "yolo11n", "yolo-seg": "yolo11n-seg", "blazepose": "blazepose",
    "sam2": "sam2.1-tiny", "edgetam": "edgetam",
}  # fmt: skip
_FIXED = ("movenet", "blazepose", "bbox")
"""Backends with one set of weights."""
BYTETRACK = ("yolo11", "yolo-seg")
"""Detectors whose persons are followed by ByteTrack."""


def build_detector(config: MaskConfig | str) -> Detector:
    """The detector that a configuration (or a name) asks for.

    Raises ConfigError for an unknown one, WeightsError when its weights are missing, PosewatchError when its packages
    are not installed.
    """
    config = MaskConfig(detector=config) if isinstance(config, str) else config
    return _known(DETECTORS, config.detector, "detector")(config)


def build_segmenter(config: MaskConfig | str, detector: Detector | None = None) -> Segmenter:
    """The segmenter that a configuration (or a name) asks for; ``detector`` may be the same network.

    Raises as ``build_detector`` does.
    """
    config = MaskConfig(segmenter=config) if isinstance(config, str) else config
    return _known(SEGMENTERS, config.segmenter, "segmenter")(config, detector)


def weights_of(config: MaskConfig) -> dict[str, dict[str, str]]:
    """Which weights masking uses, for the lineage: name → {"sha256", "licence"}; loads no network."""
    _known(DETECTORS, config.detector, "detector")
    _known(SEGMENTERS, config.segmenter, "segmenter")
    chosen = []
    for backend, given in ((config.detector, config.detector_weights), (config.segmenter, config.segmenter_weights)):
        if given and backend in _FIXED:
            raise ConfigError(f"{backend} takes no weights of its own, but {given!r} were given")
        if given or backend in _WEIGHTS:
            chosen.append(given or _WEIGHTS[backend])
    if config.detector == config.segmenter and not config.segmenter_weights:
        chosen = chosen[:1]
    return weights.records(chosen)


def _known(table: Mapping[str, T], name: str, what: str) -> T:
    if name not in table:
        raise ConfigError(f"unknown {what} {name!r} (known: {', '.join(sorted(table))})")
    return table[name]


def _movenet_pose(config: PoseConfig) -> PoseEstimator:
    from posewatch.perception.networks.movenet import MoveNetEstimator

    return MoveNetEstimator()


def _rtmo(config: PoseConfig) -> PoseEstimator:
    from posewatch.perception.networks.rtmo import RtmoEstimator

    return RtmoEstimator(config.weights, device=config.device)


def _yolo_pose(config: PoseConfig) -> PoseEstimator:
    from posewatch.perception.networks.yolo import YoloPoseEstimator

    return YoloPoseEstimator(config.weights, device=config.device)


def _mmpose(config: PoseConfig) -> PoseEstimator:
    from posewatch.perception.networks.mmpose import MMPoseEstimator

    return MMPoseEstimator(config.weights, device=config.device)


ESTIMATORS: Mapping[str, Callable[[PoseConfig], PoseEstimator]] = {
    "movenet": _movenet_pose,
    "rtmo": _rtmo,
    "yolo-pose": _yolo_pose,
    "mmpose": _mmpose,
}
_POSE_WEIGHTS: Mapping[str, str] = {"movenet": "movenet", "rtmo": "rtmo-s", "yolo-pose": "yolo11n-pose"}


def build_estimator(config: PoseConfig | str) -> PoseEstimator:
    """The estimator that a configuration (or a name) asks for.

    Raises ConfigError for an unknown one, WeightsError when its weights are missing, PosewatchError when its packages
    are not installed.
    """
    config = PoseConfig(estimator=config) if isinstance(config, str) else config
    _known_pose(config)
    return ESTIMATORS[config.estimator](config)


def pose_weights_of(config: PoseConfig) -> dict[str, dict[str, str]]:
    """Which weights the pose stage uses, for the lineage: name → {"sha256", "licence"}; loads no network."""
    _known_pose(config)
    if config.estimator == "mmpose":
        from posewatch.perception.networks import mmpose

        return mmpose.records(config.weights)
    if config.estimator == "movenet" and config.weights:
        raise ConfigError(f"movenet takes no weights of its own, but {config.weights!r} were given")
    return weights.records([config.weights or _POSE_WEIGHTS[config.estimator]])


def _known_pose(config: PoseConfig) -> None:
    if config.estimator not in ESTIMATORS:
        raise ConfigError(f"unknown pose estimator {config.estimator!r} (known: {', '.join(sorted(ESTIMATORS))})")


__all__ = [
    "Detector", "FixedDetector", "Segmenter", "VideoSegmenter", "build_detector", "build_segmenter", "weights_of",
]  # fmt: skip
