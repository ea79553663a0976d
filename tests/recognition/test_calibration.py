"""Temperature, reliability, and thresholds for a wish."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from posewatch.config import TrainConfig, load  # noqa: E402
from posewatch.datasets import layouts  # noqa: E402
from posewatch.errors import ConfigError, InputError  # noqa: E402
from posewatch.export.onnx import synthetic_clips  # noqa: E402
from posewatch.recognition.calibration import (  # noqa: E402
    Calibration,
    HeldOut,
    calibrate,
    reliability,
    temperature_of,
    tempered,
)
from posewatch.recognition.ensemble import combine  # noqa: E402
from posewatch.recognition.evaluation.operating_point import choose_again  # noqa: E402
from posewatch.recognition.recogniser import Recogniser, load_checkpoint, save  # noqa: E402
from posewatch.recognition.threshold import at, parse, threshold_at  # noqa: E402

TINY = TrainConfig(model="stgcn", width=0.1, clip_frames=8, people=1, stream="j")


def sure_but_wrong(n: int = 4000, factor: float = 3.0) -> HeldOut:
    """Clips whose true probabilities are those of logits, of which the scores are ``factor`` times as sure."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1.2, n)
    labels = (rng.random(n) < 1 / (1 + np.exp(-logits))).astype(np.int64)
    p = 1 / (1 + np.exp(-factor * logits))
    return HeldOut(np.stack([1 - p, p], 1).astype(np.float32), labels, 3.0)


def test_the_temperature_undoes_too_much_confidence() -> None:
    held = sure_but_wrong()
    found = temperature_of(held, balanced=False)
    assert found == pytest.approx(3.0, rel=0.15)
    before, _ = reliability(held.scores, held.labels, 1)
    after, bins = reliability(tempered(held.scores, found), held.labels, 1)
    assert before > 0.1
    assert after < 0.03
    assert sum(row["clips"] for row in bins) == len(held.labels)
    few = HeldOut(held.scores[:25], held.labels[:25], 3.0)
    assert abs(np.log(temperature_of(few, balanced=False))) < 0.5 * np.log(3)  # little is known of 25 clips


def test_without_a_class_there_is_nothing_to_fit() -> None:
    held = sure_but_wrong(50)
    assert temperature_of(HeldOut(held.scores, held.labels * 0, 3.0), balanced=True) == 1.0


def test_balanced_calibration_counts_classes_alike() -> None:
    p = np.tile(np.array([[0.5, 0.5]], np.float32), (100, 1))
    labels = (np.arange(100) < 10).astype(np.int64)
    assert reliability(p, labels, 1)[0] == pytest.approx(0.4)
    assert reliability(p, labels, 1, balanced=True)[0] == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("wish", "figure", "holds"),
    [
        ("precision=.9", "precision", lambda v: v >= 0.9),
        ("recall=0.95", "recall", lambda v: v >= 0.95),
        ("false_positive_rate=.05", "false_positive_rate", lambda v: v <= 0.05),
        ("false_alarms_per_hour=24", "false_positive_rate", lambda v: v <= 0.02),  # 1,200 windows of 3 s in an hour
    ],
)
def test_a_bound_is_met_at_the_least_cost(wish: str, figure: str, holds) -> None:
    held = sure_but_wrong(600)
    chosen = threshold_at(wish, held.scores[:, 1], held.labels == 1, seconds=held.seconds)
    assert chosen.met
    assert holds(getattr(chosen.counts, figure))
    again = at(chosen.threshold, held.scores[:, 1], held.labels == 1)
    assert (again.hits, again.predicted) == (chosen.counts.hits, chosen.counts.predicted)
    cost = "precision" if figure == "recall" else "recall"
    for threshold in np.linspace(0.01, 0.99, 99):
        other = at(float(threshold), held.scores[:, 1], held.labels == 1)
        assert not holds(getattr(other, figure)) or getattr(other, cost) <= getattr(chosen.counts, cost) + 1e-9


