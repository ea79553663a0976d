"""Watch videos or a camera with a model: ``watch``; many cameras, a process for each: ``watch-service``."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from typer import Argument, Option

from posewatch.cli.context import Context, Force, Writes, say, topic, verb
from posewatch.cores import share_cores
from posewatch.errors import InputError
from posewatch.rules import Range
from posewatch.units import PERSON, require_unit

if TYPE_CHECKING:
    from posewatch.config import Experiment
    from posewatch.inference.predictor import Predictor
    from posewatch.watch.config import WatchConfig
    from posewatch.watch.gate import GatedSource
    from posewatch.watch.records.upload import Records
    from posewatch.watch.sources import Source

app = topic()

SECRET = "POSEWATCH_WEBHOOK_SECRET"
REPEAT_S = 30.0
"""An alarm about the same person within so many seconds is the same."""
STILL_S = 1.0
"""A camera in whose picture nothing moves is looked at so often, in seconds."""
LARGE_S = 1.0
"""A camera in whose picture everybody is large is looked at closely so often, in seconds."""
DRAIN_S = 15.0
"""How long the end waits for the webhook; what is left then stays in the outbox."""


@dataclass(frozen=True)
class Alarms:
    """When the windows of a video raise an alarm."""

    PANEL = "When it is an alarm"

    window_s: Annotated[
        float | None, Option(help="Seconds of a window (default: split.length_s)."), Range(0, 3600, above=True)
    ] = None
    stride_s: Annotated[float, Option(help="Seconds between two windows."), Range(0, 3600, above=True)] = 0.5
    smooth: Annotated[int, Option(help="Windows that are averaged."), Range(1, 10_000)] = 2
    on: Annotated[
        float | None,
        Option(help="Probability that raises an alarm (default: the model's threshold)."),
        Range(0, 1, above=True),
    ] = None
    off: Annotated[
        float | None, Option(help="Probability that ends it (default: 0.8 of --on)."), Range(0, 1, above=True)
    ] = None
    min_s: Annotated[float, Option(help="Seconds that it must last before it is raised."), Range(0, 86_400)] = 0.0
    merge_s: Annotated[float, Option(help="Seconds of calm after which an alarm has ended."), Range(0, 86_400)] = 2.0
    repeat_s: Annotated[
        float | None,
        Option(
            help="An alarm raised again so many seconds after its end is the same (default: 30 for a person, else 0)."
        ),
        Range(0, 86_400),
    ] = None
    hold_s: Annotated[float, Option(help="Seconds after which a lost person is gone."), Range(0, 3600)] = 5.0
    long_lie_s: Annotated[
        float,
        Option(help="Seconds on the floor after an alarm that are an alarm, too (0: never)."),
        Range(0, 86_400),
    ] = 0.0
    max_persons: Annotated[
        int, Option(help="Persons asked about in one window, in turn (with mask.unit=person)."), Range(1, 1000)
    ] = 16
    still_s: Annotated[
        float | None,
        Option(help="Seconds without a pose network while nothing moves (0: none; default: 1 for a camera, else 0)."),
        Range(0, 10),
    ] = None
    pose_every: Annotated[
        int,
        Option(help="The pose network looks at one of so many frames; those between are interpolated."),
        Range(1, 5),
    ] = 1
    large_s: Annotated[
        float | None,
        Option(help="Seconds with smaller looks while everybody is large (0: none; default: 1 for a camera, else 0)."),
        Range(0, 10),
    ] = None

    def config(self, experiment: Experiment, threshold: float, label: str, live: bool) -> WatchConfig:
        """How to watch a camera (``live``) or files with a model of this ``threshold``."""
        from posewatch.events.alarms import Hysteresis
        from posewatch.watch.config import WatchConfig

        on, unit = self.on or threshold, experiment.mask.unit
        limits = Hysteresis(on, self.off or 0.8 * on, self.min_s, self.merge_s)
        repeat_s = (REPEAT_S if unit == PERSON else 0.0) if self.repeat_s is None else self.repeat_s
        still_s = (STILL_S if live else 0.0) if self.still_s is None else self.still_s
        large_s = (LARGE_S if live else 0.0) if self.large_s is None else self.large_s
        return WatchConfig(
            experiment.mask.fps, self.window_s or experiment.split.length_s, self.stride_s, self.smooth, label, limits,
            unit, self.max_persons, self.hold_s, repeat_s, self.long_lie_s, still_s, self.pose_every,
            large_s,
        )  # fmt: skip


@dataclass(frozen=True)
class Outputs:
    """Where alarms go, and what the annotated videos show."""

    PANEL = "Output"

    privacy: Annotated[Literal["none", "blur", "skeleton"], Option(help="What the videos show of people.")] = "none"
    no_video: Annotated[bool, Option("--no-video", help="No annotated videos.")] = False
    webhook: Annotated[
        str, Option(metavar="URL", help=f"Send alarms here (or env:NAME): https, mqtt, ...; {SECRET} signs.")
    ] = ""
    status: Annotated[
        Path | None, Option(metavar="FILE", help="Write the watcher's state to this JSON file."), Writes(here=False)
    ] = None


@dataclass(frozen=True)
class Recording:
    """Whether alarms are kept as records in the object store."""

    PANEL = "Records"

    record: Annotated[bool, Option("--record", help="Store every alarm with a masked clip (--store).")] = False
    record_raw: Annotated[bool, Option("--record-raw", help="Also the clip as it is, beside the masked one.")] = False
    near_misses: Annotated[
        float, Option(help="Windows just below the threshold to store per hour."), Range(0, 3600)
    ] = 4.0
    samples: Annotated[float, Option(help="Random windows without an alarm to store per hour."), Range(0, 3600)] = 1.0
    keep_days: Annotated[
        int,
        Option(help="Delete records of this camera that are older, but for judged ones (0: never)."),
        Range(0, 36_500),
    ] = 0

    def open(self, context: Context, out: Path, camera: str, privacy: str) -> Records | None:
        """The records of ``camera``, spooled in ``out``. Raises InputError without a store, or for a folder in use."""
        from posewatch.store import open_store
        from posewatch.watch.records.spool import Spool
        from posewatch.watch.records.upload import Records, RecordSettings

        if not self.record:
            if self.record_raw:
                raise InputError("--record-raw says what records hold: give --record, too")
            return None
        if self.record_raw and privacy != "none":
            raise InputError(f"--record-raw keeps people recognisable, --privacy {privacy} does not: choose one")
        store = open_store(context.store)  # opened here: a store that is named wrongly is told at once
        settings = RecordSettings(self.near_misses, self.samples, self.record_raw, self.keep_days)
        return Records(Spool(out / "records"), lambda: store, settings, camera)


@dataclass(frozen=True)
class Camera:
    """A camera's name, and how long it may be unavailable."""

    PANEL = "A camera"

    name: Annotated[str, Option(help="The camera's name (default: its address).")] = ""
    timeout_s: Annotated[
        float | None, Option(help="Give up after so many seconds without it (default: never)."), Range(0, 31_536_000)
    ] = None
    route: Annotated[
        Path | None,
        Option(metavar="FILE", help="A rollout's route.json: ask its canary in the camera's share of time."),
    ] = None
    frigate: Annotated[
        str,
        Option(
            metavar="URL",
            help="Look only while Frigate sees a person: mqtt://broker/frigate?camera=NAME (or env:NAME).",
        ),
    ] = ""


