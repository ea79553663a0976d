"""What is assumed about a large installation, each figure with where it comes from; all of it can be overridden."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from posewatch.errors import ConfigError
from posewatch.sections import from_dict


@dataclass(frozen=True)
class Assumptions:
    """One installation. Prices are in one currency, whichever you like; they are assumptions, never measured."""

    cameras: int = 1_000
    clips: int = 10_000_000
    labelers: int = 200
    clip_s: float = 3.0
    """Length of a clip (the default of split.length_s)."""
    video_s: float = 60.0
    """Length of a recorded video (the default of `posewatch ingest --segment`)."""
    label_s: float = 2.0
    """Seconds that a person takes for a label."""
    work_hours: float = 6.0
    """That a person labels on a day."""
    label_share: float = 1.0
    """Of the clips that people label; with the model in the loop a third can be enough (docs/labeling.md)."""
    stride_s: float = 0.5
    """Between two windows of a watched camera (the default of --stride-s)."""
    occupied: float = 0.3
    """Share of the windows in which somebody is in the picture."""
    groups: float = 1.2
    """Questions to the model for such a window: one, and one more for everybody beyond two persons."""
    cpu_ips: float = 33.0
    """Inferences per second of a replica on CPUs (docs/serving.md: full-size ProtoGCN, ONNX Runtime, two cores)."""
    cpu_cores: float = 2.0
    """Cores of such a replica."""
    gpu_ips: float = 1_000.0
    """Inferences per second of a replica with a GPU. Not measured: replace it."""
    gpu_batch_ms: float = 4.0
    """What an execution costs on a GPU whatever its batch. Not measured: replace it."""
    utilisation: float = 0.7
    """How busy a replica may be on average."""
    watch_cores: float = 0.73
    """Cores for a camera (docs/watch.md: 640 pixels, 10 frames a second, MoveNet, with the annotated video)."""
    watch_gpu_cameras: float = 40.0
    """Cameras whose people a GPU finds. Not measured: replace it."""
    watch_gpu_cores: float = 0.25
    """Cores for a camera whose people a GPU finds: decoding and drawing. Not measured."""
    camera_mbit: float = 2.0
    """Bit rate of a camera in Mbit/s."""
    alarms_per_day: float = 5.0
    """Of a camera, false ones included."""
    alarm_mb: float = 8.0
    """The video of an alarm."""
    alarm_days: float = 30.0
    """For which it is kept."""
    vcpu_hour: float = 0.04
    gpu_hour: float = 1.20
    tb_month: float = 23.0
    """Object storage."""
    million_requests: float = 5.0
    """Of writing requests to the object store."""
    request_ms: float = 5.0
    """Of one small request to the object store."""
    shard_size: int = 50
    parallelism: int = 8
    """Shards at a time (the default of pipelines/resources.yaml)."""
    shard_cores: int = 8
    """That a masking pod may use (the same file)."""
    page_pods: int = 2
    """Of the labeling page (the default of the chart)."""
    connections: int = 100
    """That the database takes (PostgreSQL's default)."""
    step_gb: float = 4.0
    """Memory limit of a pipeline's step (pipelines/resources.yaml)."""
    wait_s: float = 1.0
    """What a labeler waits for a page without complaint."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value < 0 or (value == 0 and not field.name.endswith(("_hour", "_month", "_requests"))):
                raise ConfigError(f"{field.name} must be above 0, not {value:g}")
        for name in ("utilisation", "occupied", "label_share"):
            if getattr(self, name) > 1:
                raise ConfigError(f"{name} is a share, at most 1, not {getattr(self, name):g}")
        if self.video_s < self.clip_s:
            raise ConfigError(f"a video of {self.video_s:g} s holds no clip of {self.clip_s:g} s: raise video_s")


def assume(overrides: Iterable[str], **known: Any) -> Assumptions:
    """The defaults with ``known`` figures, and ``name=value`` items above both. Raises ConfigError."""
    told: dict[str, Any] = {name: value for name, value in known.items() if value is not None}
    for item in overrides:
        name, sep, value = item.partition("=")
        if not sep:
            raise ConfigError(f"assumption {item!r} must look like name=value")
        told[name.strip()] = value.replace("_", "").replace(",", "")
    return from_dict(Assumptions, told)
