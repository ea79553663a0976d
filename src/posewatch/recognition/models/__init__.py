"""The networks by name; each is one readable file and obeys ``base.Network``."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from posewatch.datasets.layouts import OF_PERSON, Layout
from posewatch.errors import ConfigError, did_you_mean
from posewatch.recognition.models.aagcn import AAGCN
from posewatch.recognition.models.base import Network
from posewatch.recognition.models.ctrgcn import CTRGCN
from posewatch.recognition.models.flow_statistics import FlowStatistics
from posewatch.recognition.models.hypergcn import HyperGCN
from posewatch.recognition.models.pooled_statistics import PooledStatistics
from posewatch.recognition.models.protogcn.fused import FusedProtoGCN
from posewatch.recognition.models.statistics import PoseStatistics
from posewatch.recognition.models.stgcn import STGCN
from posewatch.recognition.models.stgcnpp import STGCNpp

NETWORKS: dict[str, type[Network]] = {
    "protogcn": FusedProtoGCN,
    "stgcn": STGCN,
    "stgcn++": STGCNpp,
    "aagcn": AAGCN,
    "ctrgcn": CTRGCN,
    "hypergcn": HyperGCN,
    "statistics": PoseStatistics,
    "pooled-statistics": PooledStatistics,
    "flow-statistics": FlowStatistics,
}
"""Name → class. Its constructor takes what it needs of ``layout``, ``joints`` (their number), ``classes``, ``width``
(channels of the first block; the default is the published number) and ``in_channels``; further parameters, with
defaults, are the model's own options (``train.model_options``)."""

ALIASES = {"2s-agcn": "aagcn"}
"""Other names that ``build`` takes."""
_COMMON = ("layout", "joints", "classes", "width", "in_channels")


def options(name: str) -> dict[str, Any]:
    """The options of a model and their defaults."""
    parameters = inspect.signature(NETWORKS[name]).parameters
    return {key: parameter.default for key, parameter in parameters.items() if key not in _COMMON}


def build(
    name: str,
    *,
    layout: Layout,
    classes: int,
    width: float = 1.0,
    in_channels: int = 3,
    model_options: Mapping[str, Any] | None = None,
) -> Network:
    """A freshly initialised network; ``width`` 1 is the published size, others are rounded to multiples of 8 channels.

    Of ``model_options`` those of other models are left out, so that an experiment need not change with its model.
    Raises ConfigError naming the nearest known name for a model or an option that there is not.
    """
    name = ALIASES.get(name, name)
    if name not in NETWORKS:
        raise ConfigError(f"unknown model {name!r}: {did_you_mean(name, NETWORKS)}")
    cls = NETWORKS[name]
    parameters = inspect.signature(cls).parameters
    channels = max(8, round(parameters["width"].default * width / 8) * 8)
    joints = OF_PERSON if cls is FlowStatistics and layout.flow else len(layout.joints)
    common = {
        "layout": layout, "joints": joints, "classes": classes, "width": channels,
        "in_channels": in_channels,
    }  # fmt: skip
    given = {key: value for key, value in common.items() if key in parameters}
    return cls(**given, **_own_options(name, model_options or {}))


def _own_options(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Of the options given those of model ``name``, checked. Raises ConfigError."""
    known = [key for model in NETWORKS for key in options(model)]
    for key in given:
        if key not in known:
            raise ConfigError(f"unknown option {key!r} in train.model_options: {did_you_mean(key, known)}")
    own = {key: given[key] for key in options(name) if key in given}
    for key, value in own.items():
        kind = type(options(name)[key])
        if not isinstance(value, kind) and not (kind is float and isinstance(value, int)):
            raise ConfigError(f"train.model_options.{key} must be {kind.__name__}, not {value!r}")
    return own
