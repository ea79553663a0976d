"""The networks by name; each is one readable file and obeys ``base.Network``."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from posewatch.datasets.layouts import Layout
from posewatch.errors import ConfigError
from posewatch.recognition.models.aagcn import AAGCN
from posewatch.recognition.models.base import Network
from posewatch.recognition.models.ctrgcn import CTRGCN
from posewatch.recognition.models.protogcn.network import ProtoGCN
from posewatch.recognition.models.stgcn import STGCN
from posewatch.recognition.models.stgcnpp import STGCNpp

Builder = Callable[[Layout, int, int, int, int], Network]
"""(layout, classes, channels of the first block, prototypes, in_channels) → network"""

BUILDERS: dict[str, tuple[int, Builder]] = {
    "protogcn": (
        96,
        lambda layout, classes, channels, prototypes, in_channels: ProtoGCN(
            len(layout.joints), classes, channels, prototypes, in_channels
        ),
    ),
    "stgcn": (64, lambda layout, classes, channels, _, in_channels: STGCN(layout, classes, channels, in_channels)),
    "stgcn++": (64, lambda layout, classes, channels, _, in_channels: STGCNpp(layout, classes, channels, in_channels)),
    "aagcn": (64, lambda layout, classes, channels, _, in_channels: AAGCN(layout, classes, channels, in_channels)),
    "ctrgcn": (64, lambda layout, classes, channels, _, in_channels: CTRGCN(layout, classes, channels, in_channels)),
}
"""Name → published channels of the first block, and how to build it."""

ALIASES = {"2s-agcn": "aagcn"}
"""Other names that ``build`` takes."""


def build(
    name: str, *, layout: Layout, classes: int, width: float = 1.0, prototypes: int = 400, in_channels: int = 3
) -> Network:
    """A freshly initialised network; ``width`` 1 is the published size, others are rounded to multiples of 8 channels.

    Raises ConfigError naming the nearest known name.
    """
    name = ALIASES.get(name, name)
    if name not in BUILDERS:
        near = difflib.get_close_matches(name, BUILDERS, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(BUILDERS)}"
        raise ConfigError(f"unknown model {name!r}: {hint}")
    if not 0 < width <= 4:
        raise ConfigError(f"model {name!r}: width is a multiple of the published one, in (0, 4], not {width:g}")
    if min(classes, prototypes, in_channels) < 1:
        raise ConfigError(f"model {name!r}: classes, prototypes and channels must be at least 1")
    published, builder = BUILDERS[name]
    return builder(layout, classes, max(8, round(published * width / 8) * 8), prototypes, in_channels)
