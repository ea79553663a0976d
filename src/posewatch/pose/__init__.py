"""Skeletons: an estimator by name, tracking, and the (M, T, V, 3) arrays of clips."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from posewatch import weights
from posewatch.config import PoseConfig
from posewatch.errors import ConfigError
from posewatch.pose.estimator import PoseEstimator


def _movenet(config: PoseConfig) -> PoseEstimator:
    from posewatch.pose.movenet import MoveNetEstimator

    return MoveNetEstimator()


def _rtmo(config: PoseConfig) -> PoseEstimator:
    from posewatch.pose.rtmo import RtmoEstimator

    return RtmoEstimator(config.weights, device=config.device)


def _yolo(config: PoseConfig) -> PoseEstimator:
    from posewatch.pose.yolo import YoloPoseEstimator

    return YoloPoseEstimator(config.weights, device=config.device)


def _mmpose(config: PoseConfig) -> PoseEstimator:
    from posewatch.pose.mmpose import MMPoseEstimator

    return MMPoseEstimator(config.weights, device=config.device)


ESTIMATORS: Mapping[str, Callable[[PoseConfig], PoseEstimator]] = {
    "movenet": _movenet,
    "rtmo": _rtmo,
    "yolo-pose": _yolo,
    "mmpose": _mmpose,
}
_WEIGHTS: Mapping[str, str] = {"movenet": "movenet", "rtmo": "rtmo-s", "yolo-pose": "yolo11n-pose"}


def build_estimator(config: PoseConfig | str) -> PoseEstimator:
    """The estimator that a configuration (or a name) asks for.

    Raises ConfigError for an unknown one, WeightsError when its weights are missing, PosewatchError when its packages
    are not installed.
    """
    config = PoseConfig(estimator=config) if isinstance(config, str) else config
    _known(config)
    return ESTIMATORS[config.estimator](config)


def weights_of(config: PoseConfig) -> dict[str, dict[str, str]]:
    """Which weights the pose stage uses, for the lineage: name → {"sha256", "licence"}; loads no network."""
    _known(config)
    if config.estimator == "mmpose":
        from posewatch.pose import mmpose

        return mmpose.records(config.weights)
    if config.estimator == "movenet" and config.weights:
        raise ConfigError(f"movenet takes no weights of its own, but {config.weights!r} were given")
    return weights.records([config.weights or _WEIGHTS[config.estimator]])


def _known(config: PoseConfig) -> None:
    if config.estimator not in ESTIMATORS:
        raise ConfigError(f"unknown pose estimator {config.estimator!r} (known: {', '.join(sorted(ESTIMATORS))})")


__all__ = ["ESTIMATORS", "PoseEstimator", "build_estimator", "weights_of"]
