"""A published version → a served model: loaded by the embedded Triton, or rolled out as a KServe service."""

from __future__ import annotations

from typing import Any

from posewatch.artifact import Artifact, get
from posewatch.config import RobustnessConfig, ServingConfig
from posewatch.deploy.gates import judge, require
from posewatch.deploy.rollout import Rollout
from posewatch.deploy.target import DeployRequest, Release, SmokeTest
from posewatch.deploy.targets import TARGETS
from posewatch.errors import ServingError
from posewatch.lineage import find_ancestor
from posewatch.progress import Progress
from posewatch.store import ObjectStore


def deploy(
    model: Artifact,
    evaluation: Artifact | None,
    config: ServingConfig,
    *,
    robustness: RobustnessConfig | None = None,
    force: bool = False,
    percent: int | None = None,
    override: str = "",
    smoke: bool = True,
    smoke_url: str = "",
) -> str:
    """Serve a published version and return its endpoint, ``grpc://host:port/<model name>`` or ``http://…``.

    A model that misses its gates (``min_f1``, ``robustness``, parity of the export) is refused with ServingError before
    anything changes, unless ``override`` gives the reason. The other options are those of ``DeployRequest``; without
    ``smoke`` there is no smoke test.
    """
    gates = judge(model, evaluation, config, robustness)
    require(gates, override)
    with Progress("deploy", 1, "model") as progress:
        request = DeployRequest(
            model, config, gates, override, percent, _smoke_test(model.store, config, smoke), smoke_url, force, progress
        )
        endpoint = TARGETS[config.target](request)
        progress.advance(note=endpoint)
    return endpoint


def rollout(
    store: ObjectStore,
    config: ServingConfig,
    *,
    force: bool = False,
    smoke: bool = True,
    smoke_url: str = "",
    progress: Progress | None = None,
) -> Rollout:
    """The service that ``config`` names, with the smoke test of this store's models."""
    return Rollout(store, config, _smoke_test(store, config, smoke), smoke_url, force=force, progress=progress)


def _smoke_test(store: ObjectStore, config: ServingConfig, smoke: bool) -> SmokeTest | None:
    if not smoke:
        return None
    return lambda endpoint, release: smoke_release(store, endpoint, release, config.smoke_clips)


def smoke_release(store: ObjectStore, endpoint: str, release: Release, limit: int) -> dict[str, Any]:
    """Compare the answers of an endpoint with those of the release's export, on clips held out of training.

    Raises ServingError for other answers, and for a version that has changed in the store since it was deployed.
    """
    from posewatch.stages.smoke_test import compare

    model = get(store, release.uri)
    if release.digest and model.digest != release.digest:
        raise ServingError(f"{model.uri} is not the version that was deployed: its manifest has changed")
    onnx, data = find_ancestor(model, "onnx"), find_ancestor(model, "datasets")
    if onnx is None or data is None:
        raise ServingError(
            f"{model.uri} cannot be tested: its lineage leads to no {'export' if onnx is None else 'dataset'} (publish"
            " it by `posewatch publish`, or leave the test out with --skip-smoke-test)"
        )
    return compare(endpoint, data, onnx, limit)
