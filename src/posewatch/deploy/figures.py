"""What the cameras saw of each version, from Prometheus: alarms per camera-hour and how long an answer takes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import quote

from posewatch.config import ServingConfig
from posewatch.errors import ServingError

TIMEOUT_S = 10.0
SUMS = ("windows", "answer_seconds", "watched_seconds", "alarms")
"""Counters of the watchers for each version."""
_SUM = 'sum by (version) (increase(posewatch_watch_version_{name}_total{{namespace="{namespace}"}}[{window}]))'


@dataclass(frozen=True)
class VersionFigures:
    """One version: ``camera_hours`` watched with it, ``alarms``, and the mean time of an answer in milliseconds."""

    camera_hours: float
    alarms: float
    answer_ms: float

    @property
    def alarms_per_hour(self) -> float:
        """False and true ones, per hour of one camera."""
        return self.alarms / self.camera_hours if self.camera_hours else 0.0


def watched(config: ServingConfig, hours: float) -> dict[str, VersionFigures]:
    """The figures of each version that answered cameras in the last ``hours``; {} without ``serving.prometheus``.

    Raises ServingError when Prometheus gives no answer.
    """
    if not config.prometheus:
        return {}
    sums = {name: _query(config.prometheus, query(config, name, hours)) for name in SUMS}
    return {
        version: VersionFigures(
            sums["watched_seconds"].get(version, 0.0) / 3600,
            sums["alarms"].get(version, 0.0),
            1000 * sums["answer_seconds"].get(version, 0.0) / windows,
        )
        for version, windows in sorted(sums["windows"].items())
        if windows > 0
    }


def query(config: ServingConfig, name: str, hours: float) -> str:
    """The PromQL query for one of ``SUMS`` over the last ``hours``, by version."""
    return _SUM.format(name=name, namespace=config.namespace, window=f"{max(60, round(hours * 3600))}s")


def rows(figures: dict[str, VersionFigures]) -> dict[str, dict[str, float]]:
    """The figures for the history, as plain numbers."""
    return {
        version: {k: round(v, 3) for k, v in {**asdict(f), "alarms_per_hour": f.alarms_per_hour}.items()}
        for version, f in figures.items()
    }


def table(figures: dict[str, VersionFigures], hours: float) -> str:
    """Both versions side by side, for people."""
    lines = [f"what cameras saw in the last {hours:g} h", "version       alarms/h  alarms  camera-hours  answer"]
    for version, f in figures.items():
        lines.append(
            f"{version:<12}  {f.alarms_per_hour:8.2f}  {f.alarms:6.0f}  {f.camera_hours:12.1f}  {f.answer_ms:.0f} ms"
        )
    return "\n".join(lines)


def _query(prometheus: str, promql: str) -> dict[str, float]:
    """The values of an instant query by version."""
    import urllib3

    address = f"{prometheus.rstrip('/')}/api/v1/query?query={quote(promql)}"
    try:
        answer: Any = json.loads(
            urllib3.PoolManager(retries=False).request("GET", address, timeout=TIMEOUT_S).data.decode()
        )
        if answer["status"] != "success":
            raise ServingError(f"Prometheus at {prometheus} refuses a query: {answer.get('error', 'no reason given')}")
        return {row["metric"].get("version", ""): float(row["value"][1]) for row in answer["data"]["result"]}
    except urllib3.exceptions.HTTPError as error:
        raise ServingError(f"Prometheus at {prometheus} gives no answer: {error} (check serving.prometheus)") from None
    except (ValueError, KeyError, TypeError):
        raise ServingError(f"what answers at {prometheus} is not Prometheus (check serving.prometheus)") from None
