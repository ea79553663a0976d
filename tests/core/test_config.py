"""Experiments: names, files, JSON, inheritance, overrides, and errors that name the nearest known key."""

from pathlib import Path

import pytest

from posewatch.config import Experiment, load, names
from posewatch.errors import ConfigError


def test_every_shipped_experiment_loads() -> None:
    assert {"default", "demo"} <= set(names())
    for name in names():
        assert isinstance(load(name), Experiment)


def test_the_demo_masks_no_frame_that_the_network_does_not_see() -> None:
    demo = load("demo")
    assert demo.split.length_s * demo.mask.fps == demo.train.clip_frames


def test_json_round_trip_is_exact() -> None:
    told = load("demo", ["serving.concurrency=1,4", "train.epochs=3"])
    assert told.serving.concurrency == (1, 4)
    assert load(told.to_json()) == told


def test_files_inherit(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("extends: demo\ntrain: {epochs: 7, lr: 0.01}\n")
    (tmp_path / "mine.yaml").write_text("extends: base.yaml\ntrain: {epochs: 9}\n")
    told = load(str(tmp_path / "mine.yaml"))
    assert (told.train.epochs, told.train.lr, told.split.length_s) == (9, 0.01, load("demo").split.length_s)


@pytest.mark.parametrize(
    ("source", "overrides", "words"),
    [
        ("demoo", [], "did you mean 'demo'"),
        ("none.yaml", [], "no such configuration file"),
        ("default", ["train.epoch=3"], "unknown configuration key 'train.epoch': did you mean 'epochs'"),
        ("default", ["train.epochs=many"], "train.epochs must be a whole number from 1 to 100,000, not 'many'"),
        ("default", ["train.epochs"], "must look like section.key=value"),
        ("{", [], "is not YAML"),
        ("{train: 3}", [], "train must be a mapping"),
    ],
)
def test_bad_input(source: str, overrides: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load(source, overrides)


def test_circles_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("extends: b.yaml\n")
    (tmp_path / "b.yaml").write_text("extends: a.yaml\n")
    with pytest.raises(ConfigError, match="circle"):
        load(str(tmp_path / "a.yaml"))
