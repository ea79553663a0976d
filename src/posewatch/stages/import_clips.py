"""Videos and clips of single persons as the paper's tools leave them → masked videos of ours, one artifact per source
video, so that the persons and clips of one video stay on one side of every split (docs/from-the-paper.md)."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch.artifact import Artifact, Job, collect, produce, sha256_file
from posewatch.datasets.annotations import count, some
from posewatch.datasets.paper import FPS, stem
from posewatch.digests import canonical
from posewatch.errors import InputError, VideoError
from posewatch.perception.persons import PERSONS, name
from posewatch.perception.storage import DETECTIONS, write_detections
from posewatch.progress import Progress, say
from posewatch.records import Detections, video_id
from posewatch.stages.contents import MASK_REPORT, MASKED, clips_of, masked_of, videos_of
from posewatch.store import FolderStore, ObjectStore, local_copy
from posewatch.units import PERSON

IMPORTED = "imported.json"
"""The names of the persons' files, by which labels name their clips."""
KINDS = ("person", "clip", "person-clip")
"""What the numbers at the end of a name count: <video>_<person>, <video>_<clip>, <video>_<person>_<clip>."""
_NUMBERED = {"person": 1, "clip": 1, "person-clip": 2}
_LIT = 40
"""The value from which a pixel is no compressed black."""
_SPECK = 2
"""A row or column of fewer lit pixels is a speck."""

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Part:
    """One file: ``person`` from 1; ``clip`` its place among the clips of the person, 0 for a whole video."""

    path: Path
    person: int
    clip: int
    frames: int
    sha: str


@dataclass(frozen=True)
class Found:
    """One source video: its name, and its persons' files; ``stems``: the beginning of the names of a person's clips."""

    video: str
    parts: tuple[Part, ...]
    stems: Mapping[int, str]


def import_clips(
    store: ObjectStore, source: str, *, kind: str = "", fps: float = 0.0, clip_frames: int = 30
) -> tuple[Artifact, float]:
    """Masked videos of persons, or their clips, below ``source`` as a set of masked videos; also their frame rate.

    ``kind`` is one of ``KINDS`` (default: clips where all files have ``clip_frames`` frames). ``fps`` replaces the rate
    that the files have. Raises InputError or VideoError naming the files that do not fit.
    """
    from posewatch import video
    from posewatch.video.files import find_videos

    with local_copy(source) as root:
        files = find_videos(root, without=[store.root] if isinstance(store, FolderStore) else ())
        infos = {}
        for shown, path in files:
            infos[path] = video.probe(path)
            if infos[path].truncated:
                raise VideoError(f"{shown}: {infos[path].trouble}")
        rates = {round(info.fps, 3) for info in infos.values()}
        if len(rates) > 1 and not fps:
            several = some(f"{one:g}" for one in sorted(rates))
            raise InputError(f"the files have {several} frames per second: give one rate with --fps")
        rate = fps or rates.pop()
        say(f"posewatch: note: {rate:g} frames per second, {_origin(rate, fps)}")
        kind = kind or _kind([path for _, path in files], {p: i.frames for p, i in infos.items()}, clip_frames)
        groups = _groups([path for _, path in files], {p: i.frames for p, i in infos.items()}, kind)
        say(f"posewatch: note: names are read as {_words(kind)}: {count(len(groups), 'source video')}")
        rows, artifacts = [], []
        with Progress("import", len(groups)) as progress:
            for group in groups:
                artifacts.append(_masked(store, group, rate, clip_frames, kind))
                rows.append({"video": artifacts[-1].lineage().unit, "names": [group.video]})
                progress.advance()
    return collect(store, "mask", rows, artifacts), rate


def _origin(rate: float, given: float) -> str:
    if given:
        return "as given"
    if rate == FPS:
        return "as the files say: the paper's tools write that whatever the source had (--fps for another rate)"
    return "as the files say"


def _words(kind: str) -> str:
    return "_".join(["<video>", *(f"<{part}>" for part in kind.split("-"))])


def _kind(paths: Sequence[Path], frames: Mapping[Path, int], clip_frames: int) -> str:
    """Clips where all files have as many frames as a clip; of persons where all names end in two numbers."""
    if any(frames[path] != clip_frames for path in paths):
        return "person"
    two = all(re.fullmatch(r".+_\d+_\d+", stem(path.name)) for path in paths)
    return "person-clip" if two else "clip"


def _groups(paths: Sequence[Path], frames: Mapping[Path, int], kind: str) -> list[Found]:
    parts: dict[str, list[Part]] = defaultdict(list)
    stems: dict[str, dict[int, str]] = defaultdict(dict)
    wrong = []
    for path in sorted(paths):
        found = re.fullmatch(r"(.+?)" + r"_(\d+)" * _NUMBERED[kind], stem(path.name))
        if found is None:
            wrong.append(path.name)
            continue
        numbers = [int(n) for n in found.groups()[1:]]
        person = numbers[0] + 1 if kind != "clip" else 1
        clip = numbers[-1] if kind != "person" else 0
        base = stem(path.name) if kind == "person" else stem(path.name).rpartition("_")[0]
        parts[found[1]].append(Part(path, person, clip, frames[path], sha256_file(path)))
        stems[found[1]][person] = base
    if wrong:
        raise InputError(
            f"{count(len(wrong), 'file')} not named {_words(kind)}: {some(wrong, 3)} "
            "(say what the numbers count: --names)"
        )
    return [
        Found(video, tuple(sorted(own, key=lambda p: (p.person, p.clip))), stems[video])
        for video, own in sorted(parts.items())
    ]


