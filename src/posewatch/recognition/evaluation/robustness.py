"""F1 and AUC of a recogniser on corrupted keypoints: joints, frames, body parts or a person missing, joints misplaced.

``robustness`` writes the report that ``robustness_gate`` checks before a deployment.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from posewatch.datasets.clipset import ClipSet
from posewatch.datasets.layouts import OF_SCENE
from posewatch.digests import canonical
from posewatch.files import write_atomically
from posewatch.progress import Progress
from posewatch.recognition.evaluation import corruptions
from posewatch.recognition.evaluation.baselines import Baseline
from posewatch.recognition.evaluation.corruptions import Clip
from posewatch.recognition.evaluation.evaluate import check, decisions, scores_of
from posewatch.recognition.evaluation.metrics import metrics_of
from posewatch.recognition.evaluation.robustness_plot import plot
from posewatch.recognition.recogniser import Recogniser
from posewatch.recognition.sampling import fitting

TENTHS = tuple(round(0.1 * i, 1) for i in range(9))
CORRUPTIONS: dict[str, tuple[Callable[[Clip, float, np.random.Generator], Clip], tuple[float, ...]]] = {
    "joints_dropped": (corruptions.drop_joints, TENTHS),
    "joints_occluded": (corruptions.drop_tracks, TENTHS),
    "frames_dropped": (corruptions.drop_frames, TENTHS),
    "jitter": (corruptions.jitter, (0.0, 0.02, 0.05, 0.1, 0.15, 0.2)),
}
"""Corruptions with their levels: proportions, and body sizes for ``jitter``. Level 0 is the clean clip."""
PERSONS = ("most_moving", "least_moving")
METRICS = ("accuracy", "f1", "auc")


def steps(recogniser: Recogniser, draws: int = 3) -> int:
    """How often ``robustness`` scores the test set: the total of its ``progress``."""
    levels = sum(len(levels) - 1 for _, levels in CORRUPTIONS.values())
    return 1 + draws * levels + len(corruptions.body_parts(recogniser.layout)) + 1 + len(PERSONS)


def robustness(
    recogniser: Recogniser,
    test_set: ClipSet,
    out: Path | None,
    seed: int = 0,
    *,
    positive: str | None = None,
    train_set: ClipSet | None = None,
    draws: int = 3,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Score corrupted versions of ``test_set``; write ``robustness.json`` and ``robustness.png`` to ``out``, if given.

    Metrics are those of ``evaluate`` at the model's own threshold: of the ``positive`` class (default: the
    recogniser's), means over the classes where there is none. The report, JSON-able:

        n, seed, draws, positive, labels, threshold
        clean             {accuracy, f1, auc, forest_f1}
        joints_dropped    [{level, accuracy, f1, auc, f1_sd, auc_sd, f1_min, f1_drop, forest_f1}, ...]; likewise
                          ``joints_occluded`` (the same joints throughout a clip), ``frames_dropped`` and ``jitter``;
                          means and standard deviations over ``draws`` draws
        body_part_hidden  [{part, joints, accuracy, f1, auc, f1_drop, forest_f1}, ...]
        person_removed    [{person, n, skipped, clean_f1, accuracy, f1, auc, f1_drop, forest_f1}, ...], of the ``n``
                          clips with several persons; the ``skipped`` ones have one

    ``f1_drop`` is the F1 of the same clips without corruption, minus this one. ``forest_f1`` is the F1 of a random
    forest fitted on ``train_set`` and scored on the same clips; None without a ``train_set``. The draws are the same in
    every run, and a higher level drops what a lower one does and more. Raises InputError, LabelError, ConfigError.
    """
    positive = check(recogniser, test_set, positive)
    score = _Scorer(recogniser, positive, train_set, progress)
    clean = score(test_set)
    report: dict[str, Any] = {
        "n": len(test_set),
        "seed": seed,
        "draws": draws,
        "positive": positive,
        "labels": list(recogniser.labels),
        "threshold": recogniser.threshold if positive and positive == recogniser.positive else None,
        "clean": clean,
    }
    for index, (kind, (corrupt, levels)) in enumerate(CORRUPTIONS.items()):
        report[kind] = [_mean(levels[0], [clean], clean)]
        for level in levels[1:]:
            rows = []
            for draw in range(draws):
                # The level is not part of the seed: it only moves the bound that the same numbers are compared with.
                chances = (np.random.default_rng([seed, index, draw, i]) for i in range(len(test_set)))
                corrupted = (corrupt(clip, level, rng) for clip, rng in zip(_joints(test_set), chances, strict=True))
                rows.append(score(_replaced(test_set, corrupted)))
            report[kind].append(_mean(level, rows, clean))
    report["body_part_hidden"] = [
        {"part": part, "joints": list(joints)}
        | _dropped(score(_replaced(test_set, (corruptions.hide(k, joints) for k in _joints(test_set)))), clean)
        for part, joints in corruptions.body_parts(recogniser.layout).items()
    ]
    report["person_removed"] = _persons(score, test_set)
    if out is not None:
        write_atomically(out / "robustness.json", canonical(report) + "\n")
        plot(report, out / "robustness.png")
    return report


