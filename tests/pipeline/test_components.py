"""The components: thin, one stage each, and described by files that are generated from them."""

from __future__ import annotations

import importlib

import pytest
from support import ROOT

from components import generate

HELPERS = {"__init__", "capture", "contents", "per_video", "train_distributed"}
"""Files of stages/ that are no component."""


def test_the_descriptions_are_those_of_the_code() -> None:
    for name in generate.NAMES:
        folder = ROOT / "components" / name
        assert (folder / "README.md").read_text(encoding="utf-8") == generate.readme(name), "run make components"
        assert (folder / "metadata.yaml").read_text(encoding="utf-8") == generate.metadata(name), "run make components"


@pytest.mark.parametrize("name", generate.NAMES)
def test_each_component_is_a_stage_of_the_same_name(name: str) -> None:
    assert callable(getattr(importlib.import_module(f"posewatch.stages.{name}"), name))


def test_each_stage_is_a_component() -> None:
    files = {path.stem for path in (ROOT / "src" / "posewatch" / "stages").glob("*.py")}
    assert files - HELPERS == set(generate.NAMES)
