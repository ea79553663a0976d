"""A published version → a served model: loaded by the embedded Triton, or applied to a cluster as a KServe service."""

from __future__ import annotations

import shutil

from posewatch.artifact import MANIFEST, Artifact
from posewatch.config import RobustnessConfig, ServingConfig
from posewatch.errors import ConfigError, ServingError, StackError
from posewatch.progress import Progress


def deploy(
    model: Artifact,
    evaluation: Artifact | None,
    config: ServingConfig,
    *,
    robustness: RobustnessConfig | None = None,
    force: bool = False,
) -> str:
    """Serve a published version and return its endpoint, ``grpc://host:port/<model name>`` or ``http://…``.

    ``force`` takes over fields of the service that another manager owns. A model that misses its
    gates (``min_f1``, ``robustness``) is refused with ServingError before anything changes.
    """
    if evaluation is not None:
        from posewatch.serving.deploy import gate

        gate(evaluation.json("metrics.json"), config.min_f1)
    if robustness is not None and robustness.asks:
        _gate_robustness(evaluation, robustness)
    with Progress("deploy", 1, "model") as progress:
        if config.target == "embedded":
            endpoint = _embedded(model, config.name)
        elif config.target == "kserve":
            from posewatch.serving.deploy import deploy_kserve

            endpoint = deploy_kserve(
                f"{model.uri}/",
                config,
                version=_version(model),
                lineage_digest=model.digest,
                force=force,
                progress=progress,
            ).uri
        else:
            raise ConfigError(f"serving.target must be 'embedded' or 'kserve', not {config.target!r}")
        progress.advance(note=endpoint)
    return endpoint


def _gate_robustness(evaluation: Artifact | None, config: RobustnessConfig) -> None:
    from posewatch.recognition.robustness import gate

    if evaluation is None or "robustness.json" not in evaluation.files:
        raise ConfigError(
            "robustness gates need a robustness report: set robustness.draws to 1 or more, evaluate again"
        )
    reasons = gate(evaluation.json("robustness.json"), config)
    if reasons:
        raise ServingError(f"the model is not deployed: {'; '.join(reasons)}")


def _version(model: Artifact) -> str:
    return model.prefix.rsplit("/", 1)[1]


def _embedded(model: Artifact, name: str) -> str:
    from posewatch import stack
    from posewatch.serving import client

    info = stack.current()
    if info is None:
        raise StackError("the embedded Triton is not running: start it with `posewatch up`")
    endpoint = f"grpc://{info.triton_grpc}/{name}"
    stamp = info.model_repository / name / MANIFEST
    if stamp.is_file() and stamp.read_text() == model.digest and client.model_ready(info.triton_grpc, name):
        return endpoint
    new, old = info.model_repository / f".{name}.new", info.model_repository / f".{name}.old"
    for folder in (new, old):
        shutil.rmtree(folder, ignore_errors=True)
    model.fetch_all(new)
    (new / name / MANIFEST).write_text(model.digest)
    here = info.model_repository / name
    if here.exists():
        here.rename(old)
    (new / name).rename(here)
    try:
        client.load_model(info.triton_grpc, name)
    except ServingError:
        shutil.rmtree(here)
        if old.exists():
            old.rename(here)
            client.load_model(info.triton_grpc, name)
        raise
    finally:
        for folder in (new, old):
            shutil.rmtree(folder, ignore_errors=True)
    return endpoint
