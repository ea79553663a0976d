"""A new version against the served one, on clips that neither has learned from: fewer false alarms at equal recall?"""

from __future__ import annotations

import math
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch.artifact import Artifact, Job, produce
from posewatch.datasets.clipset import ClipSet
from posewatch.digests import canonical
from posewatch.inference.onnx_runtime import OnnxPredictor
from posewatch.lineage import ancestor, parent
from posewatch.progress import Progress, say
from posewatch.recognition.sampling import fitting
from posewatch.recognition.threshold import HOUR_S, Counts, at, candidates
from posewatch.stages.contents import CLIPS, COMPARISON, MODEL, alarms_of, dataset_part, videos_of
from posewatch.stages.dataset import NEWEST
from posewatch.store import ObjectStore
from posewatch.units import require_unit

LEAST_RECALL = 0.02
"""By so much the new version's recall at its own threshold may be lower than the served one's."""
FEW = 10
"""From so many positive clips on it may also be lower by one clip, which may be chance."""
RECALLS = 0.2
"""Versions are compared at every recall from so much below the served version's up to it: at a single one, one hard
clip decides among a few dozen."""


@dataclass(frozen=True)
class Side:
    """One version: recall and false positives of all held-out clips at its own threshold, at the recall of the served
    version, and in the mean over the recalls up to that one (``RECALLS``); of the newest judged alarms, how many of the
    false ones it would raise at equal recall (``false_alarms``)."""

    threshold: float
    recall: float
    false_positives: int
    at_equal_recall: float
    equal_recall: float
    equal_false_positives: int
    mean_false_positives: float
    false_alarms: int


@dataclass(frozen=True)
class _Clips:
    """Held-out clips: whether each is positive; of the newest alarms the clips of each, and the hours watched."""

    clips: ClipSet
    positive: NDArray[np.bool_]
    false_alarms: tuple[tuple[int, ...], ...]
    alarms: int
    camera_hours: float


def compare(store: ObjectStore, model: Artifact, served: Artifact, data: Artifact) -> Artifact:
    """Ask both published versions about the test part and the newest judged alarms of a dataset that was made with the
    served version's as ``before``; writes ``comparison.json``.

    ``better``: fewer false positives in the mean over the recalls up to that which the served version has at its
    threshold, and a recall at its own threshold that is not clearly lower. ``reason`` says it in words. Raises
    InputError for versions of two units.
    """
    job = Job("comparisons", "", {"least_recall": LEAST_RECALL, "recalls": RECALLS}, (model, served, data))

    def write(folder: Path) -> None:
        with Progress("compare", 2, "version") as progress, tempfile.TemporaryDirectory(prefix="posewatch-") as temp:
            new, old = (_predictor(one, Path(temp) / name) for name, one in (("new", model), ("served", served)))
            require_unit(new.unit, old.unit, model.uri, served.uri)
            told: dict[str, Any] = {"model": model.uri, "served": served.uri}
            if new.labels != old.labels or new.positive != old.positive or not new.positive:
                told |= {"better": False, "reason": "the two versions have other classes: there is no common measure"}
            else:
                held = _held(data, new.positive)
                scores = []
                for one in (old, new):
                    scores.append(_scores(one, held.clips))
                    progress.advance()
                told |= judged(held, scores[0], old.threshold, scores[1], new.threshold)
            (folder / COMPARISON).write_text(canonical(told) + "\n", encoding="utf-8")

    return produce(store, job, write)


def judged(
    held: _Clips, served: NDArray[Any], served_at: float, new: NDArray[Any], new_at: float
) -> dict[str, Any]:  # fmt: skip
    """The comparison of scores (N,) of the held-out clips by both versions, with their thresholds."""
    if not held.positive.any() or held.positive.all():
        return {"better": False, "reason": "the held-out clips are all of one kind: there is no common measure"}
    recall = at(served_at, served, held.positive).recall
    before, after = (_side(held, s, t, recall) for s, t in ((served, served_at), (new, new_at)))
    hours = held.camera_hours
    told = {
        "clips": len(held.positive), "newest_alarms": held.alarms, "camera_hours": round(hours, 2),
        "before": asdict(before), "after": asdict(after),
        "false_alarms_per_camera_hour": [round(s.false_alarms / hours, 3) for s in (before, after)] if hours else None,
    }  # fmt: skip
    low = max(0.0, recall - RECALLS)
    figures = f"{before.mean_false_positives:g} false positives, the new one {after.mean_false_positives:g}"
    figures += f" on {len(held.positive)} held-out clips in the mean over recalls of {low:.0%} to {recall:.0%}"
    if hours:
        rates = [f"{side.false_alarms / hours:.2f}" for side in (before, after)]
        figures += f"; of the newest alarms {rates[0]} false ones per camera-hour, the new one {rates[1]}"
    if after.mean_false_positives >= before.mean_false_positives:
        return {**told, "better": False, "reason": f"no improvement: the served version has {figures}"}
    positives = int(held.positive.sum())
    allowed = max(LEAST_RECALL, 1 / positives) if positives >= FEW else LEAST_RECALL
    if before.recall - after.recall > allowed + 1e-4:  # both are rounded to four digits
        reason = f"at its own threshold the new version finds {after.recall:.0%}, the served one {before.recall:.0%}"
        return {**told, "better": False, "reason": f"{reason} (train.threshold_at=recall=.. chooses a lower one)"}
    return {**told, "better": True, "reason": f"the served version has {figures}"}


