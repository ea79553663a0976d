"""One experiment = one YAML file: frozen dataclasses, inheritance by ``extends:``, overrides as ``section.key=value``.

``load("demo")`` takes a name from the package's ``configs/``; a path to a YAML file and a JSON text (what a pipeline
hands to its components) work alike. An unknown key is an error that names the nearest known one.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar

from posewatch.digests import canonical
from posewatch.errors import ConfigError
from posewatch.names import nfc
from posewatch.sections import from_dict, merge, parse_yaml


@dataclass(frozen=True)
class MaskConfig:
    """Masking: everything but people turns black. ``fps``, in frames per second, holds for the whole pipeline."""

    detector: str = "movenet"
    segmenter: str = "blazepose"
    fps: float = 10.0
    max_side: int = 640
    """Longer side of the masked video in pixels; smaller videos keep their size."""
    min_score: float = 0.2
    hold: int = 5
    """Frames for which the last mask of a lost person is held."""
    dilate: int = 1
    """Pixels by which the mask is grown, so that hands and feet are not cut off."""
    feather: int = 0
    """Pixels over which the mask's edge fades; 0 is a hard edge."""
    detector_weights: str = ""
    """A name of ``posewatch weights list`` or a file of yours (.pt, .onnx); empty is the detector's default."""
    segmenter_weights: str = ""
    """The same for the segmenter: a name, a file, or a folder as transformers saves it."""
    reprompt: int = 15
    """Frames after which the boxes prompt SAM 2 again."""
    crops: bool = False
    """Also write each person alone, as a small video that follows the person."""
    device: str = "auto"
    """``auto``, ``cpu`` or ``cuda``, for the networks that can use a GPU."""

    def __post_init__(self) -> None:
        if self.fps <= 0 or self.max_side < 32 or self.hold < 0 or self.dilate < 0 or self.feather < 0:
            raise ConfigError("mask needs fps > 0, max_side >= 32, hold >= 0, dilate >= 0 and feather >= 0")
        if self.reprompt < 1:
            raise ConfigError(f"mask.reprompt must be at least 1, not {self.reprompt}")


@dataclass(frozen=True)
class SplitConfig:
    """Clips of a fixed length."""

    length_s: float = 3.0
    overlap_s: float = 0.0


@dataclass(frozen=True)
class PoseConfig:
    """Skeletons."""

    RENAMED: ClassVar[dict[str, str]] = {"frames": "source"}

    estimator: str = "movenet"
    source: str = "masked"
    """Frames that the estimator sees: ``masked`` (as in the paper) or ``raw``."""
    max_people: int = 2
    min_score: float = 0.15
    hold: int = 5
    """Frames over which a lost person is interpolated (with a reduced score)."""
    weights: str = ""
    """A name of ``posewatch weights list`` or a file of yours (.onnx, .pt); empty is the estimator's default."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``tensorrt``, for the estimators that can use a GPU."""

    def __post_init__(self) -> None:
        if self.source not in ("masked", "raw"):
            raise ConfigError(f"pose.source must be masked or raw, not {self.source!r}")
        if self.max_people < 1:
            raise ConfigError(f"pose.max_people must be at least 1, not {self.max_people}")


