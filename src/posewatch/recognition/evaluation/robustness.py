"""How a recogniser fares when the pose estimator does badly: F1 and AUC against what is missing or misplaced.

``robustness`` measures, draws and writes; ``gate`` (of ``robustness_gate``) turns the report into reasons why a
model must not be deployed.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch.datasets.clipset import ClipSet
from posewatch.digests import canonical
from posewatch.errors import ConfigError
from posewatch.files import write_atomically
from posewatch.progress import Progress
from posewatch.recognition.evaluation import corruptions as disturbances
from posewatch.recognition.evaluation.baselines import Baseline
from posewatch.recognition.evaluation.evaluate import check, decisions, scores_of
from posewatch.recognition.evaluation.metrics import measure
from posewatch.recognition.evaluation.robustness_gate import gate as gate
from posewatch.recognition.recogniser import Recogniser
from posewatch.recognition.sampling import resample

TENTHS = tuple(round(0.1 * i, 1) for i in range(9))
LEVELS: dict[str, tuple[float, ...]] = {
    "joints_dropped": TENTHS,
    "joints_occluded": TENTHS,
    "frames_dropped": TENTHS,
    "jitter": (0.0, 0.02, 0.05, 0.1, 0.15, 0.2),
}
"""Disturbances by degree: shares, and body sizes for ``jitter``. Level 0 is the clean clip."""
_DISTURB: dict[str, Callable[[disturbances.Clip, float, np.random.Generator], disturbances.Clip]] = {
    "joints_dropped": disturbances.drop_joints,
    "joints_occluded": disturbances.drop_tracks,
    "frames_dropped": disturbances.drop_frames,
    "jitter": disturbances.jitter,
}
PERSONS = ("most_moving", "least_moving")
FIGURES = ("accuracy", "f1", "auc")


def steps(recogniser: Recogniser, draws: int = 3) -> int:
    """How often ``robustness`` scores the test set: what its ``progress`` counts."""
    return 1 + draws * sum(len(v) - 1 for v in LEVELS.values()) + len(disturbances.body_parts(recogniser.layout)) + 3


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
    """Score disturbed versions of ``test_set``; write ``robustness.json`` and ``robustness.png`` to ``out``, if given.

    All figures are those of ``evaluate`` at the model's own threshold: of the ``positive`` class (default: the
    recogniser's), means over the classes where there is none. The report, JSON-able:

        n, seed, draws, positive, labels, threshold
        clean             {accuracy, f1, auc, forest_f1}
        joints_dropped    [{level, accuracy, f1, auc, f1_sd, auc_sd, f1_min, f1_loss, forest_f1}, ...]; likewise
                          ``joints_occluded`` (the same joints throughout a clip), ``frames_dropped`` and ``jitter``;
                          means and standard deviations over ``draws`` draws
        body_part_hidden  [{part, joints, accuracy, f1, auc, f1_loss, forest_f1}, ...]
        person_removed    [{person, n, skipped, clean_f1, accuracy, f1, auc, f1_loss, forest_f1}, ...], measured on the
                          clips with several persons; the others are ``skipped``

    ``f1_loss`` is the clean F1 (of the same clips) less this one. With ``train_set`` a random forest is fitted on it
    and ``forest_f1`` is what the same disturbance leaves of it; else None. A draw is the same in every run, and a
    higher level drops what a lower one does and more. Raises InputError, LabelError, ConfigError.
    """
    positive = check(recogniser, test_set, positive)
    if draws < 1:
        raise ConfigError(f"draws must be at least 1, not {draws}")
    judge = _Judge(recogniser, test_set, positive, train_set, progress)
    clean = judge(test_set.keypoints)
    report: dict[str, Any] = {
        "n": len(test_set),
        "seed": seed,
        "draws": draws,
        "positive": positive,
        "labels": list(recogniser.labels),
        "threshold": recogniser.threshold if positive and positive == recogniser.positive else None,
        "clean": clean,
    }
    for kind, levels in LEVELS.items():
        report[kind] = [_mean(level, [clean], clean["f1"]) for level in levels[:1]]
        for level in levels[1:]:
            found = [judge(_disturbed(kind, level, test_set, seed, draw)) for draw in range(draws)]
            report[kind].append(_mean(level, found, clean["f1"]))
    report["body_part_hidden"] = [
        {"part": part, "joints": list(joints), **judge.less([disturbances.hide(k, joints) for k in test_set.keypoints])}
        for part, joints in disturbances.body_parts(recogniser.layout).items()
    ]
    report["person_removed"] = judge.persons()
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(out / "robustness.json", (canonical(report) + "\n").encode())
        from posewatch.recognition.evaluation.robustness_plot import plot

        plot(report, out / "robustness.png")
    return report


def _disturbed(kind: str, level: float, clips: ClipSet, seed: int, draw: int) -> list[disturbances.Clip]:
    # The level is not part of the seed: the same numbers are compared with another bound, so that levels are nested.
    at = list(LEVELS).index(kind)
    return [
        _DISTURB[kind](clip, level, np.random.default_rng([seed, at, draw, i]))
        for i, clip in enumerate(clips.keypoints)
    ]


def _mean(level: float, found: list[dict[str, Any]], clean_f1: float) -> dict[str, Any]:
    def of(figure: str, how: Callable[[Any], Any]) -> float | None:
        values = [row[figure] for row in found if row[figure] is not None]
        return round(float(how(values)), 6) if values else None

    f1 = of("f1", np.mean)
    return {
        "level": level,
        **{figure: of(figure, np.mean) for figure in FIGURES},
        "f1_sd": of("f1", np.std),
        "auc_sd": of("auc", np.std),
        "f1_min": of("f1", np.min),
        "f1_loss": round(clean_f1 - (f1 or 0.0), 6),
        "forest_f1": of("forest_f1", np.mean),
    }


class _Judge:
    """Disturbed keypoints of the test set → figures of the network, and the forest's F1."""

    def __init__(
        self,
        recogniser: Recogniser,
        test_set: ClipSet,
        positive: str,
        train_set: ClipSet | None,
        progress: Progress | None,
    ) -> None:
        self.recogniser, self.test_set, self.positive, self.progress = recogniser, test_set, positive, progress
        self.index = recogniser.labels.index(positive) if positive else None
        self.forest: Baseline | None = None
        if train_set is not None and len(np.unique(train_set.labels)) > 1:
            clips = resample(train_set.keypoints, recogniser.frames, recogniser.people)
            self.forest = Baseline("forest", clips, train_set.labels, len(recogniser.labels), recogniser.layout)
        self.clean_f1 = math.nan

    def __call__(
        self, keypoints: list[disturbances.Clip] | tuple[disturbances.Clip, ...], only: NDArray[Any] | None = None
    ) -> dict[str, Any]:
        clips = self.test_set if only is None else self.test_set.subset(only)
        clips = dataclasses.replace(clips, keypoints=tuple(keypoints))
        p = scores_of(self.recogniser, clips)
        found = measure(p, decisions(self.recogniser, p, self.positive), clips.labels, self.index)
        row: dict[str, Any] = {figure: found[figure] for figure in FIGURES} | {"forest_f1": None}
        if self.forest is not None:
            s = self.forest.probabilities(resample(keypoints, self.recogniser.frames, self.recogniser.people))
            row["forest_f1"] = measure(s, s.argmax(1), clips.labels, self.index)["f1"]
        if math.isnan(self.clean_f1):
            self.clean_f1 = row["f1"]
        if self.progress is not None:
            self.progress.advance(note=f"F1 {row['f1']:.3f}")
        return row

    def less(self, keypoints: list[disturbances.Clip]) -> dict[str, Any]:
        row = self(keypoints)
        return row | {"f1_loss": round(self.clean_f1 - row["f1"], 6)}

    def persons(self) -> list[dict[str, Any]]:
        several = np.array([i for i, k in enumerate(self.test_set.keypoints) if len(disturbances.present(k)) > 1], int)
        skipped = len(self.test_set) - len(several)
        if not len(several):
            if self.progress is not None:
                self.progress.advance(3)
            nothing = dict.fromkeys((*FIGURES, "clean_f1", "f1_loss", "forest_f1"))
            return [{"person": which, "n": 0, "skipped": skipped, **nothing} for which in PERSONS]
        keypoints = [self.test_set.keypoints[i] for i in several]
        clean = self(keypoints, several)["f1"]
        rows = []
        for which in PERSONS:
            row = self([disturbances.remove_person(k, which) for k in keypoints], several)
            less = round(clean - row["f1"], 6)
            rows.append(
                {"person": which, "n": len(several), "skipped": skipped, "clean_f1": clean, **row, "f1_loss": less}
            )
        return rows
