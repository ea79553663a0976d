"""Exports of Label Studio: JSON, JSON-MIN, CSV and TSV, of uploaded files, local files and cloud storage.

Their forms follow ``label_studio_sdk.converter``: MIN and CSV hold one row per annotation, in which the answer to a
question stands under its ``from_name``, and leave out annotations that were cancelled.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from posewatch.config import LabelConfig
from posewatch.datasets import tables
from posewatch.errors import LabelError
from posewatch.labels.formats.stretches import Stretch
from posewatch.names import folded
from posewatch.rules import MARKS
from posewatch.text import read_json
from posewatch.video.files import SUFFIXES

ABOUT = (
    "id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "agreement", "history", "",
)  # fmt: skip
"""What MIN and CSV say of an annotation beside data and answers."""
_CLIP = re.compile(r"(?:[0-9a-f]{8}-)?(c-[0-9a-f]{16})")
_UPLOAD = re.compile(r"[0-9a-f]{8}-(.+)")
"""Label Studio puts eight digits before the name of every uploaded file."""
FRAME_RATE = 24.0
"""Frames per second that Label Studio counts in any video, unless ``<Video frameRate=...>`` says another number."""


@dataclass(frozen=True)
class Task:
    """One task: where it stands, the clip or else the video that it shows, and the answers to each question.

    ``who`` names the author of each label. ``sure``: the questions are known to be such; in MIN and CSV they look like
    the task's data. ``kinds`` are those of its annotations that are no choices; ``marks`` the times among them.
    """

    where: str
    clip: str | None
    video: str
    answers: Mapping[str, list[str]] = field(default_factory=dict)
    who: Mapping[str, str] = field(default_factory=dict)
    sure: bool = True
    kinds: frozenset[str] = frozenset()
    marks: tuple[Stretch, ...] = ()


def is_export(path: Path) -> bool:
    """Whether a file is named like an export, or has a CSV export's columns. Raises LabelError."""
    if path.suffix.lower() in tables.SUFFIXES:
        return {"annotation_id", "lead_time"} <= set(tables.header(path))
    return path.suffix.lower() == ".json"


def tasks(path: Path) -> list[Task]:
    """The tasks of an export. Raises LabelError naming the one that is none."""
    if path.suffix.lower() in tables.SUFFIXES:
        rows = [(f"{path.name} row {row.number}: ", row) for row in tables.table(path, ())]
        return [_row(where, {name: _parsed(value) for name, value in row.items()}) for where, row in rows]
    data = read_json(path, error=LabelError)
    if isinstance(data, Mapping):
        data = data.get("tasks", [data] if "data" in data else data)
    if not isinstance(data, list):
        raise LabelError(
            f"{path.name} is JSON of none of the tools that are read: Label Studio (a list of tasks), FiftyOne, VIA 3, "
            "Supervisely, ActivityNet"
        )
    found, people = [], _people(data)
    for number, task in enumerate(data, 1):
        where = f"{path.name} task {number}: "
        try:
            found.append(_row(where, task) if "annotation_id" in task else _task(where, task, people))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise LabelError(f"{where}not a task with a choice of classes ({error})") from None
    return found


def _task(where: str, task: Mapping[str, Any], people: Mapping[Any, str]) -> Task:
    """A task of the JSON export. What annotators marked as ground truth replaces all else."""
    answers: dict[str, list[str]] = {}
    who: dict[str, str] = {}
    kinds: set[str] = set()
    marks: list[Stretch] = []
    clip, video = _shown(task["data"], task.get("file_upload"))
    given = task.get("annotations", task.get("completions")) or ()
    given = [one for one in given if not one.get("was_cancelled") and not one.get("skipped")]
    for annotation in [one for one in given if one.get("ground_truth")] or given:
        for result in annotation["result"] or ():
            kinds |= {str(result["type"])} - {"choices"}
            if result["type"] == "choices":
                labels = [str(choice) for choice in result["value"]["choices"]]
                answers.setdefault(str(result.get("from_name", "")), []).extend(labels)
                for label in labels:
                    who.setdefault(label, _author(annotation, result, label, people))
                continue
            marks += [
                replace(mark, who=_author(annotation, result, mark.label, people))
                for mark in _marks(where, clip or video, result.get("value") or {})
            ]
    return Task(where, clip, video, answers, who, kinds=frozenset(kinds), marks=tuple(marks))


