"""The loop on rendered cameras: their footage, the first model, and what one version says of recordings.

The first model knows people who walk and stand, and falls. The cameras also show people who sit, lie down, pick
something up or crawl, which is mistaken for a fall. A later, unseen set of cameras shows such acts by other people.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posewatch.artifact import Artifact
from posewatch.config import Experiment
from posewatch.errors import PosewatchError
from posewatch.footage.make import make_footage
from posewatch.inference.onnx_runtime import OnnxPredictor
from posewatch.labels.store import LabelStore
from posewatch.lineage import ancestor
from posewatch.progress import Progress
from posewatch.stages.compare import compare
from posewatch.stages.contents import COMPARISON, MODEL
from posewatch.stages.dataset import dataset
from posewatch.stages.evaluate import evaluate
from posewatch.stages.export import export
from posewatch.stages.ingest import ingest
from posewatch.stages.label_import import label_import
from posewatch.stages.mask import mask
from posewatch.stages.pose import pose
from posewatch.stages.publish import publish
from posewatch.stages.queue_clips import queue_clips
from posewatch.stages.snapshot import snapshot
from posewatch.stages.split import split
from posewatch.stages.train import train
from posewatch.stages.verdicts import ready, verdicts
from posewatch.store import ObjectStore
from posewatch.watch.sinks.window_lines import WINDOWS

SETTINGS = (
    "mask.segmenter=bbox", "pose.source=raw", "serving.name=abnormal-loop", "train.model=pooled-statistics",
    "train.stream=j+b+jm", "train.epochs=30", "train.threads=1", "train.verdict_weight=1", "labels.min_verdicts=10",
)  # fmt: skip
"""On top of the experiment ``demo``: the skeletons that a watcher sees, a recogniser that trains in seconds, and
verdicts that count like other labels."""
FIRST = (
    "walk", "walk>fall", "walk+stand", "run>fall", "wander", "stand>fall+stand", "walk+walk", "walk>fall", "walk",
    "run>fall",
)  # fmt: skip
"""What the first model learns from: people who walk and stand, and falls."""
ACTS = (
    "sit", "old_sit", "walk>fall", "sit_floor", "lie_down", "run>fall", "pickup", "tie_shoe", "stand>fall+stand",
    "squat", "pushup", "sit>fall", "old_walk", "crawl", "old_walk>fall",
)  # fmt: skip
"""What the cameras show: of three acts one is a fall, and two are mistaken for one by whoever has not seen them."""
SIZE = (320, 240)
WATCHERS = 2
"""Processes of `posewatch watch` at a time."""
Truth = dict[str, list[tuple[float, float]]]
"""Of each recording the stretches (seconds) in which somebody falls or harms."""


@dataclass(frozen=True)
class Recordings:
    """One recording per camera, with what happens in each."""

    paths: tuple[Path, ...]
    truth: Truth


def render(
    folder: Path, name: str, kinds: Sequence[str], count: int, seconds: float, fps: float, seed: int
) -> Recordings:
    """``count`` cameras called ``name``, each with a view, light and people of its own, below ``folder``."""
    with Progress("footage", count, "camera") as progress:
        videos = make_footage(
            folder.parent / f"rendered-{name}-{seed}", videos=count, seconds=seconds, fps=fps, size=SIZE, seed=seed,
            kinds=kinds, progress=progress.advance,
        )  # fmt: skip
    place = folder / name
    place.mkdir(exist_ok=True)
    paths, truth = [], {}
    for i, video in enumerate(videos, 1):
        path = place / f"{name}-{i:02d}.mp4"
        if not path.exists():
            shutil.copyfile(video.path, place / f".{path.name}")
            (place / f".{path.name}").rename(path)
        paths.append(path)
        truth[path.name] = [(start, stop) for start, stop, label in video.labels if label == "abnormal"]
    rows = [
        f"{path.name},{a:g},{b:g},{label}" for path, v in zip(paths, videos, strict=True) for a, b, label in v.labels
    ]
    (place / "labels.csv").write_text("\n".join(["file,start_s,end_s,label", *rows]) + "\n", encoding="utf-8")
    return Recordings(tuple(paths), truth)


@dataclass(frozen=True)
class Learned:
    """A published version with its evaluation and its dataset, and the sets it was made of."""

    model: Artifact
    evaluation: Artifact
    data: Artifact
    clips: Artifact
    skeletons: Artifact

    @property
    def release(self) -> str:
        """What the served model calls itself."""
        return self.model.prefix.rsplit("/", 1)[1]


def first_model(store: ObjectStore, labels: LabelStore, folder: Path, experiment: Experiment) -> Learned:
    """What `prepare`, `labels import` and the pipeline `train` make of a folder of labelled recordings."""
    clips = split(store, mask(store, ingest(store, str(folder)), experiment.mask), experiment.split)
    skeletons = pose(store, clips, experiment.pose)
    queue_clips(clips, labels)
    label_import(clips, str(folder), labels, experiment.labels)
    data = dataset(
        store, snapshot(store, clips, labels, experiment.labels), skeletons, experiment.dataset, experiment.labels
    )
    return _published(store, data, clips, skeletons, experiment)


def _published(
    store: ObjectStore, data: Artifact, clips: Artifact, skeletons: Artifact, experiment: Experiment
) -> Learned:
    checkpoint = train(store, data, experiment.train)
    evaluation = evaluate(store, data, checkpoint)
    model = publish(store, export(store, checkpoint, experiment.serving), experiment.serving)
    return Learned(model, evaluation, data, clips, skeletons)


@dataclass(frozen=True)
class Round:
    """What a refresh came to: ``told`` in words, the new version if one was trained, and whether it is ``better``."""

    told: str
    learned: Learned | None = None
    better: bool = False


def refreshed(store: ObjectStore, labels: LabelStore, served: Learned, experiment: Experiment) -> Round:
    """The steps of the pipeline `refresh` that follow verdicts, up to its gate."""
    made = verdicts(store, labels, experiment, served.clips, served.skeletons)
    about = ready(store, made, served.release, experiment)
    if not about.enough:
        return Round(about.told)
    frozen = snapshot(store, made.clips, labels, experiment.labels)
    data = dataset(
        store, frozen, made.skeletons, experiment.dataset, experiment.labels, before=about.data,
        newest=experiment.labels.newest,
    )  # fmt: skip
    learned = _published(store, data, made.clips, made.skeletons, experiment)
    told = compare(store, learned.model, served.model, data).json(COMPARISON)
    return Round(told["reason"], learned, bool(told["better"]))


@contextmanager
def beside(model: Artifact, name: str, folder: Path) -> Iterator[str]:
    """A Triton of its own that serves a published version; yields its endpoint. Raises StackError, ServingError."""
    from posewatch.inference.triton_admin import load_model
    from posewatch.stack import TritonServer

    shutil.rmtree(folder, ignore_errors=True)
    model.fetch_all(folder / "models")
    with TritonServer.start(folder / "models", log=folder / "triton.log") as server:
        load_model(server.grpc, name)
        yield f"grpc://{server.grpc}/{name}"


def watch(paths: Sequence[Path], endpoint: str, out: Path, experiment: Experiment, *words: str) -> None:
    """Let `posewatch watch` watch recordings, in ``WATCHERS`` processes; those that were watched are left out.

    ``words`` are more of its options. Raises PosewatchError with the last line of a process that failed.
    """
    out.mkdir(parents=True, exist_ok=True)
    shares = [list(paths[i::WATCHERS]) for i in range(WATCHERS)]
    left = {i: [p for p in share if not _windows(out, i, p).exists()] for i, share in enumerate(shares)}
    left = {i: share or list(paths[i : i + 1]) for i, share in left.items() if share or _spooled(out / str(i))}
    running = [_start(share, endpoint, out / str(i), experiment, words) for i, share in left.items() if share]
    with Progress("watch", len(paths), "camera") as progress:
        try:
            while True:
                ended = all(process.poll() is not None for process, _ in running)
                done = sum(_windows(out, i, path).exists() for i, share in enumerate(shares) for path in share)
                if done > progress.done:
                    progress.advance(done - progress.done)
                if ended:
                    break
                _pause(running)
        finally:
            for process, _ in running:
                if process.poll() is None:
                    process.terminate()
                    process.wait()
    for process, log in running:
        if process.returncode:
            lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["no reason given"]
            raise PosewatchError(f"watching failed: {lines[-1]} (whole log: {log})")


def _start(
    paths: Sequence[Path], endpoint: str, out: Path, experiment: Experiment, words: Sequence[str]
) -> tuple[subprocess.Popen[bytes], Path]:
    out.mkdir(parents=True, exist_ok=True)
    log = out / "watch.log"
    command = [sys.executable, "-m", "posewatch.cli", "watch", *map(str, paths), "--model", endpoint]
    command += ["--out", str(out), "--no-video", "--config", experiment.to_json(), *words]
    environment = {**os.environ, "POSEWATCH_PROGRESS": ""}
    with log.open("ab") as file:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=file, env=environment), log


def _pause(running: Sequence[tuple[subprocess.Popen[bytes], Path]]) -> None:
    for process, _ in running:
        try:
            process.wait(0.3)
        except subprocess.TimeoutExpired:
            return


def _windows(out: Path, share: int, path: Path) -> Path:
    return out / str(share) / f"{path.stem}{WINDOWS}"


def _spooled(out: Path) -> bool:
    """Whether a watcher was stopped before its records were in the store."""
    folder = out / "records"
    return folder.is_dir() and any(path.is_dir() for path in folder.iterdir())


def windows_in(out: Path) -> dict[str, list[tuple[float, float]]]:
    """Recording → (end in seconds, probability) of each of its windows, of all watchers below ``out``."""
    found: dict[str, list[tuple[float, float]]] = {}
    for path in sorted(out.glob(f"*/*{WINDOWS}")):
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for row in rows:
            found.setdefault(row["video"], []).append((row["end_s"], row["p"]))
    return found


def is_true(about: Mapping[str, Any], truth: Truth, least_s: float) -> bool:
    """Whether somebody falls or harms while this alarm is on; of a record without an alarm, for ``least_s`` of it."""
    begin, end = about["start_s"], about["end_s"]
    shared = sum(max(0.0, min(end, stop) - max(begin, start)) for start, stop in truth[about["camera"]])
    return shared > 0 if about["kind"] == "alarm" else shared >= least_s


def threshold_of(model: Artifact, folder: Path) -> float:
    """The probability from which a published version raises an alarm."""
    return OnnxPredictor(ancestor(model, "onnx").fetch(MODEL, folder)).threshold