@verb(app, "watch")
def watch(
    sources: Annotated[
        list[str], Argument(metavar="SOURCE", help="Videos, folders of them, or one camera: rtsp://..., or env:NAME.")
    ],
    model: Annotated[str, Option(help="grpc://host:port/model (http, grpcs, https), or a .onnx or .pt file.")],
    out: Annotated[Path, Option(metavar="DIR", help="Folder for alarms.jsonl and videos."), Writes(here=False)],
    alarms: Alarms,
    outputs: Outputs,
    recording: Recording,
    camera: Camera,
    context: Context,
    label: Annotated[
        str, Option(metavar="CLASS", help="Class that raises alarms (default: the model's positive one).")
    ] = "",
    force: Force = False,
) -> None:
    """Raise alarms on videos or a camera."""
    share_cores()
    from posewatch.perception.networks import build_estimator
    from posewatch.video import require_pictures
    from posewatch.watch.sinks.table import open_delivery
    from posewatch.watch.sources import FileSource

    experiment = context.experiment
    opened = list(_sources(sources, camera, experiment, out))
    read = [Path(model), Path(context.config), *([camera.route] if camera.route else [])]
    _check(opened, read, out, outputs, force)
    lines = []
    with ExitStack() as stack, _stopping() as stop:
        if camera.frigate:
            opened = [stack.enter_context(_gated(opened, camera.frigate, experiment.mask.fps))]
        predictor = _predictor(model, experiment.mask.unit, camera, opened)
        stack.callback(predictor.close)
        require_pictures([source.path for source in opened if isinstance(source, FileSource)])
        config = alarms.config(experiment, predictor.threshold, label, opened[0].live)
        estimator = build_estimator(experiment.pose)
        out.mkdir(parents=True, exist_ok=True)
        delivery = None
        webhook = _from_environment(outputs.webhook)
        if webhook:
            secret = os.environ.get(SECRET, "")
            live = [source.name for source in opened if source.live]
            delivery = stack.enter_context(open_delivery(out / "outbox", webhook, secret, live))
        records = recording.open(context, out, opened[0].name if opened[0].live else "", outputs.privacy)
        if records is not None:
            stack.callback(records.close)
        for source in opened:
            if stop.is_set():
                break
            lines.append(_one(source, predictor, estimator, experiment, config, out, outputs, delivery, records, stop))
        left = delivery.drain(DRAIN_S) if delivery else 0
        spooled = records.drain(DRAIN_S) if records else 0
    if spooled:
        lines.append(f"{spooled} records wait in {out / 'records'}: the next watch on this folder stores them")
    if left:
        lines.append(f"{left} messages wait in {out / 'outbox'}: the next watch on this folder delivers them")
    say("\n".join(lines))  # stdout holds the alarms


