"""Masking: people stay, everything else turns black. Detectors and segmenters are built by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from posewatch import weights
from posewatch.config import MaskConfig
from posewatch.errors import ConfigError
from posewatch.masking.detector import Detector, FixedDetector
from posewatch.masking.segmenter import Segmenter

T = TypeVar("T")


def _movenet() -> Detector:
    from posewatch.masking.movenet import MoveNetDetector

    return MoveNetDetector()


def _blazepose() -> Segmenter:
    from posewatch.masking.blazepose import BlazePoseSegmenter

    return BlazePoseSegmenter()


def _bbox() -> Segmenter:
    from posewatch.masking.boxes import BoxSegmenter

    return BoxSegmenter()


DETECTORS: Mapping[str, Callable[[], Detector]] = {"movenet": _movenet}
SEGMENTERS: Mapping[str, Callable[[], Segmenter]] = {"blazepose": _blazepose, "bbox": _bbox}
_WEIGHTS: Mapping[str, tuple[str, ...]] = {"movenet": ("movenet",), "blazepose": ("blazepose",)}


def build_detector(name: str) -> Detector:
    """The detector of that name. Raises ConfigError for an unknown one, WeightsError when its weights are missing."""
    return _known(DETECTORS, name, "detector")()


def build_segmenter(name: str) -> Segmenter:
    """The segmenter of that name. Raises ConfigError for an unknown one, WeightsError when its weights are missing."""
    return _known(SEGMENTERS, name, "segmenter")()


def weights_of(config: MaskConfig) -> dict[str, dict[str, str]]:
    """Which weights masking uses, for the lineage: name → {"sha256", "licence"}; loads no network."""
    _known(DETECTORS, config.detector, "detector")
    _known(SEGMENTERS, config.segmenter, "segmenter")
    names = (*_WEIGHTS.get(config.detector, ()), *_WEIGHTS.get(config.segmenter, ()))
    return {name: weights.record(name) for name in names}


def _known(table: Mapping[str, T], name: str, what: str) -> T:
    if name not in table:
        raise ConfigError(f"unknown {what} {name!r} (known: {', '.join(sorted(table))})")
    return table[name]


__all__ = ["Detector", "FixedDetector", "Segmenter", "build_detector", "build_segmenter", "weights_of"]
