"""What several cameras cost on one machine: as processes, forked from one (``share: true``), as threads of one process.

Each camera sends a video of the user's over and over, at its own pace, over HTTP. Threads are not offered: a decoder
that crashes would end all cameras. They are measured to show what that costs.
"""

from __future__ import annotations

import json
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from posewatch.bench.wire import write_mean
from posewatch.config import Experiment, load
from posewatch.errors import StackError
from posewatch.files import write_atomically
from posewatch.perception.ports import Image, PoseEstimator
from posewatch.progress import Progress
from posewatch.records import Detections
from posewatch.serving.benchmark.load import cpu_seconds
from posewatch.stack.process import wait_until

WAYS = {
    "processes": "one process each",
    "share": "one process each, `share: true`",
    "threads": "threads of one process",
}
LOOP_S = 60.0
"""Of each video so much is shown over and over."""
START_S, SETTLE_S, END_S = 180.0, 5.0, 60.0
"""How long cameras may take to start, how long they run before they are measured, and how long they may take to end."""
STRIDE_S = 0.5


@dataclass(frozen=True)
class Cost:
    """What ``cameras`` cost in one of ``WAYS``: MiB of all processes and of one camera's, by PSS (a page that several
    share counts once) and RSS; cores of one camera, milliseconds of processor time of a frame, and the share of the
    frames that came too late to be watched."""

    way: str
    cameras: int
    all_mib: float
    camera_mib: float
    camera_rss_mib: float
    cores: float
    frame_ms: float
    dropped: float


def bench_cameras(
    paths: Sequence[Path], out: Path, *, counts: Sequence[int], seconds: float = 20.0, model: str = "",
    ways: Sequence[str] = tuple(WAYS),
) -> str:  # fmt: skip
    """Watch as many cameras as each of ``counts`` says for ``seconds``; write ``cameras.json`` and ``cameras.md``.

    ``paths`` are videos that the cameras show in turn. ``model`` is an address or a file; default: one that does next
    to nothing, in a Triton of its own, which is not counted. Returns the table. Raises VideoError, StackError.
    """
    config = load("default")
    costs: list[Cost] = []
    with ExitStack() as stack, Progress("cameras", len(counts) * len(ways), "run") as progress:
        temp = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="posewatch-cameras-")))
        shown = [_shown(path, temp / f"{i}.mp4", config) for i, path in enumerate(paths[: max(counts)])]
        served = model or stack.enter_context(_mean(temp))
        streams = stack.enter_context(_streams(shown))
        for way in ways:
            for count in sorted(set(counts)):
                folder = temp / f"{way}-{count}"
                folder.mkdir()
                urls = [f"{streams}/{i}" for i in range(count)]
                costs.append(_measured(way, urls, served, folder, seconds))
                progress.advance(1, f"{count}: {WAYS[way]}")
    rows = [asdict(cost) for cost in costs]
    about = {"fps": config.mask.fps, "max_side": config.mask.max_side, "seconds": seconds, "rows": rows}
    write_atomically(out / "cameras.json", json.dumps(about, indent=1) + "\n")
    table = _table(costs)
    write_atomically(out / "cameras.md", table)
    return table


def _shown(path: Path, target: Path, config: Experiment) -> Path:
    """What a camera sends of a video: its first ``LOOP_S`` seconds at the watched rate and size."""
    from posewatch import video

    fps = config.mask.fps
    frames = video.read(path, fps, config.mask.max_side, end_s=LOOP_S)
    first = next(frames)
    with video.Writer(target, fps, (first.image.shape[1], first.image.shape[0])) as writer:
        writer.write(first.image)
        for frame in frames:
            writer.write(frame.image)
    return target


@contextmanager
def _mean(folder: Path) -> Iterator[str]:
    """The address of a model that does next to nothing, in a Triton of its own."""
    from posewatch.inference.triton_admin import load_model
    from posewatch.serving.repository import write_repository
    from posewatch.stack.triton import TritonServer

    write_mean(folder / "mean.onnx")
    write_repository(folder / "mean.onnx", folder / "models", name="mean", model_warmup="none", instances=1)
    with TritonServer.start(folder / "models", log=folder / "triton.log") as server:
        load_model(server.grpc, "mean")
        yield f"grpc://{server.grpc}/mean"


