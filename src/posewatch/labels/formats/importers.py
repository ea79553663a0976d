"""Imports label files: finds them in a folder, turns timed intervals into one label per clip, records label events.

An import is recorded like any other act of labelling, with the source "import".
"""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from posewatch.config import LabelConfig
from posewatch.datasets import tables
from posewatch.datasets.annotations import count, some
from posewatch.datasets.gmdcsa24 import is_sheet, read_gmdcsa24, sheets_of
from posewatch.datasets.intervals import Interval, read_class_folders, read_labels_csv
from posewatch.errors import LabelError
from posewatch.labels.entries import ClipEntry
from posewatch.labels.formats import fall_sets, labelstudio, public_sets
from posewatch.labels.formats.clip_labels import class_of, read_clip_labels, stretches_of
from posewatch.labels.formats.stretches import of_classes
from posewatch.names import folded, nfc, readable
from posewatch.video.files import SUFFIXES, Walk

if TYPE_CHECKING:
    from posewatch.labels.store import LabelStore

log = logging.getLogger(__name__)

FORMATS = (
    "labels.csv (file, start_s, end_s, label), class folders (<class>/<video>), GMDCSA-24 (Subject 1/Fall.csv), or what"
    " UCF-Crime, XD-Violence, Le2i and UBI-Fights publish"
)
_EPS = 1e-9


@dataclass(frozen=True)
class ImportReport:
    """The result of an import, in clips: newly ``set``, ``unchanged``, ``kept`` (a person's other label has
    precedence), ``unlabelled`` (no interval covers them). ``without_clip`` counts the rows that label no clip."""

    set: int
    unchanged: int
    unlabelled: int
    kept: int = 0
    without_clip: int = 0


_SHEETS = (".xlsx", ".xls", ".ods", ".numbers")


def find_labels(
    folder: str | Path,
    config: LabelConfig | None = None,
    warn: Callable[[str], None] = log.warning,
    fps: float = 1.0,
) -> list[Interval]:
    """Read the labels in ``folder``: labels.csv, else what other tools write for each video, else a public data set,
    else GMDCSA-24, else class folders; or a csv file, or a file of another tool (see docs/labeling.md) that labels
    whole videos.

    ``fps`` is the frame rate of videos in which these tools count frames. ``warn`` gets one line for each entry
    that was left out. Raises LabelError when there are no labels.
    """
    folder = Path(folder)
    found, studio = stretches_of(folder), None
    if found is None and folder.is_file() and labelstudio.is_export(folder):
        studio = labelstudio.tasks(folder)
        found = labelstudio.marked(studio, config or LabelConfig()) or None
        if found and not all(one.seconds for one in found):
            warn(f"{folder.name}: frames of the timelines count {fps:g} a second (<Video frameRate> there, --fps here)")
    if found is not None:
        kept = of_classes(found, config or LabelConfig(), folder.name, warn)
        if not kept:
            raise LabelError(f"{folder.name} has no labels: nothing is labelled there yet")
        return [Interval(s.file, *s.times(fps), s.label, s.where.rstrip(": "), s.person) for s in kept]
    if studio is not None:
        shown = labelstudio.choices(studio, config or LabelConfig(), folder.name, warn)
        return [Interval(task.video, 0.0, math.inf, label, task.where.rstrip(": ")) for task, label in shown]
    own = (folder / "labels.csv").is_file()  # goes before what lies beside it
    for sets in (public_sets, fall_sets) if not own else ():
        if (public := sets.read(folder, config or LabelConfig(), warn)) is not None:
            return public
    if folder.is_file() and is_sheet(folder):
        raise LabelError(f"{folder.name} is a csv of GMDCSA-24: import the folder that holds it and its videos")
    if folder.is_file() and folder.suffix.lower() in tables.SUFFIXES:
        return read_labels_csv(folder, warn)
    if own:
        return read_labels_csv(folder / "labels.csv", warn)
    if folder.is_dir() and sheets_of(folder):
        return read_gmdcsa24(folder, config, warn)
    classes = {folded(name) for name in (config or LabelConfig()).classes}
    if folder.is_dir() and any(
        sub.is_dir() and Walk(sub).files for sub in folder.iterdir() if folded(readable(sub.name)) in classes
    ):
        return read_class_folders(folder)
    if sheet := next((f for f in (folder, *folder.glob("labels.*")) if f.suffix.lower() in _SHEETS), None):
        raise LabelError(f"{sheet.name} is a workbook: save the sheet with the labels as CSV and import that")
    if folder.suffix.lower() == ".boris" and folder.is_file():
        raise LabelError(f"{folder.name} is a project of BORIS: export its aggregated events as CSV and import that")
    names = ", ".join((config or LabelConfig()).classes)
    raise LabelError(f"no labels in {folder}: expected {FORMATS}; the classes are {names}")


