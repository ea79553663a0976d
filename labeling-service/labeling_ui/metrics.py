"""Figures for Prometheus, without a name of a person or a clip in them."""

from __future__ import annotations

import threading
from collections import Counter

from labeling_ui import wiring
from posewatch.errors import PosewatchError

BOUNDS = (0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 10.0)
_lock = threading.Lock()
_acts: Counter[tuple[str, str]] = Counter()
_buckets: Counter[float] = Counter()
_sum = [0.0, 0]


def saved(kind: str, outcome: str, seconds: float) -> None:
    """Count one act (label, rest, undo, ...) as saved or refused, and how long the server took."""
    with _lock:
        _acts[kind, outcome] += 1
        _sum[0] += seconds
        _sum[1] += 1
        for bound in BOUNDS:
            if seconds <= bound:
                _buckets[bound] += 1


def text() -> str:
    """All figures in Prometheus' text format."""
    lines = ["# TYPE posewatch_labeling_acts_total counter"]
    with _lock:
        lines += [
            f'posewatch_labeling_acts_total{{kind="{kind}",outcome="{outcome}"}} {count}'
            for (kind, outcome), count in sorted(_acts.items())
        ]
        lines.append("# TYPE posewatch_labeling_act_seconds histogram")
        lines += [f'posewatch_labeling_act_seconds_bucket{{le="{bound:g}"}} {_buckets[bound]}' for bound in BOUNDS]
        lines.append(f'posewatch_labeling_act_seconds_bucket{{le="+Inf"}} {_sum[1]}')
        lines += [
            f"posewatch_labeling_act_seconds_sum {_sum[0]:.6f}",
            f"posewatch_labeling_act_seconds_count {_sum[1]}",
        ]
    try:
        total, labelled, differ = wiring.totals()
        lines += ["# TYPE posewatch_labeling_clips gauge", f'posewatch_labeling_clips{{state="all"}} {total}']
        lines += [f'posewatch_labeling_clips{{state="labelled"}} {labelled}']
        lines += [f'posewatch_labeling_clips{{state="disagreement"}} {differ}']
        up = 1
    except PosewatchError:
        up = 0
    lines += ["# TYPE posewatch_labeling_database_up gauge", f"posewatch_labeling_database_up {up}"]
    return "\n".join(lines) + "\n"
