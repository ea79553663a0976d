"""Measures whether the watcher raises alarms at the right second.

For each person in a folder of real videos (names and annotations as in GMDCSA-24) a model is trained on the other
people's videos and on rendered footage; then the watcher watches the person's videos as it would watch a camera, with
and without the ways to look at fewer frames.
"""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch.artifact import sha256_file
from posewatch.bench.watch_ways import WAYS, each_way, rooms
from posewatch.config import Experiment, LabelConfig, load
from posewatch.datasets.clipset import ClipSet
from posewatch.datasets.gmdcsa24 import read_gmdcsa24
from posewatch.datasets.intervals import Interval, read_labels_csv
from posewatch.datasets.layouts import FLOW, WITH_FLOW
from posewatch.digests import canonical, digest
from posewatch.errors import InputError
from posewatch.files import write_atomically
from posewatch.outputs import mark
from posewatch.perception.networks import build_estimator
from posewatch.perception.ports import PoseEstimator
from posewatch.perception.skeletons import estimate_video, follow, skeleton
from posewatch.progress import Progress
from posewatch.video.files import find_videos
from posewatch.watch.config import WatchConfig
from posewatch.watch.sinks.alarm_lines import AlarmLines
from posewatch.watch.sinks.sink import SinkContext
from posewatch.watch.sinks.whole_video import WholeVideo
from posewatch.watch.sources import FileSource
from posewatch.watch.watcher import Watcher

SETTINGS = ("split.length_s=3.0", "pose.source=raw")
MODELS: dict[str, tuple[str, tuple[str, ...]]] = {
    "statistics": ("default", ("train.model=statistics", "train.epochs=10")),
    "quick": ("quick", ()),
    "protogcn": ("default", (
        "train.width=0.17", "train.clip_frames=24", "train.stream=j+b+jm", "train.epochs=25", "train.weight_decay=0.05",
        "train.smoothing=0.1",
    )),
}  # fmt: skip
"""What may be trained for each person, by its configuration and settings: in seconds, in a minute or in some ten.
``quick`` alone looks at flow."""
STRIDE_S = 0.5
ABNORMAL_S, NORMAL_S = 1.0, 0.3
"""A window with at least, or less than, so many seconds of an event is abnormal, or normal; others are left out."""
EARLY_S, LATE_S = 1.0, 3.5
"""An alarm finds an event when it is raised at most so much before the event's start, or after it (a window, and one
more that the mean needs)."""
_PERSON = re.compile(r"(?:^|/)((?:Subject|Actor)[ _]\d+)[_/]")


@dataclass(frozen=True)
class Outcome:
    """The result for one video, in seconds.

    ``event_s`` is when the event begins (None: there is none), ``raised_s`` when alarms were raised; ``seconds`` is the
    video's length, ``cpu_s`` the processor time of watching it, the annotated video included.
    """

    video: str
    event_s: float | None
    raised_s: tuple[float, ...]
    seconds: float = 0.0
    cpu_s: float = 0.0
    looked: float = 1.0
    """Share of the frames that the pose network looked at."""
    ways: dict[str, Outcome] = field(default_factory=dict)
    """The same for each of ``WAYS``, without the annotated video."""

    @property
    def found(self) -> bool:
        """Whether an alarm was raised at the right second (a true positive)."""
        return self.event_s is not None and any(
            self.event_s - EARLY_S <= at <= self.event_s + LATE_S for at in self.raised_s
        )

    @property
    def false_alarms(self) -> int:
        """Number of alarms in a video without event, or before the event began."""
        return sum(1 for at in self.raised_s if self.event_s is None or at < self.event_s - EARLY_S)