def _masked(store: ObjectStore, group: Found, fps: float, clip_frames: int, kind: str) -> Artifact:
    content = "".join(f"{p.person}/{p.clip} {p.sha}\n" for p in group.parts)
    digest = hashlib.sha256(content.encode()).hexdigest()
    settings = {
        "unit": PERSON, "view": "frame", "min_presence_s": 0.0, "fps": fps, "imported": kind,
        "clip_frames": clip_frames,
    }  # fmt: skip
    job = Job("masked", video_id(digest), settings, source=f"{group.video}: sha256 {digest}")

    def write(folder: Path) -> None:
        _write(group, folder, fps, clip_frames, clips=kind != "person")

    return produce(store, job, write)


def _write(group: Found, folder: Path, fps: float, clip_frames: int, *, clips: bool) -> None:
    """The persons' videos on one grid of frames, in H.264, and what masking would write beside them."""
    from posewatch import video

    first = video.probe(group.parts[0].path)
    size = video.fit(first.width, first.height, None)
    persons = {p.person: [q for q in group.parts if q.person == p.person] for p in group.parts}
    streams = {person: _images(parts, size, clip_frames if clips else 0) for person, parts in persons.items()}
    boxes: dict[int, list[list[float] | None]] = {person: [] for person in persons}
    frames: list[Detections] = []
    with ExitStack() as stack:
        everybody = stack.enter_context(video.Writer(folder / MASKED, fps, size))
        writers = {p: stack.enter_context(video.Writer(folder / name(p), fps, size)) for p in persons}
        for images in zip_longest(*streams.values()):
            shown = np.zeros((size[1], size[0], 3), np.uint8)
            found: list[tuple[int, list[float]]] = []
            for person, image in zip(streams, images, strict=True):
                if image is None:
                    continue
                writers[person].write(image)
                box = _box(image)
                boxes[person].append(box)
                if box is not None:
                    found.append((person, box))
                    np.maximum(shown, image, out=shown)
            everybody.write(shown)
            frames.append(
                Detections(
                    np.array([b for _, b in found], np.float32).reshape(-1, 4),
                    np.ones(len(found), np.float32),
                    None,
                    np.array([p for p, _ in found], np.int64),
                )
            )
    total = len(frames)
    write_detections(folder / DETECTIONS, frames)
    about: dict[str, Any] = {"fps": fps, "width": size[0], "height": size[1], "view": "frame", "too_short": 0}
    about["persons"] = [
        {
            "person": person, "file": name(person), "first": 0, "frames": len(own), "begin_s": 0.0,
            "seen": sum(box is not None for box in own), "end_s": round(len(own) / fps, 3), "boxes": own,
        }
        for person, own in boxes.items()
    ]  # fmt: skip
    report = {
        "frames": total, "frames_with_people": sum(bool(len(f)) for f in frames), "fps": fps, "width": size[0],
        "height": size[1], "people_mean": round(sum(map(len, frames)) / total, 4), "duration_s": round(total / fps, 6),
        "truncated": False,
    }  # fmt: skip
    (folder / PERSONS).write_text(canonical(about) + "\n", encoding="utf-8")
    (folder / MASK_REPORT).write_text(canonical(report) + "\n", encoding="utf-8")
    stems = {str(person): text for person, text in group.stems.items()}
    (folder / IMPORTED).write_text(canonical({"stems": stems, "clip_frames": clip_frames}) + "\n", encoding="utf-8")


def _images(parts: Sequence[Part], size: tuple[int, int], clip_frames: int) -> Iterator[Image]:
    """The frames of one person; clips stand at their places, and one that is missing is black."""
    from posewatch import video

    black = np.zeros((size[1], size[0], 3), np.uint8)
    done = 0
    for part in parts:
        for _ in range(part.clip * clip_frames - done):
            yield black
            done += 1
        info = video.probe(part.path)
        if video.fit(info.width, info.height, None) != size:
            raise InputError(
                f"{part.path.name} is {info.width}x{info.height}, other files of its video {size[0]}x{size[1]}"
            )
        for frame in video.read(part.path):
            yield frame.image
            done += 1


def _box(image: Image) -> list[float] | None:
    """x1, y1, x2, y2 of what is lit; None for a black picture."""
    lit = image.max(2) >= _LIT
    rows, columns = np.flatnonzero(lit.sum(1) >= _SPECK), np.flatnonzero(lit.sum(0) >= _SPECK)
    if not len(rows) or not len(columns):
        return None
    return [float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)]


def names_of(clips: Artifact) -> dict[str, str]:
    """Name that the paper's tools give a clip, ``<video>_<person>_<clip>``, → clip id; {} for other sets of clips."""
    found = {}
    for item in videos_of(clips):
        masked = masked_of(item.artifact)
        if IMPORTED not in masked.files:
            continue
        about = masked.json(IMPORTED)
        for clip in clips_of(item.artifact):
            place = clip.start_s * clip.fps / about["clip_frames"]
            if abs(place - round(place)) < 0.01 and str(clip.person) in about["stems"]:
                found[f"{about['stems'][str(clip.person)]}_{round(place)}"] = clip.id
    return found
