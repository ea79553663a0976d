"""Labelled footage: each video is drawn from (seed, index) and rendered in a process of its own; labels.csv lists all."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from posewatch.errors import ConfigError, InputError, PosewatchError
from posewatch.files import write_atomically
from posewatch.footage import scenario, scene, truth
from posewatch.footage.engine import Figure, world
from posewatch.footage.figure import draw_look, write_figure
from posewatch.footage.motion import data_folder

VERSION = 1
"""Raised when equal settings give other images, so that old files are rendered again."""


@dataclass(frozen=True)
class FootageVideo:
    """One rendered video: its file, its ground truth, and its labels as (start_s, end_s, normal|abnormal)."""

    name: str
    path: Path
    truth: Path
    kind: str
    labels: tuple[tuple[float, float, str], ...]


@dataclass(frozen=True)
class _Job:
    out: Path
    index: int
    seconds: float
    fps: float
    size: tuple[int, int]
    seed: int
    kind: str = ""

    @property
    def name(self) -> str:
        return f"video-{self.index:03d}"

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "version": VERSION, "seed": self.seed, "index": self.index, "seconds": self.seconds, "fps": self.fps,
            "size": list(self.size), **({"kind": self.kind} if self.kind else {}),
        }  # fmt: skip


def make_footage(
    out: Path,
    *,
    videos: int = 24,
    seconds: float = 9.0,
    fps: float = 10.0,
    size: tuple[int, int] = (480, 360),
    seed: int = 0,
    workers: int = 2,
    kinds: Sequence[str] = (),
    progress: Callable[[], None] | None = None,
) -> list[FootageVideo]:
    """Write ``videos`` CCTV-like clips of ``seconds`` at ``fps`` and ``size`` (width, height), both even, into ``out``.

    ``out`` also has ``labels.csv`` (file,start_s,end_s,label) and the exact ground truth in ``truth/``. Videos with an
    odd number show abnormal behaviour, the others do not. Video i does not depend on ``videos`` and ``workers``, and a
    complete one is not rendered again. ``kinds`` of `scenario.play` take turns instead. ``progress`` is called after each. Raises ConfigError for settings out of range
    and PosewatchError without pybullet.
    """
    if min(size) < 64 or size[0] % 2 or size[1] % 2:
        raise ConfigError(f"cannot render videos of {size[0]}x{size[1]}: give even sizes of at least 64 pixels")
    data_folder()
    out = Path(out)
    try:
        (out / "truth").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write footage to {out}: {error.strerror} (give a folder)") from None
    jobs = [
        _Job(out, i, float(seconds), float(fps), (size[0], size[1]), seed, kinds[i % len(kinds)] if kinds else "")
        for i in range(videos)
    ]
    advance = progress or (lambda: None)
    missing = []
    for job in jobs:
        if _complete(job):
            advance()
        else:
            missing.append(job)
    if workers == 1 or len(missing) == 1:
        for job in missing:
            _render(job)
            advance()
    elif missing:
        # spawned, not forked: the caller may hold threads, and pybullet keeps state in the process
        with ProcessPoolExecutor(min(workers, len(missing)), mp_context=get_context("spawn")) as pool:
            futures = [pool.submit(_render, job) for job in missing]
            try:
                for future in as_completed(futures):
                    future.result()
                    advance()
            except BrokenProcessPool:
                raise PosewatchError(
                    "a rendering process was killed (out of memory?); run it again to continue"
                ) from None
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    rendered = [_load(job) for job in jobs]
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["file", "start_s", "end_s", "label"])
    for video in rendered:
        table.writerows([video.path.name, f"{a:g}", f"{b:g}", label] for a, b, label in video.labels)
    write_atomically(out / "labels.csv", text.getvalue())
    return rendered


def _paths(job: _Job) -> tuple[Path, Path, Path]:
    return job.out / f"{job.name}.mp4", job.out / "truth" / f"{job.name}.npz", job.out / "truth" / f"{job.name}.json"


def _complete(job: _Job) -> bool:
    video, arrays, about = _paths(job)
    if not (video.is_file() and arrays.is_file() and about.is_file()):
        return False
    try:
        return bool(json.loads(about.read_text())["settings"] == job.settings)
    except (ValueError, KeyError, TypeError):
        return False


def _load(job: _Job) -> FootageVideo:
    video, arrays, about = _paths(job)
    record = json.loads(about.read_text())
    labels = tuple((float(a), float(b), str(label)) for a, b, label in record["labels"])
    return FootageVideo(job.name, video, arrays, record["kind"], labels)


def _render(job: _Job) -> None:
    """Render one video from (seed, index) alone. The json is written last: with it the video is complete."""
    from posewatch.video.writing import Writer

    video, arrays, about = _paths(job)
    about.unlink(missing_ok=True)
    rng = np.random.default_rng([job.seed, job.index])
    kind = job.kind or scenario.kind_of(job.seed, job.index)
    frames = max(1, round(job.seconds * job.fps))
    with tempfile.TemporaryDirectory(prefix="posewatch-") as folder, world() as client:
        looks = [draw_look(rng) for _ in range(scenario.people(kind))]
        urdfs = [write_figure(look, Path(folder) / str(i)) for i, look in enumerate(looks)]
        roles = scenario.play(kind, job.seconds, looks, urdfs, rng)
        tracks = [scenario.frames_of(role, job.fps, frames) for role in roles]
        figures = [Figure(client, urdf, look.height) for urdf, look in zip(urdfs, looks, strict=True)]
        points = np.empty((frames, len(figures), 17, 3))
        ends = np.empty((frames, len(figures), 6, 3))
        for t in range(frames):
            for i, figure in enumerate(figures):
                figure.pose(tracks[i][t])
                points[t, i], ends[t, i] = truth.joints(figure), truth.extremes(figure)
        everywhere = np.concatenate([points.reshape(-1, 3), ends.reshape(-1, 3)])
        camera = scene.aim_camera(everywhere, job.size, rng)
        light = scene.draw_light(rng)
        with world() as room:
            floor = scene.furnish(room, camera, everywhere, rng)
            stage = scene.Stage(client, scene.shoot(room, camera, light), floor, camera, light)
        grain = rng.uniform(1.0, 3.0)
        width, height = job.size
        masks = np.zeros((frames, len(figures), height, width), bool)
        boxes = np.zeros((frames, len(figures), 4), np.float32)
        keypoints = np.zeros((frames, len(figures), 17, 3), np.float32)
        with Writer(video, job.fps, job.size) as file:
            for t in range(frames):
                for i, figure in enumerate(figures):
                    figure.pose(tracks[i][t])
                shot = stage.shoot(points[t].mean(1))
                noisy = shot.image + rng.normal(0, grain, (height, width, 1))
                file.write(np.clip(noisy, 0, 255).astype(np.uint8))
                for i, figure in enumerate(figures):
                    masks[t, i], boxes[t, i], keypoints[t, i] = truth.observe(shot, camera, figure.body, points[t, i])
    truth.write_truth(arrays, truth.Truth(masks, boxes, keypoints, job.fps))
    intervals = [interval for role in roles for interval in role.intervals]
    record = {
        "settings": job.settings,
        "kind": kind,
        "camera": {"eye": camera.eye, "aim": camera.aim, "fov": camera.fov},
        "actions": [asdict(i) for i in intervals],
        "labels": scenario.labels(intervals, job.seconds),
    }
    write_atomically(about, json.dumps(record, indent=1) + "\n")