def windows_of(
    path: Path, intervals: Sequence[Interval], config: Experiment, estimator: PoseEstimator
) -> list[tuple[str, NDArray[np.float32], int]]:
    """("@" and when it begins in seconds, keypoints (M, T, V, 3) with columns of flow, 1 for abnormal) of the windows
    of a video that are clearly normal or abnormal."""
    from posewatch import video
    from posewatch.perception.flow import Meter, by_pixels
    from posewatch.perception.pictures import over_clips

    info, fps = video.probe(path), config.mask.fps
    width, height = video.fit(info.width, info.height, config.mask.max_side)
    frames = follow(
        estimate_video(path, config.pose, estimator=estimator, fps=fps, max_side=config.mask.max_side), config.pose
    )
    span, step = round(config.split.length_s * fps), round(2 * STRIDE_S * fps)
    windows, begins = [], []
    for begin in range(0, max(1, len(frames) - span + 1), step):
        part = frames[begin : begin + span]
        start, end = begin / fps, (begin + len(part)) / fps
        covered = sum(max(0.0, min(end, i.end_s) - max(start, i.start_s)) for i in intervals if i.label == "abnormal")
        if NORMAL_S <= covered < ABNORMAL_S or not any(len(frame) for frame in part):
            continue
        keypoints = skeleton(part, config.pose, fps, width, height).keypoints
        windows.append((f"@{start:g}", keypoints, int(covered >= ABNORMAL_S)))
        begins.append(begin)
    meter = Meter(fps)
    measured = over_clips(
        ((frame.index, frame.image) for frame in video.read(path, fps, config.mask.max_side)),
        [(begin, keypoints) for begin, (_, keypoints, _) in zip(begins, windows, strict=True)],
        lambda first, keypoints, pictures: by_pixels(first, keypoints, pictures, config.pose, meter),
    )
    return [(name, keypoints, label) for (name, _, label), keypoints in zip(windows, measured, strict=True)]


def kept_windows(
    folder: Path, path: Path, intervals: Sequence[Interval], config: Experiment, estimator: PoseEstimator
) -> list[tuple[str, NDArray[np.float32], int]]:
    """``windows_of``, kept in ``folder`` for the next run on the same file with the same settings."""
    labels = [[i.start_s, i.end_s, i.label] for i in intervals]
    about = digest([SETTINGS, config.pose.max_people, FLOW, sha256_file(path), labels])
    kept = folder / f"{path.stem}-{about[:12]}.npz"
    if kept.is_file():
        with np.load(kept) as file:
            names, classes = file["names"], file["classes"]
            return [(str(names[i]), file[f"clip{i}"], int(classes[i])) for i in range(len(names))]
    windows = windows_of(path, intervals, config, estimator)
    data = io.BytesIO()
    arrays = {f"clip{i}": keypoints for i, (_, keypoints, _) in enumerate(windows)}
    arrays |= {"names": np.array([w[0] for w in windows], str), "classes": np.array([w[2] for w in windows], int)}
    np.savez_compressed(data, allow_pickle=False, **arrays)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(kept, data.getvalue())
    return windows


def bench_watch(
    videos: Path, out: Path, *, rendered: int = 40, seed: int = 0, model: str = "statistics", room: Path | None = None
) -> dict[str, Any]:
    """Measure, and write ``watch.json``, ``watch.md`` and the annotated videos to ``out``.

    ``model`` is one of ``MODELS``. ``room`` is the video of a still camera: what watching its room costs, too.
    Rendered videos, skeletons and trainings that are in ``out`` already, from a run that was ended, are taken as they
    are. Raises InputError for a folder without videos of at least two persons, and for a room that is never empty.
    """
    from posewatch.footage.make import make_footage

    base, changes = MODELS[model]
    config = load(base, (*SETTINGS, *changes))
    real = read_gmdcsa24(videos, LabelConfig())
    shown = {name: path for name, path in find_videos(videos, without=[out]) if _person(name)}
    persons = sorted(set(map(_person, shown)))
    if len(persons) < 2:
        raise InputError(
            f"{videos} has no videos of at least two persons, named such as Subject 1/Fall/01.mp4 or "
            "Subject_1_Fall_01.mp4"
        )
    estimator = build_estimator(config.pose)
    empty_and_busy = rooms(room, out / "rooms", config, estimator) if room else {}
    with Progress("footage", rendered, "video") as progress:
        footage = make_footage(out / "footage", videos=rendered, seed=seed, progress=progress.advance)
    intervals = _by_file([*read_labels_csv(out / "footage" / "labels.csv"), *real])
    paths = {video.path.name: video.path for video in footage} | shown
    clips: list[tuple[str, NDArray[np.float32], int]] = []
    with Progress("skeletons", len(paths), "video") as progress:
        for name, path in paths.items():
            windows = kept_windows(out / "windows", path, intervals.get(name, ()), config, estimator)
            clips += [(f"{name}{at}", keypoints, label) for at, keypoints, label in windows]
            progress.advance()
    outcomes = []
    for person in persons:
        outcomes += _fold(person, clips, shown, intervals, config, estimator, out / model)
    costs = {name: _cost(path, out / model / persons[0], config, estimator) for name, path in empty_and_busy.items()}
    return _report(outcomes, config, rendered, model, costs, out)


