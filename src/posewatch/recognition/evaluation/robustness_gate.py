"""Judges a robustness report against the limits of the configuration. Needs no network and no torch, so that whatever
deploys a model can ask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from posewatch.config import RobustnessConfig
from posewatch.errors import InputError


@dataclass(frozen=True)
class Verdict:
    """One limit of RobustnessConfig: what was measured, what is allowed, and both in one line."""

    name: str
    value: float
    limit: float
    passed: bool
    text: str


def gate(report: Mapping[str, Any], config: RobustnessConfig) -> list[str]:
    """The reasons, one line each, why the model of ``report`` must not be deployed; empty: it may.

    Raises InputError for a report that lacks what the gate asks about.
    """
    return [verdict.text for verdict in judge(report, config) if not verdict.passed]


def judge(report: Mapping[str, Any], config: RobustnessConfig) -> list[Verdict]:
    """Every limit that ``config`` sets, judged. Raises InputError for a report that lacks what a limit asks about."""
    verdicts = []

    def look(kind: str, level: float, what: str) -> Mapping[str, Any]:
        for row in report.get(kind, ()):
            if abs(row["level"] - level) < 1e-9:
                return row
        raise InputError(f"the robustness report says nothing of {what} (write it again with posewatch robustness)")

    for name, kind, level, what in (
        ("max_f1_drop_10", "joints_dropped", 0.1, "10 % of the joints dropped"),
        ("max_f1_drop_30", "joints_dropped", 0.3, "30 % of the joints dropped"),
        ("max_f1_drop_frames_30", "frames_dropped", 0.3, "30 % of the frames dropped"),
        ("max_f1_drop_jitter_5", "jitter", 0.05, "jitter of 5 % of the body size"),
    ):
        allowed = getattr(config, name)
        if allowed < 1:
            lost = float(look(kind, level, what)["f1_loss"])
            text = f"{what} costs {100 * lost:.1f} points of F1, {name} allows {100 * allowed:.1f}"
            # Written so that NaN does not pass.
            verdicts.append(Verdict(name, lost, allowed, lost <= allowed + 1e-9, text))
    if config.min_f1_30 > 0:
        left = float(look("joints_dropped", 0.3, "30 % of the joints dropped")["f1"])
        text = f"30 % of the joints dropped leaves an F1 of {left:.3f}, min_f1_30 is {config.min_f1_30:g}"
        verdicts.append(Verdict("min_f1_30", left, config.min_f1_30, left >= config.min_f1_30 - 1e-9, text))
    if config.max_f1_drop_part < 1:
        if not report.get("body_part_hidden"):
            raise InputError("the robustness report says nothing of hidden body parts (write it again)")
        worst = max(report["body_part_hidden"], key=lambda row: row["f1_loss"])
        lost = float(worst["f1_loss"])
        text = (
            f"hiding the {worst['part'].replace('_', ' ')} costs {100 * lost:.1f} points of F1, "
            f"max_f1_drop_part allows {100 * config.max_f1_drop_part:.1f}"
        )
        allowed = config.max_f1_drop_part
        verdicts.append(Verdict("max_f1_drop_part", lost, allowed, lost <= allowed + 1e-9, text))
    return verdicts
