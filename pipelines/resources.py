"""Resources of each step on the cluster: `resources.yaml`, with a user's file (POSEWATCH_RESOURCES) merged into it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from posewatch import rules
from posewatch.errors import ConfigError, did_you_mean
from posewatch.rules import Like, Range
from posewatch.sections import Section, from_dict, merge, read_yaml

HERE = Path(__file__).parent
SHIPPED = {"gpu": None, "cpu": HERE / "resources-cpu.yaml"}
VARIABLE = "POSEWATCH_RESOURCES"
BACKOFF_FACTOR = 2
PENDING_S = 86400
"""How long the pod of an attempt may wait for a node, such as one with a GPU; a timeout does not count that."""
STEPS = tuple(sorted(path.parent.name for path in HERE.parent.glob("components/*/component.py")))
"""The components; each is a step."""


@dataclass(frozen=True)
class Step(Section):
    """Requests and limits as Kubernetes quantities, times in seconds. ``shared_memory`` is a /dev/shm of that size.

    ``timeout_s`` is of one attempt. ``backoff_max_s`` is how long after its first start a step is retried at least; 0
    is as long as all its attempts may take (``retried_for_s``).
    """

    cpu: rules.Quantity
    memory: rules.Quantity
    cpu_limit: rules.Quantity
    memory_limit: rules.Quantity
    retries: Annotated[int, Range(0, 1000)]
    backoff_s: Annotated[int, Range(1, 31_536_000)]
    backoff_max_s: Annotated[int, Range(0, 31_536_000)]
    timeout_s: Annotated[int, Range(1, 31_536_000)]
    gpus: rules.Gpus = 0
    shared_memory: Annotated[str, Like(r"(\d+(\.\d+)?([KMGT]i?)?)?", "a quantity such as 8Gi, or empty")] = ""

    @property
    def retried_for_s(self) -> int:
        """Kubeflow's backoffMaxDuration: seconds from the first start until a step is neither retried nor left running.

        Argo takes it as ``maxDuration`` and not as a limit of the pause: so all attempts, the pauses between them, and
        the time in which a pod waits for its node (``PENDING_S``) have to fit into it.
        """
        pauses = sum(self.backoff_s * BACKOFF_FACTOR**i for i in range(self.retries))
        return max(self.backoff_max_s, (self.retries + 1) * (self.timeout_s + PENDING_S) + pauses)


@dataclass(frozen=True)
class GpuNode:
    """Nodes for steps with ``gpus``: the name of the resource, labels of the node, and tolerations of its taints."""

    accelerator: str
    node_selector: dict[str, str] = field(default_factory=dict)
    tolerations: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Resources(Section):
    """Resources by step, those of all other steps, GPU nodes, shards at a time, and how long a run's record stays.

    ``shards`` false: no shards, one pod of each step takes all videos.
    """

    steps: dict[str, Step]
    defaults: Step
    gpu_node: GpuNode
    parallelism: Annotated[int, Range(1, 1_000_000)]
    ttl_s: Annotated[int, Range(0, 2**31 - 1)]
    shards: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.steps:
            if name not in STEPS:
                raise ConfigError(f"no step {name!r}: {did_you_mean(name, STEPS)}")

    def step(self, name: str) -> Step:
        return self.steps.get(name, self.defaults)


def resources(given: str | None = None) -> Resources:
    """The shipped resources with those of ``given`` merged in: a file, ``gpu`` or ``cpu``; default POSEWATCH_RESOURCES.

    Raises ConfigError for a file that is missing or no YAML, and for a key or a step that does not exist.
    """
    return _read(given if given is not None else os.environ.get(VARIABLE) or "gpu")


@cache
def _read(given: str) -> Resources:
    path = SHIPPED[given] if given in SHIPPED else Path(given)
    data = merge(read_yaml(HERE / "resources.yaml"), read_yaml(path) if path else {})
    if isinstance(data["steps"], Mapping):
        data["steps"] = {name: merge({"": data["defaults"]}, {"": step})[""] for name, step in data["steps"].items()}
    try:
        return from_dict(Resources, data)
    except ConfigError as error:
        raise ConfigError(f"{path or HERE / 'resources.yaml'}: {error}") from None