def _marks(where: str, file: str, value: Mapping[str, Any]) -> Iterator[Stretch]:
    """The times of a region: frames of <TimelineLabels>, which count from 1 and include the last one; seconds of
    <Labels> on a video's sound, the way before that tag."""
    for span in value.get("ranges") or () if "timelinelabels" in value else ():
        first, last = span.get("start"), span.get("end")
        for label in value["timelinelabels"]:
            yield Stretch(where, file, str(label), float(first or 1) - 1, math.inf if last is None else float(last))
    if "channel" in value and "start" in value:
        for label in value.get("labels") or ():
            yield Stretch(where, file, str(label), float(value["start"]), float(value["end"]), True)


def _people(tasks: Iterable[Any]) -> dict[Any, str]:
    """Annotators' addresses by their number, where an export has both."""
    given = [one for task in tasks if isinstance(task, Mapping) for one in task.get("annotations") or ()]
    named = [one.get("completed_by") for one in given if isinstance(one, Mapping)]
    return {person.get("id"): _person(person) for person in named if isinstance(person, Mapping)}


def _author(annotation: Mapping[str, Any], result: Mapping[str, Any], label: str, people: Mapping[Any, str]) -> str:
    """Who gave a label: the author that `labelstudio_tasks` wrote beside it, if nobody has changed it since."""
    about = (result.get("meta") or {}).get("posewatch")
    person = annotation.get("completed_by")
    if isinstance(about, Mapping):
        if about.get("label") == label:
            return str(about.get("who") or "")
        person = annotation.get("updated_by") or person
    return people.get(person) or _person(person) if not isinstance(person, Mapping) else _person(person)


def _person(annotator: Any) -> str:
    """An annotator, of whom exports tell the address or only the number."""
    if isinstance(annotator, Mapping):
        return str(annotator.get("email") or _person(annotator.get("id")))
    text = "" if annotator is None else str(annotator).strip()
    return f"label-studio {text}" if text.isdigit() else text


def _row(where: str, row: Mapping[str, Any]) -> Task:
    """A row of the MIN or CSV export."""
    answers = {name: _labels(value) for name, value in row.items() if name not in ABOUT}
    who = {label: _person(row.get("annotator")) for labels in answers.values() for label in labels}
    regions = [one for value in row.values() if isinstance(value, list) for one in value if isinstance(one, Mapping)]
    kinds = frozenset(str(key) for one in regions for key in one if str(key).endswith("labels"))
    clip, video = _shown(row)
    by = _person(row.get("annotator"))
    marks = tuple(replace(mark, who=by) for one in regions for mark in _marks(where, clip or video, one))
    return Task(where, clip, video, answers, who, sure=False, kinds=kinds, marks=marks)


