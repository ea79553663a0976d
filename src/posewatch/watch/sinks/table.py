"""The table of sinks and of transports. A new one is one file and one row here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path

from posewatch.addresses import Address
from posewatch.errors import InputError
from posewatch.redact import remember_webhook
from posewatch.watch.records.recorder import Recorder
from posewatch.watch.sinks.alarm_lines import AlarmLines
from posewatch.watch.sinks.alarm_videos import AlarmVideos
from posewatch.watch.sinks.cloudevents import CloudEvents
from posewatch.watch.sinks.delivery import Delivery, Transport
from posewatch.watch.sinks.frigate import Frigate
from posewatch.watch.sinks.mqtt import Mqtt
from posewatch.watch.sinks.onvif import Onvif
from posewatch.watch.sinks.outbox import Outbox
from posewatch.watch.sinks.queued_alarms import QueuedAlarms
from posewatch.watch.sinks.sink import Sink, SinkContext
from posewatch.watch.sinks.status_file import StatusFile
from posewatch.watch.sinks.syslog import Syslog
from posewatch.watch.sinks.webhook import Webhook
from posewatch.watch.sinks.whole_video import WholeVideo
from posewatch.watch.sinks.window_lines import WINDOWS, WindowLines
from posewatch.watch.sources import Source

SINKS: tuple[type[Sink], ...] = (
    Recorder,  # first: an alarm is on disk before anything else can fail
    QueuedAlarms,
    AlarmLines,  # after the queue: an alarm in its file is known to have been queued
    WindowLines,
    AlarmVideos,
    WholeVideo,
    StatusFile,
)
TRANSPORTS: dict[str, type[Transport]] = {
    "http": Webhook,
    "https": Webhook,
    "cloudevents+http": CloudEvents,
    "cloudevents+https": CloudEvents,
    "frigate+http": Frigate,
    "frigate+https": Frigate,
    "mqtt": Mqtt,
    "mqtts": Mqtt,
    "onvif+http": Onvif,
    "onvif+https": Onvif,
    "syslog": Syslog,
    "syslog+tcp": Syslog,
    "syslog+tls": Syslog,
}
"""By the scheme of the receiver's address (``--webhook``)."""


@contextmanager
def open_sinks(context: SinkContext) -> Iterator[list[Sink]]:
    """The sinks that ``context`` asks for, in the order of the table; closed afterwards. What one of them has left from
    an earlier process is told to the others."""
    with ExitStack() as stack:
        sinks = []
        for kind in SINKS:
            if (sink := kind.open(context)) is not None:
                stack.push(partial(_close, sink))
                sinks.append(sink)
        for message in [message for sink in sinks for message in sink.left()]:
            for sink in sinks:
                sink.alarm(message)
        yield sinks


def _close(sink: Sink, kind: object, error: BaseException | None, trace: object) -> None:
    if isinstance(error, Exception):
        sink.fail(error)
    else:
        sink.close()


def files_of(sources: Sequence[Source], out: Path, *, video: bool) -> list[Path]:
    """The files in ``out`` that the sinks replace when they watch ``sources``, with annotated videos or without."""
    suffixes = (WINDOWS, ".mp4") if video else (WINDOWS,)
    return [out / f"{Path(s.name).stem}{suffix}" for s in sources if not s.live for suffix in suffixes]


@contextmanager
def open_delivery(folder: Path, url: str, secret: str = "", cameras: Sequence[str] = ()) -> Iterator[Delivery]:
    """Delivery of the messages queued in ``folder`` to ``url`` inside the ``with`` block; ``cameras`` are the names of
    those that are watched. Raises InputError for an address that no transport takes, or a folder that another process
    uses."""
    address = Address.parse(url)
    transport = TRANSPORTS.get(address.scheme.lower())
    if transport is None or address.doubtful:
        # not shown: with many receivers the whole address is the secret
        raise InputError("a webhook is an address such as https://host/path or mqtt://host (docs/integrations.md)")
    remember_webhook(url)
    sender = transport(url, secret)
    with closing(Delivery(Outbox(folder), sender)) as delivery:
        sender.about(cameras)
        yield delivery