def assign(
    clips: Sequence[ClipEntry],
    intervals: Iterable[Interval],
    config: LabelConfig,
    videos: Collection[str] = (),
    useless: list[str] | None = None,
) -> dict[str, str]:
    """One class per clip id, in the order of ``clips``; clips that no interval covers enough are left out.

    A clip has a class other than the default one when an interval of that class covers at least ``min_overlap_s``
    of it, or half of the interval, or half of the clip, whichever is least. So even the shortest event labels the
    clip that contains most of it, and a clip that only touches an event does not become abnormal. Of several such
    classes the one that covers most wins (a tie goes to the first of ``config.classes``). Any other clip that overlaps
    an interval of the default class has the default class.

    An interval that names a person labels the clips of this person only, any other one all clips of its video. Where
    the clips show single persons, that cannot be right of an event at which several are there: it is refused, unless
    ``config.everybody`` is set.

    Files match videos by path, also without the suffix, or by the end of a path when only one video has it; ``videos``
    names ingested videos without clips. Intervals that no clip overlaps go to ``useless``, as text. Raises LabelError
    for an interval whose class or video is unknown or that starts after the video, and for two that contradict each
    other: the same stretch of one video, or stretches that overlap in two files with the same content, in different
    classes.
    """
    matcher = _Matcher({**{name: "" for name in videos}, **{n: e.clip.video_id for e in clips for n in e.names}})
    ends: dict[str, float] = {}
    lengths: dict[str, float] = {}
    for entry in clips:
        ends[entry.clip.video_id] = max(ends.get(entry.clip.video_id, 0.0), entry.clip.end_s)
        lengths[entry.clip.video_id] = max(lengths.get(entry.clip.video_id, 0.0), entry.clip.length_s)
    given: dict[str, list[Interval]] = defaultdict(list)
    absent: dict[str, str] = {}
    for interval in intervals:
        where = f"{interval.where}: " if interval.where else ""
        label = class_of(interval.label, config, where)
        if interval.listed and not matcher.knows(interval.file):
            absent.setdefault(interval.file, f"{interval.file!r} is not here")
            continue
        video = matcher.video(interval.file, where)
        if interval.listed and label == config.default and interval.start_s >= ends.get(video, math.inf):
            continue  # what would come after an event that lasts until the end
        # a last stretch shorter than a clip may have been dropped, but not a longer one
        if video in ends and interval.start_s >= ends[video] + lengths[video]:
            raise LabelError(
                f"{where}starts at {interval.start_s:g} s, but the clips of {interval.file!r} end at {ends[video]:g} s"
            )
        given[video].append(replace(interval, label=label))
        if interval.start_s >= ends.get(video, 0.0) and useless is not None:
            useless.append(f"{where}{interval.file!r} has no clip from {interval.start_s:g} s on")
    if useless is not None:
        useless += absent.values()
    for video, those in given.items():
        if video:
            _contradiction(those)
    if not config.everybody:
        _require_persons(clips, given, config)
    known = {(entry.clip.video_id, entry.clip.person) for entry in clips}
    for video, those in given.items():
        for one in those:
            if video in ends and one.person is not None and (video, one.person) not in known and useless is not None:
                useless.append(f"{one.where}: {one.file!r} has no clip of a person {one.person}")
    labels = {}
    for entry in clips:
        person = entry.clip.person
        about = [i for i in given.get(entry.clip.video_id, ()) if i.person in (None, person)]
        chosen = _choose(entry.clip.start_s, entry.clip.end_s, about, config)
        if chosen is not None:
            labels[entry.clip.id] = chosen
    return labels