@dataclass(frozen=True)
class LabelConfig:
    """The classes, and how timed intervals become one label per clip."""

    classes: tuple[str, ...] = ("normal", "abnormal")
    positive: str = "abnormal"
    default: str = "normal"
    min_overlap_s: float = 0.5
    """An interval of another class than ``default`` labels a clip that it covers for this many seconds."""
    min_per_class: int = 2
    """Labelled clips per class that the gate of ``end_to_end`` waits for."""
    timeout_s: float = 0.0
    """How long the gate polls; 0 fails at once."""
    double: float = 0.0
    """Share of the clips that two people label, each without seeing the other's label."""
    random: float = 0.1
    """Share of the queue in random order, whose labels evaluate a model without bias."""
    claim_s: float = 600.0
    """Seconds for which a claimed clip is reserved for the labeler."""
    page_size: int = 24
    """Clips on one page."""
    accept: float = 0.95
    """Smallest confidence at which a model's labels are offered for acceptance in bulk."""
    sensitive: tuple[str, ...] = ()
    """Classes that are hard to look at; with any, the welfare mode is on by default."""

    def __post_init__(self) -> None:
        for key in ("classes", "sensitive", "positive", "default"):  # in one Unicode form, as label files are compared
            value = getattr(self, key)
            object.__setattr__(self, key, nfc(value) if isinstance(value, str) else tuple(map(nfc, value)))
        if self.default not in self.classes:
            raise ConfigError(f"labels.default must be one of {', '.join(self.classes)}, not {self.default!r}")
        unknown = [name for name in self.sensitive if name not in self.classes]
        if unknown:
            raise ConfigError(f"labels.sensitive: {unknown[0]!r} is none of {', '.join(self.classes)}")
        for name in ("double", "random", "accept"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"labels.{name} must be between 0 and 1, not {getattr(self, name):g}")
        if self.claim_s <= 0 or self.page_size < 1:
            raise ConfigError("labels.claim_s and labels.page_size must be positive")


@dataclass(frozen=True)
class DatasetConfig:
    """A frozen split by source video."""

    validation: float = 0.2
    test: float = 0.3
    seed: int = 0


@dataclass(frozen=True)
class AugmentConfig:
    """Augmentation of training clips; each number is the largest change, drawn at random for every clip.

    The dropouts are mean shares of missing joints (score 0), applied to half of the clips.
    """

    flip: bool = True
    swap: bool = True
    """Persons in a random order, because the order has no meaning."""
    rotate: float = 0.25
    """Radians."""
    stretch: float = 0.2
    """Of the width against the height, as a camera from higher up or from the side would show."""
    scale: float = 0.1
    """Of each person's size."""
    shift: float = 0.1
    """Of each person's position, in body sizes."""
    jitter: float = 0.02
    """Noise in body sizes."""
    crop: float = 0.25
    """Share of the clip that may be cut off in time."""
    speed: float = 0.2
    """Of the playback speed within a clip."""
    joint_dropout: float = 0.1
    limb_dropout: float = 0.05
    person_dropout: float = 0.0
    frame_dropout: float = 0.05


