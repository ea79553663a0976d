"""Checks a robustness report against the limits of the configuration; needs no torch, so that ``deploy`` can use it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from posewatch.config import RobustnessConfig
from posewatch.errors import InputError

DROPS = (
    ("max_f1_drop_10", "joints_dropped", 0.1, "10 % of the joints dropped"),
    ("max_f1_drop_30", "joints_dropped", 0.3, "30 % of the joints dropped"),
    ("max_f1_drop_frames_30", "frames_dropped", 0.3, "30 % of the frames dropped"),
    ("max_f1_drop_jitter_5", "jitter", 0.05, "jitter of 5 % of the body size"),
)
"""Limits of RobustnessConfig on the drop of F1, each with its corruption, level and name in messages."""


@dataclass(frozen=True)
class Gate:
    """A judged gate. ``value`` is None if it was not measured; ``text`` is the result in one line."""

    name: str
    value: float | None
    limit: float
    passed: bool
    text: str


def judge(report: Mapping[str, Any], config: RobustnessConfig) -> list[Gate]:
    """A verdict on each limit that ``config`` sets. Raises InputError for a report without a result that one needs."""
    verdicts = []
    for name, kind, level, what in DROPS:
        if getattr(config, name) < 1:
            verdicts.append(_drop(name, getattr(config, name), what, _at(report, kind, level, what)))
    if config.min_f1_30 > 0:
        f1 = float(_at(report, "joints_dropped", 0.3, "30 % of the joints dropped")["f1"])
        text = f"30 % of the joints dropped leaves an F1 of {f1:.3f}, min_f1_30 is {config.min_f1_30:g}"
        verdicts.append(Gate("robustness.min_f1_30", f1, config.min_f1_30, f1 >= config.min_f1_30 - 1e-9, text))
    if config.max_f1_drop_part < 1:
        if not report.get("body_part_hidden"):
            raise _missing("hidden body parts")
        worst = max(report["body_part_hidden"], key=_f1_drop)
        what = f"hiding the {worst['part'].replace('_', ' ')}"
        verdicts.append(_drop("max_f1_drop_part", config.max_f1_drop_part, what, worst))
    return verdicts


def _at(report: Mapping[str, Any], kind: str, level: float, what: str) -> Mapping[str, Any]:
    row = next((row for row in report.get(kind, ()) if abs(row["level"] - level) < 1e-9), None)
    if row is None:
        raise _missing(what)
    return row


def _missing(what: str) -> InputError:
    return InputError(f"the robustness report has no result for {what} (run posewatch robustness again)")


def _f1_drop(row: Mapping[str, Any]) -> float:
    # Reports of earlier versions have it as f1_loss.
    return float(row["f1_drop"] if "f1_drop" in row else row["f1_loss"])


def _drop(name: str, limit: float, what: str, row: Mapping[str, Any]) -> Gate:
    drop = _f1_drop(row)
    text = f"{what} costs {100 * drop:.1f} points of F1, {name} allows {100 * limit:.1f}"
    # The comparison is false for NaN.
    return Gate(f"robustness.{name}", drop, limit, drop <= limit + 1e-9, text)
