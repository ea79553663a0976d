"""Each extra of pyproject.toml in a fresh environment that holds nothing else: its verbs do a small real job."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from published import tiny_model
from support import ROOT

from posewatch import video, weights

pytestmark = pytest.mark.slow

NOT_TESTED = {
    "pose": "another name of masking",
    "yolo": "chosen by configuration; gigabytes, and weights that are not public packages",
    "sam2": "as yolo",
    "sam2-package": "as yolo",
    "edgetam": "as yolo",
    "detr": "as yolo",
    "mmpose": "as yolo",
    "rtmo": "as yolo",
    "rtmpose": "as yolo",
    "yolox": "as yolo",
    "mqtt": "a part of watch; tests/watch/test_mqtt.py holds it",
    "tracking": "adds MLflow to train; tests/recognition holds it",
    "dev": "the environment of all other tests",
}
Posewatch = Callable[..., str]


def clean() -> dict[str, str]:
    """The environment variables without ours and Python's: nothing outside of the fresh environment is found."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("POSEWATCH_", "PYTHON"))}


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, built from a copy of the sources: the checkout stays as it is."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT / "src", folder / "source" / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, folder / "source"]
    subprocess.run(pip, check=True, timeout=600)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="session")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """extra → the interpreter of an environment in which posewatch is installed with this extra ("" for none)."""

    @functools.cache
    def environment(extra: str) -> Path:
        folder = tmp_path_factory.mktemp(f"extra-{extra or 'none'}")
        venv.create(folder, with_pip=True)
        interpreter = folder / "bin" / "python"
        package = f"posewatch[{extra}] @ {wheel.as_uri()}" if extra else str(wheel)
        pip = [interpreter, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", package]
        done = subprocess.run(pip, capture_output=True, text=True, env=clean(), check=False, timeout=1800)
        assert done.returncode == 0, done.stderr
        return interpreter

    return environment


@pytest.fixture
def posewatch(request: pytest.FixtureRequest, python: Callable[[str], Path], tmp_path: Path) -> Posewatch:
    """Runs a verb in the environment of the extra that the test's name ends with; returns what it printed."""
    extra = request.node.name.rpartition("_")[2].replace("none", "")
    interpreter = python(extra)
    env = clean() | {"POSEWATCH_CACHE": str(weights.cache()), "POSEWATCH_HOME": str(tmp_path / "home")}
    env |= {"POSEWATCH_STORE": (tmp_path / "store").as_uri()}
    env |= {"POSEWATCH_LABELS_URL": f"sqlite:///{tmp_path / 'labels.db'}"}

    def run(*words: object, code: int = 0, cwd: Path = tmp_path) -> str:
        command = [interpreter, "-m", "posewatch.cli", *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=env, check=False, timeout=900)
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        if code:
            errors = [line for line in done.stderr.splitlines() if line.startswith("posewatch: ")]
            assert len(errors) == 1, done.stderr
            return errors[0]
        return done.stdout.strip()

    return run


def elsewhere(*words: object, store: Path) -> str:
    """Runs a verb in the environment of the tests, which has every extra."""
    command = [sys.executable, "-m", "posewatch.cli", *map(str, words), "--store", str(store)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A video of two seconds."""
    with video.Writer(tmp_path / "clip.mp4", 10.0, (160, 120)) as out:
        for t in range(20):
            image = np.zeros((120, 160, 3), np.uint8)
            image[30:90, 5 * t : 5 * t + 30] = 200
            out.write(image)
    return tmp_path / "clip.mp4"


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """An exported model, and clips for it."""
    np.save(tmp_path / "clips.npy", np.random.default_rng(0).random((3, 2, 6, 17, 3), np.float32))
    return tiny_model(tmp_path / "model.onnx", 0), tmp_path / "clips.npy"


def test_every_extra_is_tested_or_has_a_reason() -> None:
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    tested = {name.rpartition("_")[2] for name in globals() if name.startswith("test_with_")} - {"none"}
    assert tested | set(NOT_TESTED) == extras
    assert not tested & set(NOT_TESTED)


def test_with_none(posewatch: Posewatch, clip: Path, files: tuple[Path, Path], tmp_path: Path) -> None:
    assert "lineage" in posewatch("--help")
    assert posewatch("history") == "nothing was deployed yet"
    assert "movenet" in posewatch("weights", "list")
    assert "triton   down" in posewatch("status")
    assert "no such file or folder" in posewatch("ingest", "none.mp4", code=2)
    for words, extra, code in (
        (("ingest", clip), "video", 1),
        (("predict", *files), "serving", 1),
        (("onnx", "inspect", files[0]), "serving", 1),
        (("train", "--annotations", "x.pkl", "--out", "o"), "train", 1),
        (("labels", "role"), "labeling", 1),
        (("label", "--app", ROOT / "labeling-service/app.py"), "labeling", 1),
        (("footage", "--out", "f"), "footage", 1),
        (("watch", clip, "--model", files[0], "--out", "w"), "serving", 1),
        (("up",), "stack", 5),
    ):
        assert re.search(rf"pip install 'posewatch\[{extra}\]'", posewatch(*words, code=code)), words
    assert "raw" in posewatch("lineage", elsewhere("ingest", clip, store=tmp_path / "store"))


def test_with_video(posewatch: Posewatch, clip: Path) -> None:
    uri = posewatch("ingest", clip)
    assert "raw" in posewatch("lineage", uri)
    assert "posewatch[masking]" in posewatch("mask", uri, code=1)


def test_with_masking(posewatch: Posewatch, clip: Path) -> None:
    masked = posewatch("mask", posewatch("ingest", clip))
    clips = posewatch("split", masked, "--set", "split.length_s=1")
    assert "pose" in posewatch("lineage", posewatch("pose", clips))


def test_with_serving(posewatch: Posewatch, files: tuple[Path, Path]) -> None:
    assert posewatch("predict", *files).count('"label"') == 3
    assert "keypoints" in posewatch("onnx", "inspect", files[0])
    assert posewatch("history") == "nothing was deployed yet"
    posewatch("predict", "grpc://127.0.0.1:9/m", files[1], "--timeout-s", 1, code=6)


def test_with_labeling(posewatch: Posewatch, clip: Path, tmp_path: Path) -> None:
    assert posewatch("labels", "role", "ann", "labeler") == "ann: labeler"
    assert posewatch("labels", "audit", "--out", "audit.parquet") == "1 rows in audit.parquet"
    assert '"fleiss"' in posewatch("labels", "agreement")
    raw = elsewhere("ingest", clip, store=tmp_path / "store")
    masked = elsewhere("mask", raw, store=tmp_path / "store")
    clips = elsewhere("split", masked, "--set", "split.length_s=1", store=tmp_path / "store")
    assert '"queued": 2' in posewatch("labels", "queue", clips)
    (tmp_path / "labels.csv").write_text("file,start_s,end_s,label\nclip.mp4,0,1,abnormal\n")
    assert "1" in posewatch("labels", "import", clips, "labels.csv")
    assert "snapshots" in posewatch("lineage", posewatch("labels", "snapshot", clips))
    assert posewatch("labels", "export", "csv", "--out", "out.csv").endswith("labelled clips in out.csv")


def test_with_watch(posewatch: Posewatch, clip: Path, files: tuple[Path, Path], tmp_path: Path) -> None:
    posewatch("watch", clip, "--model", files[0], "--out", tmp_path / "watched", "--window-s", 1)
    assert {p.name for p in (tmp_path / "watched").iterdir()} >= {"clip.mp4", "clip.windows.jsonl"}
    assert "cannot read" in posewatch("watch-service", "--config", "none.yaml", code=2)
    assert posewatch("predict", files[0], clip).count('"label"') == 1


def test_with_footage(posewatch: Posewatch, tmp_path: Path) -> None:
    posewatch("footage", "--out", tmp_path / "footage", "--videos", 1, "--seconds", 2)
    assert (tmp_path / "footage" / "labels.csv").is_file()


def test_with_stack(posewatch: Posewatch) -> None:
    try:
        assert "POSEWATCH_TRITON_GRPC=" in posewatch("up")
        assert posewatch("status").count("down") == 0
    finally:
        posewatch("down")


def test_with_pipelines(posewatch: Posewatch, tmp_path: Path) -> None:
    assert posewatch("pipeline", "compile", "--out", tmp_path / "compiled", cwd=ROOT).count(".yaml") == 4


def test_with_train(posewatch: Posewatch, tmp_path: Path) -> None:
    from skeletons import walk

    from posewatch.datasets.clipset import ClipSet
    from posewatch.datasets.pyskl import write_pyskl

    clips = ClipSet(
        tuple(walk(seed, bool(seed % 2), 24) for seed in range(8)),
        np.arange(8) % 2,
        ("normal", "abnormal"),
        tuple(f"c{i}" for i in range(8)),
        tuple(f"s{i}" for i in range(8)),
    )
    write_pyskl(tmp_path / "clips.pkl", clips, {"train": range(4), "test": range(4, 8)})
    data = ("--annotations", "clips.pkl")
    small = ("--set", "train.epochs=1", "--set", "train.width=0.1", "--set", "train.clip_frames=12")
    assert "metrics.json" in posewatch("train", *data, "--out", "run", *small)
    assert "metrics.json" in posewatch("evaluate", "run/checkpoint.pt", *data, "--out", "evaluated")
    assert "robustness.json" in posewatch("robustness", "run/checkpoint.pt", *data, "--out", "robust", "--draws", 1)
    posewatch("export", "run/checkpoint.pt", "--out", "model.onnx")
    np.save(tmp_path / "clips.npy", clips.keypoints[0])
    assert posewatch("predict", "model.onnx", "clips.npy").count('"label"') == 1
