"""What is left of the errors when a model gives no answer to some clips: those it doubts, or that are strange to it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

SHARES = (0.1, 0.2, 0.3)
"""Of the clips without an answer, for which the errors that are avoided are told."""
_LEAST = 1e-6


def doubt(p: NDArray[Any], positive: int | None, threshold: float) -> NDArray[np.float64]:
    """Probabilities (N, K) → (N,): how near a decision is to the threshold, or without a positive class how small the
    largest probability; higher is less sure."""
    if positive is None:
        return np.asarray(-p.max(1), np.float64)

    def logit(x: Any) -> Any:
        x = np.clip(np.asarray(x, np.float64), _LEAST, 1 - _LEAST)
        return np.log(x / (1 - x))

    return np.asarray(-np.abs(logit(p[:, positive]) - logit(threshold)), np.float64)


def risk(score: NDArray[Any], wrong: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(N,): the share of wrong answers among the 1, 2, ... N clips with the lowest scores; equal scores count alike."""
    order = np.argsort(score, kind="stable")
    _, first, count = np.unique(score[order], return_index=True, return_counts=True)
    mean = np.add.reduceat(wrong[order].astype(np.float64), first) / count
    return np.cumsum(np.repeat(mean, count)) / np.arange(1, len(order) + 1)


def avoided(score: NDArray[Any], wrong: NDArray[np.bool_], share: float) -> float:
    """Of the wrong answers, the share that goes when the ``share`` of clips with the highest scores gets no answer."""
    kept = len(wrong) - round(share * len(wrong))
    total = int(wrong.sum())
    if not total or not kept:
        return 0.0 if not total else 1.0
    return float(1 - risk(score, wrong)[kept - 1] * kept / total)


def abstention(scores: dict[str, NDArray[Any]], wrong: NDArray[np.bool_]) -> dict[str, Any]:
    """``curves``: the risk at each share of clips that are answered (``coverage``), by each of ``scores``; ``avoided``:
    the share of errors that goes at 10, 20 and 30 % without an answer. JSON-able."""
    n = len(wrong)
    at = np.unique(np.linspace(max(1, n // 2), n, min(n, 51)).round().astype(int))
    return {
        "coverage": (at / n).round(4).tolist(),
        "curves": {name: risk(s, wrong)[at - 1].round(6).tolist() for name, s in scores.items()},
        "avoided": {
            name: {f"{share:g}": round(avoided(s, wrong, share), 4) for share in SHARES} for name, s in scores.items()
        },
    }
