"""Ways to tell that a clip is like nothing a network knows, ranked on clips of other people, cameras and sets."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch.datasets.clipset import ClipSet
from posewatch.errors import InputError
from posewatch.files import write_atomically
from posewatch.recognition.evaluation.abstention import SHARES, avoided, doubt
from posewatch.recognition.evaluation.corruptions import drop_joints, jitter
from posewatch.recognition.recogniser import Recogniser, load_checkpoint
from posewatch.recognition.sampling import sampled

Floats = NDArray[np.float64]
Clip = NDArray[np.float32]


@dataclass(frozen=True)
class Answers:
    """What a network says of N clips: ``p`` (N, K), ``embedding`` (N, D), the others (N,)."""

    p: Floats
    embedding: Floats
    labels: NDArray[np.int64]
    wrong: NDArray[np.bool_]
    doubt: Floats
    energy: Floats


def answers(recogniser: Recogniser, clips: ClipSet) -> Answers:
    """The recogniser's answers to a clip set."""
    import torch

    positive = recogniser.labels.index(recogniser.positive) if recogniser.positive else None
    keypoints = torch.from_numpy(sampled(clips.with_flow(recogniser.flow), recogniser.config))
    rows = []
    with torch.no_grad():
        for part in keypoints.split(32):
            outputs = recogniser.run(part)
            free = torch.stack([-output.logits.logsumexp(1) for output in outputs]).mean(0)
            rows.append([*recogniser.answer(outputs, part), free])
    p, embedding, energies = (torch.cat(column).numpy() for column in zip(*rows, strict=True))
    unsure = doubt(p, positive, recogniser.threshold)
    wrong = recogniser.decide(p) != clips.labels
    return Answers(p.astype(float), embedding.astype(float), clips.labels, wrong, unsure, energies.astype(float))


def _gaussian(x: Floats, shrinkage: float) -> tuple[Floats, Floats]:
    mean = x.mean(0)
    covariance = np.cov(x.T) if len(x) > 1 else np.eye(x.shape[1])
    d = len(covariance)
    covariance = (1 - shrinkage) * covariance + shrinkage * np.trace(covariance) / d * np.eye(d)
    return mean, np.linalg.inv(covariance + 1e-9 * np.eye(d))


def _distance(x: Floats, mean: Floats, precision: Floats) -> Floats:
    return np.sqrt(np.maximum(np.einsum("nd,de,ne->n", x - mean, precision, x - mean), 0))


def mahalanobis(known: Answers, x: Answers, shrinkage: float = 0.1) -> Floats:
    """Distance to one Gaussian of all training clips."""
    return _distance(x.embedding, *_gaussian(known.embedding, shrinkage))


def class_conditional(known: Answers, x: Answers, shrinkage: float = 0.1) -> Floats:
    """Distance to the nearest class's mean, with the covariance within classes (Lee et al., arXiv 1807.03888)."""
    means = np.stack([known.embedding[known.labels == k].mean(0) for k in np.unique(known.labels)])
    centred = np.concatenate([known.embedding[known.labels == k] - m for k, m in enumerate(means)])
    _, precision = _gaussian(centred, shrinkage)
    return np.min([_distance(x.embedding, mean, precision) for mean in means], 0)


def directions(known: Answers, x: Answers, shrinkage: float = 0.5) -> Floats:
    """Distance to one Gaussian of all training clips, embeddings of length 1."""
    a, b = (e / np.maximum(np.linalg.norm(e, axis=1, keepdims=True), 1e-9) for e in (known.embedding, x.embedding))
    return _distance(b, *_gaussian(a, shrinkage))


def _whiten(known: Answers, shrinkage: float) -> tuple[Floats, Floats]:
    mean = known.embedding.mean(0)
    values, vectors = np.linalg.eigh(np.cov(known.embedding.T))
    values = (1 - shrinkage) * values + shrinkage * values.mean()
    return mean, vectors / np.sqrt(np.maximum(values, 1e-9))


def neighbours(known: Answers, x: Answers, k: int = 3, shrinkage: float = 0.1) -> Floats:
    """Mean distance to the k nearest training clips, whitened with shrinkage."""
    mean, way = _whiten(known, shrinkage)
    a, b = (x.embedding - mean) @ way, (known.embedding - mean) @ way
    distance = np.sqrt(np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T, 0))
    return np.sort(distance, 1)[:, :k].mean(1)


def cosine(known: Answers, x: Answers, k: int = 3) -> Floats:
    """Distance to the k-th nearest training clip, embeddings of length 1 (Sun et al., arXiv 2204.06507)."""
    a, b = (e / np.maximum(np.linalg.norm(e, axis=1, keepdims=True), 1e-9) for e in (x.embedding, known.embedding))
    return 1 - np.sort(a @ b.T, 1)[:, -min(k, len(b))]


def norm(known: Answers, x: Answers) -> Floats:
    """The shorter the embedding, the stranger."""
    return -np.linalg.norm(x.embedding, axis=1)


def energy(known: Answers, x: Answers) -> Floats:
    """Free energy of the logits, the mean of the networks' (Liu et al., arXiv 2010.03759)."""
    return x.energy


def chosen(known: Answers, x: Answers) -> Floats:
    """What a checkpoint stores (``recognition/novelty.py``)."""
    import torch

    from posewatch.recognition.novelty import fit

    density = fit(known.embedding)
    if density is None:
        raise InputError("there are too few training clips to tell strange ones")
    return density(torch.from_numpy(x.embedding).float()).numpy().astype(float)  # type: ignore[no-any-return]


