"""What stands beside a result costs no more than the result: baselines and intervals with many clips and classes."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score

from posewatch.cli.train import _table
from posewatch.config import TrainConfig
from posewatch.datasets import layouts
from posewatch.recognition.evaluation import baselines, metrics
from posewatch.recognition.evaluation.evaluate import evaluate
from posewatch.recognition.recogniser import Recogniser
from posewatch.recognition.sampling import resample

COCO = layouts.get("coco17")


def test_a_forest_that_has_the_time_is_the_whole_forest(clips):
    keypoints, labels = resample(clips(16).keypoints, 12, 1), clips(16).labels
    grown = baselines.Baseline("forest", keypoints, labels, 2, COCO, seconds=60.0)
    x = baselines.pose_statistics(keypoints, COCO)
    whole = RandomForestClassifier(baselines.TREES, class_weight="balanced", random_state=0).fit(x, labels)
    assert grown.note == ""
    assert np.array_equal(grown.probabilities(keypoints), whole.predict_proba(x))


def test_without_time_the_baselines_are_cut_and_say_so(clips, monkeypatch):
    train, test = resample(clips(40).keypoints, 12, 1), resample(clips(8, 100).keypoints, 12, 1)
    monkeypatch.setattr(baselines, "SIZE", 60)
    scores, note = baselines.baseline_scores(train, clips(40).labels, test, 2, COCO, seconds=0.0)
    assert note == (
        "logistic regression: 5 iterations in 0 s, 30 of 40 training clips; "
        "random forest: 1 of 300 trees in 0 s, 30 of 40 training clips"
    )
    assert {name: p.shape for name, p in scores.items()} == {"logistic": (8, 2), "forest": (8, 2)}


def test_the_time_of_the_baselines_follows_the_networks(clips, monkeypatch):
    model = Recogniser(
        TrainConfig(width=0.1, model_options={"prototypes": 4}, clip_frames=12, people=1, epochs=100_000),
        COCO, ("normal", "abnormal"), "abnormal", 10.0,
    ).eval()  # fmt: skip
    given = []

    def scores(train, labels, test, classes, layout, seconds):
        given.append(seconds)
        return {}, "random forest: 3 of 300 trees in 30 s"

    monkeypatch.setattr("posewatch.recognition.evaluation.evaluate.baseline_scores", scores)
    long = evaluate(model, clips(8, 100), train_set=clips(16))
    model.config = dataclasses.replace(model.config, epochs=1)
    evaluate(model, clips(8, 100), train_set=clips(16))
    assert given == [30.0, 5.0]
    assert "(random forest: 3 of 300 trees in 30 s)" in _table(long).splitlines()[-1]


def test_a_sample_of_the_clips_has_all_classes():
    labels = np.array([0] * 90 + [1] * 8 + [2] * 2)
    some = baselines._spread(labels, 20)
    assert np.bincount(labels[some]).tolist() == [10, 8, 2]
    assert np.array_equal(baselines._spread(labels, 100), np.arange(100))


def test_areas_are_those_of_scikit_learn_also_of_resampled_clips():
    rng = np.random.default_rng(0)
    p, labels = rng.random((60, 4)).round(1), rng.integers(0, 3, 60)
    times = rng.multinomial(60, np.full(60, 1 / 60), 5).T
    found = metrics.areas(p, labels, range(4), times)
    for r in range(5):
        drawn = np.repeat(np.arange(60), times[:, r])
        for k in range(3):
            assert found[k, r] == pytest.approx(roc_auc_score(labels[drawn] == k, p[drawn, k]))
    assert np.isnan(found[3]).all(), "no clip of the last class"


def test_intervals_of_a_thousand_classes_take_little_longer_than_those_of_two():
    rng = np.random.default_rng(0)

    def seconds(classes: int) -> float:
        p, labels = rng.random((150, classes)), rng.integers(0, classes, 150)
        spent = []
        for _ in range(3):
            began = time.process_time()
            metrics.bootstrap(p, p.argmax(1), labels, rounds=200)
            spent.append(time.process_time() - began)
        return min(spent)

    assert seconds(1000) < 60 * seconds(2), "it was 300 times as long when every class was ranked anew"
