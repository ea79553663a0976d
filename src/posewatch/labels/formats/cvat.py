"""CVAT's XML 1.1, as `cvat/apps/dataset_manager/formats/cvat.py` writes and reads it: tags of frames ("for images"),
tracks ("for video"). Those of a project hold all its tasks, as `ProjectData` in `bindings.py` numbers their frames.

A task of a whole video has a track over the full frame for every stretch of a class; a task of a clip is labelled by
the tags or tracks in it.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any
from xml.etree import ElementTree

from posewatch.config import LabelConfig
from posewatch.errors import LabelError, first_line
from posewatch.files import write_atomically
from posewatch.labels.entries import ClipEntry
from posewatch.labels.formats.snapshot import Snapshot
from posewatch.labels.formats.stretches import NoLabels, Stretch, person_of

LABELS = "labels.json"
"""The project's labels, for CVAT's raw label editor."""
PERSON = "person"
"""The attribute of a label that says which person of the video it is about; empty for everybody."""
_SHAPES = ("box", "polygon", "polyline", "points", "ellipse", "cuboid", "mask", "skeleton")
_XML = "annotations.xml"
"""The file in the archive that CVAT exports."""


def is_export(path: Path) -> bool:
    """Whether a file is an XML file or an archive with CVAT's XML in it."""
    if path.suffix.lower() == ".zip" and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return _XML in archive.namelist()
    return path.suffix.lower() == ".xml"


def is_certain(path: Path) -> bool:
    """Whether a file is such an export by its content, and no other XML."""
    if not (path.is_file() and is_export(path)):
        return False
    if path.suffix.lower() == ".zip":
        return True
    try:
        with path.open("rb") as file:
            return next(ElementTree.iterparse(file, ("start",)))[1].tag == "annotations"
    except (ElementTree.ParseError, StopIteration):
        return False


def read(path: Path) -> list[Stretch]:
    """The labelled stretches of the export of a task, job or project. Raises LabelError for another file."""
    try:
        if path.suffix.lower() == ".zip":
            with zipfile.ZipFile(path) as archive, archive.open(_XML) as file:
                return _read(file, path.name)
        with path.open("rb") as file:
            return _read(file, path.name)
    except (ElementTree.ParseError, KeyError, ValueError) as error:
        raise LabelError(f"{path.name} is not CVAT's XML 1.1: {first_line(error)}") from None


def _read(file: IO[bytes], name: str) -> list[Stretch]:
    root = ElementTree.parse(file).getroot()
    if root.tag != "annotations":
        raise LabelError(f"{name} is not CVAT's XML: it holds <{root.tag}> instead of <annotations>")
    if (project := root.find("meta/project")) is not None:
        return _of_project(root, project, name)
    about = next((meta for kind in ("task", "job") if (meta := root.find(f"meta/{kind}")) is not None), None)
    source = root.findtext("meta/source") or _source(about)
    if not source:
        raise LabelError(f"{name} does not tell the name of its video (<source>): export the task instead of a job")
    _require_labels(root, name)
    return [*_of_task([*root], about, source, f"{name}: ", 0)]


def _require_labels(root: ElementTree.Element, name: str) -> None:
    if root.find("track") is None and root.find("image") is None:
        raise NoLabels(
            f"{name} has no labels: nothing is labelled there yet, or by tags alone, which CVAT leaves out of its XML"
            " for video (export for images)"
        )


def _source(about: ElementTree.Element | None) -> str:
    """The video's name in what a file tells about a task, or else the task's; "" without both."""
    return "" if about is None else about.findtext("source") or about.findtext("name") or ""


