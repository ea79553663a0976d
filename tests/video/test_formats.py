"""Every verb takes every video format, and every estimator setting."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from perception import networks

from posewatch.cli import main as cli
from posewatch.datasets.intervals import read_class_folders
from posewatch.video.files import SUFFIXES, find_videos

MODEL = "missing.onnx"
VERBS = {
    "ingest": ["ingest", "{source}", "--store", "{out}"],
    "predict": ["predict", MODEL, "{source}"],
    "watch": ["watch", "{source}", "--model", MODEL, "--out", "{out}"],
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("suffix", [*SUFFIXES, ".DAV"])
def test_a_verb_takes_every_format(verb: str, suffix: str, tmp_path: Path, capsys) -> None:
    """The file is found, so what fails is the next step: decoding an empty file, or opening a model that is missing."""
    folder = tmp_path / "videos"
    folder.mkdir()
    video = folder / f"door{suffix}"
    video.touch()
    for source in (folder, video):
        arguments = [a.format(source=source, out=tmp_path / "out") for a in VERBS[verb]]
        assert cli.main(arguments) != 0
        message = capsys.readouterr().err
        assert ("empty file" if verb == "ingest" else MODEL) in message, message


def test_labels_by_class_folder_are_read_for_every_format(tmp_path: Path) -> None:
    for suffix in SUFFIXES:
        (tmp_path / "abnormal" / f"a{suffix}").parent.mkdir(exist_ok=True)
        (tmp_path / "abnormal" / f"a{suffix}").touch()
    assert {Path(i.file).suffix for i in read_class_folders(tmp_path)} == set(SUFFIXES)
    assert [name for name, _ in find_videos(tmp_path)] == sorted(f"abnormal/a{s}" for s in SUFFIXES)


@pytest.fixture
def rtmo(tmp_path: Path) -> str:
    return str(networks.rtmo(tmp_path / "rtmo.onnx"))


@pytest.mark.parametrize("verb", ["predict", "watch"])
def test_a_verb_builds_the_estimator_from_all_pose_settings(verb: str, make, rtmo: str, tmp_path: Path, capsys) -> None:
    """Both verbs take the network of ``pose.weights``, and a wrong ``pose.device`` is refused before."""
    from tiny_models import tiny_model

    model, source = str(tiny_model(tmp_path / "tiny.onnx")), str(make(seconds=1, fps=10))
    arguments = [model, source] if verb == "predict" else [source, "--model", model, "--out", str(tmp_path / "out")]
    settings = ["pose.estimator=rtmo", f"pose.weights={rtmo}"]
    sets = [a for s in (*settings, "pose.device=tensorcore") for a in ("--set", s)]
    assert cli.main([verb, *arguments, *sets]) == 2
    assert "pose.device must be auto, cpu, cuda or tensorrt, not 'tensorcore'" in capsys.readouterr().err
    sets = [a for s in settings for a in ("--set", s)]
    assert cli.main([verb, *arguments, *sets]) == 0
    if verb == "predict":
        (row,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert row["people"] == 1  # the square, which only these weights find
