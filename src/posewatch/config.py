"""One experiment = one YAML file: frozen dataclasses, inheritance by ``extends:``, overrides as ``section.key=value``.

``load("demo")`` takes a name from the package's ``configs/``; a path to a YAML file and a JSON text (what a pipeline
hands to its components) work alike. An unknown key is an error that names the nearest known one, and every value is
checked against the rules beside its field before anybody labels or trains.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, ClassVar

from posewatch import rules
from posewatch.digests import canonical
from posewatch.errors import ConfigError, did_you_mean
from posewatch.names import nfc
from posewatch.rules import Items, Like, OneOf, Range, Share
from posewatch.sections import Plain, Section, from_dict, merge, parse_yaml, require
from posewatch.text import read_text
from posewatch.units import PERSON


@dataclass(frozen=True)
class MaskConfig(Section):
    """Masking: everything but people turns black. ``fps``, in frames per second, holds for the whole pipeline."""

    SECTION: ClassVar[str] = "mask"
    ADDED: ClassVar[tuple[str, ...]] = ("unit", "min_presence_s", "view")

    unit: Annotated[str, OneOf(rules.UNITS)] = "scene"
    """What a clip shows: the ``scene`` with all its people, or one ``person`` alone, as in the paper."""
    min_presence_s: Annotated[float, Range(0, 3600)] = 1.0
    """With ``person``: the shortest presence, in seconds, of a person who gets a video."""
    view: Annotated[str, OneOf(("frame", "crop"))] = "frame"
    """With ``person``: the full ``frame``, or a steady square ``crop`` that follows the person."""
    detector: Annotated[str, OneOf(rules.DETECTORS)] = "movenet"
    segmenter: Annotated[str, OneOf(rules.SEGMENTERS)] = "blazepose"
    fps: Annotated[float, Range(0.1, 240)] = 10.0
    max_side: Annotated[int, Range(32, 8192)] = 640
    """Longer side of the masked video in pixels; smaller videos keep their size."""
    min_score: Share = 0.2
    hold: rules.Frames = 5
    """Frames for which the last mask of a lost person is held."""
    dilate: rules.Pixels = 1
    """Pixels by which the mask is grown, so that hands and feet are not cut off."""
    feather: rules.Pixels = 0
    """Pixels over which the mask's edge fades; 0 is a hard edge."""
    detector_weights: str = ""
    """A name of ``posewatch weights list`` or a file of yours (.pt, .onnx); empty is the detector's default."""
    segmenter_weights: str = ""
    """The same for the segmenter: a name, a file, or a folder as transformers saves it."""
    reprompt: Annotated[int, Range(1, 1_000_000)] = 15
    """Frames after which the boxes prompt SAM 2 again."""
    crops: bool = False
    """Also write each person alone, as a small video that follows the person."""
    device: rules.Device = "auto"
    """``auto``, ``cpu`` or ``cuda``, for the networks that can use a GPU."""


@dataclass(frozen=True)
class SplitConfig(Section):
    """Clips of a fixed length."""

    SECTION: ClassVar[str] = "split"

    length_s: Annotated[float, Range(0, 3600, above=True)] = 3.0
    overlap_s: Annotated[float, Range(0, 3600)] = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.overlap_s >= self.length_s:
            raise ConfigError(f"split.overlap_s {self.overlap_s:g} must be less than split.length_s {self.length_s:g}")


@dataclass(frozen=True)
class PoseConfig(Section):
    """Skeletons."""

    SECTION: ClassVar[str] = "pose"
    RENAMED: ClassVar[dict[str, str]] = {"frames": "source"}
    ADDED: ClassVar[tuple[str, ...]] = ("boxes", "boxes_weights")

    estimator: Annotated[str, OneOf(rules.ESTIMATORS)] = "movenet"
    source: Annotated[str, OneOf(("masked", "raw"))] = "masked"
    """Frames that the estimator sees: ``masked`` (as in the paper) or ``raw``."""
    max_people: Annotated[int, Range(1, 100)] = 2
    min_score: Share = 0.15
    hold: rules.Frames = 5
    """Frames over which a lost person is interpolated (with a reduced score)."""
    weights: str = ""
    """A name of ``posewatch weights list`` or a file of yours (.onnx, .pt); empty is the estimator's default."""
    device: Annotated[str, Like(r"auto|cpu|cuda(:\d+)?|tensorrt", "auto, cpu, cuda or tensorrt")] = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``tensorrt``, for the estimators that can use a GPU."""
    boxes: Annotated[str, OneOf(rules.DETECTORS)] = "movenet"
    """The detector that finds the persons for an estimator that looks at one at a time (rtmpose)."""
    boxes_weights: str = ""
    """Its weights, as ``weights``; empty is the detector's default."""