def _side(held: _Clips, scores: NDArray[Any], threshold: float, recall: float) -> Side:
    own, equal = at(threshold, scores, held.positive), at_recall(scores, held.positive, recall)
    alarms = sum(bool((scores[list(clips)] >= equal.threshold).any()) for clips in held.false_alarms)
    return Side(
        threshold, round(own.recall, 4), own.predicted - own.hits, round(equal.threshold, 4), round(equal.recall, 4),
        equal.predicted - equal.hits, round(over_recalls(scores, held.positive, recall - RECALLS, recall), 2), alarms,
    )  # fmt: skip


def at_recall(scores: NDArray[Any], truth: NDArray[Any], recall: float) -> Counts:
    """Of all thresholds with at least this recall the one with the fewest false positives, and of those the highest."""
    enough = [one for one in candidates(scores, truth) if one.recall >= recall - 1e-9]
    return min(enough, key=lambda one: (one.predicted - one.hits, -one.threshold))


def over_recalls(scores: NDArray[Any], truth: NDArray[Any], low: float, high: float) -> float:
    """The mean number of false positives over all recalls from ``low`` to ``high`` that so many positives can have:
    the area beside that part of the ROC curve, in clips (partial AUC: McClish, 1989)."""
    positive, others = np.sort(scores[truth])[::-1], scores[~truth]
    first, last = (max(1, math.ceil(recall * len(positive) - 1e-9)) for recall in (low, high))
    return float(np.mean([(others >= positive[found - 1]).sum() for found in range(first, last + 1)]))


def tell(comparison: Artifact) -> tuple[bool, str, dict[str, int | float | str]]:
    """Whether the new version is better, why, and the figures of a comparison; says the first two."""
    about = comparison.json(COMPARISON)
    say(f"posewatch: compare: {'better' if about['better'] else 'not deployed'}: {about['reason']}")
    return bool(about["better"]), about["reason"], {k: v for k, v in about.items() if isinstance(v, int | float | str)}


def _predictor(model: Artifact, folder: Path) -> OnnxPredictor:
    return OnnxPredictor(ancestor(model, "onnx").fetch(MODEL, folder))


def _scores(predictor: OnnxPredictor, clips: ClipSet) -> NDArray[np.float32]:
    p = predictor.predict(fitting(clips.keypoints, predictor)).probabilities
    return np.asarray(p[:, predictor.labels.index(predictor.positive)], np.float32)


def _held(data: Artifact, positive: str) -> _Clips:
    """The test part and the newest alarms of a dataset."""
    test, newest = dataset_part(data, "test"), dataset_part(data, NEWEST)
    clips = test.joined(newest)
    place = {clip: len(test) + i for i, clip in enumerate(newest.ids)}
    videos = {row["video"] for row in data.lines(CLIPS) if row["part"] == NEWEST}
    false_alarms, count, seconds = [], 0, 0.0
    for item in videos_of(_skeletons(data)) if len(newest) else ():
        if item.video not in videos or (told := alarms_of(item.artifact)) is None:
            continue
        seconds += sum(last - first for first, last in told["watched"])
        for one in told["alarms"]:
            known = tuple(place[clip] for clip in one["clips"] if clip in place)
            count += bool(known)
            if known and one["kind"] == "alarm" and one["verdict"] != "true":
                false_alarms.append(known)
    is_positive = clips.labels == clips.classes.index(positive)
    return _Clips(clips, is_positive, tuple(false_alarms), count, seconds / HOUR_S)


def _skeletons(data: Artifact) -> Artifact:
    """The set of skeletons that a dataset was made of."""
    return parent(data, "sets")
