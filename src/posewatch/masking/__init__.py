"""Masking: people stay, everything else turns black. Detectors and segmenters are built by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from posewatch import weights
from posewatch.config import MaskConfig
from posewatch.errors import ConfigError
from posewatch.masking.detector import Detector, FixedDetector
from posewatch.masking.segmenter import Segmenter, VideoSegmenter

T = TypeVar("T")


def _movenet(config: MaskConfig) -> Detector:
    from posewatch.masking.movenet import MoveNetDetector

    return MoveNetDetector()


def _yolo11(config: MaskConfig) -> Detector:
    from posewatch.masking.yolo import YoloDetector

    return YoloDetector(config.detector_weights, device=config.device)


def _yolo_seg_detector(config: MaskConfig) -> Detector:
    from posewatch.masking.yolo import YoloSegmenter

    return YoloSegmenter(config.detector_weights or config.segmenter_weights, device=config.device)


def _blazepose(config: MaskConfig, detector: Detector | None) -> Segmenter:
    from posewatch.masking.blazepose import BlazePoseSegmenter

    return BlazePoseSegmenter()


def _bbox(config: MaskConfig, detector: Detector | None) -> Segmenter:
    from posewatch.masking.boxes import BoxSegmenter

    return BoxSegmenter()


def _yolo_seg(config: MaskConfig, detector: Detector | None) -> Segmenter:
    from posewatch.masking.yolo import YoloSegmenter

    if isinstance(detector, YoloSegmenter) and config.segmenter_weights in ("", config.detector_weights):
        return detector  # one network for both
    return YoloSegmenter(config.segmenter_weights, device=config.device)


def _sam2(config: MaskConfig, detector: Detector | None) -> Segmenter:
    from posewatch.masking.sam2 import Sam2Segmenter

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


__all__ = [
    "Detector", "FixedDetector", "Segmenter", "VideoSegmenter", "build_detector", "build_segmenter", "weights_of",
]  # fmt: skip
