"""Active learning with a simulated labeler: the labels that the uncertain-first queue saves on a labelled file.

Each seed holds out a quarter of the groups of people. After every page of ten labels a classifier (logistic regression
on the pose statistics of ``evaluation.baselines``) is fitted, and the next ten clips are drawn at random or by
``labels.active.order``. The labeler gives the true label. Both queues begin with the same ten clips.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch.datasets import layouts
from posewatch.errors import InputError
from posewatch.files import write_atomically
from posewatch.labels.active import order, uncertainty
from posewatch.recognition.evaluation.plots import BLUE, GREY, styled, write_figure

FIRST, STEP, POOL = 10, 10, 3
WITHIN = 0.01
"""An F1 this close to the F1 with all labels counts as equal (one point)."""


@dataclass(frozen=True)
class Curve:
    """F1 on the held-out people after each number of ``labels``, and with all of them (``full``)."""

    labels: tuple[int, ...]
    f1: tuple[float, ...]
    full: float


def _fitted(features: NDArray[np.float32], labels: NDArray[np.int64]) -> Any:
    """Logistic regression on features (N, F) and labels (N,), after scaling."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.02, max_iter=3000, class_weight="balanced"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(features, labels)


def simulate(
    features: NDArray[np.float32], labels: NDArray[np.int64], groups: NDArray[Any], positive: int, seed: int
) -> dict[str, Curve]:
    """Curves of the ``random`` and the ``uncertain`` queue, for features (N, F) of clips with labels (N,)."""
    from sklearn.metrics import f1_score

    rng = np.random.default_rng(seed)
    names = np.array(sorted(set(groups)))
    held = set(rng.permutation(names)[: max(1, len(names) // 4)])
    test = np.array([group in held for group in groups])
    pool = rng.permutation(np.flatnonzero(~test))
    start = _both_classes(labels, pool)

    def f1(model: Any) -> float:
        predicted = model.predict(features[test])
        return float(f1_score(labels[test] == positive, predicted == positive, zero_division=0))

    full = f1(_fitted(features[pool], labels[pool]))
    out = {}
    for queue in ("random", "uncertain"):
        labelled, sizes, scores = list(pool[:start]), [], []
        while True:
            model = _fitted(features[labelled], labels[labelled])
            sizes.append(len(labelled))
            scores.append(f1(model))
            known = set(labelled)
            rest = np.array([i for i in pool if i not in known])
            if not len(rest):
                break
            if queue == "random":
                chosen = rest[:STEP]
            else:
                p, scaled = model.predict_proba(features[rest]), model[0].transform(features[rest])
                chosen = rest[order(uncertainty(p), scaled, batch=STEP, pool=POOL)[:STEP]]
            labelled += list(chosen)
        out[queue] = Curve(tuple(sizes), tuple(scores), full)
    return out


def _both_classes(labels: NDArray[np.int64], pool: NDArray[np.int64]) -> int:
    wanted = set(labels[pool])
    for start in range(FIRST, len(pool) + 1):
        if set(labels[pool[:start]]) == wanted:
            return start
    raise InputError("the clips to learn from are all of one class")


def summary(runs: list[dict[str, Curve]]) -> dict[str, Any]:
    """Mean curves over the seeds, and the share of labels with which each queue comes within a point of all labels.

    Seeds differ in the number of clips, so curves are compared at shares of the pool, in steps of 2 %.
    """
    shares = np.arange(0.04, 1.0001, 0.02)
    result: dict[str, Any] = {"seeds": len(runs), "shares": [round(float(s), 2) for s in shares], "within": WITHIN}
    result["full_f1"] = round(float(np.mean([run["random"].full for run in runs])), 4)
    result["clips"] = [run["random"].labels[-1] for run in runs]
    for queue in ("random", "uncertain"):
        rows = np.array([np.interp(shares * run[queue].labels[-1], run[queue].labels, run[queue].f1) for run in runs])
        mean = rows.mean(0)
        reached = np.flatnonzero(mean >= result["full_f1"] - WITHIN)
        result[queue] = {
            "f1": [round(float(v), 4) for v in mean],
            "std": [round(float(v), 4) for v in rows.std(0)],
            "share_needed": round(float(shares[reached[0]]), 2) if len(reached) else None,
            "f1_at_half": round(float(mean[np.searchsorted(shares, 0.5 - 1e-9)]), 4),
        }
    return result


def plot(result: dict[str, Any], path: Path) -> None:
    """F1 against the share of labelled clips."""
    with styled() as plt:
        figure, axes = plt.subplots(figsize=(7.5, 4.6), layout="constrained")
        x = 100 * np.array(result["shares"])
        for queue, colour, name in (("random", GREY, "random"), ("uncertain", BLUE, "uncertain first")):
            mean, std = np.array(result[queue]["f1"]), np.array(result[queue]["std"])
            axes.plot(x, mean, color=colour, lw=2.2, label=name)
            axes.fill_between(x, mean - std, mean + std, color=colour, alpha=0.13, lw=0)
            if result[queue]["share_needed"]:
                axes.axvline(100 * result[queue]["share_needed"], color=colour, lw=1, ls=":")
        axes.axhline(result["full_f1"], color="#d6404f", lw=1.2, ls="--", label="all labels")
        axes.set(xlabel="labelled clips (% of all)", ylabel="F1 on held-out people", xlim=(0, 100), ylim=(0.6, 1))
        axes.set_title(f"Labels needed, mean and standard deviation over {result['seeds']} seeds")
        axes.legend(frameon=False, loc="lower right")
        axes.grid(alpha=0.2)
        write_figure(plt, figure, path)


def bench_active_learning(annotations: Path, out: Path, seeds: int = 5, frames: int = 20) -> dict[str, Any]:
    """Simulate, write ``bench.json`` and ``bench.png`` to ``out``, and return the content of the former."""
    from posewatch.datasets.pyskl import read_pyskl
    from posewatch.recognition.evaluation.baselines import pose_statistics
    from posewatch.recognition.sampling import resample
    from posewatch.recognition.training.experiment import positive_of

    clips, _ = read_pyskl(annotations)
    layout = layouts.get(clips.layout)
    features = pose_statistics(resample(clips.keypoints, frames, 2), layout)
    positive = clips.classes.index(positive_of(clips.classes) or clips.classes[-1])
    groups = np.array(clips.groups)
    result = summary([simulate(features, clips.labels, groups, positive, seed) for seed in range(seeds)])
    result["annotations"] = annotations.name
    plot(result, out / "bench.png")
    write_atomically(out / "bench.json", json.dumps(result, indent=1) + "\n")
    return result


def table(result: dict[str, Any]) -> str:
    """The result as a table for people."""
    lines = [f"F1 with all labels {result['full_f1']:.3f} (mean of {result['seeds']} seeds, {result['annotations']})"]
    lines.append(f"{'queue':<18}{'F1 at half':>12}{'share of the labels for F1 within a point of all':>52}")
    for queue, name in (("random", "random"), ("uncertain", "uncertain first")):
        share = result[queue]["share_needed"]
        lines.append(f"{name:<18}{result[queue]['f1_at_half']:>12.3f}{'-' if share is None else f'{share:.0%}':>52}")
    return "\n".join(lines)