def _cost(path: Path, trained: Path, config: Experiment, estimator: PoseEstimator) -> dict[str, dict[str, float]]:
    """Way → what watching a room costs with the model of the folder ``trained``."""
    from posewatch.inference.pytorch import TorchPredictor

    settings = WatchConfig(config.mask.fps, config.split.length_s, STRIDE_S)
    with TorchPredictor.from_checkpoint(trained / "checkpoint.pt") as predictor:
        ways = each_way(path, predictor, estimator, config, settings)
    return {
        name: {"looked": round(way.looked, 3), "cpu_per_second": round(way.cpu_s / way.seconds, 3)}
        for name, way in ways.items()
    }


def _by_file(intervals: Iterable[Interval]) -> dict[str, list[Interval]]:
    files: dict[str, list[Interval]] = {}
    for interval in intervals:
        files.setdefault(interval.file, []).append(interval)
    return files


def _person(name: str) -> str:
    """Who is in a video, by its path; "": nobody whose name is known, as in rendered ones."""
    match = _PERSON.search(name)
    return match[1] if match else ""


def _fold(
    person: str, clips: Sequence[tuple[str, NDArray[np.float32], int]], videos: dict[str, Path],
    intervals: dict[str, list[Interval]], config: Experiment, estimator: PoseEstimator, out: Path,
) -> list[Outcome]:  # fmt: skip
    """Train without one person's videos, then watch them; checkpoints go to ``out``, the annotated videos beside it."""
    from posewatch.datasets.split import HoldOut
    from posewatch.inference.pytorch import TorchPredictor
    from posewatch.recognition.training.holdout import fit

    others = [clip for clip in clips if _person(clip[0]) != person]
    data = ClipSet(
        tuple(k for _, k, _ in others), np.array([y for _, _, y in others]), ("normal", "abnormal"),
        tuple(name for name, _, _ in others), tuple(name.partition("@")[0] for name, _, _ in others), config.mask.fps,
        f"coco17{WITH_FLOW}",
    )  # fmt: skip
    fit(data, config.train, out / person, positive="abnormal", held=HoldOut(np.arange(len(others)), np.arange(0)))
    outcomes = []
    with TorchPredictor.from_checkpoint(out / person / "checkpoint.pt") as predictor:
        settings = WatchConfig(config.mask.fps, config.split.length_s, STRIDE_S)
        for name, path in videos.items():
            if _person(name) != person:
                continue
            source = FileSource(path, config.mask.fps, config.mask.max_side)
            began = time.process_time()
            watcher = Watcher(source, predictor, estimator, config.pose, settings)
            place = out.parent / "videos" / Path(name).parent
            raised = _watch(watcher, SinkContext(source, watcher.stats, watcher.label, settings, place))
            cpu, seconds = time.process_time() - began, source.counters.read / config.mask.fps
            starts = [i.start_s for i in intervals.get(name, ()) if i.label == "abnormal"]
            outcome = Outcome(name, min(starts, default=None), tuple(raised), seconds, cpu)
            for how, way in each_way(path, predictor, estimator, config, settings).items():
                outcome.ways[how] = replace(outcome, raised_s=way.raised_s, cpu_s=way.cpu_s, looked=way.looked, ways={})
            outcomes.append(outcome)
    return outcomes


