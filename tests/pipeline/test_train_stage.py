"""The training and evaluation stages on a frozen dataset, and the gates that a model must pass to be deployed."""

import dataclasses

import numpy as np
import pytest
from skeletons import clip_set

torch = pytest.importorskip("torch")

from posewatch.artifact import Job, produce  # noqa: E402
from posewatch.config import RobustnessConfig, ServingConfig, TrainConfig  # noqa: E402
from posewatch.digests import canonical  # noqa: E402
from posewatch.errors import ConfigError, ServingError  # noqa: E402
from posewatch.stages.deploy import deploy  # noqa: E402
from posewatch.stages.evaluate import evaluate  # noqa: E402
from posewatch.stages.train import train  # noqa: E402
from posewatch.store import open_store  # noqa: E402

TINY = TrainConfig(width=0.1, model_options={"prototypes": 4}, clip_frames=12, people=1, epochs=1, batch=8, threads=1)


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("POSEWATCH_HOME", str(tmp_path / "home"))
    return open_store(str(tmp_path / "store"))


@pytest.fixture
def dataset(store):
    clips = clip_set(24)
    parts = ["train"] * 12 + ["validation"] * 6 + ["test"] * 6

    def make(folder):
        rows = [
            {"clip": i, "video": g, "names": [i], "label": clips.classes[k], "source": "human", "part": part}
            for i, g, k, part in zip(clips.ids, clips.groups, clips.labels, parts, strict=True)
        ]
        (folder / "clips.jsonl").write_text("".join(canonical(row) + "\n" for row in rows))
        np.savez(folder / "skeletons.npz", **dict(zip(clips.ids, clips.keypoints, strict=True)))
        about = {"classes": clips.classes, "positive": "abnormal", "layout": "coco17", "fps": 10.0}
        (folder / "dataset.json").write_text(canonical(about))

    return produce(store, Job("datasets", "", {}, ()), make)


def test_training_uses_all_clips_and_leaves_one_checkpoint(store, dataset):
    made = train(store, dataset, TINY)
    assert {"checkpoint.pt", "config.yaml", "history.jsonl"} <= set(made.files)
    assert not any("/" in name for name in made.files), "what led to the threshold stays behind"
    rows = made.lines("history.jsonl")
    assert [row["training"] for row in rows] == ["validation", "final"]
    members = train(store, dataset, dataclasses.replace(TINY, folds=2))
    assert [row["training"] for row in members.lines("history.jsonl")] == ["member0", "member1"]
    assert members.uri != made.uri


def test_evaluation_with_robustness_and_its_gate(store, dataset):
    checkpoint = train(store, dataset, TINY)
    plain = evaluate(store, dataset, checkpoint)
    assert "robustness.json" not in plain.files
    full = evaluate(store, dataset, checkpoint, RobustnessConfig(draws=1))
    assert {"metrics.json", "robustness.json", "robustness.png"} <= set(full.files)
    strict = RobustnessConfig(draws=1, min_f1_30=1.0)
    f1 = next(row["f1"] for row in full.json("robustness.json")["joints_dropped"] if row["level"] == 0.3)
    assert f1 < 1, "a network of one epoch is not perfect"
    with pytest.raises(
        ServingError, match=r"not deployed: 30 % of the joints dropped leaves an F1 of .*min_f1_30 is 1"
    ):
        deploy(checkpoint, full, ServingConfig(), robustness=strict)
    with pytest.raises(ConfigError, match=r"set robustness.draws to 1 or more"):
        deploy(checkpoint, plain, ServingConfig(), robustness=strict)


def test_gates_are_shares():
    with pytest.raises(ConfigError, match=r"robustness.max_f1_drop_10 must be a number from 0 to 1"):
        RobustnessConfig(max_f1_drop_10=2)