@contextmanager
def _streams(shown: Sequence[Path]) -> Iterator[str]:
    """The address below which camera N is ``/N``: a video without end, as fast as a camera sends it."""
    receivers: list[_Receiver] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "video/mp2t")
            self.end_headers()
            receivers.append(_Receiver(self.wfile))
            _send(shown[int(self.path[1:]) % len(shown)], receivers[-1])

        def log_message(self, *_: Any) -> None:
            """Cameras come and go."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        for receiver in receivers:
            receiver.gone = True


class _Receiver:
    """A socket's file, of which PyAV is to know only that it can be written to; ``gone``: it cannot any more."""

    def __init__(self, file: Any) -> None:
        self._file, self.gone = file, False

    def write(self, data: bytes) -> int:
        try:
            self._file.write(data)
        except OSError:
            self.gone = True
        return len(data)


def _send(path: Path, to: _Receiver) -> None:
    """The video as a transport stream, again and again with times that go on, until the receiver is gone."""
    import av

    began, turn = time.monotonic(), 0
    with av.open(to, "w", format="mpegts") as out:
        copied: Any = None
        while not to.gone:
            with av.open(str(path)) as given:
                stream = given.streams.video[0]
                tick = Fraction(stream.time_base or 1)
                copied = copied or out.add_stream_from_template(stream)
                length = round(stream.frames / Fraction(stream.average_rate or 1) / tick)
                for packet in given.demux(stream):
                    if packet.size == 0 or packet.dts is None or packet.pts is None:
                        continue
                    if to.gone:
                        return
                    packet.pts, packet.dts = packet.pts + turn * length, packet.dts + turn * length
                    time.sleep(max(0.0, began + float(packet.dts * tick) - time.monotonic()))
                    packet.stream = copied
                    out.mux(packet)
            turn += 1


def _measured(way: str, urls: Sequence[str], model: str, folder: Path, seconds: float) -> Cost:
    names = [f"camera-{i}" for i in range(len(urls))]
    config = {
        "model": model, "out": str(folder), "share": way == "share",
        "options": {"no-video": "true", "still-s": "0", "large-s": "0"},
        "cameras": [{"name": name, "url": url} for name, url in zip(names, urls, strict=True)],
    }  # fmt: skip
    about = folder / "cameras.yaml"
    about.write_text(json.dumps(config), encoding="utf-8")
    words = ["posewatch.cli", "watch-service", "--config", str(about), "--port", "0"]
    if way == "threads":
        words = ["posewatch.bench.watch_cameras", str(about)]
    log = folder / "log.txt"
    with log.open("wb") as lines, subprocess.Popen([sys.executable, "-m", *words], stdout=lines, stderr=lines) as run:
        try:
            if not wait_until(lambda: all(_frames(folder / name)[0] for name in names), START_S, 0.2):
                raise StackError(f"{len(urls)} cameras did not start in {START_S:g} s ({_last_line(log)})")
            time.sleep(SETTLE_S)
            first, used, began = [_frames(folder / name) for name in names], cpu_seconds(run.pid), time.monotonic()
            time.sleep(seconds)
            last, now, took = [_frames(folder / name) for name in names], cpu_seconds(run.pid), time.monotonic() - began
            sizes = {pid: _memory(pid) for pid in now}
        finally:
            run.send_signal(signal.SIGTERM)
            try:
                run.wait(END_S)
            except subprocess.TimeoutExpired:
                run.kill()
    spent = sum(cpu - used.get(pid, 0.0) for pid, cpu in now.items()) / took
    rates = [(b[0] - a[0]) / max(0.1, b[2] - a[2]) for a, b in zip(first, last, strict=True)]
    lost = sum(b[1] - a[1] for a, b in zip(first, last, strict=True))
    watched = sum(b[0] - a[0] for a, b in zip(first, last, strict=True))
    whole = sum(pss for pss, _, _ in sizes.values())
    own = [(pss, rss) for pss, rss, camera in sizes.values() if camera] or [(whole / len(urls), whole / len(urls))]
    return Cost(
        way, len(urls), round(whole), round(statistics.median(pss for pss, _ in own)),
        round(statistics.median(rss for _, rss in own)), round(spent / len(urls), 3),
        round(1000 * spent / max(0.1, sum(rates)), 1), round(lost / max(1, lost + watched), 3),
    )  # fmt: skip


