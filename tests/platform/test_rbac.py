"""The permissions that posewatch uses on a cluster, recorded by a proxy, are exactly those of its table."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from published import Bucket, dataset, version

from posewatch.artifact import Job
from posewatch.config import ServingConfig, TrainConfig, TrainerConfig
from posewatch.deploy import history
from posewatch.deploy.target import Release
from posewatch.deploy.traffic import gateway_routes
from posewatch.errors import JobError
from posewatch.kube import trainjob
from posewatch.kube.rbac import PERMISSIONS, rules
from posewatch.stages import deploy as stage

from .chart import teach
from .kserve import Controller
from .trainer import Trainer

CONFIG = ServingConfig(
    target="kserve", namespace="posewatch", model_warmup="none", gateway="infra/public",
    hostname="abnormal.example.org", grpc_hostname="abnormal-grpc.example.org",
)  # fmt: skip


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    monkeypatch.setattr(trainjob, "POLL_S", 0.2)
    return Bucket(tmp_path / "bucket")


@pytest.fixture
def kserve(api: Any, store: Bucket, fast_proofs: Any) -> Iterator[Controller]:
    controller = Controller(api, store)
    fast_proofs(controller)
    controller.start()
    yield controller
    controller.close()


def test_the_table_is_what_is_used(api: Any, recorder: Any, store: Bucket, kserve: Controller) -> None:
    for route in gateway_routes(CONFIG, 10):
        teach(api, route)
    one, two = (version(store, seed, CONFIG) for seed in (1, 2))
    stage.deploy(one.model, one.evaluation, CONFIG, smoke=False)
    stage.deploy(two.model, two.evaluation, CONFIG, smoke=False, percent=20)
    way = stage.rollout(store, CONFIG, smoke=False)
    way.promote()
    way.rollback()
    kserve.broken.add(Release.of(two.model).version)
    with pytest.raises(Exception, match="was taken back"):
        stage.deploy(two.model, two.evaluation, CONFIG, smoke=False)
    used = set(recorder.used)
    history.read(store, "posewatch", "abnormal")
    assert recorder.used == used, "the history asks no cluster"

    data, config = dataset(store), TrainConfig(batch=4)
    job = Job("checkpoints", "", dataclasses.asdict(config), (data,))

    def act(trainer: Trainer, found: dict[str, Any]) -> None:
        trainer.say(trainer.pods(found)[0], "posewatch: nothing to train")
        trainer.condition(found, "Failed")

    with Trainer(api, recorder, act), pytest.raises(JobError, match="nothing to train"):
        trainjob.train_on_cluster(store, job, data, config, TrainerConfig(nodes=2, image="a:1"))
    assert recorder.used == {(group, resource, verb) for group, resource, verbs in PERMISSIONS for verb in verbs}


def test_the_table_is_sorted_and_each_resource_comes_once() -> None:
    assert len({(g, r) for g, r, _ in PERMISSIONS}) == len(PERMISSIONS)
    assert all(list(rule["verbs"]) == sorted(set(rule["verbs"])) for rule in rules())