@dataclass(frozen=True)
class ClassGuide(Section):
    """What the people who label should know of one class."""

    SECTION: ClassVar[str] = "labels.guide"

    text: Annotated[str, Like(r"(?s).{0,4000}", "a text of at most 4000 characters")] = ""
    """What belongs to the class and what does not, as plain text."""
    examples: tuple[rules.ClipId, ...] = ()
    """Ids of clips that show it."""


@dataclass(frozen=True)
class LabelConfig(Section):
    """The classes, and how timed intervals become one label per clip."""

    SECTION: ClassVar[str] = "labels"
    ADDED: ClassVar[tuple[str, ...]] = ("everybody",)

    classes: Annotated[tuple[rules.ClassName, ...], Items(2, 1000, different=True)] = ("normal", "abnormal")
    positive: str = "abnormal"
    default: str = "normal"
    min_overlap_s: rules.Seconds = 0.5
    """An interval of another class than ``default`` labels a clip that it covers for this many seconds."""
    min_per_class: rules.Count = 2
    """Labelled clips per class that the gate of ``end_to_end`` waits for."""
    timeout_s: rules.Seconds = 0.0
    """How long the gate polls; 0 fails at once."""
    double: Share = 0.0
    """Share of the clips that two people label, each without seeing the other's label."""
    random: Share = 0.1
    """Share of the queue in random order, whose labels evaluate a model without bias."""
    claim_s: Annotated[float, Range(0, 604_800, above=True)] = 600.0
    """Seconds for which a claimed clip is reserved for the labeler."""
    page_size: Annotated[int, Range(1, 1000)] = 24
    """Clips on one page."""
    accept: Share = 0.95
    """Smallest confidence at which a model's labels are offered for acceptance in bulk."""
    sensitive: tuple[str, ...] = ()
    """Classes that are hard to look at; with any, the welfare mode is on by default."""
    everybody: bool = False
    """Of clips of single persons: a timed label that names no person labels all persons of its moment. Without it, such
    a label of another class than ``default`` is refused where there are several."""
    guide: dict[rules.ClassName, ClassGuide] = field(default_factory=dict)
    """The guidelines: class → its text and examples, which the page shows."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "guide", {nfc(name): about for name, about in self.guide.items()})
        for key in ("classes", "sensitive", "positive", "default"):  # in one Unicode form, as label files are compared
            value = getattr(self, key)
            object.__setattr__(self, key, nfc(value) if isinstance(value, str) else tuple(map(nfc, value)))
        for name in self.classes:
            if name in rules.MARKS:
                raise ConfigError(f"labels.classes: {name!r} stands for no class, choose another name")
        chosen = {"default": [self.default], "positive": [self.positive] * bool(self.positive)}
        for key, names in {**chosen, "sensitive": self.sensitive, "guide": self.guide}.items():
            for name in names:
                if name not in self.classes:
                    raise ConfigError(f"labels.{key}: {name!r} is none of labels.classes: {', '.join(self.classes)}")


@dataclass(frozen=True)
class DatasetConfig(Section):
    """A frozen split by source video."""

    SECTION: ClassVar[str] = "dataset"

    validation: Annotated[float, Range(0, 0.95)] = 0.2
    test: Annotated[float, Range(0, 0.95)] = 0.3
    seed: rules.Seed = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.validation + self.test >= 1:
            shares = f"dataset.validation {self.validation:g} and dataset.test {self.test:g}"
            raise ConfigError(f"{shares} must leave a share for training")


@dataclass(frozen=True)
class AugmentConfig(Section):
    """Augmentation of training clips; each number is the largest change, drawn at random for every clip.

    The dropouts are mean shares of missing joints (score 0), applied to half of the clips.
    """

    SECTION: ClassVar[str] = "train.augment"

    flip: bool = True
    swap: bool = True
    """Persons in a random order, because the order has no meaning."""
    rotate: Annotated[float, Range(0, 3.15)] = 0.25
    """Radians."""
    stretch: Annotated[float, Range(0, 0.95)] = 0.2
    """Of the width against the height, as a camera from higher up or from the side would show."""
    scale: Annotated[float, Range(0, 0.95)] = 0.1
    """Of each person's size."""
    shift: Annotated[float, Range(0, 10)] = 0.1
    """Of each person's position, in body sizes."""
    jitter: Annotated[float, Range(0, 10)] = 0.02
    """Noise in body sizes."""
    crop: Annotated[float, Range(0, 0.95)] = 0.25
    """Share of the clip that may be cut off in time."""
    speed: Annotated[float, Range(0, 0.95)] = 0.2
    """Of the playback speed within a clip."""
    joint_dropout: Share = 0.1
    limb_dropout: Share = 0.05
    person_dropout: Share = 0.0
    frame_dropout: Share = 0.05