@dataclass(frozen=True)
class TrainConfig:
    """The recogniser and its training. ``paper`` among the shipped configurations is the published recipe."""

    RENAMED: ClassVar[dict[str, str]] = {
        "frames": "clip_frames",
        "warm_up": "lr_warmup",
        "prototypes": "model_options.prototypes",
    }

    model: str = "protogcn"
    width: float = 0.25
    """Channels as a multiple of the published model's, rounded to multiples of 8."""
    model_options: dict[str, Any] = field(default_factory=lambda: {"prototypes": 50})
    """Options of one model only, by name (docs/models.md); those of other models than ``model`` have no effect."""
    layout: str = ""
    """The joint layout that the network sees, e.g. coco20 for coco17 clips; empty is the data's own."""
    clip_frames: int = 30
    """T, the number of frames to which each clip is resampled."""
    people: int = 2
    stream: str = "j+b+jm"
    """Streams joined by + are stacked as channels; several of those, separated by commas, are networks of their own
    whose probabilities are averaged."""
    stream_weights: tuple[float, ...] = ()
    """Weight of each network in that average; empty: equal."""
    features: str = "body"
    """``body``: centred, of size 1, gaps filled; ``raw``: pixels and scores, as published."""
    epochs: int = 30
    batch: int = 16
    optimiser: str = "adamw"
    """``adamw`` or ``sgd`` (Nesterov momentum .9, as published)."""
    lr: float = 0.003
    lr_warmup: float = 0.1
    """Share of all steps over which the learning rate rises."""
    weight_decay: float = 5e-4
    contrastive: float = 0.2
    """Weight of ProtoGCN's class-specific contrastive loss."""
    smoothing: float = 0.0
    """Label smoothing of the cross-entropy."""
    average_epochs: float = 3.0
    """Time constant of the averaged weights (EMA), in epochs; 0 uses the last weights."""
    balance: str = "weights"
    """Against rare classes: ``weights`` in the loss, ``sampling`` of as many clips of each class, or ``none``."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    seed: int = 0
    patience: int = 0
    """Epochs without a better validation loss after which training stops; 0 trains to the end of the schedule, which is
    the better choice while validation holds a few videos only."""
    validation: float = 0.2
    """Share of the training clips, whole subjects of them, that choose the threshold where a split has none of its
    own."""
    folds: int = 0
    """From 2 on: an ensemble of as many networks, each trained without one fold of the subjects and evaluated on that
    fold to choose the threshold. Replaces ``validation``."""
    refit: bool = True
    """Train again on all clips once the threshold is chosen."""
    test_clips: int = 1
    """Samplings of a test clip whose probabilities are averaged."""
    device: str = "auto"
    """``auto``, ``cpu`` or ``cuda``."""
    precision: str = "fp32"
    """``fp32`` or ``bf16`` (on a GPU)."""
    threads: int = 0
    """CPU threads; 0 lets torch decide."""


@dataclass(frozen=True)
class TrainerConfig:
    """Where training runs: here (the default), or as a Kubeflow Trainer job on several nodes. What is trained does not
    depend on it, so none of it is part of a checkpoint's identity."""

    nodes: int = 0
    """Pods of the job; 0 trains in this process unless ``gpus`` is set."""
    gpus: int = 0
    """Of each pod, with one process each; 0 trains on CPUs."""
    processes: int = 1
    """Of each pod that has no GPU."""
    namespace: str = "posewatch"
    runtime: str = "torch-distributed"
    """A ClusterTrainingRuntime of the cluster."""
    image: str = ""
    """With posewatch[train]; empty: that of the running step (POSEWATCH_IMAGE)."""
    secret: str = "posewatch"
    """The Secret that holds POSEWATCH_S3_ENDPOINT, POSEWATCH_S3_ACCESS_KEY and POSEWATCH_S3_SECRET_KEY."""
    service_account: str = ""
    """Of the pods; empty: the namespace's default."""
    cpu: str = "4"
    memory: str = "16Gi"
    shm: str = "8Gi"
    """Of each pod: processors, memory, and shared memory (a part of the memory)."""
    timeout_s: int = 86_400
    """After which the cluster ends the job."""
    checkpoint_s: float = 60.0
    """Seconds between two copies of the training's state in the object store, from which a retry goes on."""

    def __post_init__(self) -> None:
        if min(self.nodes, self.gpus) < 0 or self.processes < 1 or self.timeout_s < 1:
            raise ConfigError("trainer.nodes and gpus must be 0 or more, processes and timeout_s at least 1")

    @property
    def remote(self) -> bool:
        """Whether training runs as a job of the cluster."""
        return self.nodes > 0 or self.gpus > 0


@dataclass(frozen=True)
class RobustnessConfig:
    """Measurement of robustness, and its limits for deployment (the defaults set no limit).

    F1 is a share of 1, so 0.02 is two points.
    """

    RENAMED: ClassVar[dict[str, str]] = {
        f"max_loss_{what}": f"max_f1_drop_{what}" for what in ("10", "30", "part", "frames_30", "jitter_5")
    }

    draws: int = 0
    """Random draws of each corruption at evaluation; 0: robustness is not evaluated."""
    max_f1_drop_10: float = 1.0
    """Largest allowed drop of F1 when 10 % of all joints are dropped at random."""
    max_f1_drop_30: float = 1.0
    """The same at 30 %."""
    min_f1_30: float = 0.0
    """Smallest allowed F1 at 30 %."""
    max_f1_drop_part: float = 1.0
    """Largest allowed drop of F1 when any one body part is hidden."""
    max_f1_drop_frames_30: float = 1.0
    """Largest allowed drop of F1 when 30 % of the frames are dropped."""
    max_f1_drop_jitter_5: float = 1.0
    """Largest allowed drop of F1 under noise of 5 % of the body size."""

    def __post_init__(self) -> None:
        for limit in dataclasses.fields(self)[1:]:
            value = getattr(self, limit.name)
            if not 0 <= value <= 1:
                raise ConfigError(f"robustness.{limit.name} must be between 0 and 1 (0.02: two points), not {value:g}")

    @property
    def asks(self) -> bool:
        """Whether any limit is set."""
        return any(getattr(self, f.name) != f.default for f in dataclasses.fields(self)[1:])


