"""A pipeline's stage in the image that its component names, by the very command that Kubeflow Pipelines runs there.

The command is taken from the compiled component, ``{{$}}`` in it is what the engine's driver puts there, and the
artifacts' places are where its launcher mounts scratch space for a user who is not root (``/minio``).
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from images import ROOT, BuildError

if TYPE_CHECKING:
    from trials import Site

SMALL = ("split.length_s=2.0", "train.epochs=1", "train.width=0.1", "train.clip_frames=16")
"""One epoch of a tiny network on clips of two seconds."""
STAGES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("ingest", {"source": "/in", "seconds": 0.0}),
    ("mask", {"raw": "@ingest"}),
    ("split", {"masked": "@mask"}),
    ("pose", {"clips": "@split"}),
    ("queue_clips", {"clips": "@split", "skeletons": "@pose"}),
    ("label_import", {"clips": "@split", "labels": "/in/labels.csv", "after": 0}),
    ("snapshot", {"clips": "@split"}),
    ("dataset", {"snapshot": "@snapshot", "skeletons": "@pose", "before": ""}),
    ("pretrain", {"skeletons": "@pose", "data": "@dataset"}),
    ("train", {"data": "@dataset", "pretrained": "@pretrain"}),
    ("evaluate", {"data": "@dataset", "checkpoint": "@train"}),
    ("export", {"checkpoint": "@train"}),
    ("publish", {"onnx": "@export"}),
)
"""(component, its parameters): ``@name`` is what that component put out; store and config are the same for all."""
SMOKE = ("smoke_test", {"data": "@dataset", "onnx": "@export", "model": "@publish"})


def component(name: str, site: Site) -> Any:
    """The compiled component with this site's image."""
    os.environ.update(POSEWATCH_IMAGES=site.repository, POSEWATCH_TAG=site.tag)
    os.environ.pop("POSEWATCH_IMAGE", None)
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    # a component takes its image when it is imported, perhaps before the variables above were set
    module = importlib.reload(importlib.import_module(f"components.{name}.component"))
    return getattr(module, name).component_spec


def kind_of(name: str, site: Site) -> str:
    """The kind of image that a component asks for."""
    image = str(component(name, site).implementation.container.image)
    return image.removeprefix(f"{site.repository}-").removesuffix(f":{site.tag}")


def run_step(
    site: Site,
    name: str,
    values: Mapping[str, Any],
    made: Mapping[str, str],
    network: str = "none",
    kind: str = "",
    settings: tuple[str, ...] = (),
) -> str:
    """Run a component; returns its output ("" where it has none). Raises BuildError with what the container said.

    ``kind`` is another image than the component asks for, ``settings`` change the configuration.
    """
    from posewatch.config import load

    spec = component(name, site)
    common = {"store": site.store, "config": load("default", [*SMALL, *settings]).to_json()}
    told = {key: value for key, value in common.items() if key in spec.inputs}
    told |= {k: made[v[1:]] if isinstance(v, str) and v.startswith("@") else v for k, v in values.items()}
    outputs = spec.outputs or {}
    place = f"engine/{name}-{time.monotonic_ns()}"
    artifacts = {
        key: {"artifacts": [_artifact(key, about.type, place)]}
        for key, about in outputs.items()
        if about.type.startswith("system.")
    }
    parameters = {key: {"outputFile": f"{site.at}/{place}/{key}"} for key in outputs if key not in artifacts}
    executor_input = {
        "inputs": {"parameterValues": told},
        "outputs": {
            "artifacts": artifacts,
            "parameters": parameters,
            "outputFile": f"{site.at}/{place}/output_metadata.json",
        },
    }
    container = spec.implementation.container
    words = [json.dumps(executor_input) if word == "{{$}}" else word for word in container.args]
    site.inside(kind or kind_of(name, site), *container.command, *words, network=network)
    said = json.loads((site.folder / place / "output_metadata.json").read_text(encoding="utf-8"))
    missing = set(artifacts) - set(said.get("artifacts", {}))
    if missing:
        raise BuildError(f"{name} told the engine nothing of its {', '.join(sorted(missing))}")
    found = site.folder / place / "Output"
    return (
        found.read_text(encoding="utf-8") if found.is_file() else str(said.get("parameterValues", {}).get("Output", ""))
    )


def _artifact(name: str, schema: str, place: str) -> dict[str, Any]:
    title, _, version = schema.partition("@")
    kind = {"schemaTitle": title, "schemaVersion": version}
    return {"name": name, "type": kind, "uri": f"minio://mlpipeline/v2/{place}/{name}", "metadata": {}}


def local(site: Site, uri: str) -> Path:
    """Where an artifact that a container made lies on this machine."""
    return site.folder / "store" / uri.split("/store/", 1)[1]
