"""Training as a TrainJob, against its CRD; the job itself is really run, as the runtime's contract says."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from published import Bucket, dataset

torch = pytest.importorskip("torch")

from posewatch.artifact import Artifact, Job, find  # noqa: E402
from posewatch.config import TrainConfig, TrainerConfig, load  # noqa: E402
from posewatch.errors import ConfigError, InputError, JobError  # noqa: E402
from posewatch.kube import trainjob  # noqa: E402
from posewatch.stack.process import wait_until  # noqa: E402
from posewatch.stages.train import train  # noqa: E402
from posewatch.store import FolderStore  # noqa: E402

from .applying import apply  # noqa: E402
from .trainer import TRAINJOBS, Trainer  # noqa: E402

TINY = TrainConfig(model="stgcn++", width=0.1, clip_frames=12, people=1, epochs=1, batch=4, threads=1, validation=0.0)
TRAINER = TrainerConfig(nodes=2, processes=2, image="posewatch/train:abc123", memory="2Gi")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    monkeypatch.setenv("POSEWATCH_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(trainjob, "POLL_S", 0.2)
    return Bucket(tmp_path / "bucket")


def job_of(data: Artifact, config: TrainConfig = TINY) -> Job:
    return Job("checkpoints", "", dataclasses.asdict(config), (data,), revision=2)


def made_by(data: Artifact, config: TrainConfig = TINY, trainer: TrainerConfig = TRAINER) -> dict[str, Any]:
    return trainjob.train_job(data.store, job_of(data, config), data, config, trainer)


@pytest.mark.parametrize("trainer", [TRAINER, TrainerConfig(nodes=3, gpus=2, image="a:1", service_account="trainer")])
def test_the_dict_fits_the_crd(
    store: Bucket, trainer: TrainerConfig, crd_errors: Callable[[dict[str, Any]], list[str]]
) -> None:
    body = made_by(dataset(store), dataclasses.replace(TINY, batch=12), trainer)
    assert crd_errors(body) == []
    wrong = {**body, "spec": {**body["spec"], "podTemplateOverrides": []}}
    assert any("podTemplateOverrides" in said for said in crd_errors(wrong)), "a field of another version"
    assert len(body["metadata"]["name"]) <= 63 - len("-node-0-0"), "JobSet makes longer names of it"


def test_what_the_pods_are_told(store: Bucket) -> None:
    data = dataset(store)
    body = made_by(data, TINY, TrainerConfig(nodes=2, gpus=2, image="a:1"))
    told = body["spec"]["trainer"]
    assert (told["numNodes"], told["numProcPerNode"]) == (2, 2)
    assert told["resourcesPerNode"]["limits"]["nvidia.com/gpu"] == "2"
    secret = {e["name"]: e["valueFrom"]["secretKeyRef"] for e in told["env"] if "valueFrom" in e}
    assert secret["POSEWATCH_S3_SECRET_KEY"] == {"name": "posewatch", "key": "POSEWATCH_S3_SECRET_KEY"}
    assert secret["POSEWATCH_S3_REGION"] == {"name": "posewatch", "key": "POSEWATCH_S3_REGION", "optional": True}
    assert told["args"][0] == data.uri
    (patch,) = body["spec"]["runtimePatches"]
    (pods,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    spec = pods["template"]["spec"]["template"]["spec"]
    assert spec["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True
    assert {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "8Gi"}} in spec["volumes"]


PLACED = TrainerConfig(
    gpus=1, image="a:1", ca_bundle="internal-ca/cabundle.crt", pull_secrets=("registry",),
    node_selector=("cloud.google.com/gke-accelerator=nvidia-l4", "pool="),
    tolerations=("pool=training:NoSchedule", "spot", "gpu:NoExecute", "batch="),
)  # fmt: skip


def test_what_a_cluster_of_its_own_ways_wants(store: Bucket, crd_errors: Callable[[dict[str, Any]], list[str]]) -> None:
    """An authority that nobody else knows, a registry with a password, nodes with labels and taints."""
    body = made_by(dataset(store), TINY, PLACED)
    assert crd_errors(body) == []
    (patch,) = body["spec"]["runtimePatches"]
    (pods,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    spec = pods["template"]["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert "env" not in container, "Trainer's webhook refuses it for the container node"
    assert {"name": "SSL_CERT_FILE", "value": "/etc/posewatch-ca/ca.crt"} in body["spec"]["trainer"]["env"]
    items = [{"key": "cabundle.crt", "path": "ca.crt"}]
    assert {"name": "ca", "configMap": {"name": "internal-ca", "items": items}} in spec["volumes"]
    assert {"name": "ca", "mountPath": "/etc/posewatch-ca", "readOnly": True} in container["volumeMounts"]
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert spec["nodeSelector"] == {"cloud.google.com/gke-accelerator": "nvidia-l4", "pool": ""}
    assert spec["tolerations"] == [
        {"key": "nvidia.com/gpu", "operator": "Exists"},
        {"key": "pool", "operator": "Equal", "value": "training", "effect": "NoSchedule"},
        {"key": "spot", "operator": "Exists"},
        {"key": "gpu", "operator": "Exists", "effect": "NoExecute"},
        {"key": "batch", "operator": "Equal", "value": ""},
    ]


@pytest.mark.parametrize(
    ("key", "value"),
    [("ca_bundle", "internal-ca"), ("ca_bundle", "a/b/c"), ("pull_secrets", ["Not_a_name"]),
     ("node_selector", ["pool"]), ("node_selector", ["a b=c"]), ("tolerations", ["pool=x:Never"]),
     ("tolerations", ["=x"])],
)  # fmt: skip
def test_what_kubernetes_would_refuse_is_refused_first(key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"trainer\.{key}.* must be"):
        load(json.dumps({"trainer": {key: value}}))


def test_one_name_for_one_run(store: Bucket) -> None:
    data = dataset(store)
    names = {
        made_by(data)["metadata"]["name"],
        made_by(data)["metadata"]["name"],
        made_by(data, dataclasses.replace(TINY, seed=1))["metadata"]["name"],
        made_by(data, TINY, dataclasses.replace(TRAINER, nodes=1))["metadata"]["name"],
    }
    assert len(names) == 3


def test_what_cannot_run_is_refused_first(store: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POSEWATCH_IMAGE", raising=False)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    data = dataset(store)
    for trainer, says in (
        (dataclasses.replace(TRAINER, image=""), r"set trainer.image, or POSEWATCH_IMAGE"),
        (dataclasses.replace(TRAINER, nodes=3), r"train.batch 4 must be a multiple of the 6 processes"),
    ):
        with pytest.raises(ConfigError, match=says):
            train(store, data, TINY, trainer)
    with pytest.raises(ConfigError, match=r"trainer.cpu must be a quantity"):
        dataclasses.replace(TRAINER, cpu="many")
    local = FolderStore(tmp_path / "folder")
    with pytest.raises(InputError, match=r"pods cannot reach the store file://.*use s3://bucket"):
        train(local, dataset(local), TINY, TRAINER)


DOUBLE = """
import sys
import numpy as np
import torch

