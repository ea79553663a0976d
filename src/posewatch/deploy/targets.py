"""The deploy targets by their names in ``serving.target``. A new one is a file of its own and a row here."""

from __future__ import annotations

from posewatch.deploy import embedded, kserve
from posewatch.deploy.target import Target
from posewatch.errors import ConfigError

TARGETS: dict[str, Target] = {"embedded": embedded.deploy, "kserve": kserve.deploy}


def target(name: str) -> Target:
    """The target of that name. Raises ConfigError for an unknown one."""
    if name not in TARGETS:
        raise ConfigError(f"serving.target must be {' or '.join(map(repr, TARGETS))}, not {name!r}")
    return TARGETS[name]
