"""refresh learns from judged alarms, and what is not better than the served version is not deployed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from alarm_records import BEGAN, stored
from onnx import helper, numpy_helper
from published import tiny_model
from skeletons import walk
from support import CONFIG, run

pytest.importorskip("torch")

from posewatch.artifact import Artifact, Job, collect, produce
from posewatch.config import load
from posewatch.digests import canonical
from posewatch.labels import verdicts as said
from posewatch.labels.store import LabelStore
from posewatch.labels.team import roles
from posewatch.records import Clip, clip_id, video_id
from posewatch.stages.contents import clip_entries
from posewatch.stages.dataset import dataset
from posewatch.stages.publish import publish
from posewatch.stages.snapshot import snapshot
from posewatch.store import FolderStore

EXPERIMENT = load("default", CONFIG[1::2])


def _prepared(store: FolderStore, labels: LabelStore) -> tuple[Artifact, Artifact]:
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


def _served(store: FolderStore, data: Artifact, path: Path) -> None:
    """Publish a model that makes no mistake on those videos, and write what an endpoint would answer to ``path``."""

    def export(folder: Path) -> None:
        model = onnx.load(tiny_model(folder / "model.onnx", 0))
        weight = np.array([[0, 0], [0, 0], [-20, 20]], np.float32)
        bias = np.array([12, -12], np.float32)
        (old,) = (one for one in model.graph.initializer if one.name == "weight")
        old.CopyFrom(numpy_helper.from_array(weight, "weight"))
        model.graph.initializer.append(numpy_helper.from_array(bias, "bias"))
        softmax = model.graph.node.pop()
        model.graph.node.append(helper.make_node("Add", ["logits", "bias"], ["shifted"]))
        softmax.input[0] = "shifted"
        model.graph.node.append(softmax)
        onnx.save(model, folder / "model.onnx")
        (folder / "export.json").write_text(canonical({"max_abs_error": 1e-6}))

    checkpoint = produce(store, Job("checkpoints", "", {}, (data,)), lambda folder: (folder / "x").write_text("x"))
    made = produce(store, Job("onnx", "", {}, (checkpoint,)), export)
    release = publish(store, made, EXPERIMENT.serving).prefix.rsplit("/", 1)[1]
    model = onnx.load_from_string(made.read("model.onnx"))
    model.metadata_props.add(key="release", value=release)
    onnx.save(model, path)


def test_a_refresh_trains_on_verdicts_and_deploys_only_what_is_better(tmp_path: Path) -> None:
    store, url = FolderStore(tmp_path / "store"), f"sqlite:///{tmp_path}/labels.db"
    labels, endpoint = LabelStore(url), tmp_path / "served.onnx"
    clips, skeletons = _prepared(store, labels)
    data = dataset(
        store, snapshot(store, clips, labels, EXPERIMENT.labels), skeletons, EXPERIMENT.dataset, EXPERIMENT.labels
    )
    _served(store, data, endpoint)
    roles.set_role(labels, "op", "operator", "test")
    for i, camera in enumerate(("door", "door", "yard")):
        began = BEGAN.replace(hour=9 + i)
        record = stored(
            store, tmp_path, f"a{i}", camera=camera, began=began, person=None, window_s=1.5, seed=i, start_s=3600.0 * i
        )
        said.judge(labels, record, "false", "op", f"act{i}")
    labels.close()
    env = {"POSEWATCH_LABELS_URL": url, "POSEWATCH_HOME": str(tmp_path / "home"), "POSEWATCH_STORE": ""}
    given = {"clips": clips.uri, "skeletons": skeletons.uri, "store": store.uri, "endpoint": str(endpoint)}
    words = ["run", "refresh", *(f"{k}={v}" for k, v in given.items()), *CONFIG]

    enough = run(*words, "--set", "labels.min_verdicts=3", env=env, module="pipelines")
    assert enough.returncode == 0, enough.stdout[-3000:] + enough.stderr[-3000:]
    assert "verdicts: 3 judged alarms that the served version has not learned from, of 3" in enough.stdout
    assert "compare: not deployed: no improvement: the served version has" in enough.stdout + enough.stderr
    assert len([item for item in store.list("comparisons/") if item.key.endswith("comparison.json")]) == 1
    assert store.list("deployments/") == []
