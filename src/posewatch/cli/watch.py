"""The command line of the watcher: ``posewatch watch SOURCE --model MODEL --out DIR``."""

from __future__ import annotations

import argparse
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from posewatch.errors import InputError

if TYPE_CHECKING:
    from posewatch.config import Experiment
    from posewatch.watch.sources import Source

PRIVACY = ("none", "blur", "skeleton")
SECRET = "POSEWATCH_WEBHOOK_SECRET"
DRAIN_S = 15.0
"""How long the end waits for the webhook; what is left then stays in the outbox."""


def options(parser: argparse.ArgumentParser) -> None:
    """Options of ``posewatch watch``."""
    parser.add_argument(
        "sources", nargs="+", metavar="SOURCE", help="videos, folders of them, or one camera: rtsp://..., or env:NAME"
    )
    parser.add_argument(
        "--model", required=True, help="grpc://host:port/model, http://host:port/model, or a .onnx or .pt file"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for alarms.jsonl and videos")
    parser.add_argument("--label", default="", help="the class that raises alarms (default: the model's positive one)")
    group = parser.add_argument_group("when it is an alarm")
    group.add_argument("--window-s", type=float, default=0.0, help="seconds of a window (default: split.length_s)")
    group.add_argument("--stride-s", type=float, default=0.5, help="seconds between two windows")
    group.add_argument("--smooth", type=int, default=2, help="windows that are averaged")
    group.add_argument("--on", type=float, default=0.0, help="probability that raises (default: the model's threshold)")
    group.add_argument("--off", type=float, default=0.0, help="probability that ends it (default: 0.8 of --on)")
    group.add_argument("--min-s", type=float, default=0.0, help="seconds that it must last before it is raised")
    group.add_argument("--merge-s", type=float, default=2.0, help="seconds of calm after which an alarm has ended")
    group = parser.add_argument_group("what comes out")
    group.add_argument("--privacy", choices=PRIVACY, default="none", help="what the videos show of the picture")
    group.add_argument("--no-video", action="store_true", help="no annotated videos")
    group.add_argument("--webhook", default="", metavar="URL", help=f"where alarms are posted, signed with {SECRET}")
    group.add_argument("--status", type=Path, metavar="FILE", help="keep a JSON file that says how it goes")
    group = parser.add_argument_group("a camera")
    group.add_argument("--name", default="", help="its name (default: its address)")
    group.add_argument("--patience-s", type=float, default=0.0, help="give up after so long without it (0: never)")


def watch_sources(args: argparse.Namespace, experiment: Experiment) -> str:
    """Watch all sources; returns a summary. Raises InputError, VideoError, ServingError."""
    from posewatch.inference.open import open_predictor
    from posewatch.perception.networks import build_estimator
    from posewatch.recognition.events.alarms import Hysteresis
    from posewatch.watch.config import WatchConfig
    from posewatch.watch.sinks.table import open_delivery

    sources = list(_sources(args, experiment))
    with ExitStack() as stack, _stopping() as stop:
        predictor = open_predictor(args.model)
        stack.callback(predictor.close)
        on = args.on or predictor.threshold
        limits = Hysteresis(on, args.off or 0.8 * on, args.min_s, args.merge_s)
        config = WatchConfig(
            experiment.mask.fps,
            args.window_s or experiment.split.length_s,
            args.stride_s,
            args.smooth,
            args.label,
            limits,
        )
        estimator = build_estimator(experiment.pose)
        args.out.mkdir(parents=True, exist_ok=True)
        delivery = None
        if args.webhook:
            secret = os.environ.get(SECRET, "")
            delivery = stack.enter_context(open_delivery(args.out / "outbox", args.webhook, secret))
        lines = []
        for source in sources:
            if stop.is_set():
                break
            lines.append(_one(source, predictor, estimator, experiment, config, args, delivery, stop))
        left = delivery.drain(DRAIN_S) if delivery else 0
    if left:
        lines.append(f"{left} messages wait in {args.out / 'outbox'}: the next watch on this folder delivers them")
    return "\n".join(lines)


def _one(
    source: Source, predictor: Any, estimator: Any, experiment: Experiment, config: Any, args: argparse.Namespace,
    delivery: Any, stop: threading.Event,
) -> str:  # fmt: skip
    from posewatch.watch.sinks.sink import SinkContext
    from posewatch.watch.sinks.table import open_sinks
    from posewatch.watch.watcher import Watcher

    watcher = Watcher(source, predictor, estimator, experiment.pose, config)
    context = SinkContext(
        source, watcher.stats, watcher.label, config, args.out, not args.no_video, args.privacy, args.status, delivery
    )
    with open_sinks(context) as sinks:
        done = watcher.run(sinks, stop)
    counts = source.counters
    lost = f", {counts.dropped} of {counts.read + counts.dropped} frames dropped" if source.live else ""
    return f"{source.name}: {done.frames} frames, {done.windows} windows, {done.alarms} alarms{lost}"


def _sources(args: argparse.Namespace, experiment: Experiment) -> Iterator[Source]:
    from posewatch.video.capture import is_stream
    from posewatch.video.files import find_videos
    from posewatch.watch.sources import CameraSource, FileSource

    fps, side = experiment.mask.fps, experiment.mask.max_side
    told = [_spelled_out(source) for source in args.sources]
    cameras = [source for source in told if is_stream(source)]
    if cameras:
        if len(told) > 1:
            raise InputError(
                "one camera at a time: several are watched by several processes (python -m posewatch.watch.service)"
            )
        yield CameraSource(cameras[0], fps, side, timeout_s=args.patience_s or None, name=args.name)
        return
    files = [path for source in told for _, path in find_videos(Path(source))]
    stems = [path.stem for path in files]
    if double := next((stem for stem in stems if stems.count(stem) > 1), None):
        raise InputError(f"two videos are called {double}: their results would have one name; watch them separately")
    for path in files:
        yield FileSource(path, fps, side)


def _spelled_out(source: str) -> str:
    """``env:NAME`` is what the environment variable says: an address with a password stays off the command line."""
    if not source.startswith("env:"):
        return source
    name = source.removeprefix("env:")
    found = os.environ.get(name, "")
    if not found:
        raise InputError(
            f"the environment variable {source.removeprefix('env:')} is empty: give it the source to watch"
        )
    return found


@contextmanager
def _stopping() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set, so that videos are finished; a second signal ends at once."""
    stop = threading.Event()

    def on(number: int, _: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
