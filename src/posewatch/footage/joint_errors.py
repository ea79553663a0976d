"""What a pose estimator makes of joints that are known: where it puts them, how sure it is, whom it does not see.

The figures are those of the offline default, measured on eight rendered videos of three people each, 18,360 joints of
which 3,496 are hidden, by ``posewatch bench joint-errors FOOTAGE`` on the footage of ``posewatch bench persons``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

GROUPS = ("head", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
GROUP = np.array([0, 0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6])
"""The group of each COCO-17 joint."""
ERRORS = np.array(
    [
        [[-3.785, 0.708], [-3.405, 0.985], [-3.298, 1.172], [-3.307, 1.312], [-3.561, 0.811], [-3.297, 0.898],
         [-3.109, 0.979]],
        [[-3.692, 0.768], [-3.003, 0.613], [-2.699, 0.773], [-2.252, 0.85], [-3.331, 0.811], [-3.068, 1.028],
         [-2.454, 1.137]],
    ]
)  # fmt: skip
"""Of a joint that the camera sees and of a hidden one, by group: mean and deviation of the natural logarithm of its
distance from the truth, in longer sides of the body."""
SCORES = np.array(
    [
        [[0.116, 0.402], [0.642, 0.63], [0.306, 0.741], [-0.051, 0.746], [1.063, 0.57], [0.591, 0.611],
         [0.345, 0.817]],
        [[-0.098, 0.328], [0.459, 0.614], [-0.321, 0.587], [-0.813, 0.586], [0.709, 0.704], [-0.179, 0.836],
         [-0.735, 0.904]],
    ]
)  # fmt: skip
"""The same for the logit of its score."""
RHO = 0.579
"""Correlation of the errors of two successive frames, at ten frames a second."""
CLEAR = 0.6
"""Share of a person's joints that the camera sees from which the person is in clear sight."""
LOST = np.array([[0.476, 0.01], [0.804, 0.155]])
"""Of a person in clear sight, and of one who is not: the chance of being lost in a frame after one in which they were
lost, and after one in which they were found."""


def estimated(
    points: NDArray[np.float64], visible: NDArray[np.bool_], size: tuple[int, int], rng: np.random.Generator
) -> NDArray[np.float32]:
    """True joints (M, T, 17, 2) in pixels and which the camera sees (M, T, 17) → float32 (M, T, 17, 3) as estimated."""
    people, frames = points.shape[:2]
    kind = np.where(visible, 0, 1)
    side = np.maximum(np.ptp(points, axis=2).max(-1), 4.0)[..., None]
    way = _smooth(rng, (people, frames, 17, 2))
    way /= np.linalg.norm(way, axis=-1, keepdims=True) + 1e-9
    spread, score = (
        table[kind, GROUP, 0] + table[kind, GROUP, 1] * _smooth(rng, (people, frames, 17)) for table in (ERRORS, SCORES)
    )
    out = np.empty((people, frames, 17, 3), np.float32)
    # an estimator puts no joint outside of its picture
    out[..., :2] = np.clip(points + way * (np.exp(np.minimum(spread, 0.5)) * side)[..., None], 0, size)
    out[..., 2] = 1 / (1 + np.exp(-score))
    lost = np.array([_lost(row.mean(-1), rng) for row in visible])
    out[lost] = 0
    return out


def _smooth(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Normal noise that changes slowly along the second axis."""
    noise = rng.normal(size=shape)
    for t in range(1, shape[1]):
        noise[:, t] = RHO * noise[:, t - 1] + np.sqrt(1 - RHO**2) * noise[:, t]
    return noise


def _lost(seen: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.bool_]:
    """The frames in which a person is not found, by the share of their joints that are seen in each of the T frames."""
    out = np.zeros(len(seen), bool)
    for t, share in enumerate(seen):
        stays, begins = LOST[int(share < CLEAR)]
        chance = stays if t and out[t - 1] else begins
        out[t] = share < 0.1 or rng.random() < chance
    return out