def _of_project(root: ElementTree.Element, project: ElementTree.Element, name: str) -> list[Stretch]:
    """The stretches of all tasks of a project, whose frames count on from task to task of one subset."""
    _require_labels(root, name)
    parts: dict[str, list[ElementTree.Element]] = defaultdict(list)
    for element in root:
        if element.tag in ("track", "image"):
            parts[element.attrib["task_id"]].append(element)
    found: list[Stretch] = []
    offsets: dict[str, int] = defaultdict(int)
    for task in project.iterfind("tasks/task"):
        number, subset = task.findtext("id") or "", task.findtext("subset") or ""
        if elements := parts.pop(number, []):
            if not (source := _source(task)):
                raise LabelError(f"{name} does not tell the name of the video of task {number} (<source>)")
            found += _of_task(elements, task, source, f"{name} task {number}: ", offsets[subset])
        step = _step(task.findtext("frame_filter"))
        offsets[subset] += int(task.findtext("start_frame") or 0) + step * int(task.findtext("size") or 0)
    if parts:
        raise LabelError(f"{name} has labels of the tasks {', '.join(parts)}, about which it tells nothing")
    return found


def _of_task(
    elements: Iterable[ElementTree.Element], about: ElementTree.Element | None, source: str, where: str, offset: int
) -> Iterator[Stretch]:
    """The stretches of a task's tracks and images, whose frames begin at ``offset``."""
    who = ""
    if about is not None:
        who = about.findtext("assignee/email") or about.findtext("assignee/username") or ""
    step = _step(about.findtext("frame_filter") if about is not None else None)
    # frames by label and person, of tags and of shapes of single frames
    found: dict[tuple[str, int | None], set[int]] = defaultdict(set)
    stretches = []
    for element in elements:
        if element.tag == "track":
            label = element.attrib["label"]
            shapes = sorted((int(one.attrib["frame"]), _outside(one)) for one in element if one.tag in _SHAPES)
            stretches += [(label, _person(element), *ends) for ends in _visible(shapes, step)]
        elif element.tag == "image":
            for one in element:
                if one.tag == "tag" or one.tag in _SHAPES:
                    found[one.attrib["label"], _person(one)].add(int(element.attrib["id"]))
    stretches += [(*key, *ends) for key, frames in found.items() for ends in _runs(sorted(frames), step)]
    for label, person, first, last in stretches:
        yield Stretch(where, source, label, first - offset, last - offset, who=who, person=person)


def _person(element: ElementTree.Element) -> int | None:
    """The attribute "person" of a tag or shape, or of a track's shapes."""
    return next(
        (one for a in element.iter("attribute") if a.get("name") == PERSON and (one := person_of(a.text))), None
    )


def _outside(shape: ElementTree.Element) -> bool:
    """Whether a track is away in a frame. A skeleton does not say so itself: then all its points do."""
    points = [one.get("outside") for one in shape if one.tag in _SHAPES] if shape.tag == "skeleton" else []
    return shape.get("outside") == "1" or (bool(points) and set(points) == {"1"})


def _step(text: str | None) -> int:
    """How many frames of the video one frame of the task stands for."""
    match = re.search(r"step\s*=\s*(\d+)", text or "")
    return max(1, int(match[1])) if match else 1


def _visible(shapes: list[tuple[int, bool]], step: int) -> Iterator[tuple[int, int]]:
    """[first, last) frames in which a track is there; ``shapes`` are (frame, outside), by frame."""
    since: int | None = None
    for frame, outside in shapes:
        if outside and since is not None:
            yield since, frame
            since = None
        elif not outside and since is None:
            since = frame
    if since is not None:
        yield since, shapes[-1][0] + step


def _runs(frames: list[int], step: int) -> Iterator[tuple[int, int]]:
    """[first, last) of every run of successive frames."""
    first = 0
    for i, frame in enumerate(frames):
        if i + 1 == len(frames) or frames[i + 1] > frame + step:
            yield frames[first], frame + step
            first = i + 1


