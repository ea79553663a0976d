"""The whole configuration, and how it is read."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from posewatch.config.labels import DatasetConfig, LabelConfig
from posewatch.config.perception import MaskConfig, PoseConfig, SplitConfig
from posewatch.config.serving import ServingConfig
from posewatch.config.training import PretrainConfig, RobustnessConfig, TrainConfig, TrainerConfig
from posewatch.digests import canonical
from posewatch.errors import ConfigError, did_you_mean
from posewatch.sections import Plain, from_dict, merge, parse_yaml
from posewatch.text import read_text
from posewatch.units import PERSON


@dataclass(frozen=True)
class Experiment:
    """The whole configuration of a run."""

    mask: MaskConfig = field(default_factory=MaskConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    pose: PoseConfig = field(default_factory=PoseConfig)
    labels: LabelConfig = field(default_factory=LabelConfig)
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    robustness: RobustnessConfig = field(default_factory=RobustnessConfig)
    serving: ServingConfig = field(default_factory=ServingConfig)

    def __post_init__(self) -> None:
        if self.mask.unit == PERSON and self.train.people != 1:
            raise ConfigError(
                f"mask.unit person has one person in a clip, not train.people {self.train.people}: set train.people=1"
            )
        if self.pretrain.enabled and self.train.pretrained:
            raise ConfigError(
                f"train.pretrained {self.train.pretrained} and pretrain.enabled both say what training begins with: "
                "set one of them"
            )

    def to_json(self) -> str:
        """Canonical JSON: what pipelines pass on, so that a changed value changes the cache key."""
        return canonical(dataclasses.asdict(self))


def names() -> list[str]:
    """The experiments that ship with the package."""
    folder = resources.files("posewatch") / "configs"
    return sorted(p.name[:-5] for p in folder.iterdir() if p.name.endswith(".yaml"))


def _read(source: str, seen: tuple[str, ...] = ()) -> dict[str, Any]:
    if source in seen:
        raise ConfigError(f"configurations extend each other in a circle: {' -> '.join((*seen, source))}")
    base: Path | None = None
    if source.lstrip().startswith("{"):
        text = source
    elif source.endswith((".yaml", ".yml")):
        base = Path(source)
        if not base.is_file():
            raise ConfigError(f"no such configuration file: {source} (shipped by name: {', '.join(names())})")
        text = read_text(base, error=ConfigError)
    else:
        shipped = resources.files("posewatch") / "configs" / f"{source}.yaml"
        if not shipped.is_file():
            hint = did_you_mean(source, names())
            raise ConfigError(f"no configuration named {source!r}: {hint} (or give a path ending in .yaml)")
        text = shipped.read_text(encoding="utf-8")
    data = parse_yaml(text, f"configuration {source[:60]!r}")
    parent = data.pop("extends", None)
    if parent:
        if base and str(parent).endswith((".yaml", ".yml")):
            parent = str(base.parent / parent)
        data = merge(_read(str(parent), (*seen, source)), data)
    return data


def load(source: str = "default", overrides: Iterable[str] = ()) -> Experiment:
    """Read an experiment: a shipped name, a YAML path or a JSON text, then ``section.key=value`` overrides.

    With ``mask.unit`` person, ``train.people`` is 1 unless it is given.
    """
    data = _read(source)
    for item in overrides:
        path, sep, value = item.partition("=")
        if not sep:
            raise ConfigError(f"override {item!r} must look like section.key=value")
        node: dict[str, Any] = {}
        leaf = node
        *parts, last = path.strip().split(".")
        for part in parts:
            leaf[part] = {}
            leaf = leaf[part]
        leaf[last] = Plain(value)
        data = merge(data, node)
    mask = data.get("mask")
    if isinstance(mask, Mapping) and mask.get("unit") == PERSON:
        data = merge({"train": {"people": 1}}, data)
    return from_dict(Experiment, data)
