"""Figures for Prometheus, without a name of a person or a clip in them."""

from __future__ import annotations

import threading
import time
from collections import Counter

from labeling_ui import wiring
from posewatch.errors import PosewatchError

BOUNDS = (0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 10.0)
_lock = threading.Lock()
_acts: Counter[tuple[str, str]] = Counter()


class _Histogram:
    def __init__(self, name: str) -> None:
        self.name, self.buckets, self.sum, self.count, self.cpu = name, Counter[float](), 0.0, 0, 0.0

    def add(self, seconds: float, cpu: float) -> None:
        self.sum += seconds
        self.cpu += cpu
        self.count += 1
        for bound in BOUNDS:
            if seconds <= bound:
                self.buckets[bound] += 1

    def lines(self) -> list[str]:
        out = [f"# TYPE {self.name} histogram"]
        out += [f'{self.name}_bucket{{le="{bound:g}"}} {self.buckets[bound]}' for bound in BOUNDS]
        out.append(f'{self.name}_bucket{{le="+Inf"}} {self.count}')
        out += [f"{self.name}_sum {self.sum:.6f}", f"{self.name}_count {self.count}"]
        cpu = self.name.replace("_seconds", "_cpu_seconds_total")
        return [*out, f"# TYPE {cpu} counter", f"{cpu} {self.cpu:.6f}"]


class Watch:
    """Seconds by the clock, and of this thread's CPU time, since it was made."""

    def __init__(self) -> None:
        self._began, self._cpu = time.perf_counter(), time.thread_time()

    def read(self) -> tuple[float, float]:
        return time.perf_counter() - self._began, time.thread_time() - self._cpu


_act_seconds = _Histogram("posewatch_labeling_act_seconds")
_page_seconds = _Histogram("posewatch_labeling_page_seconds")


def drawn(watch: Watch) -> None:
    """Count one page of clips, and how long the server took to put it together."""
    with _lock:
        _page_seconds.add(*watch.read())


def saved(kind: str, outcome: str, watch: Watch) -> None:
    """Count one act (label, rest, undo, ...) as saved or refused, and how long the server took."""
    with _lock:
        _acts[kind, outcome] += 1
        _act_seconds.add(*watch.read())


def text() -> str:
    """All figures in Prometheus' text format."""
    lines = ["# TYPE posewatch_labeling_acts_total counter"]
    with _lock:
        lines += [
            f'posewatch_labeling_acts_total{{kind="{kind}",outcome="{outcome}"}} {count}'
            for (kind, outcome), count in sorted(_acts.items())
        ]
        lines += [*_act_seconds.lines(), *_page_seconds.lines()]
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