def _joints(clips: ClipSet) -> tuple[Clip, ...]:
    return clips.with_flow(0).keypoints


def _replaced(clips: ClipSet, joints: Iterable[Clip]) -> ClipSet:
    """``clips`` with other ``joints``; whoever has lost all of them in a frame has no flow of their own there either,
    and whoever has none in the clip not that of the scene."""
    plain = dataclasses.replace(clips.with_flow(0), keypoints=tuple(joints))
    if not clips.flow:
        return plain
    whole = []
    for k, own in zip(plain.keypoints, clips.keypoints, strict=True):
        seen = np.any(k[..., 2:] > 0, axis=2, keepdims=True)
        of_person, of_scene = own[:, :, -clips.flow : -OF_SCENE], own[:, :, -OF_SCENE:]
        whole.append(np.concatenate([k, of_person * seen, of_scene * np.any(seen, axis=1, keepdims=True)], 2))
    return dataclasses.replace(clips, keypoints=tuple(whole))


def _dropped(row: dict[str, Any], clean: dict[str, Any]) -> dict[str, Any]:
    return row | {"f1_drop": round(clean["f1"] - (row["f1"] or 0.0), 6)}


def _mean(level: float, rows: list[dict[str, Any]], clean: dict[str, Any]) -> dict[str, Any]:
    def over(metric: str, reduce: Callable[[Any], Any] = np.mean) -> float | None:
        values = [row[metric] for row in rows if row[metric] is not None]
        return round(float(reduce(values)), 6) if values else None

    means = {metric: over(metric) for metric in (*METRICS, "forest_f1")}
    spread = {"f1_sd": over("f1", np.std), "auc_sd": over("auc", np.std), "f1_min": over("f1", np.min)}
    return _dropped({"level": level, **means, **spread}, clean)


class _Scorer:
    """Clips → the network's metrics and the forest's F1."""

    def __init__(
        self, recogniser: Recogniser, positive: str, train_set: ClipSet | None, progress: Progress | None
    ) -> None:
        self.recogniser, self.positive, self.progress = recogniser, positive, progress
        self.index = recogniser.labels.index(positive) if positive else None
        self.forest: Baseline | None = None
        if train_set is not None and len(np.unique(train_set.labels)) > 1:
            clips = fitting(train_set.keypoints, recogniser)
            self.forest = Baseline("forest", clips, train_set.labels, len(recogniser.labels), recogniser.layout)

    def __call__(self, clips: ClipSet) -> dict[str, Any]:
        p = scores_of(self.recogniser, clips)
        metrics = metrics_of(p, decisions(self.recogniser, p, self.positive), clips.labels, self.index)
        row: dict[str, Any] = {metric: metrics[metric] for metric in METRICS} | {"forest_f1": None}
        if self.forest is not None:
            s = self.forest.probabilities(fitting(clips.keypoints, self.recogniser))
            row["forest_f1"] = metrics_of(s, s.argmax(1), clips.labels, self.index)["f1"]
        if self.progress is not None:
            self.progress.advance(note=f"F1 {row['f1']:.3f}")
        return row


def _persons(score: _Scorer, test_set: ClipSet) -> list[dict[str, Any]]:
    """The rows of ``person_removed``."""
    several = test_set.subset([i for i, k in enumerate(test_set.keypoints) if len(corruptions.present(k)) > 1])
    counts = {"n": len(several), "skipped": len(test_set) - len(several)}
    if not len(several):
        if score.progress is not None:
            score.progress.advance(1 + len(PERSONS))
        nothing = dict.fromkeys((*METRICS, "clean_f1", "f1_drop", "forest_f1"))
        return [{"person": person, **counts, **nothing} for person in PERSONS]
    clean = score(several)
    return [
        {"person": person, **counts, "clean_f1": clean["f1"]}
        | _dropped(score(_replaced(several, (corruptions.remove_person(k, person) for k in _joints(several)))), clean)
        for person in PERSONS
    ]
