"""Renamed configuration keys: refused with the new name, read from old files, and without effect on fingerprints."""

import dataclasses
import hashlib

import pytest

from posewatch.artifact import MANIFEST, Artifact, Job
from posewatch.config import PoseConfig, RobustnessConfig, ServingConfig, TrainConfig, load
from posewatch.errors import ConfigError
from posewatch.sections import from_dict
from posewatch.stages.evaluate import evaluate
from posewatch.stages.publish import publish
from posewatch.stages.train import train
from posewatch.store import MemoryStore

RENAMED = {
    "pose.frames": "pose.source",
    "train.frames": "train.clip_frames",
    "train.prototypes": "train.model_options.prototypes",
    "train.warm_up": "train.lr_warmup",
    "serving.warm_up": "serving.model_warmup",
    "robustness.max_loss_10": "robustness.max_f1_drop_10",
    "robustness.max_loss_30": "robustness.max_f1_drop_30",
    "robustness.max_loss_part": "robustness.max_f1_drop_part",
    "robustness.max_loss_frames_30": "robustness.max_f1_drop_frames_30",
    "robustness.max_loss_jitter_5": "robustness.max_f1_drop_jitter_5",
}


@pytest.mark.parametrize(("former", "new"), RENAMED.items())
def test_a_former_name_is_refused_with_the_new_one(former: str, new: str) -> None:
    with pytest.raises(ConfigError, match=f"unknown configuration key '{former}': it is now '{new}'"):
        load("default", [f"{former}=1"])


def test_a_checkpoint_of_an_earlier_version_is_read() -> None:
    written = {"frames": 24, "warm_up": 0.05, "prototypes": 7, "augment": {"flip": False}}
    config = from_dict(TrainConfig, written, former_names=True)
    assert config.model_options == {"prototypes": 7}
    assert (config.clip_frames, config.lr_warmup, config.augment.flip) == (24, 0.05, False)


def test_an_option_of_a_model_is_read_from_the_command_line() -> None:
    assert load("default", ["train.model_options.prototypes=20"]).train.model_options == {"prototypes": 20}


def parent(store: MemoryStore, name: str) -> Artifact:
    sha = hashlib.sha256(name.encode()).hexdigest()
    return Artifact(store, name, sha, {"file": sha, "lineage.json": "0"})


# The prefixes below were computed with commit 7ab16b2, before the keys were renamed.


def test_artifacts_of_the_version_before_are_found() -> None:
    store = MemoryStore("former-names")
    first, second = parent(store, "parent"), parent(store, "other")
    for prefix in ("checkpoints/e800a53fecd4", "evaluations/9789be3245ed", "models/abnormal/a0b39471ea8f"):
        store.put(f"{prefix}/{MANIFEST}", b"")
    assert train(store, first, TrainConfig(clip_frames=24, lr_warmup=0.05)).prefix == "checkpoints/e800a53fecd4"
    limits = RobustnessConfig(draws=2, max_f1_drop_10=0.1)
    assert evaluate(store, first, second, limits).prefix == "evaluations/9789be3245ed"
    as_it_was = ServingConfig(model_warmup="powers", max_queue=512, queue_timeout_us=30_000_000)  # the defaults then
    assert publish(store, first, as_it_was).prefix == "models/abnormal/a0b39471ea8f"


def test_fingerprints_of_poses_are_those_of_the_version_before() -> None:
    store = MemoryStore("former-names")
    first, second = parent(store, "parent"), parent(store, "other")
    weights = {"movenet": {"sha256": "0" * 64, "licence": "Apache-2.0"}}
    config = {k: v for k, v in dataclasses.asdict(PoseConfig(source="raw", flow=False)).items() if k != "device"}
    assert Job("skeletons", "v-1", config, (first, second), weights).prefix == "skeletons/v-1/a86f89ac01ff"
    poses = {k: config[k] for k in ("estimator", "weights", "source")}
    assert Job("poses", "v-1", poses, (second,), weights).prefix == "poses/v-1/4c64474c72b0"
