"""Twenty lines of scikit-learn that every network has to beat: statistics of the poses, then two classical models."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from posewatch.layouts import Layout
from posewatch.recognition.features import Features


def pose_statistics(keypoints: NDArray[np.float32], layout: Layout) -> NDArray[np.float32]:
    """Clips (N, M, T, V, 3) → (N, F): where joints are, how far they range, how fast they move, how near persons are.

    Persons are put in the order of how much they move, so that who is person one does not matter.
    """
    with torch.no_grad():
        x, present = Features(layout, keypoints.shape[2]).normalise(torch.from_numpy(keypoints))
    xy, there = x[..., :2].numpy(), present.numpy()
    middle = xy.mean(3, keepdims=True)
    speed = np.abs(np.diff(xy, axis=2))
    order = np.argsort(-speed.mean((2, 3, 4)), axis=1, kind="stable")
    own = xy - middle
    per_person = np.concatenate(
        [
            *(f.reshape(*f.shape[:2], -1) for f in (own.mean(2), own.std(2), own.max(2) - own.min(2))),
            *(f.reshape(*f.shape[:2], -1) for f in (speed.mean(2), speed.max(2))),
            *(f.reshape(*f.shape[:2], -1) for f in (middle.std(2), np.ptp(middle, 2))),
            there[..., None],
        ],
        -1,
    )
    per_person = np.take_along_axis(per_person, order[..., None], 1)
    parts = [per_person.reshape(len(xy), -1)]
    if xy.shape[1] > 1:
        apart = np.linalg.norm(middle[:, 0] - middle[:, 1], axis=-1)[..., 0] * (there[:, :1] * there[:, 1:2])
        parts.append(np.stack([apart.mean(1), apart.min(1), apart.max(1), apart[:, -1] - apart[:, 0]], 1))
    return np.concatenate(parts, 1).astype(np.float32)


def baseline_scores(
    train: NDArray[np.float32],
    truth: NDArray[np.bool_],
    test: NDArray[np.float32],
    layout: Layout,
) -> dict[str, NDArray[np.float64]]:
    """Fit on training clips (N, M, T, V, 3) with ``truth`` (N,); the positive class's probability for the test clips.

    Keys ``logistic`` and ``forest``; empty when the training clips have one class only.
    """
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if truth.all() or not truth.any():
        return {}
    a, b = pose_statistics(train, layout), pose_statistics(test, layout)
    models: dict[str, Any] = {
        "logistic": make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=3000, class_weight="balanced")),
        "forest": RandomForestClassifier(300, class_weight="balanced", random_state=0, n_jobs=1),
    }
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, model in models.items():
            found[name] = model.fit(a, truth).predict_proba(b)[:, 1]
    return found
