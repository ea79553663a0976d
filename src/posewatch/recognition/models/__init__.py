"""The networks by name; each is one readable file and obeys ``base.Network``."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from posewatch.errors import ConfigError
from posewatch.layouts import Layout
from posewatch.recognition.models.base import Network
from posewatch.recognition.models.protogcn import ProtoGCN

Builder = Callable[[Layout, int, int, int, int], Network]
"""(layout, classes, width, prototypes, in_channels) → network"""

BUILDERS: dict[str, Builder] = {
    "protogcn": lambda layout, classes, width, prototypes, in_channels: ProtoGCN(
        len(layout.joints), classes, width, prototypes, in_channels
    ),
}


def build(
    name: str, *, layout: Layout, classes: int, width: int = 96, prototypes: int = 400, in_channels: int = 3
) -> Network:
    """A freshly initialised network. Raises ConfigError naming the nearest known name."""
    if name not in BUILDERS:
        near = difflib.get_close_matches(name, BUILDERS, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(BUILDERS)}"
        raise ConfigError(f"unknown model {name!r}: {hint}")
    if min(classes, width, prototypes, in_channels) < 1 or width % 8:
        raise ConfigError(f"model {name!r}: width must be a multiple of 8 and all sizes at least 1, width is {width}")
    return BUILDERS[name](layout, classes, width, prototypes, in_channels)
