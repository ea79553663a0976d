"""The components: thin, one stage each, and described by files that are generated from them."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import SimpleNamespace

import pytest
from camera import Camera
from support import ROOT

from components import generate

HELPERS = {
    "__init__", "capture", "contents", "import_checkpoint", "import_clips", "per_video", "run", "train_distributed",
}  # fmt: skip
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


def test_a_camera_is_a_source_and_its_password_is_no_parameter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the step does on a cluster: the secret's variables, the run's id, a retry that goes on, another run."""
    from components.ingest.component import ingest

    camera = Camera()
    address = camera.url.replace("user:secret", "${POSEWATCH_CAMERA_USER}:${POSEWATCH_CAMERA_PASSWORD}")
    for name, value in (("USER", "user"), ("PASSWORD", "secret")):
        monkeypatch.setenv(f"POSEWATCH_CAMERA_{name}", value)

    def step(run: str) -> str:
        monkeypatch.setenv("POSEWATCH_RUN", run)
        videos = SimpleNamespace(path=str(tmp_path / "videos.json"), metadata={})
        return str(ingest.python_func(store=str(tmp_path / "store"), source=address, seconds=1.0, videos=videos))

    try:
        first = step("0a1b2c3d-0000")
        assert step("0a1b2c3d-0000") == first, "the retry finds what was recorded"
        assert camera.connections == 1
        assert step("9f8e7d6c-0000") != first, "another run records anew"
        assert camera.connections == 2
    finally:
        camera.close()
