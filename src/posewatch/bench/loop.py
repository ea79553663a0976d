"""The loop, measured: does judging a camera's alarms make its next model better, and faster than labelling at random?

Cameras are simulated on labelled skeletons: each group of people of the file is a camera with a view of its own
(height, side, tilt, distance, hidden legs, a person who is missed). A first model knows a few labelled clips of other
cameras. Then windows come in, camera by camera; what the model calls an alarm becomes a record, an operator who knows
the truth judges it, and the product does the rest: ``stages.verdicts``, ``snapshot``, ``dataset``, ``train``. Beside
it as many windows are labelled that were drawn at random. What counts are the false alarms, at equal recall, on later
windows of the same cameras (other clips), and on cameras that nobody judged.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from posewatch import alarms
from posewatch.artifact import Artifact, Job, collect, produce, sha256_file
from posewatch.bench.loop_world import WINDOWS, Keypoints, World, world
from posewatch.config import Experiment
from posewatch.datasets.clipset import ClipSet
from posewatch.digests import canonical, digest
from posewatch.errors import InputError
from posewatch.files import write_atomically
from posewatch.labels import verdicts as said
from posewatch.labels.db.schema import sqlite_url
from posewatch.labels.entries import ClipEntry
from posewatch.labels.store import LabelStore
from posewatch.labels.team import roles
from posewatch.names import known_as
from posewatch.progress import Progress
from posewatch.recognition.recogniser import Recogniser
from posewatch.recognition.threshold import HOUR_S, at, threshold_at
from posewatch.records import Clip, clip_id, video_id
from posewatch.stages.contents import CLIPS, SKELETONS, SKELETONS_ABOUT, recogniser_of
from posewatch.stages.dataset import dataset
from posewatch.stages.snapshot import snapshot
from posewatch.stages.train import train
from posewatch.stages.verdicts import verdicts
from posewatch.store import FolderStore

BEGAN = datetime(2026, 3, 2, tzinfo=UTC)
PER_DAY = 30
"""Windows of a camera in a day."""
RECALL = 0.9
CHUNK = 50
"""Windows that are scored together."""
ARMS = ("verdicts", "mixed", "random")
"""Alarms alone are judged; of four, two alarms, a near miss and a sample; random windows."""
NEAR = 0.7
"""Of the threshold: the probability from which a window without an alarm is a near miss, as for the watcher."""
LIGHT = (
    "train.model=pooled-statistics", "train.stream=j+b+jm+c+p+cm+pm", "train.clip_frames=20", "train.epochs=30",
    "train.device=cpu", "train.threads=1", "dataset.test=0", "dataset.validation=0.3",
)  # fmt: skip
"""A recogniser that trains in seconds on one core, and with so few labels is hard to beat (docs/models.md)."""


class Loop:
    """The product around one world, in a folder of its own: stores, the first model, rounds of verdicts."""

    def __init__(self, folder: Path, arm: str, seen: World, like: ClipSet, experiment: Experiment) -> None:
        self.world, self.like, self.config = seen, like, experiment
        self.store = FolderStore(folder / "store")  # of both arms: they begin with one model
        self.labels = LabelStore(sqlite_url(folder / f"{arm}.db"))
        roles.set_role(self.labels, "operator", "operator", "bench")
        self._start()

    def _start(self) -> None:
        """The first labels, as prepared videos that people have labelled, and the first model."""
        rows, cut, posed = [], [], []
        for camera in dict.fromkeys(self.world.start.cameras):
            video, records, arrays = video_id(digest(camera)), [], {}
            for i, name in enumerate(self.world.start.cameras):
                if name == camera:
                    clip = self._clip(video, i, self.world.start.keypoints[i])
                    records.append(clip)
                    arrays[clip.id] = self.world.start.keypoints[i]
            rows.append({"video": video, "names": [camera]})
            cut.append(produce(self.store, Job("clips", video, {}), _lines(records)))
            about = {"fps": self.config.mask.fps, "width": 640, "height": 480, "layout": self.like.layout}
            posed.append(produce(self.store, Job("skeletons", video, {}, (cut[-1],)), _arrays(arrays, about)))
            self.labels.register(_entries(camera, records, self.store.uri))
            given = {
                clip.id: self._class(bool(self.world.start.abnormal[round(clip.start_s / clip.length_s)]))
                for clip in records
            }
            self.labels.set_labels(given, "somebody", "human", classes=self.config.labels.classes)
        self.clips = collect(self.store, "split", rows, cut)
        self.skeletons = collect(self.store, "pose", rows, posed)
        frozen = snapshot(self.store, self.clips, self.labels, self.config.labels)
        self.data = dataset(self.store, frozen, self.skeletons, self.config.dataset, self.config.labels)
        self.model = self._train(self.data)

    def _clip(self, video: str, place: int, keypoints: Keypoints) -> Clip:
        length = self.config.split.length_s
        start, frames = place * length, keypoints.shape[1]
        return Clip(clip_id(video, start, length), video, start, length, self.config.mask.fps, frames, 640, 480, 1.0)

    def _class(self, abnormal: bool) -> str:
        return self.config.labels.positive if abnormal else self.config.labels.default

    def _train(self, data: Artifact) -> Recogniser:
        return recogniser_of(train(self.store, data, self.config.train))

    def judge(self, i: int, score: float, kind: str) -> None:
        """Keep the window ``i`` of the past as a record, and say what it is."""
        past, watch = self.world.past, self.config.split.length_s
        began = BEGAN + timedelta(days=past.places[i] // PER_DAY, seconds=past.places[i] % PER_DAY * 60.0)
        about = {
            "kind": kind, "id": f"{kind}-{i}", "camera": past.cameras[i], "unit": "scene", "person": None,
            "label": self.config.labels.positive, "began": began.isoformat(), "start_s": past.places[i] * 60.0,
            "end_s": past.places[i] * 60.0 + watch, "probability": score, "model": {"release": "bench"},
            "watch": {"on": self.model.threshold, "off": 0.8 * self.model.threshold, "window_s": watch,
                      "fps": self.config.mask.fps},
            "windows": [{"start_s": past.places[i] * 60.0, "end_s": past.places[i] * 60.0 + watch, "p": score,
                         "keypoints": "w0"}],
        }  # fmt: skip
        prefix = alarms.key_of(past.cameras[i], began, str(about["id"]))
        job = Job(alarms.ROOT, alarms.camera_key(past.cameras[i]), {}, fixed_prefix=prefix)

        def write(folder: Path) -> None:
            (folder / alarms.ABOUT).write_text(canonical(about) + "\n", encoding="utf-8")
            np.savez_compressed(folder / alarms.WINDOWS, w0=past.keypoints[i])

        record = alarms.AlarmRecord(produce(self.store, job, write), about)
        verdict = "true" if past.abnormal[i] else "false"
        said.judge(self.labels, record, verdict, "operator", f"{kind}-{i}")

    def learn(self) -> None:
        """What a refresh does with the verdicts: labels, a dataset, a model."""
        made = verdicts(self.store, self.labels, self.config, self.clips, self.skeletons)
        frozen = snapshot(self.store, made.clips, self.labels, self.config.labels)
        labels = self.config.labels
        self.model = self._train(
            dataset(self.store, frozen, made.skeletons, self.config.dataset, labels, before=self.data)
        )

    def told_from(self, first: int, kinds: Sequence[str]) -> Iterator[tuple[int, float, str]]:
        """Windows of the past from ``first`` on, with their probability, that the watcher would record as these kinds
        in turn: alarms of the present model, near misses, samples."""
        wanted = 0
        positive = self.model.labels.index(self.model.positive)
        for begin in range(first, len(self.world.past.keypoints), CHUNK):
            p = self.model.score(self.world.past.clips(self.like, slice(begin, begin + CHUNK)))[:, positive]
            for i, score in enumerate(p):
                kind = "alarm" if score >= self.model.threshold else "sample"
                kind = "near_miss" if NEAR * self.model.threshold <= score < self.model.threshold else kind
                if kind == kinds[wanted % len(kinds)]:
                    wanted += 1
                    yield begin + i, float(score), kind

    def measured(self) -> dict[str, float]:
        """The present model's false alarms per hour at equal recall, on the judged and on other cameras."""
        positive = self.model.labels.index(self.model.positive)
        out: dict[str, float] = {}
        for name, stream in (("judged", self.world.later), ("others", self.world.others)):
            scores = self.model.score(stream.clips(self.like))[:, positive]
            per_hour = HOUR_S / self.config.split.length_s
            counts = threshold_at(f"recall={RECALL}", scores, stream.abnormal).counts
            own = at(self.model.threshold, scores, stream.abnormal)
            out |= {
                f"{name}_false_per_hour": round(counts.false_positive_rate * per_hour, 2),
                f"{name}_recall": round(counts.recall, 4),
                f"{name}_own_false_per_hour": round(own.false_positive_rate * per_hour, 2),
                f"{name}_own_recall": round(own.recall, 4),
            }
        return out


