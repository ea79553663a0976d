"""An export → an immutable version of the model repository."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

from posewatch.artifact import Artifact, Job, produce
from posewatch.config import ServingConfig
from posewatch.stages.contents import MODEL
from posewatch.store import ObjectStore
from posewatch.units import require_unit, unit_of

SETTINGS = (
    "name", "max_batch", "queue_delay_us", "instances", "max_queue", "queue_timeout_us", "device", "threads",
    "model_warmup", "accelerator", "precision", "paper_contract", "wire",
)  # fmt: skip
"""The values of the configuration that the model repository depends on."""


def publish(store: ObjectStore, onnx: Artifact, config: ServingConfig, unit: str = "") -> Artifact:
    """Write one immutable version, ``models/<name>/<version>/<name>/{config.pbtxt,1/model.onnx}``.

    The prefix is the root of a model repository, as KServe's ``storageUri`` wants it. With ``serving.paper_contract``
    it holds a second model of that name for the paper's clients (``serving/paper_contract.py``). Raises InputError for
    a model of another ``unit``, where that is given ("scene", "person"), or one that cannot answer those clients.
    """
    settings = {k: v for k, v in dataclasses.asdict(config).items() if k in SETTINGS}

    # 2: the order of its warm-up, and a cache that tells versions apart
    revision = 2 if config.accelerator == "tensorrt" else 1
    job = Job("models", config.name, settings, (onnx,), revision=revision)

    def write(folder: Path) -> None:
        from posewatch.export.model_file import read_model
        from posewatch.export.quantised import quantise
        from posewatch.inference.quantised import WIRE
        from posewatch.serving.paper_contract import wrap
        from posewatch.serving.repository import write_repository

        with tempfile.TemporaryDirectory(prefix="posewatch-publish-") as temp:
            release = job.prefix.rsplit("/", 1)[1]
            file = onnx.fetch(MODEL, Path(temp))
            if unit:
                require_unit(unit_of(read_model(file).metadata), unit, onnx.uri, "the configuration")
            served = {k: v for k, v in settings.items() if k not in ("paper_contract", "wire")}
            sent = file
            if config.wire == WIRE:
                sent = Path(temp) / "quantised.onnx"
                quantise(file, sent)
            write_repository(sent, folder, **served, release=release)
            if config.paper_contract:
                wrapped = Path(temp) / "paper.onnx"
                model = wrap(file, wrapped)
                write_repository(
                    wrapped, folder, **served | {"name": config.paper_contract}, release=release, model=model
                )

    return produce(store, job, write)
