"""How strange a clip is: the density of embeddings, its way into checkpoint and file, and what it does to errors."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from posewatch.config import TrainConfig  # noqa: E402
from posewatch.datasets import layouts  # noqa: E402
from posewatch.inference.pytorch import TorchPredictor  # noqa: E402
from posewatch.recognition import novelty  # noqa: E402
from posewatch.recognition.ensemble import combine  # noqa: E402
from posewatch.recognition.evaluation.abstention import abstention, avoided, doubt, risk  # noqa: E402
from posewatch.recognition.evaluation.evaluate import evaluate  # noqa: E402
from posewatch.recognition.recogniser import Recogniser, load_checkpoint, save  # noqa: E402


def draws(n, seed, scale=1.0, far=0.0, width=12):
    """Embeddings around one direction; ``far`` turns it, their lengths mean nothing."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0, scale, (n, width)) * np.linspace(0.3, 0.01, width)
    x[:, 0] += np.cos(far)
    x[:, -1] += np.sin(far)
    return (x * rng.uniform(1, 9, (n, 1))).astype(np.float32)


def test_one_in_a_hundred_held_out_clips_is_above_one_and_strange_ones_are() -> None:
    density = novelty.fit(draws(300, 0), draws(400, 1))

    def of(x):
        return density(torch.from_numpy(x)).numpy()

    assert 0.001 < (of(draws(2000, 2)) > 1).mean() < 0.05
    assert (of(draws(500, 3, scale=6.0)) > 1).mean() > 0.4
    assert (of(draws(500, 4, far=1.5)) > 1).mean() > 0.9
    assert np.isfinite(of(draws(5, 5) * 0)).all()  # a clip without people


def test_without_people_held_out_another_training_gives_the_unit() -> None:
    judged = novelty.fit(draws(300, 0), draws(400, 1, scale=1.5))
    later = novelty.fit(draws(300, 6), None, judged.ratio)
    assert judged.ratio > 1.2
    assert (later(torch.from_numpy(draws(2000, 7, scale=1.5))) > 1).float().mean() < 0.05
    assert novelty.fit(draws(300, 6)).ratio == novelty.RATIO
    assert novelty.fit(draws(7, 0)) is None


def recogniser(seed=0):
    torch.manual_seed(seed)
    config = TrainConfig(model="stgcn++", width=0.1, clip_frames=8, people=2)
    return Recogniser(config, layouts.get("coco17"), ("normal", "abnormal"), "abnormal", 10.0).eval()


def test_it_lies_in_the_checkpoint_and_in_an_ensemble_and_older_ones_have_none(tmp_path, clips) -> None:
    paths = []
    for seed in (0, 1):
        made = recogniser(seed)
        save(tmp_path / f"old{seed}.pt", made, made.state_dict())
        made.novelty = novelty.fit(made.embeddings(clips(40)))
        paths.append(tmp_path / f"{seed}.pt")
        save(paths[-1], made, made.state_dict())
    want = [load_checkpoint(path).strangeness(clips(5, 9)) for path in paths]
    joined = load_checkpoint(combine(paths, tmp_path / "both.pt"))
    assert joined.strangeness(clips(5, 9)) == pytest.approx(np.mean(want, 0), rel=1e-4)
    keypoints = np.zeros((3, 2, 8, 17, 3), np.float32)
    prediction = TorchPredictor.from_checkpoint(paths[0]).predict(keypoints)
    assert prediction.novelty.shape == (3,)
    assert TorchPredictor.from_checkpoint(tmp_path / "old0.pt").predict(keypoints).novelty is None
    combine([paths[0], tmp_path / "old1.pt"], tmp_path / "mixed.pt")
    assert load_checkpoint(tmp_path / "mixed.pt").novelty is None


def test_errors_that_go() -> None:
    wrong = np.array([True, False, False, True, False, False, False, False, False, False])
    score = np.array([9.0, 1, 1, 8, 1, 1, 1, 1, 1, 7])
    assert [avoided(score, wrong, share) for share in (0.1, 0.2, 0.3)] == [0.5, 1.0, 1.0]
    assert risk(score, wrong)[-1] == pytest.approx(0.2)
    alike = np.zeros(10)
    assert avoided(alike, wrong, 0.3) == pytest.approx(0.3)  # a score that tells nothing helps as chance does
    assert avoided(score, wrong & False, 0.1) == 0
    assert doubt(np.array([[0.4, 0.6], [0.9, 0.1]]), 1, 0.55).argmax() == 0
    found = abstention({"novelty": score}, wrong)
    assert (found["coverage"][-1], found["curves"]["novelty"][-1]) == (1.0, pytest.approx(0.2))


def test_evaluate_tells_the_curve(clips) -> None:
    made = recogniser()
    made.novelty = novelty.fit(made.embeddings(clips(40)))
    metrics = evaluate(made, clips(12, 100))
    assert set(metrics["abstention"]["avoided"]) == {"doubt", "novelty"}
    assert metrics["novelty"]["median"] > 0
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics
    made.novelty = None
    assert set(evaluate(made, clips(12, 100))["abstention"]["avoided"]) == {"doubt"}
