"""A published version → a served model: loaded by the embedded Triton, or rolled out as a KServe service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from posewatch.artifact import Artifact, get
from posewatch.config import RobustnessConfig, ServingConfig
from posewatch.deploy.embedded import deploy_embedded
from posewatch.deploy.gates import judge, require
from posewatch.errors import ConfigError, InputError, ServingError
from posewatch.lineage import find_ancestor
from posewatch.progress import Progress
from posewatch.store import ObjectStore

if TYPE_CHECKING:
    from posewatch.deploy.rollout import Rollout
    from posewatch.deploy.service import Release


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
    anything changes, unless ``override`` gives a reason. On a cluster, ``percent`` of the traffic goes to the version
    (default: ``config.canary_percent``). ``smoke`` compares its answers on held-out clips with the export before it
    gets traffic, at ``smoke_url`` instead of KServe's address where that is given. ``force`` takes over fields of the
    service that another manager owns.
    """
    gates = judge(model, evaluation, config, robustness)
    require(gates, override)
    with Progress("deploy", 1, "model") as progress:
        if config.target == "embedded":
            if percent not in (None, 100):
                raise InputError("the embedded Triton shares no traffic: --canary-percent needs serving.target=kserve")
            endpoint = deploy_embedded(model, config.name)
        elif config.target == "kserve":
            service = rollout(model.store, config, force=force, smoke=smoke, smoke_url=smoke_url, progress=progress)
            share = config.canary_percent if percent is None else percent
            endpoint = service.deploy(release(model), gates, override=override, percent=share).uri
        else:
            raise ConfigError(f"serving.target must be 'embedded' or 'kserve', not {config.target!r}")
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
    from posewatch.deploy.rollout import Rollout

    test = (lambda endpoint, version: smoke_release(store, endpoint, version, config.smoke_clips)) if smoke else None
    return Rollout(store, config, test, smoke_url, force=force, progress=progress)


def release(model: Artifact) -> Release:
    """A published version as a rollout describes it."""
    from posewatch.deploy.service import Release

    return Release(model.prefix.rsplit("/", 1)[1], f"{model.uri}/", model.digest)


def smoke_release(store: ObjectStore, endpoint: str, version: Release, limit: int) -> dict[str, Any]:
    """Compare an endpoint's answers with those of the version's export, on clips held out of training.

    Raises ServingError for other answers, and for a version that has changed in the store since it was deployed.
    """
    from posewatch.stages.smoke_test import compare

    model = get(store, version.uri)
    if version.digest and model.digest != version.digest:
        raise ServingError(f"{model.uri} is not the version that was deployed: its manifest has changed")
    onnx, data = find_ancestor(model, "onnx"), find_ancestor(model, "datasets")
    if onnx is None or data is None:
        raise ServingError(
            f"{model.uri} cannot be tested: its lineage leads to no {'export' if onnx is None else 'dataset'} (publish"
            " it by `posewatch publish`, or leave the test out with --skip-smoke-test)"
        )
    return compare(endpoint, data, onnx, limit)