def _frames(folder: Path) -> tuple[int, int, float]:
    """Frames watched and dropped so far by a camera's status file, and when it was written."""
    try:
        status = json.loads((folder / "status.json").read_bytes())
    except (OSError, ValueError):
        return 0, 0, 0.0
    return status["frames"], status["camera"]["dropped"], status["at"]


def _memory(pid: int) -> tuple[float, float, bool]:
    """MiB of a process by PSS and RSS, and whether it is that of one camera."""
    place = Path(f"/proc/{pid}")
    try:
        rows = dict(line.split(":") for line in (place / "smaps_rollup").read_text().splitlines()[1:])
        camera = (place / "comm").read_text().startswith("watch ") or b"--status" in (place / "cmdline").read_bytes()
    except OSError:  # it has just ended
        return 0.0, 0.0, False
    pss, rss = (int(rows[name].split()[0]) / 1024 for name in ("Pss", "Rss"))
    return pss, rss, camera


def _last_line(log: Path) -> str:
    return (log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["it said nothing"])[-1]


def _table(costs: Sequence[Cost]) -> str:
    lines = [
        "| | cameras | all (PSS) | a camera (PSS) | (RSS) | one more camera | cores a camera | CPU a frame | dropped |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for cost in costs:
        least = next(c for c in costs if c.way == cost.way)
        apart = cost.cameras - least.cameras
        more = f"{(cost.all_mib - least.all_mib) / apart:.0f} MiB" if apart else ""
        lines.append(
            f"| {WAYS[cost.way]} | {cost.cameras} | {cost.all_mib:.0f} MiB | {cost.camera_mib:.0f} MiB "
            f"| {cost.camera_rss_mib:.0f} MiB | {more} | {cost.cores:.2f} | {cost.frame_ms:.1f} ms "
            f"| {cost.dropped:.0%} |"
        )
    return "\n".join(lines) + "\n"


class _InTurn:
    """One network for several threads."""

    def __init__(self, estimator: PoseEstimator) -> None:
        self._estimator, self._lock, self.layout = estimator, threading.Lock(), estimator.layout

    def __getattr__(self, name: str) -> Any:
        return getattr(self._estimator, name)

    def estimate(self, images: Sequence[Image]) -> list[Detections]:
        with self._lock:
            return self._estimator.estimate(images)


def _as_threads(about: Path) -> None:
    """Watch the cameras of a file in threads of this process until SIGTERM."""
    from posewatch.inference.open import open_predictor
    from posewatch.perception.networks import build_estimator
    from posewatch.watch.config import WatchConfig
    from posewatch.watch.service import read_config
    from posewatch.watch.sinks.sink import SinkContext
    from posewatch.watch.sinks.status_file import StatusFile
    from posewatch.watch.sources import CameraSource
    from posewatch.watch.watcher import Watcher

    service, config, stop = read_config(about), load("default"), threading.Event()
    settings = WatchConfig(config.mask.fps, config.split.length_s, STRIDE_S)
    estimator, predictor = _InTurn(build_estimator(config.pose)), open_predictor(service.model)
    threads = []
    for camera in service.cameras:
        source = CameraSource(camera.url, config.mask.fps, config.mask.max_side, name=camera.name)
        watcher = Watcher(source, predictor, estimator, config.pose, settings)
        folder = Path(service.out) / camera.name
        folder.mkdir()
        status = StatusFile(SinkContext(source, watcher.stats, watcher.label, settings, folder), folder / "status.json")
        threads.append(threading.Thread(target=watcher.run, args=([status], stop)))
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():  # a signal's handler runs between two waits
            thread.join(0.2)


if __name__ == "__main__":
    _as_threads(Path(sys.argv[1]))