@dataclass(frozen=True)
class TrainConfig(Section):
    """The recogniser and its training. ``paper`` among the shipped configurations is the published recipe."""

    SECTION: ClassVar[str] = "train"
    RENAMED: ClassVar[dict[str, str]] = {
        "frames": "clip_frames",
        "warm_up": "lr_warmup",
        "prototypes": "model_options.prototypes",
    }
    ADDED: ClassVar[tuple[str, ...]] = ("pretrained", "threshold_at")

    model: Annotated[str, OneOf(rules.MODELS)] = "protogcn"
    width: Annotated[float, Range(0, 4, above=True)] = 0.25
    """Channels as a multiple of the published model's, rounded to multiples of 8."""
    model_options: dict[str, Any] = field(default_factory=lambda: {"prototypes": 50})
    """Options of one model only, by name (docs/models.md); those of other models than ``model`` have no effect."""
    layout: Annotated[str, OneOf(("", *rules.LAYOUTS))] = ""
    """The joint layout that the network sees, e.g. coco20 for coco17 clips; empty is the data's own."""
    clip_frames: Annotated[int, Range(2, 10_000)] = 30
    """T, the number of frames to which each clip is resampled."""
    people: Annotated[int, Range(1, 100)] = 2
    stream: rules.Streams = "j+b+jm"
    """Streams joined by + are stacked as channels; several of those, separated by commas, are networks of their own
    whose probabilities are averaged."""
    stream_weights: Annotated[tuple[Annotated[float, Range(0, 1_000_000, above=True)], ...], Items(0, 100)] = ()
    """Weight of each network in that average; empty: equal."""
    features: Annotated[str, OneOf(("body", "raw", "hips"))] = "body"
    """``body``: centred, of size 1, gaps filled; ``raw``: pixels and scores, as published; ``hips``: about the
    middle of each person's hips, in distances of the hips (docs/from-the-paper.md)."""
    epochs: Annotated[int, Range(1, 100_000)] = 30
    batch: Annotated[int, Range(1, 65_536)] = 16
    optimiser: Annotated[str, OneOf(("adamw", "sgd"))] = "adamw"
    """``adamw`` or ``sgd`` (Nesterov momentum .9, as published)."""
    lr: Annotated[float, Range(0, 1, above=True)] = 0.003
    lr_warmup: Share = 0.1
    """Share of all steps over which the learning rate rises."""
    weight_decay: Annotated[float, Range(0, 10)] = 5e-4
    contrastive: Annotated[float, Range(0, 100)] = 0.2
    """Weight of ProtoGCN's class-specific contrastive loss."""
    smoothing: Annotated[float, Range(0, 0.95)] = 0.0
    """Label smoothing of the cross-entropy."""
    average_epochs: Annotated[float, Range(0, 100_000)] = 3.0
    """Time constant of the averaged weights (EMA), in epochs; 0 uses the last weights."""
    balance: Annotated[str, OneOf(("weights", "sampling", "none"))] = "weights"
    """Against rare classes: ``weights`` in the loss, ``sampling`` of as many clips of each class, or ``none``."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    seed: rules.Seed = 0
    patience: rules.Count = 0
    """Epochs without a better validation loss after which training stops; 0 trains to the end of the schedule, which is
    the better choice while validation holds a few videos only."""
    validation: Annotated[float, Range(0, 0.95)] = 0.2
    """Share of the training clips, whole subjects of them, that choose the threshold where a split has none of its
    own."""
    folds: Annotated[int, Range(0, 1000)] = 0
    """From 2 on: an ensemble of as many networks, each trained without one fold of the subjects and evaluated on that
    fold to choose the threshold. Replaces ``validation``."""
    threshold_at: rules.ThresholdAt = "f1"
    """What the threshold is chosen at on people held out: ``f1``, ``accuracy``, ``precision=.9``, ``recall=.9``,
    ``false_positive_rate=.05`` or ``false_alarms_per_hour=1``."""
    refit: bool = True
    """Train again on all clips once the threshold is chosen."""
    test_clips: Annotated[int, Range(1, 1000)] = 1
    """Samplings of a test clip whose probabilities are averaged."""
    device: Annotated[str, OneOf(("auto", "cpu", "cuda"))] = "auto"
    """``auto``, ``cpu`` or ``cuda``."""
    precision: Annotated[str, OneOf(("fp32", "bf16"))] = "fp32"
    """``fp32`` or ``bf16`` (on a GPU)."""
    threads: Annotated[int, Range(0, 1024)] = 0
    """CPU threads; 0 lets torch decide."""
    pretrained: str = ""
    """A checkpoint to begin with, ours or official: a file, or the URI of one in the store. What fits is taken."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for key, value in self.model_options.items():
            if key not in rules.MODEL_OPTIONS:
                hint = did_you_mean(key, rules.MODEL_OPTIONS)
                raise ConfigError(f"unknown option {key!r} in train.model_options: {hint}")
            require(rules.MODEL_OPTIONS[key], value, f"train.model_options.{key}")
        streams = self.stream.count(",") + 1
        if self.stream_weights and len(self.stream_weights) != streams:
            raise ConfigError(f"train.stream_weights must be {streams} numbers, one for each stream of {self.stream!r}")
        if self.lr > rules.MAX_LR[self.optimiser]:
            raise ConfigError(
                f"train.lr {self.lr:g} is too high for {self.optimiser}: at most {rules.MAX_LR[self.optimiser]:g}; "
                "set it to about 0.003 for adamw, 0.025 for sgd"
            )


