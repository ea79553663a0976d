"""Several trained recognisers as one: a checkpoint whose probabilities are the weighted mean of theirs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from posewatch.datasets.layouts import Layout
from posewatch.errors import ConfigError, InputError
from posewatch.recognition import novelty
from posewatch.recognition.calibration import Calibration
from posewatch.recognition.recogniser import Recogniser, load_checkpoint, save


def combine(
    paths: Sequence[Path], out: Path, weights: Sequence[float] = (), calibration: Calibration | None = None
) -> Path:
    """Write ``out``, the ensemble of the checkpoints at ``paths``; it is exported and evaluated like one of them.

    Members may be different networks on different streams, but must agree in classes, positive class, joint layout,
    frames, persons and kind of features. The default of ``calibration`` is the weighted mean of their thresholds and
    temperatures. Raises InputError naming what differs, ConfigError for weights that do not fit.
    """
    if len(paths) < 2:
        raise InputError("an ensemble needs at least two checkpoints")
    weights = tuple(weights) or (1.0,) * len(paths)
    if len(weights) != len(paths) or min(weights) <= 0:
        raise ConfigError(f"give {len(paths)} positive weights, one for each checkpoint, not {len(weights)}")
    members = [load_checkpoint(path) for path in paths]
    first = members[0]
    for path, other in zip(paths[1:], members[1:], strict=True):
        for what, a, b in (
            ("classes", first.labels, other.labels),
            ("positive class", first.positive, other.positive),
            ("joint layout", first.layout, other.layout),
            ("frames", first.frames, other.frames),
            ("persons", first.people, other.people),
            ("choice of persons", first.people_by, other.people_by),
            ("unit", first.unit, other.unit),
            ("features", first.config.features, other.config.features),
        ):
            if a != b:
                raise InputError(f"{path} cannot join {paths[0]}: its {what} differ ({_difference(a, b)})")
    branches = tuple(
        # Inside a member its branches share its weight.
        replace(branch, weight=branch.weight / sum(b.weight for b in member.branches) * weight)
        for member, weight in zip(members, weights, strict=True)
        for branch in member.branches
    )
    if calibration is None:
        threshold, temperature = (
            sum(getattr(m, name) * w for m, w in zip(members, weights, strict=True)) / sum(weights)
            for name in ("threshold", "temperature")
        )
        calibration = Calibration(threshold, temperature)
    joined = Recogniser(
        first.config, first.layout, first.labels, first.positive, first.fps, branches=branches, unit=first.unit
    )
    joined.calibration = calibration
    joined.novelty = novelty.joined([(member.novelty, member.embedding_size) for member in members])
    for mine, theirs in zip(joined.networks, (n for member in members for n in member.networks), strict=True):
        mine.load_state_dict(theirs.state_dict())
    save(out, joined, joined.state_dict(), {"members": len(paths)})
    return out


def _difference(first: object, other: object) -> str:
    """Two values side by side; joint layouts by their names and sizes, for a line that people can read."""
    if not isinstance(first, Layout) or not isinstance(other, Layout):
        return f"{other} against {first}"
    a, b = (f"{layout.name!r} of {len(layout.joints)} joints" for layout in (first, other))
    return f"{b} against {a}" if a != b else f"both are {a}, which are named or joined differently"