def _require_persons(clips: Sequence[ClipEntry], given: Mapping[str, Sequence[Interval]], config: LabelConfig) -> None:
    """Raises LabelError for an event that names no person while clips show several persons at that moment."""
    together: dict[tuple[str, float], set[int]] = defaultdict(set)
    for entry in clips:
        if entry.clip.person is not None:
            together[entry.clip.video_id, entry.clip.start_s].add(entry.clip.person)
    for entry in clips:
        people = together[entry.clip.video_id, entry.clip.start_s] if entry.clip.person is not None else set()
        if len(people) < 2:
            continue
        for one in given.get(entry.clip.video_id, ()):
            shared = min(entry.clip.end_s, one.end_s) - max(entry.clip.start_s, one.start_s)
            if one.person is None and one.label != config.default and shared > _EPS:
                numbers = ", ".join(map(str, sorted(people)))
                raise LabelError(
                    f"{one.where}: {one.label!r} names no person, but at {entry.clip.start_s:g} s {one.file!r} shows"
                    f" the persons {numbers}: add a column person (a number), label on the page, or set"
                    " labels.everybody=true to label all of them"
                )


def _contradiction(intervals: Sequence[Interval]) -> None:
    """Raises LabelError for two intervals of one video that cannot both be right."""
    seen: dict[tuple[float, float, int | None], Interval] = {}
    several = len({_parts(interval.file) for interval in intervals}) > 1
    for i, one in enumerate(intervals):
        same = seen.setdefault((one.start_s, one.end_s, one.person), one)
        others = [same, *(o for o in intervals[:i] if _parts(o.file) != _parts(one.file))] if several else [same]
        for other in others:
            if other.label != one.label and min(other.end_s, one.end_s) - max(other.start_s, one.start_s) > _EPS:
                names = f"{other.file!r} ({other.where})", f"{one.file!r} ({one.where})"
                what = "both label the same part of one video" if other.file == one.file else "have the same content"
                raise LabelError(f"{names[0]} and {names[1]} {what}, as {other.label!r} and {one.label!r}: keep one")


def _choose(start: float, end: float, intervals: Iterable[Interval], config: LabelConfig) -> str | None:
    covered = dict.fromkeys(config.classes, 0.0)
    enough = set()
    for one in intervals:
        overlap = min(end, one.end_s) - max(start, one.start_s)
        if overlap > _EPS:
            covered[one.label] += overlap
            if covers(one.start_s, one.end_s, start, end, config.min_overlap_s):
                enough.add(one.label)
    events = [name for name in config.classes if name in enough and name != config.default]
    if events:
        return max(events, key=lambda name: covered[name])
    return config.default if covered.get(config.default, 0.0) > 0 else None


def covers(since: float, until: float, start: float, end: float, min_overlap_s: float) -> bool:
    """Whether the interval [since, until) covers enough of the clip [start, end) to label it (seconds).

    Enough are ``min_overlap_s``, or half of the interval, or half of the clip, whichever is least.
    """
    overlap = min(end, until) - max(start, since)
    return overlap > _EPS and overlap + _EPS >= min(min_overlap_s, (until - since) / 2, (end - start) / 2)


class _Matcher:
    """Finds the video of a file name in a label file; an ambiguous name is an error. ``videos`` maps names to ids."""

    def __init__(self, videos: Mapping[str, str]) -> None:
        self._videos = {name: (_parts(name), video) for name, video in sorted(videos.items())}
        self._files: dict[str, tuple[str, ...]] = {}

    def knows(self, file: str) -> bool:
        return bool(self._names(file))

    def _names(self, file: str) -> list[str]:
        parts = _parts(file)
        exact = [name for name in self._videos if name == file]
        alike = [name for name, (other, _) in self._videos.items() if other == parts]
        names = exact or alike or [name for name, (other, _) in self._videos.items() if _ends_alike(parts, other)]
        return names or [name for name, (other, _) in self._videos.items() if _ends_alike(parts, _bare(other))]

    def video(self, file: str, where: str) -> str:
        parts, names = _parts(file), self._names(file)
        if not names:
            raise LabelError(f"{where}no video named {file!r} among the {len(self._videos)} ingested")
        if len({self._videos[name][1] or name for name in names}) > 1:
            raise LabelError(f"{where}{file!r} could be any of {', '.join(names[:3])}: give more of its path")
        # walk/1.mp4 and fall/1.mp4 must not both end up as the one video 1.mp4
        before = self._files.setdefault(names[0], parts)
        if not _ends_alike(_bare(before), _bare(parts)):
            raise LabelError(f"{where}{file!r} and {'/'.join(before)!r} both look like the video {names[0]!r}")
        return self._videos[names[0]][1]


