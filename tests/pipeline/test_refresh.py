"""refresh learns from judged alarms, and what is not better than the served version is not deployed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from alarm_records import BEGAN, stored
from onnx import helper, numpy_helper
from published import tiny_model
from skeletons import walk
from support import CONFIG, run

pytest.importorskip("torch")

from posewatch import lineage
from posewatch.artifact import Artifact, Job, collect, produce
from posewatch.config import load
from posewatch.digests import canonical
from posewatch.inference.open import open_predictor
from posewatch.labels import verdicts as said
from posewatch.labels.store import LabelStore
from posewatch.labels.team import roles
from posewatch.records import Clip, clip_id, video_id
from posewatch.stages.contents import clip_entries
from posewatch.stages.dataset import dataset
from posewatch.stages.deploy import deploy
from posewatch.stages.publish import publish
from posewatch.stages.snapshot import snapshot
from posewatch.store import ObjectStore

SETTINGS = [
    "--set", "labels.min_verdicts=3",
    "--set", "serving.name=abnormal-refreshed",
    "--set", "train.threshold_at=recall=1",
]  # fmt: skip
EXPERIMENT = load("default", [*CONFIG[1::2], *SETTINGS[1::2]])


def _prepared(store: ObjectStore, labels: LabelStore) -> tuple[Artifact, Artifact]:
    """Twelve labelled videos of one clip; joints are surer in the abnormal ones."""
    rows, cut, posed, given = [], [], [], {}
    for i in range(12):
        video = video_id(hashlib.sha256(str(i).encode()).hexdigest())
        clip = Clip(clip_id(video, 0.0, 1.5), video, 0.0, 1.5, 10.0, 15, 640, 480, 1.0)
        keypoints = walk(i, bool(i % 2), frames=15, people=2)
        keypoints[..., 2] = 0.9 if i % 2 else 0.3
        given[clip.id] = "abnormal" if i % 2 else "normal"

        def clips(folder: Path, clip: Clip = clip) -> None:
            (folder / "clips.jsonl").write_text(canonical(clip.to_dict()) + "\n")

        def skeletons(folder: Path, clip: Clip = clip, keypoints: np.ndarray = keypoints) -> None:
            np.savez(folder / "skeletons.npz", **{clip.id: keypoints})
            about = {"fps": 10.0, "width": 640, "height": 480, "layout": "coco17"}
            (folder / "skeletons.json").write_text(canonical(about))

        rows.append({"video": video, "names": [f"{i}.mp4"]})
        cut.append(produce(store, Job("clips", video, {}), clips))
        posed.append(produce(store, Job("skeletons", video, {}, (cut[-1],)), skeletons))
    sets = collect(store, "split", rows, cut), collect(store, "pose", rows, posed)
    labels.register(clip_entries(sets[0]))
    labels.set_labels(given, "ann", "human")
    return sets


def _published(store: ObjectStore, data: Artifact, weight: float, bias: float) -> Artifact:
    """Publish a model that answers by how sure the joints are: abnormal above ``-bias / weight`` where weight > 0."""

    def export(folder: Path) -> None:
        model = onnx.load(tiny_model(folder / "model.onnx", 0))
        (old,) = (one for one in model.graph.initializer if one.name == "weight")
        rows = np.array([[0, 0], [0, 0], [-weight, weight]], np.float32)
        old.CopyFrom(numpy_helper.from_array(rows, "weight"))
        model.graph.initializer.append(numpy_helper.from_array(np.array([-bias, bias], np.float32), "bias"))
        softmax = model.graph.node.pop()
        model.graph.node.append(helper.make_node("Add", ["logits", "bias"], ["shifted"]))
        softmax.input[0] = "shifted"
        model.graph.node.append(softmax)
        onnx.save(model, folder / "model.onnx")
        (folder / "export.json").write_text(canonical({"max_abs_error": 1e-6}))

    settings = {"weight": weight}
    checkpoint = produce(
        store, Job("checkpoints", "", settings, (data,)), lambda folder: (folder / "x").write_text(f"{weight}")
    )
    made = produce(store, Job("onnx", "", {}, (checkpoint,)), export)
    return publish(store, made, EXPERIMENT.serving)


def _endpoint(model: Artifact, path: Path) -> Path:
    """Write what an endpoint that serves a published version would answer to ``path``."""
    found = onnx.load_from_string(lineage.ancestor(model, "onnx").read("model.onnx"))
    found.metadata_props.add(key="release", value=model.prefix.rsplit("/", 1)[1])
    onnx.save(found, path)
    return path


def _parts(data: Artifact) -> dict[str, str]:
    return {row["names"][0]: row["part"] for row in data.lines("clips.jsonl")}


def test_a_refresh_deploys_what_is_better_and_only_that(
    servers: Any, s3_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSEWATCH_HOME", str(servers.home))
    store, url = s3_store, f"sqlite:///{tmp_path}/labels.db"
    labels = LabelStore(url)
    clips, skeletons = _prepared(store, labels)
    frozen = snapshot(store, clips, labels, EXPERIMENT.labels)
    data = dataset(store, frozen, skeletons, EXPERIMENT.dataset, EXPERIMENT.labels)
    good = _published(store, data, 20.0, -12.0)  # makes no mistake on the videos
    bad = _published(store, data, -20.0, 19.0)  # the wrong way round: it raises an alarm of everything
    endpoint = deploy(bad, None, EXPERIMENT.serving)
    roles.set_role(labels, "op", "operator", "test")
    records = []
    for i, camera in enumerate(("door", "door", "yard")):
        began = BEGAN.replace(hour=9 + i)
        record = stored(
            store, tmp_path, f"a{i}", camera=camera, began=began, person=None, window_s=1.5, seed=i, start_s=3600.0 * i
        )
        records.append(record)
        said.judge(labels, record, "false", "op", f"act{i}")
    labels.close()
    env = {"POSEWATCH_LABELS_URL": url, "POSEWATCH_HOME": str(servers.home), "POSEWATCH_STORE": ""}

    def refresh(endpoint: object) -> str:
        given = {"clips": clips.uri, "skeletons": skeletons.uri, "store": store.uri, "endpoint": endpoint}
        words = ["run", "refresh", *(f"{k}={v}" for k, v in given.items()), *CONFIG, *SETTINGS]
        done = run(*words, env=env, module="pipelines")
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout + done.stderr

    worse = refresh(_endpoint(good, tmp_path / "good.onnx"))
    assert "verdicts: 3 judged alarms that the served version has not learned from, of 3" in worse
    assert "compare: not deployed: no improvement: the served version has" in worse
    with open_predictor(endpoint) as predictor:
        assert lineage.published(store, predictor.version) == bad

    better = refresh(endpoint)
    assert "compare: better: the served version has 5 false positives" in better
    with open_predictor(endpoint) as predictor:
        model = lineage.published(store, predictor.version)
    assert model is not None
    assert model not in (good, bad)
    ancestors = [node.artifact.prefix for node in lineage.trace(model)]
    assert {record.prefix for record in records} <= set(ancestors)
    learned = lineage.ancestor(model, "datasets")
    assert _parts(data).items() <= _parts(learned).items(), "the served version's parts stay"
    assert _parts(learned).items() >= {("door 2026-03-01", "train"), ("yard 2026-03-01", "newest")}
    keys = [item.key for item in store.list("comparisons/") if item.key.endswith("/comparison.json")]
    (told,) = (one for one in (json.loads(store.get(key)) for key in keys) if one["better"])
    assert (told["model"], told["served"]) == (model.uri, bad.uri)
    # the yard's one alarm, in the two hours from the start of its process on
    assert (told["newest_alarms"], told["camera_hours"], told["false_alarms_per_camera_hour"]) == (1, 2.0, [0.5, 0.0])
    before, after = told["before"], told["after"]
    assert before["recall"] == after["equal_recall"] == 1.0
    assert after["equal_false_positives"] < before["equal_false_positives"] == 5

    again = refresh(endpoint)
    assert "verdicts: 0 judged alarms that the served version has not learned from, of 3" in again
    assert "nothing is trained" in again
    with open_predictor(endpoint) as predictor:
        assert lineage.published(store, predictor.version) == model
