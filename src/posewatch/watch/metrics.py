"""Figures of all cameras for Prometheus, from what their processes last said."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

FRESH_S = 15.0
"""A camera whose process has said nothing for longer does not count as watched."""
Told = tuple[str, bool, int, dict[str, Any] | None]
"""Name, whether its process runs, its restarts, its last status."""

COUNTERS = {
    "frames": ("frames", "Frames that were watched."),
    "windows": ("windows", "Windows that the model answered."),
    "windows_refused": ("refused", "Windows that the model did not answer."),
    "alarms": ("alarms", "Alarms raised."),
}
GAUGES = {
    "behind_seconds": ("behind_s", "Age of the frame that was watched last."),
    "persons": ("persons", "Persons in that frame."),
    "alarm": ("raised", "1 while an alarm goes on."),
    "outbox_messages": ("outbox", "Messages that wait for the webhook."),
}


def text(cameras: Sequence[Told], now: float) -> bytes:
    """All figures in Prometheus' text format; ``now`` in seconds since 1970."""
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry()
    registry.register(_Collector(cameras, now))
    return bytes(generate_latest(registry))


class _Collector:
    def __init__(self, cameras: Sequence[Told], now: float) -> None:
        self._cameras, self._now = cameras, now

    def collect(self) -> Iterable[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        def family(kind: Any, name: str, text: str, values: Iterable[tuple[str, float]]) -> Any:
            made = kind(f"posewatch_watch_{name}", text, labels=["camera"])
            for camera, value in values:
                made.add_metric([camera], value)
            return made

        told = [(name, status) for name, _, _, status in self._cameras if status is not None]
        up = [(name, float(self._up(running, status))) for name, running, _, status in self._cameras]
        yield family(GaugeMetricFamily, "camera_up", "1 while pictures of the camera come in and are watched.", up)
        restarts = [(name, float(count)) for name, _, count, _ in self._cameras]
        yield family(CounterMetricFamily, "restarts", "Times the camera's process was started again.", restarts)
        for name, (key, text) in COUNTERS.items():
            yield family(CounterMetricFamily, name, text, [(c, s[key]) for c, s in told])
        for name, key, text in (
            ("frames_dropped", "dropped", "Frames of the camera that nobody had time for."),
            ("connects", "connects", "Connections to the camera."),
        ):
            yield family(CounterMetricFamily, name, text, [(c, s["camera"][key]) for c, s in told])
        for name, (key, text) in GAUGES.items():
            yield family(GaugeMetricFamily, name, text, [(c, float(s[key])) for c, s in told if key in s])
        failures = [(c, s["webhook_failures"]) for c, s in told if "webhook_failures" in s]
        yield family(CounterMetricFamily, "webhook_failures", "Deliveries to the webhook that failed.", failures)
        histogram = HistogramMetricFamily(
            "posewatch_watch_probability", "Windows by the probability of the watched class.", labels=["camera"]
        )
        for camera, status in told:
            total, buckets = 0, []
            for i, count in enumerate(status["histogram"]):
                total += count
                buckets.append((f"{(i + 1) / 10:g}" if i < 9 else "+Inf", total))
            histogram.add_metric([camera], buckets, status["probability_sum"])
        yield histogram

    def _up(self, running: bool, status: dict[str, Any] | None) -> bool:
        return bool(running and status and status["camera"]["connected"] and self._now - status["at"] < FRESH_S)