def test_a_bound_that_none_meets_gets_the_nearest_one() -> None:
    chosen = threshold_at("precision=1", np.array([0.9, 0.8, 0.7, 0.2]), np.array([0, 1, 1, 0]))
    assert (chosen.met, chosen.counts.predicted) == (True, 0)  # no alarm at all is never a false one
    worse = threshold_at("recall=1", np.array([0.9, 0.8]), np.array([0, 0]))
    assert not worse.met


@pytest.mark.parametrize(
    "wish", ["", "f2", "precision", "precision=2", "recall=-1", "precision=nan", "f1=.5", "recall=.9x"]
)
def test_another_wish_is_refused(wish: str) -> None:
    with pytest.raises(ConfigError, match=r"precision=\.9"):
        parse(wish)
    with pytest.raises(ConfigError, match="threshold_at"):
        load("demo", [f"train.threshold_at={wish or 'x'}"])


def checkpoint(folder: Path, name: str = "a.pt", temperature: float = 2.0) -> Path:
    torch.manual_seed(len(name))
    recogniser = Recogniser(TINY, layouts.get("coco17"), ("normal", "abnormal"), "abnormal", 10.0)
    recogniser.calibration = Calibration(0.6, temperature, sure_but_wrong(200))
    save(folder / name, recogniser, recogniser.state_dict())
    return folder / name


def test_a_checkpoint_remembers_and_its_threshold_is_chosen_again(tmp_path: Path) -> None:
    path = checkpoint(tmp_path)
    made = load_checkpoint(path)
    assert (made.threshold, made.temperature) == (0.6, 2.0)
    lines = choose_again(path, "precision=.9", tmp_path / "b.pt")
    other = load_checkpoint(tmp_path / "b.pt")
    assert other.threshold > 0.6
    assert lines[0].startswith(f"threshold {other.threshold:.4f} at precision=.9, from 200 clips")
    assert any(line.startswith("false alarms per hour") for line in lines)
    assert np.array_equal(other.held_out.scores, made.held_out.scores)
    calibrated = calibrate(made.held_out, 1, TINY)
    assert calibrated.temperature > 1.5


def test_the_temperature_is_in_the_probabilities_and_in_the_exported_file(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    from posewatch.export.onnx import export
    from posewatch.inference.onnx_runtime import OnnxPredictor

    path = checkpoint(tmp_path)
    clips = synthetic_clips(3, (1, 8, 17, 3))[:2]  # the third shows nobody, whose answer is fixed
    made = load_checkpoint(path)
    warm = made.probabilities(clips)
    made.temperature = 1.0
    assert np.allclose(warm, tempered(made.probabilities(clips), 2.0), atol=1e-6)
    export(path, tmp_path / "a.onnx")
    assert np.allclose(OnnxPredictor(tmp_path / "a.onnx").predict(clips).probabilities, warm, atol=1e-5)
    combine([path, checkpoint(tmp_path, "other.pt", 4.0)], tmp_path / "both.pt")
    both = load_checkpoint(tmp_path / "both.pt")
    assert both.temperature == 3.0
    assert np.allclose(both.probabilities(clips).sum(1), 1, atol=1e-5)


def test_what_cannot_be_chosen_again_is_said(tmp_path: Path) -> None:
    path = checkpoint(tmp_path)
    recogniser = load_checkpoint(path)
    recogniser.held_out = None
    save(tmp_path / "b.pt", recogniser, recogniser.state_dict())
    with pytest.raises(InputError, match="remembers no held-out clips"):
        choose_again(tmp_path / "b.pt", "f1")
    recogniser.held_out = HeldOut(np.full((3, 2), 0.5, np.float32), np.zeros(3, np.int64), 3.0)
    save(tmp_path / "c.pt", recogniser, recogniser.state_dict())
    with pytest.raises(InputError, match="on one side"):
        choose_again(tmp_path / "c.pt", "f1")
