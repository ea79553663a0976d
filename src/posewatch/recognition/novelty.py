"""How strange a clip is to a network: how far its embedding lies from those of the clips that it was trained on.

Only directions of embeddings count, not their lengths. The distance is the mean one to the nearest training clips, in
units in which those vary alike, in part, along all axes. It is measured in the distance that one in a hundred clips of
people held out of training exceeds: above 1 a clip is not like anything that the network knows. ``posewatch bench
novelty`` has what it was compared with.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

NEAREST = 10
"""Training clips whose distances are averaged."""
POINTS = 512
"""Training clips that are kept, at most: drawn at random, the same in every run."""
FITTED = 4096
"""Training clips that a density is fitted to, at most."""
DIRECTIONS = 64
"""In which embeddings are compared, at most: those in which they vary most."""
SHRINKAGE = 0.5
"""Share of the mean variance in each direction's own: a few clips tell little about the small ones."""
QUANTILE = 0.99
RATIO = 1.5
"""Of a held-out clip's distance to a training clip's, where nobody was held out."""
Floats = NDArray[np.float64]


class Novelty(nn.Module):
    """Embeddings (N, D) → novelty (N,), of one density for each slice of the embedding, averaged.

    ``ratio``: how much farther clips of people held out lie than training clips do, by their 99 % quantiles.
    """

    def __init__(self, parts: list[dict[str, Any]], ratio: float = RATIO) -> None:
        super().__init__()
        self.ratio = ratio
        self.slices = [(int(part["first"]), len(part["way"])) for part in parts]
        for i, part in enumerate(parts):
            for name in ("mean", "way", "points"):
                self.register_buffer(f"{name}{i}", part[name].float(), persistent=False)

    def forward(self, embedding: Tensor) -> Tensor:
        found = []
        for i, (first, width) in enumerate(self.slices):
            mean, way, points = (cast(Tensor, getattr(self, f"{name}{i}")) for name in ("mean", "way", "points"))
            part = embedding[:, first : first + width]
            part = part / part.square().sum(1, keepdim=True).sqrt().clamp(min=1e-6)
            z = (part - mean) @ way
            square = (z.unsqueeze(1) - points).square().sum(2)
            nearest = square.topk(min(NEAREST, len(points)), dim=1, largest=False).values
            found.append((nearest + 1e-12).sqrt().mean(1))
        return torch.stack(found).mean(0)

    def parts(self, shift: int = 0) -> list[dict[str, Any]]:
        """What ``Novelty`` is made of, to be stored; ``shift`` moves the slices of the embedding."""
        return [
            {"first": first + shift, **{name: getattr(self, f"{name}{i}").cpu() for name in ("mean", "way", "points")}}
            for i, (first, _) in enumerate(self.slices)
        ]


def some(clips: int) -> NDArray[np.int64]:
    """Which of so many training clips a density is fitted to, the same in every run."""
    return np.sort(np.random.default_rng(0).permutation(clips)[:FITTED])


def fit(embedding: NDArray[Any], held_out: NDArray[Any] | None = None, ratio: float = RATIO) -> Novelty | None:
    """The density of training clips' embeddings (N, D), in units that ``held_out`` (M, D) set, or else ``ratio``.

    None for fewer than eight training clips.
    """
    if len(embedding) < 8:
        return None
    x = _directed(embedding)
    mean, way = _directions(x)
    kept = x if len(x) <= POINTS else x[np.sort(np.random.default_rng(0).permutation(len(x))[:POINTS])]
    points = (kept - mean) @ way
    own = np.quantile(nearest(points, points, itself=True), QUANTILE)
    if held_out is not None and len(held_out):
        ratio = float(np.quantile(nearest((_directed(held_out) - mean) @ way, points), QUANTILE) / max(own, 1e-9))
    unit = max(own * ratio, 1e-9)
    part = {"first": 0, "mean": mean, "way": way / unit, "points": points / unit}
    return Novelty([{k: v if k == "first" else torch.from_numpy(v).float() for k, v in part.items()}], ratio)


def joined(parts: list[tuple[Novelty | None, int]]) -> Novelty | None:
    """The densities of networks whose embeddings, of these widths, stand one after the other; None if one has none."""
    rows, shift = [], 0
    for novelty, width in parts:
        if novelty is None:
            return None
        rows += novelty.parts(shift)
        shift += width
    ratios = [novelty.ratio for novelty, _ in parts if novelty is not None]
    return Novelty(rows, float(np.mean(ratios)))


def _directed(embedding: NDArray[Any]) -> Floats:
    """Embeddings (N, D) at length 1."""
    x = embedding.astype(np.float64)
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-6))


def _directions(x: Floats) -> tuple[Floats, Floats]:
    """The mean (D,) of embeddings and what turns and scales them (D, R)."""
    values, vectors = np.linalg.eigh(np.atleast_2d(np.cov(x.T)))
    values, vectors = values[::-1][:DIRECTIONS], vectors[:, ::-1][:, :DIRECTIONS]
    values = (1 - SHRINKAGE) * np.maximum(values, 0) + SHRINKAGE * max(float(values.mean()), 1e-9)
    return x.mean(0), vectors / np.sqrt(values)


def nearest(z: Floats, points: Floats, *, itself: bool = False) -> Floats:
    """Mean distances of (N, R) to their nearest points; ``itself``: they are these points, and a point is not its own
    neighbour."""
    square = (z**2).sum(1)[:, None] + (points**2).sum(1) - 2 * z @ points.T
    skip = 1 if itself else 0
    return np.sqrt(np.maximum(np.sort(square, 1)[:, skip : skip + NEAREST], 0)).mean(1)  # type: ignore[no-any-return]