def _parts(path: str) -> tuple[str, ...]:
    """The parts of a path, in the composed Unicode form: files from a Mac have names in the other one."""
    return tuple(part for part in PurePosixPath(nfc(path).replace("\\", "/")).parts if part not in ("/", "."))


def _bare(parts: tuple[str, ...]) -> tuple[str, ...]:
    """The parts without the suffix of a video's file."""
    last = PurePosixPath(parts[-1]) if parts else None
    return (*parts[:-1], last.stem) if last is not None and last.suffix.lower() in SUFFIXES else parts


def _ends_alike(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    common = min(len(one), len(other))
    return common > 0 and one[-common:] == other[-common:]


def import_labels(
    store: LabelStore,
    clips: Sequence[ClipEntry],
    intervals: Iterable[Interval],
    config: LabelConfig,
    who: str = "import",
    videos: Collection[str] = (),
    warn: Callable[[str], None] = log.warning,
) -> ImportReport:
    """Label registered clips by timed intervals (see `assign`), as events with the source "import", all or none.

    ``warn`` gets a line that names the rows that label no clip. Raises LabelError when all are such.
    """
    useless: list[str] = []
    labels = assign(clips, intervals, config, videos, useless)
    if useless:
        told = f"{count(len(useless), 'row')} of the labels without a clip: {some(useless, 3)}"
        if not labels:
            raise LabelError(told)
        warn(told)
    return replace(_record(store, labels, config, who, len(clips)), without_clip=len(useless))


def import_clip_labels(
    store: LabelStore,
    path: str | Path,
    config: LabelConfig,
    who: str = "import",
    warn: Callable[[str], None] = log.warning,
) -> ImportReport:
    """Label registered clips by a file of another tool (or `exporters`) with labels by clip id, all or none.

    ``who`` is the author of labels for which the file names none.
    Raises LabelError for a clip that does not exist, an unknown class, and a clip with two different labels.
    """
    given = read_clip_labels(path, config, warn)
    authors = {clip: one.who or who for clip, one in given.items()}
    return _record(store, {clip: one.label for clip, one in given.items()}, config, authors, len(given))


def import_named(
    store: LabelStore,
    labels: Mapping[str, tuple[str, str]],
    clips: Mapping[str, str],
    config: LabelConfig,
    who: str = "import",
    warn: Callable[[str], None] = log.warning,
) -> ImportReport:
    """Label registered clips by names that another tool gave them, all or none. ``labels``: name → (class, where it is
    said), ``clips``: name → clip id. Raises LabelError when no name is that of a clip."""
    useless = [name for name in labels if name not in clips]
    if useless:
        told = f"{count(len(useless), 'row')} of the labels without a clip: {some(useless, 3)}"
        if len(useless) == len(labels):
            raise LabelError(told)
        warn(told)
    chosen = {clips[name]: label for name, (label, _) in labels.items() if name in clips}
    report = _record(store, chosen, config, who, len(set(clips.values())))
    return replace(report, without_clip=len(useless))


def _record(
    store: LabelStore, labels: Mapping[str, str], config: LabelConfig, who: str | Mapping[str, str], clips: int
) -> ImportReport:
    events = store.set_labels(labels, who, "import", classes=config.classes)
    current = store.current(labels)
    kept = sum(current[clip].new != label for clip, label in labels.items())
    return ImportReport(len(events), len(labels) - len(events) - kept, clips - len(labels), kept)
