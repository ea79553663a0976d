"""COCO's JSON of keypoints: results (a list), and annotations (images, annotations, categories) as CVAT, MMPose's
converters and PoseTrack write them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from posewatch.datasets import layouts
from posewatch.datasets.paper import stem
from posewatch.errors import InputError
from posewatch.perception.poses.clip import PoseClip, in_order, numbered, persons, shown, triples, unique
from posewatch.records import Detections

_TRACKS = ("track_id", "person_id", "instance_id")
_VIDEOS = ("video_id", "vid_id")
_FRAMES = ("frame_id", "frame_index", "frame")


def claims(data: Any) -> bool:
    """{images, annotations} with keypoints, or a list of persons with a number in ``image_id``."""
    if isinstance(data, Mapping):
        rows = data.get("annotations")
        return isinstance(data.get("images"), list) and isinstance(rows, list)
    one = data[0] if isinstance(data, list) and data else None
    return isinstance(one, Mapping) and "keypoints" in one and isinstance(one.get("image_id"), int)


def read(files: Iterable[tuple[Path, Any]]) -> Iterator[PoseClip]:
    """A clip of each file of results, and of each video of a file of annotations."""
    for path, data in files:
        if isinstance(data, Mapping):
            yield from _annotations(data, path)
        else:
            rows = _by_image(data, path)
            found = {number: _frame(people, f"{shown(path)}: image {number}") for number, people in rows.items()}
            yield PoseClip(stem(path.name), in_order(found, shown(path)), shown(path))


def _by_image(rows: Any, path: Path) -> dict[Any, list[Mapping[str, Any]]]:
    """The rows with keypoints by ``image_id``, all numbers or all text."""
    first = rows[0].get("image_id") if rows and isinstance(rows[0], Mapping) else 0
    kind = str if isinstance(first, str) else int
    people: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
    for one in rows:
        if not isinstance(one, Mapping) or not isinstance(one.get("image_id"), kind):
            raise InputError(f"{shown(path)}: a row without image_id, or with one that is no {kind.__name__}")
        if one.get("keypoints"):  # boxes, crowds and tracks between two keyframes have none
            people[one["image_id"]].append(one)
    return people


def _annotations(data: Mapping[str, Any], path: Path) -> Iterator[PoseClip]:
    people = _by_image(data["annotations"], path)
    images = [image for image in data["images"] if isinstance(image, Mapping)]
    if not people:
        raise InputError(f"{shown(path)}: none of its {len(data['annotations'])} annotations has keypoints")
    clips: dict[str, dict[int, Detections | None]] = defaultdict(dict)
    sizes: dict[str, tuple[int, int] | None] = {}
    for image in images:
        video, number = _place(image, path)
        where = f"{shown(path)}: image {image.get('file_name', image.get('id'))}"
        if number is None:
            raise InputError(f"{where} has no frame_id, and its name no number of a frame")
        if number in clips[video]:
            raise InputError(f"{where} is the second of frame {number} of {video}")
        own = image.get("id")
        clips[video][number] = _frame(people.pop(own, []) if isinstance(own, int | str) else [], where, flags=True)
        height, width = image.get("height"), image.get("width")
        known = isinstance(height, int) and isinstance(width, int) and min(height, width) > 0
        sizes.setdefault(video, (height, width) if known else None)  # type: ignore[arg-type]
    if people:
        raise InputError(f"{shown(path)}: {len(people)} images of annotations are not among its images")
    layout = _layout(data.get("categories"))
    for video, found in clips.items():
        yield PoseClip(video, in_order(found, video), f"{shown(path)}: {video}", layout, sizes[video])


def _place(image: Mapping[str, Any], path: Path) -> tuple[str, int | None]:
    """The video and the frame number of an image: what its keys say, else its folder and name."""
    file = PurePosixPath(str(image.get("file_name", "")).replace("\\", "/"))
    before, number = numbered(file.stem)
    said = next((image[key] for key in _FRAMES if isinstance(image.get(key), int)), None)
    video = next((image[key] for key in _VIDEOS if image.get(key) is not None), None)
    folder = file.parent.name if str(file.parent) not in (".", "/") else ""
    name = "_".join(part for part in (folder, before) if part) or stem(path.name)
    return str(video) if video is not None else name, said if said is not None else number


def _layout(categories: Any) -> str:
    """The layout whose joints the categories name, if they do."""
    for one in categories if isinstance(categories, list) else ():
        if isinstance(one, Mapping) and isinstance(one.get("keypoints"), list):
            return layouts.named(one["keypoints"])
    return ""


def _frame(people: list[Mapping[str, Any]], where: str, flags: bool = False) -> Detections | None:
    """``flags``: the third number of a joint is 0, 1 (covered) or 2 (visible), no score."""
    tables = [triples(one["keypoints"], where) for one in people]
    ids = [_track(one) for one in people]
    sure = [1.0 if flags else None for _ in people]
    return persons(tables, where, sure, unique(ids))


def _track(one: Mapping[str, Any]) -> Any:
    """What an annotation, or its ``attributes``, say about who it is."""
    further = one.get("attributes")
    for about in (one, further if isinstance(further, Mapping) else {}):
        for key in _TRACKS:
            if key in about:
                return about[key]
    return None
