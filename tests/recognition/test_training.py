import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

torch = pytest.importorskip("torch")

from posewatch.config import TrainConfig  # noqa: E402
from posewatch.errors import ConfigError, InputError, LabelError  # noqa: E402
from posewatch.recognition import training  # noqa: E402
from posewatch.recognition.dataset import resample  # noqa: E402
from posewatch.recognition.models import build  # noqa: E402
from posewatch.recognition.recogniser import choose_threshold, decide  # noqa: E402
from posewatch.recognition.training import load_checkpoint, train  # noqa: E402

TINY = TrainConfig(width=8, prototypes=4, frames=12, people=1, epochs=3, batch=8, threads=1, lr=0.005)


def test_it_learns_what_can_be_learned(tmp_path, clips):
    config = dataclasses.replace(TINY, epochs=14, frames=16, patience=0)
    recogniser = load_checkpoint(train(clips(32), clips(8, 100), config, tmp_path))
    test = clips(24, 200)
    x = resample(test.keypoints, recogniser.frames, recogniser.people)
    assert (recogniser.decide(recogniser.probabilities(x)) == test.labels).mean() >= 0.9
    gone = np.random.default_rng(0).random(x.shape[:-1]) < 0.1
    x[gone] = 0
    assert (recogniser.decide(recogniser.probabilities(x)) == test.labels).mean() >= 0.85, "10 % of joints dropped"
    rows = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert [r["epoch"] for r in rows] == list(range(1, 15))
    assert rows[-1]["train_loss"] < 0.7 * rows[0]["train_loss"]
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["train"]["width"] == 8
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint.pt", "config.yaml", "history.jsonl"]


def test_checkpoint_holds_everything(tmp_path, clips):
    made = load_checkpoint(train(clips(8), clips(0), dataclasses.replace(TINY, epochs=1), tmp_path))
    assert made.labels == ("normal", "abnormal")
    assert (made.positive, made.frames, made.people, made.fps, made.threshold) == ("abnormal", 12, 1, 10.0, 0.5)
    assert made.layout.name == "coco17"
    assert not made.training
    p, e = made(torch.zeros(3, 1, 12, 17, 3))
    assert p.shape == (3, 2)
    assert e.shape == (3, 32)
    assert torch.allclose(p.sum(1), torch.ones(3))


def test_a_killed_run_goes_on_and_ends_bit_equal(tmp_path, clips):
    """A real kill -9 after the second epoch, in a process of its own."""
    script = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from conftest import clip_set
from posewatch.config import TrainConfig
from posewatch.recognition.training import train

class Killer:
    done = 0
    def advance(self, count=1, note=""):
        self.done += count
        if self.done == 2:
            os.kill(os.getpid(), signal.SIGKILL)

train(clip_set(12), clip_set(4, 50), TrainConfig(**{dataclasses.asdict(TINY)!r}), Path(sys.argv[1]), progress=Killer())
"""
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path / "killed")], timeout=120, env=os.environ)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed/checkpoint.pt").exists()
    said = []

    class Listener:
        def advance(self, count=1, note=""):
            said.append((count, note))

    again = train(clips(12), clips(4, 50), TINY, tmp_path / "killed", progress=Listener())
    assert said[0] == (2, "resumed after epoch 2")
    assert len(said) == 2
    whole = train(clips(12), clips(4, 50), TINY, tmp_path / "whole")
    assert again.read_bytes() == whole.read_bytes()
    assert (tmp_path / "killed/history.jsonl").read_bytes() == (tmp_path / "whole/history.jsonl").read_bytes()


def test_the_state_of_another_run_is_not_gone_on_with(tmp_path, clips):
    run = training._Run(clips(8), clips(0), TINY, training.layouts.get("coco17"), "abnormal")
    run.one_epoch()
    training.write_atomically(tmp_path / training.STATE, training.dump(run.state()))
    (same := training._Run(clips(8), clips(0), TINY, run.layout, "abnormal")).resume(tmp_path / training.STATE)
    assert same.epoch == 1
    other = training._Run(clips(8, 1), clips(0), TINY, run.layout, "abnormal")
    other.resume(tmp_path / training.STATE)
    assert other.epoch == 0
    (tmp_path / training.STATE).write_bytes(b"half a sta")
    other.resume(tmp_path / training.STATE)
    assert other.epoch == 0


def test_early_stop(tmp_path, clips):
    """Validation clips with swapped labels: the better the model learns, the worse it does on them."""
    mean = clips(4, 50)
    swapped = dataclasses.replace(mean, labels=1 - mean.labels)
    train(clips(16), swapped, dataclasses.replace(TINY, epochs=12, patience=1), tmp_path)
    assert len((tmp_path / "history.jsonl").read_text().splitlines()) < 12


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"model": "protogcm"}, ConfigError, "did you mean 'protogcn'"),
        ({"width": 12}, ConfigError, "multiple of 8"),
        ({"epochs": 0}, ConfigError, "epochs"),
        ({"stream": "jj"}, ConfigError, "unknown stream"),
        ({"lr": 0.05}, ConfigError, "too high for AdamW: set it to about 0.003"),
    ],
)
def test_bad_config(tmp_path, clips, change, error, message):
    with pytest.raises(error, match=message):
        train(clips(8), clips(0), dataclasses.replace(TINY, **change), tmp_path)
    assert not (tmp_path / "checkpoint.pt").exists()


def test_bad_clips(tmp_path, clips):
    eight = clips(8)
    with pytest.raises(LabelError, match="no training clip is labelled 'abnormal'"):
        train(eight.subset([0, 2, 4]), clips(0), TINY, tmp_path)
    with pytest.raises(InputError, match="video-clip0 is on both sides"):
        train(eight, eight.subset([0]), TINY, tmp_path)
    with pytest.raises(LabelError, match="'fall' is none of normal, abnormal"):
        train(eight, clips(0), TINY, tmp_path, positive="fall")
    with pytest.raises(InputError, match="17 joints, layout 'ntu25' wants 25"):
        train(dataclasses.replace(eight, layout="ntu25"), clips(0), TINY, tmp_path)


def test_bad_checkpoint(tmp_path):
    with pytest.raises(InputError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "none.pt")
    (tmp_path / "x.pt").write_bytes(b"nothing")
    with pytest.raises(InputError, match="not a posewatch checkpoint") as caught:
        load_checkpoint(tmp_path / "x.pt")
    assert "\n" not in str(caught.value)


def test_threshold_is_the_best_and_the_least_extreme():
    truth = np.array([0, 0, 0, 1, 1])
    assert choose_threshold(np.array([0.05, 0.1, 0.15, 0.3, 0.4]), truth) == pytest.approx(0.285)
    assert choose_threshold(np.array([0.1, 0.2, 0.3, 0.8, 0.9]), truth) == 0.5
    assert choose_threshold(np.array([0.6, 0.7, 0.8]), np.zeros(3)) == 0.5


def test_decide():
    p = np.array([[0.5, 0.3, 0.2], [0.1, 0.65, 0.25], [0.6, 0.1, 0.3]], np.float32)
    assert decide(p, positive=2, threshold=0.25).tolist() == [0, 2, 2]


def test_builders_name_the_nearest():
    layout = training.layouts.get("coco17")
    assert sum(p.numel() for p in build("protogcn", layout=layout, classes=2).parameters()) == 4_209_586
    with pytest.raises(ConfigError, match="unknown model 'ctrgcn': known: protogcn"):
        build("ctrgcn", layout=layout, classes=2)
