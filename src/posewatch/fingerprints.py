"""Settings as fingerprints see them: neither a renamed key nor a new one at its default names an artifact anew."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, get_type_hints

from posewatch.config import Experiment, PoseConfig, ServingConfig, TrainConfig

_ADDED = {
    field.name: section.BEFORE.get(field.name, field.default)
    for section in get_type_hints(Experiment).values()
    for field in dataclasses.fields(section)
    if field.name in section.ADDED
}
"""New field → what it stands for in older artifacts; a name that no other section has."""


def fingerprinted(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings under the names from which fingerprints are computed: the ones that a field was first given; without the
    fields in ``ADDED`` of their section that stand for what was before there was one.

    So neither a renamed field nor a new one changes a fingerprint, and artifacts of earlier versions are still found.
    """
    settings = {name: value for name, value in settings.items() if name not in _ADDED or value != _ADDED[name]}
    former = {new: old for section in (PoseConfig, TrainConfig, ServingConfig) for old, new in section.RENAMED.items()}
    fields = {name: value for name, value in settings.items() if name != "model_options"}
    options = {f"model_options.{name}": value for name, value in settings.get("model_options", {}).items()}
    return {former.get(name, name): value for name, value in (fields | options).items()}
