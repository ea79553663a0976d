"""Compile the pipelines, and read what was compiled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from support import run

GOLDEN = Path(__file__).with_name("pipeline") / "golden"
NAMES = ("prepare", "train", "end_to_end", "refresh")
ENV = {"POSEWATCH_IMAGE": "", "POSEWATCH_IMAGES": "registry.example/posewatch", "POSEWATCH_TAG": "abc123"}


def compiled(out: Path, **env: str) -> Path:
    done = run("compile", "--out", str(out), env={**ENV, "POSEWATCH_RESOURCES": "", **env}, module="pipelines")
    assert done.returncode == 0, done.stderr
    return out


def parts(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The pipeline's specification, and what it says to Kubernetes."""
    spec, platform = yaml.safe_load_all(path.read_text())
    return spec, platform["platforms"]["kubernetes"]


def tasks(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    dags = [spec["root"], *spec["components"].values()]
    return {name: task for dag in dags for name, task in dag.get("dag", {}).get("tasks", {}).items()}