def _lines(clips: Sequence[Clip]) -> Any:
    text = "".join(canonical(clip.to_dict()) + "\n" for clip in clips)
    return lambda folder: (folder / CLIPS).write_text(text, encoding="utf-8")


def _arrays(arrays: dict[str, Keypoints], about: dict[str, Any]) -> Any:
    def write(folder: Path) -> None:
        np.savez_compressed(folder / SKELETONS, **arrays)  # type: ignore[arg-type]
        (folder / SKELETONS_ABOUT).write_text(canonical(about) + "\n", encoding="utf-8")

    return write


def _entries(camera: str, clips: Sequence[Clip], store: str) -> Iterator[ClipEntry]:
    for clip in clips:
        yield ClipEntry(clip, (camera,), f"clips/{clip.id}.mp4", store)


def run_arm(loop: Loop, arm: str, counts: Sequence[int], seed: int, done: Progress) -> list[dict[str, Any]]:
    """Judge and learn until each number of ``counts`` labels; one row of figures for each."""
    rows: list[dict[str, Any]] = []
    drawn = np.random.default_rng([seed, 7]).permutation(len(loop.world.past.keypoints))
    position = judged = 0
    for wanted in counts:
        if arm == "random":
            for i in drawn[judged:wanted]:
                loop.judge(int(i), 0.0, "sample")
            judged = wanted
        else:
            kinds = ("alarm",) if arm == "verdicts" else ("alarm", "near_miss", "alarm", "sample")
            for i, score, kind in loop.told_from(position, kinds):
                if judged >= wanted:
                    break
                loop.judge(i, score, kind)
                judged, position = judged + 1, i + 1
        if wanted:
            loop.learn()
        rows.append({"labels": judged, **loop.measured()})
        done.advance()
    return rows


