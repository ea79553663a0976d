"""Two classical models on statistics of the poses, which every network has to beat."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from posewatch.datasets.layouts import Layout
from posewatch.recognition.features import Features

NAMES = ("logistic", "forest")


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
    """``logistic`` regression or a random ``forest``, fitted on clips (N, M, T, V, 3) with labels (N,) of K classes."""

    def __init__(
        self, name: str, clips: NDArray[np.float32], labels: NDArray[np.int64], classes: int, layout: Layout
    ) -> None:
        from sklearn.ensemble import RandomForestClassifier
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        self.classes, self.layout = classes, layout
        self.model: Any = {
            "logistic": lambda: make_pipeline(
                StandardScaler(), LogisticRegression(C=0.1, max_iter=3000, class_weight="balanced")
            ),
            "forest": lambda: RandomForestClassifier(300, class_weight="balanced", random_state=0, n_jobs=1),
        }[name]()
        with warnings.catch_warnings():
            # scikit-learn warns of constant columns: joints that never move.
            warnings.simplefilter("ignore")
            self.model.fit(pose_statistics(clips, layout), labels)

    def probabilities(self, clips: NDArray[np.float32]) -> NDArray[np.float64]:
        """Clips (N, M, T, V, 3) → (N, K); a class that training lacked has probability 0."""
        p = np.zeros((len(clips), self.classes))
        p[:, self.model.classes_] = self.model.predict_proba(pose_statistics(clips, self.layout))
        return p


def baseline_scores(
    train: NDArray[np.float32],
    labels: NDArray[np.int64],
    test: NDArray[np.float32],
    classes: int,
    layout: Layout,
) -> dict[str, NDArray[np.float64]]:
    """Probabilities (N', K) of the test clips by each of ``NAMES``, fitted on training clips (N, M, T, V, 3).

    Empty when the training clips' ``labels`` (N,) are of one class only.
    """
    if len(np.unique(labels)) < 2:
        return {}
    return {name: Baseline(name, train, labels, classes, layout).probabilities(test) for name in NAMES}
