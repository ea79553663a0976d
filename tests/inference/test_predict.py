"""``posewatch predict`` on skeleton files, folders and a video, by ONNX Runtime and by a real Triton."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doubles import ConstantPredictor
from support import SHARED
from tiny_models import tiny_model

from posewatch.cli import main as cli
from posewatch.errors import InputError, VideoError
from posewatch.inference import triton_admin
from posewatch.inference.onnx_runtime import OnnxPredictor
from posewatch.serving.repository import write_repository
from posewatch.stack import TritonServer


def _rows(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[dict[str, Any]]:
    assert cli.main(["predict", *map(str, arguments)]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def _fails(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert cli.main(["predict", *map(str, arguments)]) != 0
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


@pytest.fixture
def folder(tmp_path: Path, clips) -> Path:
    """Two clips in one array; one longer clip of three people, and an empty one, by name; something else."""
    made = tmp_path / "clips"
    made.mkdir()
    np.save(made / "two.npy", clips[:2])
    long = np.random.default_rng(3).uniform(0.1, 1, (3, 11, 17, 3))
    np.savez(made / "named.npz", long=long, empty=np.zeros((2, 9, 17, 3), np.float32))
    (made / "notes.txt").write_text("not a clip")
    return made


def test_a_folder(tiny: Path, clips, folder: Path, tmp_path: Path, capsys) -> None:
    rows = _rows(capsys, tiny, folder)
    assert [(r["clip"], r["people"]) for r in rows] == [("long", 3), ("empty", 0), ("two[0]", 2), ("two[1]", 2)]
    assert (rows[1]["label"], rows[1]["probabilities"]) == (None, {})
    wanted = OnnxPredictor(tiny).predict(clips[:2]).probabilities
    got = [[r["probabilities"][k] for k in ("normal", "abnormal")] for r in rows[2:]]
    np.testing.assert_allclose(got, wanted, atol=1e-4)
    assert [r["label"] for r in rows[2:]] == ["abnormal" if p >= 0.5 else "normal" for p in wanted[:, 1]]
    assert cli.main(["predict", str(tiny), str(folder), "--out", str(tmp_path / "o" / "rows.jsonl")]) == 0
    assert [json.loads(line) for line in (tmp_path / "o" / "rows.jsonl").read_text().splitlines()] == rows


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_served_model_says_the_same(server: TritonServer, tiny: Path, folder: Path, capsys, protocol: str) -> None:
    write_repository(tiny, server.repository, name="asked")
    triton_admin.load_model(server.grpc, "asked")
    assert _rows(capsys, f"{protocol}://{getattr(server, protocol)}/asked", folder) == _rows(capsys, tiny, folder)
    triton_admin.unload_model(server.grpc, "asked")


def test_the_positive_class_is_called_from_the_models_threshold_on(tmp_path: Path, clips, capsys) -> None:
    import onnx

    path = tiny_model(tmp_path / "m.onnx")
    model = onnx.load(str(path))
    model.metadata_props.add(key="threshold", value="0.999")
    onnx.save(model, str(path))
    np.save(tmp_path / "clips.npy", clips[:8])
    rows = _rows(capsys, path, tmp_path / "clips.npy")
    assert {r["label"] for r in rows} == {"normal"}


@pytest.mark.parametrize("protocol", ["", "grpc", "http"])
def test_without_torch(tiny: Path, server: TritonServer, clips, tmp_path: Path, protocol: str) -> None:
    """An exported or served model needs the extra ``serving`` only, which has no torch."""
    np.save(tmp_path / "clips.npy", clips[:2])
    model = str(tiny)
    if protocol:
        write_repository(tiny, server.repository, name="light")
        triton_admin.load_model(server.grpc, "light")
        model = f"{protocol}://{getattr(server, protocol)}/light"
    code = "import sys; sys.modules['torch'] = None; from posewatch.cli.main import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "predict", model, str(tmp_path / "clips.npy")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2


def test_annotations(tmp_path: Path, tiny: Path, clips, capsys) -> None:
    from posewatch.datasets.clipset import ClipSet
    from posewatch.datasets.pyskl import write_pyskl

    some = ClipSet(tuple(clips[:3]), np.zeros(3, np.int64), ("a", "b"), ("x", "y", "z"), ("1", "2", "3"))
    write_pyskl(tmp_path / "clips.pkl", some, {})
    rows = _rows(capsys, tiny, tmp_path / "clips.pkl")
    assert [r["clip"] for r in rows] == ["x", "y", "z"]


def test_annotations_are_read_as_the_model_takes_them(tmp_path: Path, clips, capsys) -> None:
    """A layout of one's own, which the model knows, and clips in which nobody is seen: no option could say either."""
    five = tiny_model(tmp_path / "five.onnx", shape=(2, 6, 5, 3))
    xy = clips[:4, :, :, :5, :2]
    seen = np.ones((4, *clips.shape[1:3], 5))
    seen[1] = 0
    rows = [{"frame_dir": f"clip{i}", "keypoint": xy[i], "keypoint_score": seen[i]} for i in range(3)]
    rows.append({"frame_dir": "short", "keypoint": xy[3, :, :1]})
    (tmp_path / "five.pkl").write_bytes(pickle.dumps({"annotations": rows, "layout": "mine"}))
    told = _rows(capsys, five, tmp_path / "five.pkl")
    assert [(r["clip"], r["people"], bool(r["label"])) for r in told] == [
        ("clip0", 2, True), ("clip1", 0, False), ("clip2", 2, True), ("short", 2, True),
    ]  # fmt: skip
    (tmp_path / "nobody.pkl").write_bytes(pickle.dumps([{**row, "keypoint_score": seen[1]} for row in rows[:3]]))
    assert [r["people"] for r in _rows(capsys, five, tmp_path / "nobody.pkl")] == [0, 0, 0]
    other = tiny_model(tmp_path / "tiny.onnx")
    assert "clip0 has 5 joints, the model takes 17 (coco17)" in _fails(capsys, other, tmp_path / "five.pkl")