WAYS: dict[str, Callable[[Answers, Answers], Floats]] = {
    "Gaussian": mahalanobis,
    "Gaussian per class": class_conditional,
    "Gaussian, length 1": directions,
    "neighbours": neighbours,
    "neighbours, cosine": cosine,
    "neighbours, length 1 (kept)": chosen,
    "feature norm": norm,
    "energy": energy,
    "doubt": lambda _, x: x.doubt,
}


def _mapped(clips: ClipSet, change: Callable[[Clip, np.random.Generator], Clip]) -> ClipSet:
    rng = np.random.default_rng(0)
    clips = clips.with_flow(0)
    return replace(clips, keypoints=tuple(change(k.copy(), rng) for k in clips.keypoints))


def _turned(degrees: float) -> Callable[[Clip, np.random.Generator], Clip]:
    a = np.deg2rad(degrees)
    turn = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]], np.float32)

    def change(clip: Clip, _: np.random.Generator) -> Clip:
        clip[..., :2] = (clip[..., :2] @ turn.T) * (clip[..., 2:] > 0)
        return clip

    return change


def _steep(clip: Clip, _: np.random.Generator) -> Clip:
    clip[..., 1] *= 0.35
    return clip


CAMERAS: dict[str, Callable[[Clip, np.random.Generator], Clip]] = {
    "camera rolled by 45 degrees": _turned(45),
    "camera rolled by 90 degrees": _turned(90),
    "steeply from above (heights x 0.35)": _steep,
    "half of the joints missing": lambda clip, rng: drop_joints(clip, 0.5, rng),
    "jitter of 10 % of the body": lambda clip, rng: jitter(clip, 0.1, rng),
}
"""Changes after which a clip's label still holds."""
GARBLED: dict[str, Callable[[Clip, np.random.Generator], Clip]] = {
    "frames in random order": lambda clip, rng: clip[:, rng.permutation(clip.shape[1])],
    "joints in random order": lambda clip, rng: clip[:, :, rng.permutation(clip.shape[2])],
}


def bench_novelty(
    checkpoints: Sequence[Path], clips: ClipSet, splits: dict[str, list[int]], others: dict[str, ClipSet], out: Path
) -> str:
    """Write ``novelty.json`` and ``novelty.md`` to ``out``; returns the table.

    The checkpoints were trained on the part ``train``; ``test`` are other people, under the same camera and under
    others (``CAMERAS``, ``GARBLED``), and ``others`` more sets with the same classes. Means over the checkpoints.
    """
    known, test = (clips.subset(splits[name]) for name in ("train", "test"))
    if len(known) < 8 or not len(test):
        raise InputError(f"{len(known)} training and {len(test)} test clips are too few to compare ways with")
    sets = {name: _mapped(test, change) for name, change in (CAMERAS | GARBLED).items()} | others
    labelled = [name for name in sets if name not in GARBLED]
    rank: dict[str, dict[str, list[float]]] = {way: {name: [] for name in sets} for way in WAYS}
    gone: dict[str, list[list[float]]] = {way: [] for way in WAYS}
    wrong: list[float] = []
    for path in checkpoints:
        recogniser = load_checkpoint(path)
        a, t = answers(recogniser, known), answers(recogniser, test)
        strange = {name: answers(recogniser, part) for name, part in sets.items()}
        pool = [*[t] * len(labelled), *(strange[name] for name in labelled)]  # as many known clips as strange ones
        mistakes = np.concatenate([part.wrong for part in pool])
        wrong.append(float(mistakes.mean()))
        for way, score in WAYS.items():
            inside = score(a, t)
            for name, part in strange.items():
                rank[way][name].append(auroc(inside, score(a, part)))
            scores = np.concatenate([inside if part is t else score(a, part) for part in pool])
            gone[way].append([avoided(scores, mistakes, share) for share in SHARES])
    result = {
        "checkpoints": len(checkpoints), "wrong": round(float(np.mean(wrong)), 4),
        "auroc": {way: {name: round(float(np.mean(v)), 4) for name, v in row.items()} for way, row in rank.items()},
        "avoided": {
            way: dict(zip(map(str, SHARES), np.mean(rows, 0).round(4).tolist(), strict=True))
            for way, rows in gone.items()
        },
    }  # fmt: skip
    write_atomically(out / "novelty.json", json.dumps(result, indent=1) + "\n")
    table = _table(result)
    write_atomically(out / "novelty.md", table)
    return table


def auroc(inside: Floats, outside: Floats) -> float:
    """How often a strange clip scores above a known one."""
    return float((outside[:, None] > inside).mean() + (outside[:, None] == inside).mean() / 2)


def _table(result: dict[str, Any]) -> str:
    ways = list(WAYS)
    lines = ["| AUROC against other people's clips | " + " | ".join(ways) + " |", "|---|" + "--:|" * len(ways)]
    for name in next(iter(result["auroc"].values())):
        lines += [f"| {name} | " + " | ".join(f"{result['auroc'][way][name]:.2f}" for way in ways) + " |"]
    means = [float(np.mean([*result["auroc"][way].values()])) for way in ways]
    lines.append("| mean | " + " | ".join(f"{mean:.3f}" for mean in means) + " |")
    for share in SHARES:
        rows = " | ".join(f"{result['avoided'][way][str(share)]:.0%}" for way in ways)
        lines.append(f"| wrong answers that go with {share:.0%} of the clips | {rows} |")
    return "\n".join(lines) + "\n"