from_numpy = torch.from_numpy
torch.set_default_dtype(torch.float64)
torch.Tensor.float = torch.Tensor.double
torch.from_numpy = lambda x: from_numpy(x.astype(np.float64) if x.dtype == np.float32 else x)

from posewatch.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
"""In single precision the order in which processes sum up moves a fresh network's loss by 1 to 5 %."""


class Nodes:
    """Runs a TrainJob on loopback: for each node the job's own command, with the variables that the runtime injects."""

    def __init__(self, folder: Path, store: Bucket) -> None:
        self.folder, self.store = folder, store
        (folder / "double.py").write_text(DOUBLE)
        self.folder_uri = FolderStore(store.root).uri

    def command(self, told: dict[str, Any]) -> list[str]:
        command = [*told["command"], *told["args"]]
        assert command[:3] == ["torchrun", "-m", "posewatch.cli.main"]
        command = [sys.executable, "-m", "torch.distributed.run", str(self.folder / "double.py"), *command[3:]]
        return [word.replace(self.store.uri, self.folder_uri) for word in command]

    def __call__(self, trainer: Trainer, job: dict[str, Any]) -> None:
        told = job["spec"]["trainer"]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        pods = trainer.pods(job)
        running = []
        for rank in range(told["numNodes"]):
            own = {
                "PET_NNODES": str(told["numNodes"]),
                "PET_NPROC_PER_NODE": str(told["numProcPerNode"]),
                "PET_NODE_RANK": str(rank),
                "PET_MASTER_ADDR": "127.0.0.1",
                "PET_MASTER_PORT": str(port),
                "POSEWATCH_HOME": str(self.folder / f"node{rank}"),
                "OMP_NUM_THREADS": "1",
            }
            clean = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "KUBECONFIG")}
            running.append(
                subprocess.Popen(
                    self.command(told), env=clean | own, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
                )
            )
        said = [process.communicate(timeout=500)[0] for process in running]
        for pod, text in zip(pods, said, strict=True):
            trainer.say(pod, *text.splitlines())
        codes = [process.returncode for process in running]
        trainer.condition(job, "Failed" if any(codes) else "Complete", f"exit codes {codes}")