def _labels(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return _labels(value.get("choices", []))
    if isinstance(value, list):
        return [label for one in value for label in _labels(one)]
    return [value.strip()] if isinstance(value, str) and value.strip() else []


def _parsed(value: Any) -> Any:
    """A cell, of which several choices are JSON."""
    if isinstance(value, str) and value.startswith(("[", "{")):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            pass
    return value


def _shown(data: Mapping[str, Any], upload: Any = None) -> tuple[str | None, str]:
    """The clip that a task shows, None for another video; and the video's name."""
    if data.get("clip_id"):
        return str(data["clip_id"]), ""
    texts = {str(name): value for name, value in data.items() if isinstance(value, str) and value.strip()}
    named = [texts[name] for name in ("video", "url", "file") if name in texts]
    names = [_file(address) for address in [*named, *texts.values()]]
    videos = [name for name in names if PurePosixPath(name).suffix.lower() in SUFFIXES]
    if isinstance(upload, str) and not videos:
        videos = [_file(f"/upload/{upload}")]
    if not videos and not named:
        raise KeyError("no video in its data")
    name = videos[0] if videos else names[0]
    clip = _CLIP.fullmatch(PurePosixPath(name).stem)
    return (clip[1], name) if clip else (None, name)


def _file(address: str) -> str:
    """The file at an address: an upload, a local file (?d=), one behind a proxy (?fileuri=), a URL, a path."""
    try:
        parts = urlsplit(address.strip().replace("\\", "/"))
    except ValueError:
        return address
    query = parse_qs(parts.query)
    if "d" in query:
        return query["d"][0]
    if "fileuri" in query:
        try:
            return _file(base64.urlsafe_b64decode(query["fileuri"][0] + "==").decode())
        except (binascii.Error, ValueError):
            pass
    path = unquote(parts.path)
    if "/upload/" in path and (uploaded := _UPLOAD.fullmatch(PurePosixPath(path).name)):
        return uploaded[1]
    return path.lstrip("/")


def marked(found: Iterable[Task], config: LabelConfig) -> list[Stretch]:
    """The times that people marked, where no question with choices asks for the classes."""
    found = list(found)
    known = {folded(label) for label in config.classes}
    if any(folded(label) in known for task in found for labels in task.answers.values() for label in labels):
        return []
    return [mark for task in found for mark in task.marks]


def choices(
    found: Iterable[Task], config: LabelConfig, name: str, warn: Callable[[str], None]
) -> Iterator[tuple[Task, str]]:
    """(task, class) for every answer to the question whose answers are the classes.

    ``warn`` gets a line on the answers to other questions, one on annotations that are no choices, and one on tasks
    without an answer. Raises LabelError when there is no answer, and when no question, or more than one, asks for the
    classes.
    """
    found = list(found)
    asked: dict[str, set[str]] = {}
    for task in found:
        for question, answers in task.answers.items():
            asked.setdefault(question, set()).update(answers)
    asked = {question: labels for question, labels in asked.items() if labels}
    kinds = ", ".join(sorted({kind for task in found for kind in task.kinds}))
    answered = any(task.sure for task in found) or len(asked) > 1  # else what looks like a question is the video
    if kinds and not (asked and answered):
        raise LabelError(
            f"{name} has no choices, only {kinds}: give times as a table with the columns file, start_s, end_s, label"
        )
    if not asked:
        raise LabelError(f"{name} has no labels: nothing is labelled there yet")
    if kinds:
        warn(f"{name}: what is no choice ({kinds}) is left out")
    chosen = _question(asked, config, name)
    others = [question for question in asked if question != chosen]
    if others and all(task.sure for task in found):
        warn(f"{name}: the answers to {', '.join(map(repr, others))} are left out, those to {chosen!r} are the labels")
    none = [task.where for task in found if not task.answers.get(chosen)]
    if none:
        warn(f"{name}: {len(none)} of {len(found)} tasks have no label, the first is {none[0].rstrip(': ')}")
    for task in found:
        for label in task.answers.get(chosen, ()):
            if label not in MARKS:
                yield task, label


def _question(asked: Mapping[str, set[str]], config: LabelConfig, name: str) -> str:
    """The question that asks for the classes; the only one, whatever its answers are."""
    known = {folded(label) for label in (*config.classes, *MARKS)}
    fits = [q for q, labels in asked.items() if {folded(label) for label in labels} <= known]
    fits = fits or [q for q, labels in asked.items() if {folded(label) for label in labels} & known]
    fits = fits or ([*asked] if len(asked) == 1 else [])
    if len(fits) > 1 and "label" in fits:
        return "label"  # what `posewatch labels export labelstudio` calls it
    if len(fits) != 1:
        which = f"several questions, {', '.join(fits)}, ask" if fits else f"no question of {', '.join(asked)} asks"
        raise LabelError(f"{name}: {which} for the classes {', '.join(config.classes)} (export one of them)")
    return fits[0]
