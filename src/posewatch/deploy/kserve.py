"""The target ``kserve``: the version is rolled out as a KServe service on a cluster."""

from __future__ import annotations

from posewatch.deploy.rollout import Rollout
from posewatch.deploy.target import DeployRequest, Release


def deploy(request: DeployRequest) -> str:
    """See ``Target``."""
    config = request.config
    rollout = Rollout(
        request.model.store,
        config,
        request.smoke_test,
        request.smoke_url,
        force=request.force,
        progress=request.progress,
    )
    percent = config.canary_percent if request.percent is None else request.percent
    endpoint = rollout.deploy(Release.of(request.model), request.gates, override=request.override, percent=percent)
    return endpoint.uri