@pytest.mark.parametrize("validation", [0.0, pytest.param(0.2, marks=pytest.mark.slow)])
def test_two_nodes_of_two_processes_train_what_one_process_does(
    api: Any, recorder: Any, store: Bucket, tmp_path: Path, capsys: pytest.CaptureFixture[str], validation: float
) -> None:
    """From the TrainJob to the checkpoint: nodes that share nothing but the store, four processes, gloo."""
    data, config = dataset(store), dataclasses.replace(TINY, validation=validation)
    nodes = Nodes(tmp_path, store)
    with Trainer(api, recorder, nodes) as trainer:
        made = train(store, data, config, dataclasses.replace(TRAINER, checkpoint_s=0))
    assert api("GET", TRAINJOBS)["items"] == [], "cleaned up"
    assert len(trainer.jobs) == 1
    assert store.list("work/") == [], "what a retry would have needed has gone"
    said = capsys.readouterr().err
    assert said.count(f"{nodes.folder_uri}/{made.prefix}\n") == 1, "four processes print the result once"
    assert set(made.files) == {"checkpoint.pt", "config.yaml", "history.jsonl", "lineage.json"}
    assert train(store, data, config, TRAINER).digest == made.digest, "done is done: no job"
    assert len(trainer.jobs) == 1

    alone = Bucket(tmp_path / "alone")
    one = dataset(alone)
    told = trainer.jobs[0]["spec"]["trainer"]
    command = [word.replace(str(store.root), str(alone.root)) for word in nodes.command(told)]
    single = [command[0], *command[3:]]
    clean = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "KUBECONFIG")}
    subprocess.run(single, check=True, env=clean | {"OMP_NUM_THREADS": "1"}, timeout=500, capture_output=True)
    want = find(alone, job_of(one, config).prefix)
    assert want is not None
    a, b = (torch.load(x.fetch("checkpoint.pt", tmp_path), weights_only=True)["weights"] for x in (made, want))
    assert a.keys() == b.keys()
    for key, value in b.items():
        assert torch.allclose(a[key], value, rtol=1e-6, atol=1e-6), key
    for x, y in zip(made.lines("history.jsonl"), want.lines("history.jsonl"), strict=True):
        assert {**x, "training": 0} == pytest.approx({**y, "training": 0}, abs=2e-6)


def test_a_failed_job_fails_with_its_own_words(
    api: Any, recorder: Any, store: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    def act(trainer: Trainer, job: dict[str, Any]) -> None:
        first, second = trainer.pods(job)
        trainer.say(first, "epoch 1", "epoch 2")
        trainer.say(first, "posewatch: train.lr 9 is too high for adamw: at most 0.1", "torchrun: worker exited")
        trainer.ended(second, "OOMKilled", 137)
        trainer.condition(job, "Failed", "jobset failed due to one or more job failures")

    with Trainer(api, recorder, act) as trainer, pytest.raises(JobError) as error:
        train(store, dataset(store), TINY, TRAINER)
    text = str(error.value)
    assert "\n" not in text
    assert "failed: train.lr 9 is too high for adamw: at most 0.1 [" in text
    assert "OOMKilled, exit code 137" in text
    assert api("GET", TRAINJOBS)["items"] == []
    said = capsys.readouterr().err
    assert said.count("epoch 1\n") + said.count("epoch 2\n") in (2, 3), (
        "each line once (equal ones of one moment may merge)"
    )
    assert len(trainer.jobs) == 1


def test_lines_of_a_growing_log_come_once(api: Any, recorder: Any, store: Bucket, capsys: Any) -> None:
    def act(trainer: Trainer, job: dict[str, Any]) -> None:
        pod = trainer.pods(job)[0]
        for k in range(12):
            trainer.say(pod, f"line {k}")
            trainer.over.wait(0.1)
        # a follower on a machine that stood still looks once more before the end
        assert wait_until(lambda: any("sinceTime=" in query for query in recorder.queries), 60)
        trainer.say(pod, "posewatch: no space left")
        trainer.condition(job, "Failed")

    with Trainer(api, recorder, act), pytest.raises(JobError, match="no space left"):
        train(store, dataset(store), TINY, TRAINER)
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("line ")]
    assert said == [f"line {k}" for k in range(12)]
    assert any("sinceTime=" in query for query in recorder.queries), "it does not read it all again and again"


def test_without_a_word_the_conditions_message_is_told(api: Any, recorder: Any, store: Bucket) -> None:
    def act(trainer: Trainer, job: dict[str, Any]) -> None:
        trainer.condition(job, "Failed", "the runtime torch-distributed does not exist")

    with (
        Trainer(api, recorder, act),
        pytest.raises(JobError, match="failed: the runtime torch-distributed does not exist"),
    ):
        train(store, dataset(store), TINY, TRAINER)


