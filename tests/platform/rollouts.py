"""What the rollout's tests share: the commands as a pipeline runs them, and what the cluster and the history say."""

from __future__ import annotations

from typing import Any

import pytest
from published import Version

from posewatch.config import ServingConfig
from posewatch.deploy import history, rollout
from posewatch.deploy.state import State, look
from posewatch.kube.cluster import Cluster
from posewatch.stages import deploy as stage

from .kserve import ISVC, Controller

CONFIG = ServingConfig(
    target="kserve", namespace="posewatch", min_f1=0.8, model_warmup="none", max_batch=32, ready_timeout_s=20
)
IN_CLUSTER = "grpc://abnormal.posewatch.svc:9000/abnormal"


def put(kserve: Controller, made: Version, config: ServingConfig = CONFIG, **options: Any) -> str:
    return stage.deploy(made.model, made.evaluation, config, **options)


def way(kserve: Controller, config: ServingConfig = CONFIG) -> rollout.Rollout:
    return stage.rollout(kserve.store, config)


def name(made: Version) -> str:
    return made.model.prefix.rsplit("/", 1)[1]


def acts(kserve: Controller) -> list[tuple[str, str]]:
    return [(e.act, e.version) for e in history.read(kserve.store, "posewatch", "abnormal")]


def state(config: ServingConfig = CONFIG) -> State:
    with Cluster() as cluster:
        return look(cluster, config)


def live(api: Any) -> tuple[str, str, int]:
    """Stable version, canary's version, its traffic: as the cluster stores them."""
    found = state()
    assert found.stable
    return found.stable.release.version, found.trial.release.version if found.trial else "", found.percent


def services(api: Any) -> list[str]:
    """The InferenceServices that exist."""
    return [o["metadata"]["name"] for o in api("GET", ISVC)["items"]]


def one_line(error: pytest.ExceptionInfo[BaseException]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)
