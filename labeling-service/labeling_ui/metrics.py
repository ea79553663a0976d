"""Prometheus metrics of the labeling page. No label holds the name of a person or of a clip."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from labeling_ui import wiring
from posewatch.errors import PosewatchError
from posewatch.labels.precision import DELAYS_S

BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 10.0)
disable_created_metrics()
_registry = CollectorRegistry()
ACTS = Counter("posewatch_labeling_acts", "Acts of people, saved or refused.", ["kind", "outcome"], registry=_registry)
_TIMES = {
    what: (
        Histogram(f"posewatch_labeling_{what}_seconds", f"Wall-clock time {of}.", buckets=BUCKETS, registry=_registry),
        Counter(f"posewatch_labeling_{what}_cpu_seconds", f"CPU time {of}.", registry=_registry),
    )
    for what, of in (("act", "of the server per act"), ("page", "of the server per page of clips"))
}


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Record the wall-clock and CPU time of one "act" or "page" that ends without an error."""
    began, cpu_began = time.perf_counter(), time.thread_time()
    yield
    seconds, cpu_seconds = _TIMES[what]
    seconds.observe(time.perf_counter() - began)
    cpu_seconds.inc(time.thread_time() - cpu_began)


class _LabelStore:
    """The state of the label store at the time of the scrape."""

    def collect(self) -> Iterable[GaugeMetricFamily]:
        up, clips = "posewatch_labeling_database_up", "posewatch_labeling_clips"
        try:
            totals = wiring.totals()
        except PosewatchError:
            yield GaugeMetricFamily(up, "1 while the database answers.", value=0)
            return
        yield GaugeMetricFamily(up, "1 while the database answers.", value=1)
        family = GaugeMetricFamily(clips, "Clips in the label store.", labels=["state"])
        for state, count in totals.items():
            family.add_metric([state], count)
        yield family


class _Verdicts:
    """What operators say of alarms. Every replica shows all of it, so that queries take the largest."""

    def collect(self) -> Iterable[Metric]:
        try:
            judged = wiring.judged()
            judged.refresh()
        except PosewatchError:
            return
        tally, name = judged.tally(), "posewatch_labeling_verdict"
        now = GaugeMetricFamily(
            f"{name}s", "Records by their verdict.", labels=["camera", "version", "kind", "verdict"]
        )
        for labels, count in tally.now.items():
            now.add_metric(labels, count)
        said = CounterMetricFamily(f"{name}_events", "Verdicts since the beginning.", labels=["verdict"])
        for verdict, count in tally.said.items():
            said.add_metric([verdict], count)
        bounds = [*(str(float(bound)) for bound in DELAYS_S), "+Inf"]
        late = HistogramMetricFamily(f"{name}_delay_seconds", "From the beginning of an alarm to its first verdict.")
        late.add_metric([], list(zip(bounds, tally.delays, strict=True)), tally.delay_s)
        yield from (now, said, late)


_registry.register(_LabelStore())  # type: ignore[arg-type]
_registry.register(_Verdicts())  # type: ignore[arg-type]


def text() -> bytes:
    """All metrics in Prometheus' text format."""
    return generate_latest(_registry)
