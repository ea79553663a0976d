"""Speed of perception, part by part.

CPU milliseconds per frame do not depend on the load of the machine; frames per second do. The chain is masking, then
skeletons of the masked frames, as in the pipeline.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from posewatch import video, weights
from posewatch.config import Experiment
from posewatch.files import write_atomically
from posewatch.perception.masking import mask_video
from posewatch.perception.skeletons import estimate_video

SAMPLE = "sports2d_walk"
GOALS = {"beside_networks": 0.15, "two_workers": 1.8}
"""Highest share of CPU time outside the networks; lowest speed-up by two workers."""


class Meter:
    """CPU ``seconds`` of the networks' calls, each of which runs in one thread."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextlib.contextmanager
    def metered(self) -> Iterator[Meter]:
        """Meter LiteRT and ONNX Runtime networks within the block."""
        from posewatch.perception.networks.litert import Network

        with contextlib.ExitStack() as stack:
            stack.enter_context(mock.patch.object(Network, "run", self._timed(Network.run)))
            with contextlib.suppress(ImportError):
                from onnxruntime import InferenceSession

                stack.enter_context(mock.patch.object(InferenceSession, "run", self._timed(InferenceSession.run)))
            yield self

    def _timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **options: Any) -> Any:
            start = time.thread_time()
            try:
                return function(*args, **options)
            finally:
                self.seconds += time.thread_time() - start

        return timed


def cpu(call: Callable[[], Any]) -> tuple[float, float, Any]:
    """CPU seconds of this process, wall seconds, and what ``call`` returns."""
    cpu_start, start = time.process_time(), time.perf_counter()
    result = call()
    return time.process_time() - cpu_start, time.perf_counter() - start, result


def parts(source: Path, config: Experiment) -> dict[str, Any]:
    """CPU ms per frame of each part of masking and skeletons, and the share of CPU time outside the networks.

    ``start_cpu_s`` is spent once per process (imports, checking weights, the codecs' tables) and counted nowhere else.
    ``decode_all_cpu_ms_per_frame`` is what "decode raw" would be if pictures that are not needed were decoded.
    """
    with tempfile.TemporaryDirectory(prefix="posewatch-bench-") as temp:
        out = Path(temp) / "masked.mp4"
        start, _, _ = cpu(lambda: _start(source, Path(temp), config))
        mask, pose = Meter(), Meter()
        with mask.metered():
            mask_cpu, mask_wall, report = cpu(lambda: mask_video(source, out, config.mask))
        with pose.metered():
            pose_cpu, pose_wall, _ = cpu(lambda: estimate_video(out, config.pose))
        n = report.frames
        frames = [f.image for f in video.read(out)]
        decode, _, _ = cpu(lambda: sum(1 for _ in video.read(source, config.mask.fps, config.mask.max_side)))
        whole, _, _ = cpu(lambda: sum(1 for _ in video.read(source, config.mask.fps, config.mask.max_side, skip=False)))
        again, _, _ = cpu(lambda: sum(1 for _ in video.read(out)))
        encode, _, _ = cpu(lambda: _encode(Path(temp) / "again.mp4", frames, config.mask.fps))
    networks = mask.seconds + pose.seconds
    total = mask_cpu + pose_cpu
    each = {
        "decode raw": decode, "networks of masking": mask.seconds, "encode masked": encode,
        "the rest of masking": mask_cpu - decode - encode - mask.seconds,
        "decode masked": again, "networks of skeletons": pose.seconds,
        "the rest of skeletons": pose_cpu - again - pose.seconds,
    }  # fmt: skip
    return {
        "frames": n,
        "start_cpu_s": round(start, 2),
        "cpu_ms_per_frame": {k: round(1000 * v / n, 2) for k, v in each.items()},
        "total_cpu_ms_per_frame": round(1000 * total / n, 2),
        "decode_all_cpu_ms_per_frame": round(1000 * whole / n, 2),
        "beside_networks": round(1 - networks / total, 4),
        "fps_masking": round(n / mask_wall, 2),
        "fps_skeletons": round(n / pose_wall, 2),
        "overlap_masking": round(mask_cpu / mask_wall, 2),
    }


def _start(source: Path, folder: Path, config: Experiment) -> None:
    images = [f.image for f in video.read(source, config.mask.fps, config.mask.max_side, end_s=1 / config.mask.fps)]
    _encode(folder / "first.mp4", images, config.mask.fps)
    mask_video(folder / "first.mp4", folder / "first-masked.mp4", config.mask)
    estimate_video(folder / "first-masked.mp4", config.pose)


def _encode(path: Path, frames: Sequence[video.Image], fps: float) -> None:
    with video.Writer(path, fps, frames[0].shape[1::-1]) as writer:
        for frame in frames:
            writer.write(frame)


def workers(source: Path, config: Experiment, rounds: int = 1) -> dict[str, Any]:
    """Seconds of masking and skeletons of one video with one and with two processes in turn, the best of ``rounds``.

    The single process is pinned to one core: decoding and encoding would overlap on the other. ``two_workers_by_cpu``
    is the speed-up by CPU seconds, an upper limit for when the machine is busy otherwise.
    """
    cores = sorted(os.sched_getaffinity(0))
    best: dict[int, float] = {}
    spent: dict[int, float] = {}
    same: set[bytes] = set()
    with tempfile.TemporaryDirectory(prefix="posewatch-bench-") as temp:
        for _ in range(rounds):
            for count in (1, 2):
                out = Path(temp) / f"masked-{count}.mp4"
                os.sched_setaffinity(0, cores[:count] if count == 1 else cores)
                begun, used = time.perf_counter(), sum(os.times()[:4])
                mask_video(source, out, config.mask, workers=count)
                estimate_video(out, config.pose, workers=count)
                best[count] = min(best.get(count, 1e9), time.perf_counter() - begun)
                spent[count] = min(spent.get(count, 1e9), sum(os.times()[:4]) - used)
                same.add(out.read_bytes())
                os.sched_setaffinity(0, cores)
    return {
        "seconds": {str(k): round(v, 2) for k, v in best.items()},
        "two_workers": round(best[1] / best[2], 2),
        "two_workers_by_cpu": round(2 * spent[1] / spent[2], 2),
        "cpu_seconds": {str(k): round(v, 2) for k, v in spent.items()},
        "load": round(os.getloadavg()[0], 2),
        "same_bytes": len(same) == 1,
        "cores": len(cores),
    }


def looped(source: Path, out: Path, times: int) -> Path:
    """A video that repeats ``source``."""
    frames = [f.image for f in video.read(source, 10, 640)]
    with video.Writer(out, 10, frames[0].shape[1::-1]) as writer:
        for _ in range(times):
            for frame in frames:
                writer.write(frame)
    return out


def bench_speed(
    out: Path, config: Experiment, source: Path | None = None, *, loops: int = 4, rounds: int = 1
) -> dict[str, Any]:
    """Run the benchmark on ``source`` (default: a real sample); returns the content of speed.json, written to ``out``.

    One and two workers process the video repeated ``loops`` times (0: skip this part), in ``rounds`` rounds. Raises
    WeightsError or VideoError.
    """
    path = source or weights.path(SAMPLE)
    report: dict[str, Any] = {"video": path.name, "load": round(os.getloadavg()[0], 2), **parts(path, config)}
    if len(os.sched_getaffinity(0)) >= 2 and loops:
        report["workers"] = workers(looped(path, out / "looped.mp4", loops), config, rounds)
    write_atomically(out / "speed.json", json.dumps(report, indent=1) + "\n")
    return report