@dataclass(frozen=True)
class ServingConfig:
    """Export, model repository and deployment."""

    RENAMED: ClassVar[dict[str, str]] = {"warm_up": "model_warmup"}

    name: str = "abnormal"
    max_batch: int = 16
    queue_delay_us: int = 2000
    instances: int = 2
    opset: int = 18
    target: str = "embedded"
    """``embedded`` (the local Triton) or ``kserve``."""
    namespace: str = "posewatch"
    min_f1: float = 0.0
    """A model below this F1 is not deployed."""
    max_parity_error: float = 1e-4
    """A model whose export differs from PyTorch by more, in any probability, is not deployed."""
    gpus: int = 0
    """Of each replica on a cluster."""
    min_replicas: int = 1
    max_replicas: int = 1
    autoscaler: str = ""
    """``keda`` scales by Triton's queue, ``external`` leaves replicas to another autoscaler; empty: KServe's own."""
    prometheus: str = ""
    """Address of the Prometheus that KEDA and `posewatch history` ask, such as http://prometheus.monitoring.svc:9090."""
    pending_requests: int = 8
    """With ``keda``: waiting requests of a replica above which another one is started."""
    strategy: str = "rolling"
    """``rolling`` starts a new version beside the old one; ``recreate`` stops the old one first (for one GPU)."""
    gateway: str = ""
    """A Gateway, namespace/name, whose routes share requests between versions (Gateway API); empty: no routes."""
    hostname: str = ""
    """Host name of the HTTPRoute at that gateway."""
    grpc_hostname: str = ""
    """Host name of the GRPCRoute at that gateway; not the same as ``hostname``."""
    canary_percent: int = 100
    """Share of the traffic that a new version gets on a cluster; below 100 it waits for `posewatch promote`."""
    smoke_clips: int = 64
    """Held-out clips, at most, on which a version must answer like its export before it gets traffic."""
    ready_timeout_s: float = 900.0
    """How long a version may take to load on a cluster."""
    bench_seconds: float = 4.0
    concurrency: tuple[int, ...] = (1, 8, 32)
    max_queue: int = 512
    """Largest number of waiting requests; the next one is refused at once."""
    queue_timeout_us: int = 30_000_000
    """Largest queue delay in microseconds; a request that waits longer is refused."""
    device: str = "auto"
    """``auto`` (a GPU where there is one), ``cpu`` or ``gpu``."""
    threads: int = 1
    """Of each instance."""
    model_warmup: str = "all"
    """Batch sizes that run before a model is ready: ``all``, ``powers`` of two, or ``none``."""
    accelerator: str = ""
    """``tensorrt`` (on a GPU), ``openvino`` (on a CPU), or none."""
    precision: str = "fp32"
    """Of the accelerator: ``fp32``, ``fp16`` or ``bf16``."""

    def __post_init__(self) -> None:
        if self.target == "kserve" and self.accelerator == "openvino" and self.precision != "fp32":
            # onnxruntime_backend, src/onnxruntime.cc: it parses no parameters of that accelerator
            raise ConfigError(
                f"serving.precision {self.precision} has no effect on OpenVINO in Triton's container: take fp32, or"
                " serving.accelerator tensorrt"
            )
        for name, value, known in (
            ("autoscaler", self.autoscaler, ("", "external", "keda")),
            ("strategy", self.strategy, ("rolling", "recreate")),
        ):
            if value not in known:
                raise ConfigError(
                    f"serving.{name} must be one of {', '.join(k or 'empty' for k in known)}, not {value!r}"
                )
        if self.autoscaler == "keda" and not self.prometheus:
            raise ConfigError("serving.autoscaler=keda needs serving.prometheus, the address of Prometheus")
        if self.gateway and not (self.hostname or self.grpc_hostname):
            raise ConfigError("serving.gateway needs serving.hostname or serving.grpc_hostname, and two different ones")
        if self.hostname and self.hostname == self.grpc_hostname:
            raise ConfigError(
                "serving.hostname and serving.grpc_hostname must differ: Gateway API refuses one for both"
            )


