"""A trained recogniser's threshold chosen anew, for another wish, on the held-out clips that its checkpoint has."""

from __future__ import annotations

from pathlib import Path

import torch

from posewatch.errors import InputError
from posewatch.files import write_atomically
from posewatch.recognition.calibration import tempered
from posewatch.recognition.evaluation.metrics import wilson
from posewatch.recognition.recogniser import Recogniser, dump, load_checkpoint
from posewatch.recognition.threshold import HOUR_S, Chosen, parse, threshold_at


def choose_again(path: Path, wish: str, out: Path | None = None) -> list[str]:
    """Lines for the user: the threshold, what it does on the held-out clips, and how far chance could have moved that.

    With ``out`` the checkpoint with that threshold is written there. Raises what ``choose`` raises.
    """
    recogniser = load_checkpoint(path)
    chosen = choose(recogniser, wish, str(path))
    if out is not None:
        data = torch.load(path, map_location="cpu", weights_only=True)
        write_atomically(out, dump({**data, "threshold": chosen.threshold}))
    assert recogniser.held_out is not None
    lines = _lines(wish, chosen, recogniser.positive, recogniser.held_out.seconds)
    return [*lines, *([str(out)] if out else [])]


def choose(recogniser: Recogniser, wish: str, name: str) -> Chosen:
    """The threshold of a recogniser, called ``name`` in messages, for a wish (``threshold.threshold_at``).

    Raises ConfigError for another wish, InputError for one without a positive class or held-out clips.
    """
    parse(wish)
    held = recogniser.held_out
    if not recogniser.positive:
        raise InputError(f"{name} has no positive class, so no threshold (train it with --positive CLASS)")
    if held is None or not len(held.labels):
        raise InputError(f"{name} remembers no held-out clips: train it again, with train.validation or train.folds")
    positive = recogniser.labels.index(recogniser.positive)
    truth = held.labels == positive
    if truth.all() or not truth.any():
        raise InputError(f"all {len(truth)} held-out clips of {name} are on one side: a threshold needs both")
    scores = tempered(held.scores, recogniser.temperature)[:, positive]
    balanced = recogniser.config.balance != "none" and len(recogniser.labels) == 2
    odds = float((~truth).sum() / truth.sum()) if balanced else 1.0
    return threshold_at(wish, scores, truth, odds, held.seconds)


def _lines(wish: str, chosen: Chosen, positive: str, seconds: float) -> list[str]:
    counts = chosen.counts
    false, negatives = counts.predicted - counts.hits, counts.clips - counts.positives
    lines = [] if chosen.met else [f"no threshold reaches {wish} on these clips; this is the nearest one"]
    lines.append(
        f"threshold {chosen.threshold:.4f} at {wish}, from {counts.clips} clips held out of training"
        f" ({counts.positives} {positive})"
    )
    rows = [("precision", counts.hits, counts.predicted), ("recall", counts.hits, counts.positives)]
    for name, hits, n in [*rows, ("false positive rate", false, negatives)]:
        if n:
            low, high = wilson(hits, n)
            lines.append(f"{name:<22}{hits / n:>8.3f}   95 % of chance: {low:.3f} to {high:.3f}")
    if seconds > 0:
        low, high = (share * HOUR_S / seconds for share in wilson(false, negatives))
        lines.append(
            f"{'false alarms per hour':<22}{false / negatives * HOUR_S / seconds:>8.1f}   95 % of chance: {low:.1f} to"
            f" {high:.1f} (each window of {seconds:.3g} s by itself, all as in the clips)"
        )
    return lines
