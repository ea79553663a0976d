"""Two classical models on statistics of the poses, which every network has to beat, in a bounded time."""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from posewatch.datasets.layouts import Layout
from posewatch.recognition.features import Features

NAMES = {"logistic": "logistic regression", "forest": "random forest"}
SECONDS = 30.0
"""How long each baseline is fitted at most; many classes make either a hundred times slower than few."""
TREES, ITERATIONS = 300, 3000
SIZE = 2_000_000
"""Clips times classes that the baselines are fitted on at most: one tree then takes some seconds."""


def pose_statistics(keypoints: NDArray[np.float32], layout: Layout) -> NDArray[np.float32]:
    """Clips (N, M, T, V, 3) → (N, F): positions, ranges and speeds of the joints, distances between the persons.

    Keypoints are normalised as for the network. Persons are sorted by how much they move, so that their order in the
    clip does not matter.
    """
    with torch.no_grad():
        x, present = Features(layout, keypoints.shape[2]).normalise(torch.from_numpy(keypoints))
    xy, seen = x[..., :2].numpy(), present.numpy()
    step = np.linalg.norm(np.diff(xy, axis=2), axis=-1)
    order = np.argsort(-step.mean((2, 3)), axis=1, kind="stable")
    xy = np.take_along_axis(xy, order[:, :, None, None, None], 1)
    step = np.take_along_axis(step, order[:, :, None, None], 1)
    seen = np.take_along_axis(seen, order, 1)
    middle = xy.mean(3)
    parts = [
        *(xy.mean(2), xy.std(2), np.ptp(xy, 2), step.mean(2), step.max(2), step.std(2)),
        *(middle.std(2), np.ptp(middle, 2), seen),
    ]
    if xy.shape[1] > 1:
        both = (seen[:, 0] * seen[:, 1])[:, None]
        apart = np.linalg.norm(middle[:, 0] - middle[:, 1], axis=-1) * both
        parts.append(np.stack([apart.mean(1), apart.min(1), apart.max(1), apart[:, -1] - apart[:, 0]], 1))
        for one, other in ((0, 1), (1, 0)):
            # The distance of each joint of one person from the middle of the other.
            reach = np.linalg.norm(xy[:, one] - middle[:, other, :, None], axis=-1) * both[..., None]
            parts += [reach.min(1), reach.mean(1)]
    return np.concatenate([part.reshape(len(xy), -1) for part in parts], 1).astype(np.float32)


class Baseline:
    """``logistic`` regression or a random ``forest``, fitted on clips (N, M, T, V, 3) with labels (N,) of K classes.

    ``note`` says what was cut so that the fit takes about ``seconds`` and no more; empty where nothing was.
    """

    def __init__(
        self,
        name: str,
        clips: NDArray[np.float32],
        labels: NDArray[np.int64],
        classes: int,
        layout: Layout,
        seconds: float = SECONDS,
    ) -> None:
        self.classes, self.layout = classes, layout
        some = _spread(labels, max(SIZE // classes, 2 * classes))
        fit = {"logistic": _logistic, "forest": _forest}[name]
        with warnings.catch_warnings():
            # scikit-learn warns of constant columns (joints that never move) and of fits that are cut short.
            warnings.simplefilter("ignore")
            self.model, cut = fit(pose_statistics(clips[some], layout), labels[some], seconds)
        if len(some) < len(labels):
            cut.append(f"{len(some)} of {len(labels)} training clips")
        self.note = f"{NAMES[name]}: {', '.join(cut)}" if cut else ""

    def probabilities(self, clips: NDArray[np.float32]) -> NDArray[np.float64]:
        """Clips (N, M, T, V, 3) → (N, K); a class that training lacked has probability 0."""
        p = np.zeros((len(clips), self.classes))
        p[:, self.model.classes_] = self.model.predict_proba(pose_statistics(clips, self.layout))
        return p


def _spread(labels: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """The indices of at most ``most`` clips, drawn from all classes alike: every class keeps some."""
    if len(labels) <= most:
        return np.arange(len(labels))
    order = np.random.default_rng(0).permutation(len(labels))
    turn = np.empty(len(labels), np.int64)
    for group in np.unique(labels):
        own = order[labels[order] == group]
        turn[own] = np.arange(len(own))
    return np.sort(order[np.argsort(turn[order], kind="stable")][:most])


def _forest(x: NDArray[np.float32], y: NDArray[np.int64], seconds: float) -> tuple[Any, list[str]]:
    """A forest that grows as long as there is time; of few clips it always has all its trees."""
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(1, class_weight="balanced", random_state=0, n_jobs=1, warm_start=True)
    began, trees, affordable = time.monotonic(), 0, 1
    while trees < min(affordable, TREES):
        trees = min(TREES, affordable, 4 * trees or 1)
        forest.set_params(n_estimators=trees).fit(x, y)
        affordable = int(trees * seconds / max(time.monotonic() - began, 1e-9))
    return forest, [f"{trees} of {TREES} trees in {seconds:.0f} s"] if trees < TREES else []


def _logistic(x: NDArray[np.float32], y: NDArray[np.int64], seconds: float) -> tuple[Any, list[str]]:
    """A logistic regression of as many iterations as there is time for, by the time that the first few take."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    few = 5
    regression = LogisticRegression(C=0.1, max_iter=few, class_weight="balanced")
    model = make_pipeline(StandardScaler(), regression)
    began = time.monotonic()
    model.fit(x, y)
    affordable = int(few * seconds / max(time.monotonic() - began, 1e-9))
    most = min(ITERATIONS, max(few, affordable))
    regression.set_params(max_iter=most)
    model.fit(x, y)
    unfinished = most < ITERATIONS and int(regression.n_iter_.max()) >= most
    return model, [f"{most} iterations in {seconds:.0f} s"] if unfinished else []


def baseline_scores(
    train: NDArray[np.float32],
    labels: NDArray[np.int64],
    test: NDArray[np.float32],
    classes: int,
    layout: Layout,
    seconds: float = SECONDS,
) -> tuple[dict[str, NDArray[np.float64]], str]:
    """Probabilities (N', K) of the test clips by each of `NAMES`, fitted on training clips (N, M, T, V, 3).

    With a remark on what was cut for want of time, ``seconds`` for each fit. Empty when the training clips' ``labels``
    (N,) are of one class only.
    """
    if len(np.unique(labels)) < 2:
        return {}, ""
    fitted = {name: Baseline(name, train, labels, classes, layout, seconds) for name in NAMES}
    note = "; ".join(model.note for model in fitted.values() if model.note)
    return {name: model.probabilities(test) for name, model in fitted.items()}, note