def binary(clips: ClipSet, wanted: str | None) -> tuple[ClipSet, str]:
    """The clips as the class that raises alarms against the rest, and its name. Raises InputError without one."""
    from posewatch.recognition.training.experiment import positive_of

    positive = positive_of(clips.classes, wanted)
    if not positive:
        raise InputError(f"which class raises alarms? --positive, one of {', '.join(clips.classes)}")
    index = clips.classes.index(known_as(positive, clips.classes) or positive)
    classes = ("normal" if positive != "normal" else "other", clips.classes[index])
    return replace(clips, labels=(clips.labels == index).astype(np.int64), classes=classes), classes[1]


def bench_loop(
    annotations: Path, out: Path, settings: Sequence[str], *, config: str, positive: str | None = None,
    pattern: str | None = None, starts: Sequence[int] = (40,), seeds: int = 3, counts: Sequence[int] = (0, 25, 50, 100),
    windows: int = WINDOWS,
) -> dict[str, Any]:  # fmt: skip
    """Simulate, write ``loop.json`` and ``loop.png`` to ``out`` and return the content of the former.

    ``starts`` are numbers of labels that the first model has, ``counts`` numbers of verdicts. Rows that loop.json has
    with the same settings are not computed again. Raises InputError for a file that cannot be simulated.
    """
    from posewatch.bench.loop_report import plot, summary
    from posewatch.config import load
    from posewatch.datasets.pyskl import read_pyskl

    data, _ = read_pyskl(annotations, subject_pattern=pattern)
    clips, name = binary(data, positive)
    length = 2.0
    experiment = load(
        config,
        [*LIGHT, f"mask.fps={clips.fps:g}", f"split.length_s={length}",
         f"train.people={max(k.shape[0] for k in clips.keypoints)}", *settings,
         f"labels.classes=[{clips.classes[0]}, {name}]", f"labels.positive={name}",
         f"labels.default={clips.classes[0]}"],
    )  # fmt: skip
    about = {
        "file": annotations.name, "sha256": sha256_file(annotations)[:12], "positive": name,
        "settings": digest(experiment.to_json())[:12], "counts": list(counts), "recall": RECALL,
    }  # fmt: skip
    about |= {} if windows == WINDOWS else {"windows": windows}
    path = out / "loop.json"
    rows = _known(path, about)
    todo = [(s, k, a) for s in starts for k in range(seeds) for a in ARMS if not _has(rows, s, k, a)]
    with Progress("loop", len(todo) * len(counts), "model") as progress, _one_thread():
        for start, seed, arm in todo:
            seen = world(clips, 1, start, round(length * clips.fps), seed, windows)
            folder = out / "work" / digest([about, start, seed])[:12]
            folder.mkdir(parents=True, exist_ok=True)
            loop = Loop(folder, arm, seen, clips, replace(experiment, train=replace(experiment.train, seed=seed)))
            found = run_arm(loop, arm, counts, seed, progress)
            loop.labels.close()
            rows += [{"start": start, "seed": seed, "arm": arm, **row} for row in found]
            write_atomically(path, json.dumps({"about": about, "rows": rows}, indent=1) + "\n")
    result = {"about": about, "rows": rows, "summary": summary(rows, counts)}
    write_atomically(path, json.dumps(result, indent=1) + "\n")
    plot(result, out / "loop.png")
    return result


@contextmanager
def _one_thread() -> Iterator[None]:
    """So small a network is slower on several threads, by far where the machine has other work."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _known(path: Path, about: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of an earlier run with the same file and settings."""
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        return list(before["rows"]) if before["about"] == about else []
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _has(rows: Sequence[dict[str, Any]], start: int, seed: int, arm: str) -> bool:
    return any((row["start"], row["seed"], row["arm"]) == (start, seed, arm) for row in rows)