def _predictor(model: str, unit: str, camera: Camera, sources: list[Source]) -> Predictor:
    from posewatch.inference.open import open_predictor
    from posewatch.inference.routed import RoutedPredictor

    predictor = open_predictor(model)
    require_unit(predictor.unit, unit, model, "the configuration")
    if camera.route is None:
        return predictor
    return RoutedPredictor(predictor, camera.route, sources[0].name, open_predictor)


@contextmanager
def _gated(sources: list[Source], address: str, fps: float) -> Iterator[GatedSource]:
    """The camera, looked at while Frigate says that somebody is there."""
    from posewatch.watch.frigate_persons import FrigatePersons
    from posewatch.watch.gate import GatedSource

    if not sources[0].live:
        raise InputError("--frigate is for a camera: a recording is looked at from its beginning to its end")
    persons = FrigatePersons(_from_environment(address))
    persons.start()
    try:
        yield GatedSource(sources[0], persons, fps)
    finally:
        persons.close()


def _one(
    source: Source, predictor: Any, estimator: Any, experiment: Experiment, config: Any, out: Path, outputs: Outputs,
    delivery: Any, records: Records | None, stop: threading.Event,
) -> str:  # fmt: skip
    from posewatch.watch.gate import GatedSource
    from posewatch.watch.sinks.sink import SinkContext
    from posewatch.watch.sinks.table import open_sinks
    from posewatch.watch.watcher import Watcher

    watcher = Watcher(source, predictor, estimator, experiment.pose, config)
    if isinstance(source, GatedSource):
        source.keep = lambda: watcher.busy
    video = not outputs.no_video
    context = SinkContext(
        source, watcher.stats, watcher.label, config, out, video, outputs.privacy, outputs.status, delivery, records
    )
    with open_sinks(context) as sinks:
        done = watcher.run(sinks, stop)
    counts = source.counters
    lost = f", {counts.dropped} of {counts.read + counts.dropped} frames dropped" if source.live else ""
    left = f", {done.left_out} times a person was left out" if done.left_out else ""
    return f"{source.name}: {done.frames} frames, {done.windows} windows, {done.alarms} alarms{left}{lost}"


def _check(sources: list[Source], read: list[Path], out: Path, chosen: Outputs, force: bool) -> None:
    """Refuse to write where recordings, or files of somebody else, would be destroyed. Raises InputError."""
    from posewatch import outputs
    from posewatch.watch.sinks.alarm_lines import ALARMS
    from posewatch.watch.sinks.status_file import is_status
    from posewatch.watch.sinks.table import files_of
    from posewatch.watch.sources import FileSource

    inputs = [*read, *(Path(source.path) for source in sources if isinstance(source, FileSource))]
    files = files_of(sources, out, video=not chosen.no_video)
    status = [chosen.status] if chosen.status else []
    # alarms are appended: a file that is there is no obstacle, unless it is an input
    outputs.check([*files, out / ALARMS, *status], inputs, force=True)
    outputs.check([*files, *(path for path in status if not is_status(path))], inputs, force=force)


def _sources(given: list[str], camera: Camera, experiment: Experiment, out: Path) -> Iterator[Source]:
    from posewatch.names import nfc, readable
    from posewatch.video.capture import is_stream
    from posewatch.video.files import find_videos
    from posewatch.watch.sources import CameraSource, FileSource

    fps, side = experiment.mask.fps, experiment.mask.max_side
    sources = [_from_environment(source) for source in given]
    cameras = [source for source in sources if is_stream(source)]
    if cameras:
        if len(sources) > 1:
            raise InputError("one camera at a time: several are watched by `posewatch watch-service`")
        yield CameraSource(cameras[0], fps, side, timeout_s=camera.timeout_s or None, name=camera.name)
        return
    files = [path for source in sources for _, path in find_videos(Path(source), without=[out])]
    stems = [nfc(readable(path.stem)) for path in files]
    if double := next((stem for stem in stems if stems.count(stem) > 1), None):
        raise InputError(f"two videos are named {double}: their results would have one name; watch them separately")
    for path in files:
        yield FileSource(path, fps, side)


def _from_environment(source: str) -> str:
    """``env:NAME`` is the value of an environment variable: an address with a password stays off the command line."""
    if not source.startswith("env:"):
        return source
    variable = source.removeprefix("env:")
    value = os.environ.get(variable, "")
    if not value:
        raise InputError(f"the environment variable {variable} is empty: give it the address")
    return value


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


@verb(app, "watch-service")
def watch_service(
    config: Annotated[Path, Option(metavar="FILE", help="A YAML file: model, cameras, ...")],
    port: Annotated[int, Option(help="Port of metrics and probes."), Range(0, 65_535)] = 9100,
) -> None:
    """Watch many cameras, with metrics and probes."""
    share_cores()  # for the watchers that it starts
    from posewatch.watch.service import Service, read_config, serve

    service = Service(read_config(config))
    server = serve(service, port)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: service.stop.set())
    service.run()
    server.shutdown()
