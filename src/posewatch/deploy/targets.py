"""The deploy targets by their names in ``serving.target``. A new one is a file of its own and a row here."""

from __future__ import annotations

from posewatch.deploy import embedded, kserve
from posewatch.deploy.target import Target

TARGETS: dict[str, Target] = {"embedded": embedded.deploy, "kserve": kserve.deploy}