@dataclass(frozen=True)
class TrainerConfig(Section):
    """Where training runs: here (the default), or as a Kubeflow Trainer job on several nodes. What is trained does not
    depend on it, so none of it is part of a checkpoint's identity."""

    SECTION: ClassVar[str] = "trainer"

    nodes: Annotated[int, Range(0, 10_000)] = 0
    """Pods of the job; 0 trains in this process unless ``gpus`` is set."""
    gpus: rules.Gpus = 0
    """Of each pod, with one process each; 0 trains on CPUs."""
    processes: rules.Threads = 1
    """Of each pod that has no GPU."""
    namespace: rules.KubeName = "posewatch"
    runtime: rules.KubeName = "torch-distributed"
    """A ClusterTrainingRuntime of the cluster."""
    image: str = ""
    """With posewatch[train]; empty: that of the running step (POSEWATCH_IMAGE)."""
    secret: rules.KubeName = "posewatch"
    """The Secret that holds POSEWATCH_S3_ENDPOINT, POSEWATCH_S3_ACCESS_KEY and POSEWATCH_S3_SECRET_KEY."""
    service_account: str = ""
    """Of the pods; empty: the namespace's default."""
    cpu: rules.Quantity = "4"
    memory: rules.Quantity = "16Gi"
    shm: rules.Quantity = "8Gi"
    """Of each pod: processors, memory, and shared memory (a part of the memory)."""
    timeout_s: Annotated[int, Range(1, 31_536_000)] = 86_400
    """After which the cluster ends the job."""
    checkpoint_s: rules.Seconds = 60.0
    """Seconds between two copies of the training's state in the object store, from which a retry goes on."""

    @property
    def remote(self) -> bool:
        """Whether training runs as a job of the cluster."""
        return self.nodes > 0 or self.gpus > 0