def test_complete_without_a_checkpoint_is_a_failure(api: Any, recorder: Any, store: Bucket) -> None:
    with (
        Trainer(api, recorder, lambda trainer, job: trainer.condition(job, "Complete")),
        pytest.raises(JobError, match=r"is complete, but s3://posewatch/checkpoints/.* is not there"),
    ):
        train(store, dataset(store), TINY, TRAINER)
    assert api("GET", TRAINJOBS)["items"] == []


def test_an_interrupt_cleans_up(api: Any, recorder: Any, store: Bucket) -> None:
    """SIGTERM, as a pod of the pipeline gets it when a run is aborted."""
    before = signal.getsignal(signal.SIGTERM)  # not always the default: servers that other tests share have their own

    def abort() -> None:
        while signal.getsignal(signal.SIGTERM) is before:  # else the signal ends this process
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    with (
        Trainer(api, recorder, lambda *_: threading.Timer(0.5, abort).start()),
        pytest.raises(KeyboardInterrupt),
    ):
        train(store, dataset(store), TINY, TRAINER)
    assert api("GET", TRAINJOBS)["items"] == []
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_follower_that_was_killed_is_followed_by_another(api: Any, recorder: Any, store: Bucket) -> None:
    """A job that still runs is gone on with; one that has failed meanwhile is made anew."""
    data = dataset(store)
    body = made_by(data)
    apply([body], namespace="posewatch")
    uid = api("GET", TRAINJOBS)["items"][0]["metadata"]["uid"]
    with Trainer(api, recorder, lambda trainer, job: trainer.condition(job, "Failed", "again")) as trainer:
        while not trainer.jobs:
            trainer.over.wait(0.05)
        # the old job's end was never seen: it is cleared away, and a fresh one fails in its turn
        with pytest.raises(JobError, match="again"):
            train(store, data, TINY, TRAINER)
    assert [job["metadata"]["uid"] == uid for job in trainer.jobs] in ([True], [True, False])

    apply([body], namespace="posewatch")
    uid = api("GET", TRAINJOBS)["items"][0]["metadata"]["uid"]

    def late(trainer: Trainer, job: dict[str, Any]) -> None:
        trainer.over.wait(1.0)
        trainer.condition(job, "Failed", f"the one with uid {uid}")

    with Trainer(api, recorder, late) as trainer, pytest.raises(JobError, match=uid):
        train(store, data, TINY, TRAINER)
    assert [job["metadata"]["uid"] for job in trainer.jobs] == [uid]


def test_following_outlives_an_api_server_that_is_away(
    api: Any, recorder: Any, store: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    def act(trainer: Trainer, job: dict[str, Any]) -> None:
        while ("", "pods", "list") not in recorder.used:  # it is being followed
            trainer.over.wait(0.05)
        recorder.down = 5
        while recorder.down:
            trainer.over.wait(0.05)
        trainer.condition(job, "Failed", "what it says afterwards")

    with Trainer(api, recorder, act), pytest.raises(JobError, match="failed: what it says afterwards"):
        train(store, dataset(store), TINY, TRAINER)
    assert "503" in capsys.readouterr().err
    assert api("GET", TRAINJOBS)["items"] == []


def test_a_job_that_somebody_deletes(api: Any, recorder: Any, store: Bucket) -> None:
    def act(trainer: Trainer, job: dict[str, Any]) -> None:
        api("DELETE", f"{TRAINJOBS}/{job['metadata']['name']}")

    with Trainer(api, recorder, act), pytest.raises(JobError, match="was deleted by somebody else"):
        train(store, dataset(store), TINY, TRAINER)


def test_an_attempt_goes_on_from_what_the_store_kept(
    store: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that comes back without its disk; the end is bit-equal to a run that was never broken off."""
    from posewatch.recognition.training import trainer as training

    config = dataclasses.replace(TINY, epochs=3, validation=0.0)
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("RANK", "0")
    other = Bucket(tmp_path / "other")
    want = train(other, dataset(other), config, TrainerConfig(checkpoint_s=0))

    data, count = dataset(store), 0
    one_epoch = training._Run.one_epoch

    def epoch(run: Any) -> Any:
        nonlocal count
        count += 1
        if count == 3:
            raise MemoryError("the node is gone")
        return one_epoch(run)

    monkeypatch.setattr(training._Run, "one_epoch", epoch)
    with pytest.raises(MemoryError):
        train(store, data, config, TrainerConfig(checkpoint_s=0))
    kept = [info.key for info in store.list("work/")]
    assert any(key.endswith(".state.pt") for key in kept)
    subprocess.run(["rm", "-rf", str(tmp_path / "home")], check=True)
    made = train(store, data, config, TrainerConfig(checkpoint_s=0))
    assert count == 3 + 1, "two epochs were kept; the third was left to do"
    assert made.files["checkpoint.pt"] == want.files["checkpoint.pt"]
    assert store.list("work/") == []