def _watch(watcher: Watcher, context: SinkContext) -> list[float]:
    """Watch a video, and write the annotated one; returns when alarms were raised, in seconds."""
    context.out.mkdir(parents=True, exist_ok=True)
    path = context.out / f"{Path(context.source.name).stem}.jsonl"
    path.unlink(missing_ok=True)
    path.touch()
    with closing(WholeVideo(context)) as video:
        watcher.run([AlarmLines(path, io.StringIO()), video], Event())
    mark(path)
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [row["raised_s"] for row in rows if row["event"] == "alarm"]


def _ways(outcomes: Sequence[Outcome]) -> dict[str, dict[str, float]]:
    """What each of ``WAYS`` finds and costs."""
    rows = {}
    for way in WAYS:
        of = [o.ways[way] for o in outcomes]
        seconds = sum(o.seconds for o in of)
        rows[way] = {
            "found": sum(o.found for o in of),
            "false_alarms": sum(o.false_alarms for o in of),
            "looked": round(sum(o.looked * o.seconds for o in of) / seconds, 3),
            "cpu_per_second": round(sum(o.cpu_s for o in of) / seconds, 3),
        }
    return rows


def _report(
    outcomes: Sequence[Outcome], config: Experiment, rendered: int, model: str,
    costs: dict[str, dict[str, dict[str, float]]], out: Path,
) -> dict[str, Any]:  # fmt: skip
    events = [o for o in outcomes if o.event_s is not None]
    result: dict[str, Any] = {
        "events": len(events),
        "found": sum(o.found for o in events),
        "videos_without": len(outcomes) - len(events),
        "false_alarms": sum(o.false_alarms for o in outcomes),
        "rendered": rendered,
        "model": model,
        "cpu_per_second": round(sum(o.cpu_s for o in outcomes) / sum(o.seconds for o in outcomes), 3),
        "ways": _ways(outcomes),
        "rooms": costs,
        "videos": [
            {
                "video": o.video,
                "event_s": o.event_s,
                "raised_s": list(o.raised_s),
                "found": o.found,
                "false": o.false_alarms,
            }
            for o in outcomes
        ],
    }
    lines = ["| video | event begins | alarms raised | |", "|---|---|---|---|"]
    for o in outcomes:
        verdict = "found" if o.found else "missed" if o.event_s is not None else ""
        verdict += f"{', ' if verdict and o.false_alarms else ''}{o.false_alarms} false" if o.false_alarms else ""
        begins = "" if o.event_s is None else f"{o.event_s:.1f} s"
        lines.append(f"| {o.video} | {begins} | {', '.join(f'{at:.1f} s' for at in o.raised_s)} | {verdict} |")
    lines.append(
        f"\nModel {model}, {rendered} rendered videos: {result['found']} of {result['events']} events found"
        f" at the right second ({EARLY_S:g} s before to {LATE_S:g} s after they began), {result['false_alarms']} false"
        f" alarms in {len(outcomes)} videos."
        f" Watching a second of {config.mask.fps:g} frames took {result['cpu_per_second']:.2f} s of one core,"
        " the annotated video included."
    )
    lines += [
        "",
        "| without the annotated video | found | false alarms | looked at | of one core |"
        + "".join(f" {name}: looked at | of one core |" for name in costs),
        "|---|---|---|---|---|" + "---|---|" * len(costs),
    ]
    for way, row in result["ways"].items():
        lines.append(
            f"| {way} | {row['found']} | {row['false_alarms']} | {row['looked']:.0%} | {row['cpu_per_second']:.2f} |"
            + "".join(f" {c[way]['looked']:.0%} | {c[way]['cpu_per_second']:.2f} |" for c in costs.values())
        )
    write_atomically(out / "watch.md", "\n".join(lines) + "\n")
    write_atomically(out / "watch.json", canonical(result) + "\n")
    return result
