"""Prometheus metrics of all cameras, from the status files of their watchers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

FRESH_S = 15.0
"""A camera whose status is older does not count as watched."""
CameraStatus = tuple[str, bool, int, dict[str, Any] | None]
"""Name, whether its process runs, restarts of the process, the last status."""

COUNTERS = {
    "frames": ("frames", "Frames that were watched."),
    "frames_looked": ("looked", "Frames that the pose network looked at."),
    "frames_unwatched": ("unwatched", "Frames that were not looked at, because Frigate saw nobody."),
    "windows": ("windows", "Windows that the model answered."),
    "windows_refused": ("refused", "Windows that the model did not answer."),
    "windows_compared": ("compared", "Windows of which the model told how strange they are to it."),
    "windows_strange": ("strange", "Windows that are like nothing that the model knows (novelty above 1)."),
    "alarms": ("alarms", "Alarms raised."),
    "persons_left_out": ("left_out", "Persons left out of a window, because it was not their turn."),
}
"""Metric -> key of the status, help text."""
CAMERA_COUNTERS = {
    "frames_dropped": ("dropped", "Frames of the camera that were dropped because watching was too slow."),
    "connects": ("connects", "Connections to the camera."),
}
"""The same for the keys under ``camera``."""
VERSION_COUNTERS = {
    "version_windows": ("windows", "Windows that this version of the model answered."),
    "version_answer_seconds": ("answer_s", "Seconds that these answers took."),
    "version_watched_seconds": ("watched_s", "Seconds of the camera that these windows stand for."),
    "version_alarms": ("alarms", "Alarms raised by this version."),
}
"""Metric -> key of a version's row in the status, help text."""
GAUGES_OF_NOW = {
    "behind_seconds": ("behind_s", "Age of the frame that was watched last, when it was watched."),
    "persons": ("persons", "Persons in that frame."),
    "alarm": ("raised", "1 while there is an alarm."),
    "alarms_active": ("raised_alarms", "Alarms that are on."),
    "persons_asked": ("asked", "Persons whom the model was asked about in the last window."),
}
"""Metric -> key of the status, help text. A camera that is not watched has none of them: the last values say nothing
of now, and would look like a camera that is watched in time, or keep an alert."""
GAUGES = {
    "outbox_messages": ("outbox", "Messages that wait for the webhook."),
    "records_waiting": ("records", "Records that wait for the object store."),
}
RECORDS = (
    ("records_stored", "records_stored", "Records written to the object store."),
    ("record_failures", "record_failures", "Attempts to write or store a record that failed."),
)


def text(cameras: Sequence[CameraStatus], now: float) -> bytes:
    """All metrics in Prometheus' text format; ``now`` in seconds since 1970."""
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry()
    registry.register(_Collector(cameras, now))
    return bytes(generate_latest(registry))


class _Collector:
    def __init__(self, cameras: Sequence[CameraStatus], now: float) -> None:
        self._cameras, self._now = cameras, now

    def collect(self) -> Iterable[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        def family(kind: Any, name: str, text: str, values: Iterable[tuple[str, float]]) -> Any:
            metric = kind(f"posewatch_watch_{name}", text, labels=["camera"])
            for camera, value in values:
                metric.add_metric([camera], value)
            return metric

        known = [(name, status) for name, _, _, status in self._cameras if status is not None]
        up = [(name, float(self._up(running, status))) for name, running, _, status in self._cameras]
        yield family(GaugeMetricFamily, "camera_up", "1 while frames of the camera come in and are watched.", up)
        restarts = [(name, float(count)) for name, _, count, _ in self._cameras]
        yield family(CounterMetricFamily, "restarts", "Restarts of the camera's process.", restarts)
        for name, (key, text) in COUNTERS.items():
            yield family(CounterMetricFamily, name, text, [(c, s[key]) for c, s in known if key in s])
        for name, (key, text) in CAMERA_COUNTERS.items():
            yield family(CounterMetricFamily, name, text, [(c, s["camera"][key]) for c, s in known])
        now = [(name, s) for name, running, _, s in self._cameras if s is not None and self._fresh(running, s)]
        for name, (key, text) in GAUGES_OF_NOW.items():
            yield family(GaugeMetricFamily, name, text, [(c, float(s[key])) for c, s in now if key in s])
        for name, (key, text) in GAUGES.items():
            yield family(GaugeMetricFamily, name, text, [(c, float(s[key])) for c, s in known if key in s])
        for name, (key, text) in VERSION_COUNTERS.items():
            counter = CounterMetricFamily(f"posewatch_watch_{name}", text, labels=["camera", "version"])
            for camera, status in known:
                for version, row in status.get("versions", {}).items():
                    counter.add_metric([camera, version], row[key])
            yield counter
        for name, key, text in RECORDS:
            yield family(CounterMetricFamily, name, text, [(c, s[key]) for c, s in known if key in s])
        failures = [(c, s["webhook_failures"]) for c, s in known if "webhook_failures" in s]
        yield family(CounterMetricFamily, "webhook_failures", "Deliveries to the webhook that failed.", failures)
        histogram = HistogramMetricFamily(
            "posewatch_watch_probability", "Windows by the probability of the watched class.", labels=["camera"]
        )
        for camera, status in known:
            total, buckets = 0, []
            for i, count in enumerate(status["histogram"]):
                total += count
                buckets.append((f"{(i + 1) / 10:g}" if i < 9 else "+Inf", total))
            histogram.add_metric([camera], buckets, status["probability_sum"])
        yield histogram

    def _up(self, running: bool, status: dict[str, Any] | None) -> bool:
        return bool(status and status["camera"]["connected"] and self._fresh(running, status))

    def _fresh(self, running: bool, status: dict[str, Any]) -> bool:
        """Whether the status is of now."""
        return running and self._now - status["at"] < FRESH_S
