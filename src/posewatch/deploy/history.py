"""The history of a service: what was deployed, when, by whom, with which figures; an immutable object per event.

It is in the object store, ``deployments/<namespace>/<service>/<time>-<id>.json``, and not in the cluster: it outlives
a deleted InferenceService and a rebuilt cluster, has no limit of size (annotations have 256 KiB, a ConfigMap 1 MiB),
needs no more permissions on the API server, and refers to versions in the same store.
"""

from __future__ import annotations

import dataclasses
import getpass
import json
import os
import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from posewatch.digests import canonical
from posewatch.errors import StoreError
from posewatch.store import ObjectStore

ACTS = ("admitted", "canary", "live", "rejected", "withdrawn", "rolled-back")
"""``admitted``: its gates were judged, nothing has changed yet. ``rejected``: it did not load or failed its smoke test.
``withdrawn``: its canary was removed. ``rolled-back``: it replaced a later version again."""
SERVING = ("live", "rolled-back")


@dataclass(frozen=True)
class Event:
    """One act on one version of a service. ``digest`` is that of the model's manifest, ``traffic`` a percentage."""

    act: str
    version: str
    digest: str
    uri: str
    when: str
    by: str
    traffic: int = 0
    gates: tuple[dict[str, Any], ...] = ()
    override: str = ""
    smoke: dict[str, Any] = dataclasses.field(default_factory=dict)
    reason: str = ""
    watched: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    """What cameras saw of each version while both served: alarms, camera_hours, alarms_per_hour, answer_ms."""


def now() -> str:
    """The time in UTC, to the microsecond, in a form that sorts."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def user() -> str:
    """The user to record: POSEWATCH_USER if it is set, else user@host (in a pipeline's pod: the pod's name)."""
    name = os.environ.get("POSEWATCH_USER", "").strip()
    if name:
        return name
    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # a container's uid without a name
        name = f"uid-{os.getuid()}"
    return f"{name}@{socket.gethostname()}"


def record(store: ObjectStore, namespace: str, name: str, event: Event) -> None:
    """Append one event."""
    stamp = event.when.replace("-", "").replace(":", "")
    key = f"{_prefix(namespace, name)}{stamp}-{secrets.token_hex(4)}.json"
    store.put(key, (canonical(dataclasses.asdict(event)) + "\n").encode())


def read(store: ObjectStore, namespace: str, name: str) -> list[Event]:
    """All events of a service, oldest first. Raises StoreError for an object that is not an event."""
    events = []
    fields = {f.name for f in dataclasses.fields(Event)}
    for info in sorted(store.list(_prefix(namespace, name)), key=lambda i: i.key):
        try:
            row = json.loads(store.get(info.key))
            # A later version of posewatch may have added fields.
            event = Event(**{k: v for k, v in row.items() if k in fields})
        except (ValueError, TypeError, AttributeError):
            raise StoreError(f"{store.uri}/{info.key} is not an event of a deployment: move it elsewhere") from None
        events.append(dataclasses.replace(event, gates=tuple(event.gates)))
    return events


def last(events: Sequence[Event], *acts: str, version: str = "", digest: str = "") -> Event | None:
    """The newest event of these acts (none named: any act), of that version and digest if they are given."""
    for event in reversed(events):
        if acts and event.act not in acts:
            continue
        if (not version or event.version == version) and (not digest or event.digest == digest):
            return event
    return None


def before(events: Sequence[Event], current: str) -> Event | None:
    """The event by which the version before ``current`` was served.

    A version that was rolled back from does not count: after v1, v2 and back to v1 there is none before v1.
    """
    stack: list[Event] = []
    for event in events:
        if event.act == "rolled-back":
            places = [i for i, e in enumerate(stack) if e.version == event.version]
            del stack[places[-1] if places else 0 :]
            stack.append(event)
        elif event.act == "live" and (not stack or stack[-1].version != event.version):
            stack.append(event)
    return next((event for event in reversed(stack) if event.version != current), None)


def text(events: Sequence[Event]) -> str:
    """The history as a table, newest first."""
    if not events:
        return "nothing was deployed yet"
    rows = [("when", "act", "version", "traffic", "by", "figures", "digest", "remark")]
    for e in reversed(events):
        figures = " ".join(
            f"{g['name']}={'?' if g['value'] is None else format(g['value'], '.3g')}" + ("" if g["passed"] else "!")
            for g in e.gates
        )
        remark = f"gates overridden: {e.override}" if e.override else e.reason
        if e.watched:
            seen = ", ".join(f"{v} {f['alarms_per_hour']:.2f}" for v, f in e.watched.items())
            remark = "; ".join(filter(None, (remark, f"alarms per camera-hour: {seen}")))
        traffic = f"{e.traffic} %" if e.act in (*SERVING, "canary") else ""
        rows.append(
            (e.when[:19].replace("T", " "), e.act, e.version, traffic, e.by, figures, e.digest[:12], remark[:200])
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def _prefix(namespace: str, name: str) -> str:
    return f"deployments/{namespace}/{name}/"
