"""The message about an alarm, as every sink gets it (docs/watch.md has an example)."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from posewatch.watch.alarm import AlarmEvent
from posewatch.watch.sources import Frame
from posewatch.watch.states import Subject

RAISED, ENDED = "alarm", "alarm_ended"
_NAMESPACE = uuid.UUID("b5f7e4a2-7c0e-5d5e-9a43-0f4f6a1f3f10")
_MODEL = ("name", "version", "lineage", "release")


def alarm_id(source: str, subject: Subject, event: AlarmEvent, frame: Frame) -> str:
    """The id of an alarm that is raised: the same for the same alarm of the same recording, and of a camera for the
    same moment, whatever process watches it."""
    began = f"{event.start_s:.3f} "
    if frame.wall is not None:
        began += (frame.wall - timedelta(seconds=max(0.0, frame.time_s - event.start_s))).isoformat("T", "milliseconds")
    who = "" if subject.person is None else f" #{subject.person}"
    rule = "" if subject.rule == "recogniser" else f" {subject.rule}"
    return str(uuid.uuid5(_NAMESPACE, f"{source} {began}{who}{rule}"))


def model_of(metadata: Mapping[str, str]) -> dict[str, str]:
    """What a message says of the model."""
    return {key: metadata[key] for key in _MODEL if metadata.get(key)}


def payload(
    source: str, label: str, model: Mapping[str, str], subject: Subject, event: AlarmEvent, frame: Frame
) -> dict[str, Any]:
    """The message that an alarm of ``source`` was raised or has ended, seen at ``frame``; ``model`` is its metadata.

    ``person``, ``rule``, ``of``, ``times``, ``reason`` and ``novelty`` are there only where they say something.
    """
    raised = event.kind == "raised"
    message: dict[str, Any] = {
        "event": RAISED if raised else ENDED,
        "id": subject.id,
        "source": source,
        "label": label,
        "probability": round(event.peak, 4),
        "start_s": round(event.start_s, 3),
        "raised_s": round((subject.first or event).at_s, 3),
        "end_s": None if raised else round(event.end_s, 3),
        "time": (frame.wall or datetime.now(UTC)).isoformat(timespec="milliseconds"),
        "persons": list(subject.ids),
        "model": model_of(model),
    }
    if subject.person is not None:
        message["person"] = subject.person
    if subject.rule != "recogniser":
        message |= {"rule": subject.rule, "of": subject.of}
    if subject.novelty is not None:
        message["novelty"] = round(subject.novelty, 3)
    if not raised and subject.times > 1:
        message["times"] = subject.times
    if not raised and subject.reason:
        message["reason"] = subject.reason
    return message