def test_a_video(tiny: Path, capsys) -> None:
    video = SHARED / "data/video/gmdcsa24/Subject_1_Fall_13.mp4"
    if not video.is_file():
        pytest.skip(f"no real footage at {video}")
    rows = _rows(capsys, tiny, video, "--window-s", "2", "--stride-s", "1")
    assert [r["start_s"] for r in rows[:3]] == [0, 1, 2]
    assert all(r["end_s"] - r["start_s"] == pytest.approx(2) for r in rows)
    assert any(r["people"] and r["label"] for r in rows)


def test_what_cannot_be_predicted(tmp_path: Path, tiny: Path, folder: Path, clips, capsys) -> None:
    (tmp_path / "bare").mkdir()
    (tmp_path / "broken.npy").write_text("text")
    np.save(tmp_path / "flat.npy", clips[0, 0])
    np.save(tmp_path / "joints.npy", np.ones((2, 6, 15, 3), np.float32))
    np.save(tmp_path / "nan.npy", np.full((2, 6, 17, 3), np.nan))
    np.save(tmp_path / "none.npy", clips[:0])
    np.savez(tmp_path / "nothing.npz")
    np.save(tmp_path / "complex.npy", clips[:2].astype(np.complex64))
    (tmp_path / "broken.mp4").write_bytes(b"not a video")
    for source, message in (
        ("absent.npy", "no such file or folder"),
        ("bare", "no videos in"),
        ("clips/notes.txt", "neither a video nor a skeleton file"),
        ("broken.npy", "not a numpy file of keypoints: it holds something other than numbers"),
        ("none.npy", "none.npy holds no clip"),
        ("nothing.npz", "nothing.npz holds no clip"),
        ("complex.npy", "must hold numbers, not complex64"),
        ("flat.npy", "must be (M, T, V, 3) or (N, M, T, V, 3), not (6, 17, 3)"),
        ("joints.npy", "joints has 15 joints, the model takes 17 (coco17)"),
        ("nan.npy", "must hold finite numbers"),
        ("broken.mp4", "broken.mp4"),
    ):
        assert message in _fails(capsys, tiny, tmp_path / source), source
    assert "is no model" in _fails(capsys, tmp_path / "model.bin", folder)
    assert "--window-s must be above 0" in _fails(capsys, tiny, folder, "--window-s", "-1")