def write(snapshot: Snapshot, entries: Iterable[ClipEntry], config: LabelConfig, folder: Path) -> int:
    """Write `LABELS` and one XML file "for video" per video to ``folder``; returns the number of labelled clips.

    Frames are those of the masked video, in the clips' frame rate.
    """
    labels = {row["clip_id"]: row["label"] for row in snapshot.rows}
    videos: dict[str, list[ClipEntry]] = defaultdict(list)
    for entry in entries:
        videos[entry.clip.video_id].append(entry)
    for video, clips in sorted(videos.items()):
        stem = re.sub(r"[^\w.-]+", "_", clips[0].video).strip("._")[:80]
        root = _document(clips, labels, config)
        ElementTree.indent(root)
        text = ElementTree.tostring(root, encoding="unicode")
        write_atomically(folder / f"{stem}.{video}.xml", f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n')
    person = {"name": PERSON, "input_type": "text", "mutable": False, "values": [""]}
    raw = [{"name": name, "type": "any", "attributes": [person]} for name in config.classes]
    write_atomically(folder / LABELS, json.dumps(raw, indent=1, ensure_ascii=False) + "\n")
    return len(labels)


def _document(clips: list[ClipEntry], labels: dict[str, str], config: LabelConfig) -> ElementTree.Element:
    first = clips[0].clip
    size = max(_frame(entry.clip.end_s, entry) for entry in clips)
    root = ElementTree.Element("annotations")
    _add(root, "version", "1.1")
    meta = ElementTree.SubElement(root, "meta")
    task = ElementTree.SubElement(meta, "task")
    about = {"name": clips[0].video, "size": size, "mode": "interpolation", "overlap": 0}
    for name, value in {**about, "start_frame": 0, "stop_frame": size - 1, "frame_filter": ""}.items():
        _add(task, name, value)
    kinds = ElementTree.SubElement(task, "labels")
    for name in config.classes:
        kind = ElementTree.SubElement(kinds, "label")
        _add(kind, "name", name)
        _add(kind, "type", "any")
        attribute = ElementTree.SubElement(ElementTree.SubElement(kind, "attributes"), "attribute")
        for key, value in {"name": PERSON, "mutable": "False", "input_type": "text"}.items():
            _add(attribute, key, value)
        _add(attribute, "default_value", "")
        _add(attribute, "values", "")
    shape = ElementTree.SubElement(task, "original_size")
    _add(shape, "width", first.width)
    _add(shape, "height", first.height)
    _add(task, "source", clips[0].video)
    for number, (label, person, since, until) in enumerate(_stretches(clips, labels)):
        track = ElementTree.SubElement(root, "track", id=str(number), label=label, source="manual")
        for frame in range(since, until + (until < size)):
            edge = {"keyframe": str(int(frame in (since, until))), "outside": str(int(frame == until)), "occluded": "0"}
            corners = {"xtl": "0.00", "ytl": "0.00", "xbr": f"{first.width:.2f}", "ybr": f"{first.height:.2f}"}
            box = ElementTree.SubElement(track, "box", {"frame": str(frame), **edge, **corners, "z_order": "0"})
            _add(box, "attribute", person).set("name", PERSON)
    return root


def _stretches(clips: list[ClipEntry], labels: dict[str, str]) -> list[tuple[str, str, int, int]]:
    """(label, person, first frame, last frame + 1): clips of one label that follow each other are one stretch."""
    out: list[tuple[str, str, int, int]] = []
    by_person: dict[str, list[ClipEntry]] = defaultdict(list)
    for entry in sorted(clips, key=lambda one: (one.clip.start_s, one.clip.length_s)):
        by_person[str(entry.clip.person or "")].append(entry)
    for person, those in sorted(by_person.items()):
        for entry in those:
            label = labels.get(entry.clip.id)
            since, until = _frame(entry.clip.start_s, entry), _frame(entry.clip.end_s, entry)
            if label is None:
                continue
            if out and out[-1][:2] == (label, person) and out[-1][3] >= since:
                out[-1] = (label, person, out[-1][2], max(until, out[-1][3]))
            else:
                out.append((label, person, since, until))
    return out


def _frame(seconds: float, entry: ClipEntry) -> int:
    return round(seconds * entry.clip.fps)


def _add(parent: ElementTree.Element, name: str, value: Any) -> ElementTree.Element:
    child = ElementTree.SubElement(parent, name)
    child.text = str(value)
    return child