@dataclass(frozen=True)
class RobustnessConfig(Section):
    """Measurement of robustness, and its limits for deployment (the defaults set no limit).

    F1 is a share of 1, so 0.02 is two points.
    """

    SECTION: ClassVar[str] = "robustness"
    RENAMED: ClassVar[dict[str, str]] = {
        f"max_loss_{what}": f"max_f1_drop_{what}" for what in ("10", "30", "part", "frames_30", "jitter_5")
    }

    draws: Annotated[int, Range(0, 1000)] = 0
    """Random draws of each corruption at evaluation; 0: robustness is not evaluated."""
    max_f1_drop_10: Share = 1.0
    """Largest allowed drop of F1 when 10 % of all joints are dropped at random."""
    max_f1_drop_30: Share = 1.0
    """The same at 30 %."""
    min_f1_30: Share = 0.0
    """Smallest allowed F1 at 30 %."""
    max_f1_drop_part: Share = 1.0
    """Largest allowed drop of F1 when any one body part is hidden."""
    max_f1_drop_frames_30: Share = 1.0
    """Largest allowed drop of F1 when 30 % of the frames are dropped."""
    max_f1_drop_jitter_5: Share = 1.0
    """Largest allowed drop of F1 under noise of 5 % of the body size."""

    @property
    def asks(self) -> bool:
        """Whether any limit is set."""
        return any(getattr(self, f.name) != f.default for f in dataclasses.fields(self)[1:])