def test_a_missing_joint_may_be_anywhere(tmp_path: Path, tiny: Path, clips, capsys) -> None:
    lost = clips[:1].copy()
    lost[:, :, 2:4, 5] = 0
    np.save(tmp_path / "zero.npy", lost)
    lost[:, :, 2:4, 5, :2] = np.nan  # as a score of 0 says in a .pkl, too
    np.save(tmp_path / "nan.npy", lost)
    zero, nan = _rows(capsys, tiny, tmp_path / "zero.npy", tmp_path / "nan.npy")
    assert nan["probabilities"] == zero["probabilities"]


def test_a_video_is_seen_by_the_configured_estimator(monkeypatch: pytest.MonkeyPatch, make) -> None:
    from posewatch.config import PoseConfig, load
    from posewatch.errors import WeightsError
    from posewatch.inference import files
    from posewatch.perception import skeletons

    asked: list[PoseConfig] = []

    def build(config: PoseConfig) -> None:
        asked.append(config)
        raise WeightsError("no such file: /mine/rtmo.onnx")

    monkeypatch.setattr(skeletons, "build_estimator", build)
    experiment = load("default", ["pose.estimator=rtmo", "pose.weights=/mine/rtmo.onnx", "pose.device=cpu"])
    with pytest.raises(WeightsError, match=r"/mine/rtmo\.onnx"):
        list(files.read(make(seconds=1), experiment, 3.0, 3.0))
    assert (asked[0].estimator, asked[0].weights, asked[0].device) == ("rtmo", "/mine/rtmo.onnx", "cpu")


def test_a_model_of_persons_is_asked_about_each_of_them(monkeypatch: pytest.MonkeyPatch, make, tmp_path: Path) -> None:
    from posewatch.config import load
    from posewatch.inference import files
    from posewatch.inference import open as opening
    from posewatch.perception import skeletons
    from posewatch.records import Detections

    def person(x: float) -> Detections:
        joints = np.linspace([x, 20, 0.9], [x + 40, 100, 0.9], 17, dtype=np.float32)
        return Detections(np.array([[x, 20, x + 40, 100]], np.float32), np.ones(1, np.float32), joints[None])

    def found(*_: object, **__: object) -> list[tuple[float, list[Detections]]]:
        """One stays for 4 s, another one comes after 2 s, and something is seen in two frames."""
        frames = []
        for t in range(40):
            there = [person(20)] + [person(120)] * (t >= 20) + [person(220)] * (t in (5, 6))
            parts = [np.concatenate([getattr(p, f) for p in there]) for f in ("boxes", "scores", "keypoints")]
            frames.append(Detections(*parts))
        return [(0.0, frames)]

    model = ConstantPredictor(("normal", "abnormal"), shape=(1, 12, 17, 3))
    monkeypatch.setattr(opening, "open_predictor", lambda *_, **__: model)
    monkeypatch.setattr(skeletons, "estimate_stretches", found)
    experiment = load("default", ["mask.unit=person"])
    with pytest.raises(InputError, match="unit scene"):
        files.predict_files("m.onnx", [make(seconds=1)], experiment)
    model.metadata = {"unit": "person"}
    rows = files.predict_files("m.onnx", [make(seconds=1)], experiment, 2.0)
    assert [(r["clip"], r["person"], r["start_s"], r["people"]) for r in rows] == [
        ("a #1@0", 1, 0, 1), ("a #1@2", 1, 2, 1), ("a #2@2", 2, 2, 1),
    ]  # fmt: skip
    np.save(tmp_path / "both.npy", np.ones((2, 6, 17, 3), np.float32))
    rows = files.predict_files("m.onnx", [tmp_path / "both.npy"], experiment)
    assert [(r["clip"], r["person"]) for r in rows] == [("both #1", 1), ("both #2", 2)]


def test_a_broken_video_is_told_before_the_others_are_looked_at(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from posewatch.config import Experiment
    from posewatch.inference import files

    whole, looked = make("a.mp4"), []
    (tmp_path / "b.mp4").write_bytes(whole.read_bytes()[:600])
    (tmp_path / "c.avi").touch()
    np.save(tmp_path / "d.npy", np.ones((2, 6, 17, 3), np.float32))
    monkeypatch.setattr(files, "read", lambda path, *_: looked.append(path) or iter(()))
    model = str(tiny_model(tmp_path / "m.onnx"))
    with pytest.raises(VideoError, match=r"^2 of 3 videos cannot be used: .*b.mp4 breaks off.*c.avi \(0 bytes"):
        files.predict_files(model, [tmp_path], Experiment())
    assert not looked
