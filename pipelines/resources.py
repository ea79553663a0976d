"""What each step asks the cluster for: `resources.yaml`, with a user's file (POSEWATCH_RESOURCES) merged into it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

from posewatch.errors import ConfigError

SHIPPED = {"gpu": None, "cpu": Path(__file__).with_name("resources-cpu.yaml")}
VARIABLE = "POSEWATCH_RESOURCES"
QUANTITY = re.compile(r"\d+(\.\d+)?(m|[KMGT]i?)?")


@dataclass(frozen=True)
class Step:
    """Requests and limits as Kubernetes quantities, times in seconds. ``shared_memory`` is a /dev/shm of that size."""

    cpu: str
    memory: str
    cpu_limit: str
    memory_limit: str
    retries: int
    backoff_s: int
    backoff_max_s: int
    timeout_s: int
    gpus: int = 0
    shared_memory: str = ""

    def __post_init__(self) -> None:
        for name in ("cpu", "memory", "cpu_limit", "memory_limit", "shared_memory"):
            value = getattr(self, name)
            if not (isinstance(value, str) and QUANTITY.fullmatch(value)) and (name, value) != ("shared_memory", ""):
                raise ConfigError(f'{name} must be a quantity such as "2", 500m or 4Gi, not {value!r}')
        for name, least in (("retries", 0), ("backoff_s", 1), ("backoff_max_s", 1), ("timeout_s", 1), ("gpus", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigError(f"{name} must be a whole number from {least}, not {value!r}")


@dataclass(frozen=True)
class GpuNode:
    """Where steps with ``gpus`` go: the resource's name, labels of the node, taints that are borne."""

    accelerator: str
    node_selector: dict[str, str] = field(default_factory=dict)
    tolerations: list[dict[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Resources:
    """All of it: the steps by name, GPU nodes, shards at a time, and seconds that a finished run's record stays."""

    steps: dict[str, Step]
    default: Step
    gpu_node: GpuNode
    parallelism: int
    ttl_s: int

    def step(self, name: str) -> Step:
        return self.steps.get(name, self.default)


def resources(asked: str | None = None) -> Resources:
    """The shipped figures with those of ``asked`` merged in (a file, ``gpu`` or ``cpu``; default: POSEWATCH_RESOURCES).

    Raises ConfigError for a file that is absent or no YAML, and for a key or a step that does not exist.
    """
    return _read(asked if asked is not None else os.environ.get(VARIABLE) or "gpu")


@cache
def _read(asked: str) -> Resources:
    base = _yaml(Path(__file__).with_name("resources.yaml"))
    path = SHIPPED[asked] if asked in SHIPPED else Path(asked)
    if path is not None:
        told = _yaml(path)
        _known(path, "", told, set(base))
        for section in ("steps", "defaults", "gpu_node"):
            if not isinstance(told.get(section, {}), dict):
                raise ConfigError(f"{path}: {section} must be a mapping")
        _known(path, "steps.", told.get("steps", {}), set(STEPS))
        for name, step in told.get("steps", {}).items():
            base["steps"][name] = {**base["steps"].get(name, {}), **(step or {})}
        for section in ("defaults", "gpu_node"):
            base[section] |= told.get(section, {})
        base |= {key: told[key] for key in ("parallelism", "ttl_s") if key in told}
    where = path or Path("resources.yaml")
    for key, least in (("parallelism", 1), ("ttl_s", 0)):
        if isinstance(base[key], bool) or not isinstance(base[key], int) or base[key] < least:
            raise ConfigError(f"{where}: {key} must be a whole number from {least}, not {base[key]!r}")
    _known(where, "gpu_node.", base["gpu_node"], {f.name for f in fields(GpuNode)})
    steps = {name: _step(where, f"steps.{name}", {**base["defaults"], **step}) for name, step in base["steps"].items()}
    default = _step(where, "defaults", base["defaults"])
    return Resources(steps, default, GpuNode(**base["gpu_node"]), base["parallelism"], base["ttl_s"])


STEPS = (
    "ingest", "shards", "mask", "split", "pose", "gather",
    "queue_clips", "label_import", "label_gate", "snapshot", "dataset", "train",
    "evaluate", "export", "publish", "deploy", "smoke_test", "score",
    "benchmark", "report", "refresh", "notify",
)  # fmt: skip


def _step(path: Path, where: str, values: dict[str, Any]) -> Step:
    _known(path, f"{where}.", values, {f.name for f in fields(Step)})
    try:
        return Step(**values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {where}: {error}") from None


def _known(path: Path, where: str, told: dict[str, Any], known: set[str]) -> None:
    for key in told:
        if key not in known:
            raise ConfigError(f"{path}: no such key: {where}{key} (there are: {', '.join(sorted(known))})")


def _yaml(path: Path) -> dict[str, Any]:
    import yaml

    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError:
        raise ConfigError(f"no such file of resources: {path} (give a YAML file, gpu or cpu)") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{path} must be a mapping, as pipelines/resources.yaml is")
    return found