@dataclass(frozen=True)
class ServingConfig(Section):
    """Export, model repository and deployment."""

    SECTION: ClassVar[str] = "serving"
    RENAMED: ClassVar[dict[str, str]] = {"warm_up": "model_warmup"}
    ADDED: ClassVar[tuple[str, ...]] = ("paper_contract",)

    name: Annotated[str, Like(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", "a name of letters, digits, -, _ and .")] = "abnormal"
    max_batch: rules.Batch = 16
    queue_delay_us: rules.QueueDelay = 2000
    instances: rules.Instances = 2
    opset: Annotated[int, Range(18, 27)] = 18
    target: Annotated[str, OneOf(("embedded", "kserve"))] = "embedded"
    """``embedded`` (the local Triton) or ``kserve``."""
    namespace: rules.KubeName = "posewatch"
    min_f1: Share = 0.0
    """A model below this F1 is not deployed."""
    max_parity_error: Share = 1e-4
    """A model whose export differs from PyTorch by more, in any probability, is not deployed."""
    gpus: rules.Gpus = 0
    """Of each replica on a cluster."""
    min_replicas: Annotated[int, Range(1, 1000)] = 1
    max_replicas: Annotated[int, Range(1, 1000)] = 1
    autoscaler: Annotated[str, OneOf(("", "external", "keda"))] = ""
    """``keda`` scales by Triton's queue, ``external`` leaves replicas to another autoscaler; empty: KServe's own."""
    prometheus: Annotated[str, Like(r"(https?://\S+)?", "an address such as http://prometheus:9090, or empty")] = ""
    """Address of the Prometheus that KEDA and `posewatch history` ask, such as http://prometheus.monitoring.svc:9090."""
    pending_requests: Annotated[int, Range(1, 1_000_000)] = 8
    """With ``keda``: waiting requests of a replica above which another one is started."""
    strategy: Annotated[str, OneOf(("rolling", "recreate"))] = "rolling"
    """``rolling`` starts a new version beside the old one; ``recreate`` stops the old one first (for one GPU)."""
    gateway: Annotated[str, Like(r"([a-z0-9-]+/[a-z0-9.-]+)?", "a Gateway as namespace/name, or empty")] = ""
    """A Gateway, namespace/name, whose routes share requests between versions (Gateway API); empty: no routes."""
    hostname: rules.HostName = ""
    """Host name of the HTTPRoute at that gateway."""
    grpc_hostname: rules.HostName = ""
    """Host name of the GRPCRoute at that gateway; not the same as ``hostname``."""
    canary_percent: Annotated[int, Range(1, 100)] = 100
    """Share of the traffic that a new version gets on a cluster; below 100 it waits for `posewatch promote`."""
    smoke_clips: Annotated[int, Range(1, 1_000_000)] = 64
    """Held-out clips, at most, on which a version must answer like its export before it gets traffic."""
    ready_timeout_s: Annotated[float, Range(0, 86_400, above=True)] = 900.0
    """How long a version may take to load on a cluster."""
    bench_seconds: Annotated[float, Range(0, 86_400, above=True)] = 4.0
    concurrency: Annotated[tuple[Annotated[int, Range(1, 10_000)], ...], Items(1, 100)] = (1, 8, 32)
    max_queue: rules.QueueLength = 512
    """Largest number of waiting requests; the next one is refused at once."""
    queue_timeout_us: rules.QueueTimeout = 30_000_000
    """Largest queue delay in microseconds; a request that waits longer is refused."""
    device: rules.ServingDevice = "auto"
    """``auto`` (a GPU where there is one), ``cpu`` or ``gpu``."""
    threads: rules.Threads = 1
    """Of each instance."""
    model_warmup: rules.Warmup = "all"
    """Batch sizes that run before a model is ready: ``all``, ``powers`` of two, or ``none``."""
    accelerator: rules.Accelerator = ""
    """``tensorrt`` (on a GPU), ``openvino`` (on a CPU), or none."""
    precision: rules.ServingPrecision = "fp32"
    """Of the accelerator: ``fp32``, ``fp16`` or ``bf16``."""
    paper_contract: Annotated[str, Like(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,99})?", "a name as serving.name, or empty")] = ""
    """The name of a second model that takes the input of the paper's clients (docs/from-the-paper.md); empty: none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_replicas > self.max_replicas:
            raise ConfigError(f"serving.min_replicas {self.min_replicas} is above max_replicas {self.max_replicas}")
        if self.paper_contract == self.name:
            raise ConfigError(f"serving.paper_contract must not be serving.name, {self.name!r}: it is a second model")
        for accelerator, device in (("tensorrt", "cpu"), ("openvino", "gpu")):
            if (self.accelerator, self.device) == (accelerator, device):
                raise ConfigError(f"serving.accelerator {accelerator} does not run on serving.device {device}")
        if self.target == "kserve" and self.accelerator == "openvino" and self.precision != "fp32":
            # onnxruntime_backend, src/onnxruntime.cc: it parses no parameters of that accelerator
            raise ConfigError(
                f"serving.precision {self.precision} has no effect on OpenVINO in Triton's container: take fp32, or"
                " serving.accelerator tensorrt"
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

    def __post_init__(self) -> None:
        if self.mask.unit == PERSON and self.train.people != 1:
            raise ConfigError(
                f"mask.unit person has one person in a clip, not train.people {self.train.people}: set train.people=1"
            )

    def to_json(self) -> str:
        """Canonical JSON: what pipelines pass on, so that a changed value changes the cache key."""
        return canonical(dataclasses.asdict(self))


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
        text = read_text(base, error=ConfigError)
    else:
        shipped = resources.files("posewatch") / "configs" / f"{source}.yaml"
        if not shipped.is_file():
            hint = did_you_mean(source, names())
            raise ConfigError(f"no configuration named {source!r}: {hint} (or give a path ending in .yaml)")
        text = shipped.read_text(encoding="utf-8")
    data = parse_yaml(text, f"configuration {source[:60]!r}")
    parent = data.pop("extends", None)
    if parent:
        if base and str(parent).endswith((".yaml", ".yml")):
            parent = str(base.parent / parent)
        data = merge(_read(str(parent), (*seen, source)), data)
    return data


def load(source: str = "default", overrides: Iterable[str] = ()) -> Experiment:
    """Read an experiment: a shipped name, a YAML path or a JSON text, then ``section.key=value`` overrides.

    With ``mask.unit`` person, ``train.people`` is 1 unless it is given.
    """
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
        leaf[last] = Plain(value)
        data = merge(data, node)
    mask = data.get("mask")
    if isinstance(mask, Mapping) and mask.get("unit") == PERSON:
        data = merge({"train": {"people": 1}}, data)
    return from_dict(Experiment, data)
