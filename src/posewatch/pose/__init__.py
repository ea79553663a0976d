"""Skeletons: an estimator by name, tracking, and the (M, T, V, 3) arrays of clips."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from posewatch import weights
from posewatch.config import PoseConfig
from posewatch.errors import ConfigError
from posewatch.pose.estimator import PoseEstimator


def _movenet() -> PoseEstimator:
    from posewatch.pose.movenet import MoveNetEstimator

    return MoveNetEstimator()


ESTIMATORS: Mapping[str, Callable[[], PoseEstimator]] = {"movenet": _movenet}
_WEIGHTS: Mapping[str, tuple[str, ...]] = {"movenet": ("movenet",)}


def build_estimator(name: str) -> PoseEstimator:
    """The estimator of that name. Raises ConfigError for an unknown one, WeightsError when its weights are missing."""
    if name not in ESTIMATORS:
        raise ConfigError(f"unknown pose estimator {name!r} (known: {', '.join(sorted(ESTIMATORS))})")
    return ESTIMATORS[name]()


def weights_of(config: PoseConfig) -> dict[str, dict[str, str]]:
    """Which weights the pose stage uses, for the lineage: name → {"sha256", "licence"}; loads no network."""
    if config.estimator not in ESTIMATORS:
        raise ConfigError(f"unknown pose estimator {config.estimator!r} (known: {', '.join(sorted(ESTIMATORS))})")
    return {name: weights.record(name) for name in _WEIGHTS.get(config.estimator, ())}


__all__ = ["ESTIMATORS", "PoseEstimator", "build_estimator", "weights_of"]
