"""Rules for the values of configuration fields and options: each says whether it holds, and in words what it wants."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

from posewatch.names import folded


class Rule(Protocol):
    """What holds for a value of the right type; ``words`` say it after "must be"."""

    @property
    def words(self) -> str: ...
    def holds(self, value: Any) -> bool: ...


@dataclass(frozen=True)
class Range:
    """A number from ``least`` (or above it: ``above``) to ``most``; never nan."""

    least: float
    most: float
    above: bool = False

    @property
    def words(self) -> str:
        start = f"above {_figure(self.least)} and at most" if self.above else f"from {_figure(self.least)} to"
        return f"{start} {_figure(self.most)}"

    def holds(self, value: Any) -> bool:
        return bool(self.least < value <= self.most if self.above else self.least <= value <= self.most)


@dataclass(frozen=True)
class OneOf:
    """One of some names; an empty one is called ``none``."""

    names: tuple[str, ...]

    @property
    def words(self) -> str:
        return f"one of {', '.join(name or 'none (empty)' for name in self.names)}"

    def holds(self, value: Any) -> bool:
        return value in self.names


@dataclass(frozen=True)
class Like:
    """A text that a regular expression matches as a whole; ``words`` describe it."""

    pattern: str
    words: str

    def holds(self, value: Any) -> bool:
        return re.fullmatch(self.pattern, value) is not None


@dataclass(frozen=True)
class Items:
    """A list of ``least`` to ``most`` values; ``different``: no two are alike but for case and Unicode form."""

    least: int
    most: int
    different: bool = False

    @property
    def words(self) -> str:
        what = "different values (upper and lower case are alike)" if self.different else "values"
        return f"a list of {self.least} to {self.most} {what}"

    def holds(self, value: Any) -> bool:
        alike = {folded(str(one)) for one in value}
        return self.least <= len(value) <= self.most and not (self.different and len(alike) < len(value))


def _figure(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


Share = Annotated[float, Range(0, 1)]
Seed = Annotated[int, Range(0, 2**32 - 1)]
Count = Annotated[int, Range(0, 1_000_000)]
Frames = Annotated[int, Range(0, 10_000)]
Pixels = Annotated[int, Range(0, 500)]
Threads = Annotated[int, Range(1, 1024)]
Gpus = Annotated[int, Range(0, 64)]
Seconds = Annotated[float, Range(0, 31_536_000)]
Device = Annotated[str, Like(r"auto|cpu|cuda(:\d+)?", "auto, cpu or cuda")]
ClassName = Annotated[str, Like(r"(?=.*\S)[^\x00-\x1f\x7f]{1,100}", "a name of 1 to 100 characters")]
ClipId = Annotated[str, Like(r"c-[0-9a-f]{16}", "the id of a clip (c- and 16 hex digits)")]
KubeName = Annotated[str, Like(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", "a Kubernetes name: small letters, digits, -")]
KubeFile = Annotated[
    str, Like(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/[-._a-zA-Z0-9]+)?", "a ConfigMap and a key in it as name/key, or empty")
]
_LABEL_KEY = r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_LABEL_VALUE = r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?"
NodeLabel = Annotated[str, Like(rf"{_LABEL_KEY}={_LABEL_VALUE}", "a node's label as label=value")]
Taint = Annotated[
    str,
    Like(
        rf"{_LABEL_KEY}(={_LABEL_VALUE})?(:(NoSchedule|PreferNoSchedule|NoExecute))?",
        "a taint as key, key:effect, key=value or key=value:effect (NoSchedule, PreferNoSchedule, NoExecute)",
    ),
]
HostName = Annotated[str, Like(r"((\*\.)?[a-z0-9]([a-z0-9.-]*[a-z0-9])?)?", "a host name in small letters, or empty")]
Quantity = Annotated[str, Like(r"\d+(\.\d+)?(m|[KMGT]i?)?", 'a quantity such as "2", 500m or 4Gi')]

Batch = Annotated[int, Range(1, 1024)]
Instances = Annotated[int, Range(1, 256)]
QueueDelay = Annotated[int, Range(0, 10_000_000)]
QueueLength = Annotated[int, Range(0, 1_000_000)]
QueueTimeout = Annotated[int, Range(0, 86_400_000_000)]
ServingDevice = Annotated[str, OneOf(("auto", "cpu", "gpu"))]
Warmup = Annotated[str, OneOf(("all", "powers", "none"))]
Accelerator = Annotated[str, OneOf(("", "tensorrt", "openvino"))]
ServingPrecision = Annotated[str, OneOf(("fp32", "fp16", "bf16", "int8"))]

DETECTORS = ("movenet", "yolo11", "yolo-seg", "yolox", "detr")
SEGMENTERS = ("blazepose", "bbox", "yolo-seg", "sam2", "edgetam", "sam2-package", "sam2-ultralytics")
ESTIMATORS = ("movenet", "yolo-pose", "rtmo", "rtmpose", "mmpose")
UNITS = ("scene", "person")
MODELS = (
    "protogcn", "stgcn", "stgcn++", "aagcn", "ctrgcn", "hypergcn", "statistics", "pooled-statistics", "flow-statistics",
    "2s-agcn",
)  # fmt: skip
LAYOUTS = (
    "coco17", "coco20", "openpose18", "kinect15", "kinect20", "ntu25", "body25", "mpi15", "halpe26", "h36m17", "mpii16",
    "crowdpose14", "aic14", "jhmdb15", "posetrack17", "blazepose33", "smpl24", "wholebody133",
)  # fmt: skip
"""The names that the rooms above know, so that a wrong one is found before they are loaded (a test compares them)."""
STREAMS = ("j", "b", "k", "p", "c", "jm", "bm", "km", "pm", "cm", "f", "fs")
"""joint, bone (joint - parent), k-bone (joint - grandparent), partner (joint - middle of the other persons), contact
(nearest joint of another person - joint), and the motion of each. The partner and contact streams are ours: what two
people do to each other shows in the distance between them. f and fs are no joints but flow, of each person and of the
scene."""
MARKS = ("(unsure)", "(bad clip)")
"""What a person may record instead of a class."""
MODEL_OPTIONS = {"prototypes": Annotated[int, Range(1, 100_000)]}
"""The options of single models."""
MAX_LR = {"adamw": 0.02, "sgd": 1.0}
"""A rate meant for SGD trains a bad model with AdamW, and no error would show it."""

_STREAMS = rf"\s*({'|'.join(STREAMS)})\s*([+,]\s*({'|'.join(STREAMS)})\s*)*"
Streams = Annotated[str, Like(_STREAMS, f"streams ({', '.join(STREAMS)}) joined by + and ,")]

_WEIGHT = r"((?=[\d.]*[1-9])(\d{1,6}(\.\d{0,6})?|\.\d{1,6})\s*\*)?"
_MEMBER = (
    rf"\s*{_WEIGHT}\s*({'|'.join(map(re.escape, MODELS))})\s*:"
    rf"\s*({'|'.join(STREAMS)})\s*(\+\s*({'|'.join(STREAMS)})\s*)*"
)
Members = Annotated[
    str,
    Like(
        rf"({_MEMBER}(,{_MEMBER})*)?",
        "MODEL:STREAMS, several separated by commas, as in statistics:j+b, or with a weight, 0.5*statistics:j+b "
        f"(models: {', '.join(MODELS)}; streams: {', '.join(STREAMS)}), or empty",
    ),
]

_SHARE_OF_ONE = r"(0?\.\d+|[01](\.0*)?)"
AT = Like(
    rf"f1|accuracy|(precision|recall|false_positive_rate)={_SHARE_OF_ONE}|false_alarms_per_hour=(\d+\.?\d*|\.\d+)",
    "f1, accuracy, precision=.9, recall=.9, false_positive_rate=.05 or false_alarms_per_hour=1 (or other numbers)",
)
"""What a threshold is chosen at (``recognition/threshold.py``)."""
ThresholdAt = Annotated[str, AT]