@dataclass(frozen=True)
class Experiment:
    """The whole configuration of a run."""

    mask: MaskConfig = field(default_factory=MaskConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    pose: PoseConfig = field(default_factory=PoseConfig)
    labels: LabelConfig = field(default_factory=LabelConfig)
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    robustness: RobustnessConfig = field(default_factory=RobustnessConfig)
    serving: ServingConfig = field(default_factory=ServingConfig)

    def to_json(self) -> str:
        """Canonical JSON: what pipelines pass on, so that a changed value changes the cache key."""
        return canonical(dataclasses.asdict(self))


def fingerprinted(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings under the names from which fingerprints are computed: the ones that a field was first given.

    So a renamed field changes no fingerprint, and artifacts of earlier versions are still found.
    """
    former = {new: old for section in (PoseConfig, TrainConfig, ServingConfig) for old, new in section.RENAMED.items()}
    fields = {name: value for name, value in settings.items() if name != "model_options"}
    options = {f"model_options.{name}": value for name, value in settings.get("model_options", {}).items()}
    return {former.get(name, name): value for name, value in (fields | options).items()}


def names() -> list[str]:
    """The experiments that ship with the package."""
    folder = resources.files("posewatch") / "configs"
    return sorted(p.name[:-5] for p in folder.iterdir() if p.name.endswith(".yaml"))


def _read(source: str, seen: tuple[str, ...] = ()) -> dict[str, Any]:
    if source in seen:
        raise ConfigError(f"configurations extend each other in a circle: {' -> '.join((*seen, source))}")
    base: Path | None = None
    if source.lstrip().startswith("{"):
        text = source
    elif source.endswith((".yaml", ".yml")):
        base = Path(source)
        if not base.is_file():
            raise ConfigError(f"no such configuration file: {source} (shipped by name: {', '.join(names())})")
        text = base.read_text(encoding="utf-8")
    else:
        shipped = resources.files("posewatch") / "configs" / f"{source}.yaml"
        if not shipped.is_file():
            near = difflib.get_close_matches(source, names(), 1)
            hint = f"did you mean {near[0]!r}?" if near else f"shipped: {', '.join(names())}; or a path ending in .yaml"
            raise ConfigError(f"no configuration named {source!r}: {hint}")
        text = shipped.read_text(encoding="utf-8")
    data = parse_yaml(text, f"configuration {source[:60]!r}")
    parent = data.pop("extends", None)
    if parent:
        if base and str(parent).endswith((".yaml", ".yml")):
            parent = str(base.parent / parent)
        data = merge(_read(str(parent), (*seen, source)), data)
    return data


def load(source: str = "default", overrides: Iterable[str] = ()) -> Experiment:
    """Read an experiment: a shipped name, a YAML path or a JSON text, then ``section.key=value`` overrides."""
    data = _read(source)
    for item in overrides:
        path, sep, value = item.partition("=")
        if not sep:
            raise ConfigError(f"override {item!r} must look like section.key=value")
        node: dict[str, Any] = {}
        leaf = node
        *parts, last = path.strip().split(".")
        for part in parts:
            leaf[part] = {}
            leaf = leaf[part]
        leaf[last] = value
        data = merge(data, node)
    return from_dict(Experiment, data)
