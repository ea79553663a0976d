"""The recogniser, where it is trained and what it must bear: ``train``, ``trainer`` and ``robustness``."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from posewatch import rules
from posewatch.errors import ConfigError, did_you_mean
from posewatch.rules import Items, OneOf, Range, Share
from posewatch.sections import Section, require


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
    ADDED: ClassVar[tuple[str, ...]] = ("pretrained", "threshold_at", "verdict_weight", "people_by", "beside")

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
    people_by: Annotated[str, OneOf(("presence", "contact"))] = "presence"
    """Who they are where a clip shows more: those seen most, or those who are together the longest and closest, and
    move."""
    stream: rules.Streams = "j+b+jm"
    """Streams joined by + are stacked as channels; several of those, separated by commas, are networks of their own
    whose probabilities are averaged."""
    stream_weights: Annotated[tuple[Annotated[float, Range(0, 1_000_000, above=True)], ...], Items(0, 100)] = ()
    """Weight of each network in that average; empty: 1."""
    beside: rules.Members = ""
    """Networks of other models that are trained and answer together with those of ``stream``: MODEL:STREAMS, several
    separated by commas, each with a weight (1) in the average where it has one: ``0.25*statistics:j``."""
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
    """Weight of the model's own loss: ProtoGCN's class-specific contrastive, Hyper-GCN's divergence."""
    smoothing: Annotated[float, Range(0, 0.95)] = 0.0
    """Label smoothing of the cross-entropy."""
    average_epochs: Annotated[float, Range(0, 100_000)] = 3.0
    """Time constant of the averaged weights (EMA), in epochs; 0 uses the last weights."""
    balance: Annotated[str, OneOf(("weights", "sampling", "none"))] = "weights"
    """Against rare classes: ``weights`` in the loss, ``sampling`` of as many clips of each class, or ``none``."""
    verdict_weight: Annotated[float, Range(0, 1000, above=True)] = 0.3
    """Weight in the loss of a clip labelled by a verdict on an alarm; other clips have 1. Alarms are chosen by a model:
    with the weight of others they cost more recall than they save false alarms (docs/watch.md)."""
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
            raise ConfigError(
                f"train.stream_weights must hold one number for each stream of {self.stream!r}, {streams} in all, not "
                f"{len(self.stream_weights)}"
            )
        if self.lr > rules.MAX_LR[self.optimiser]:
            raise ConfigError(
                f"train.lr {self.lr:g} is too high for {self.optimiser}: at most {rules.MAX_LR[self.optimiser]:g}; "
                "set it to about 0.003 for adamw, 0.025 for sgd"
            )

    def without_beside(self) -> TrainConfig:
        """The same, with the networks of ``stream`` only."""
        return dataclasses.replace(self, beside="")


@dataclass(frozen=True)
class PretrainConfig(Section):
    """Pretraining on clips without labels. The network is that of ``train``."""

    SECTION: ClassVar[str] = "pretrain"

    enabled: bool = False
    """Whether the pipelines pretrain on all skeletons before they train."""
    epochs: Annotated[int, Range(1, 100_000)] = 100
    batch: Annotated[int, Range(1, 65_536)] = 32
    lr: Annotated[float, Range(0, rules.MAX_LR["adamw"], above=True)] = 0.003
    mask: Annotated[float, Range(0, 0.95, above=True)] = 0.5
    """Share of the limbs, in parts of a clip, that are hidden from the network."""
    rendered: Annotated[int, Range(0, 1_000_000)] = 0
    """Clips of rendered people that are added (needs posewatch[footage])."""


@dataclass(frozen=True)
class TrainerConfig(Section):
    """Where training runs: here (the default), or as a Kubeflow Trainer job on several nodes. What is trained does not
    depend on it, so none of it is part of a checkpoint's identity."""

    SECTION: ClassVar[str] = "trainer"
    ADDED: ClassVar[tuple[str, ...]] = ("ca_bundle", "pull_secrets", "node_selector", "tolerations")

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
    """The Secret that holds POSEWATCH_S3_ENDPOINT, POSEWATCH_S3_ACCESS_KEY and POSEWATCH_S3_SECRET_KEY, and may hold
    POSEWATCH_S3_REGION."""
    service_account: str = ""
    """Of the pods; empty: the namespace's default."""
    ca_bundle: rules.KubeFile = ""
    """A ConfigMap and its key, name/key, with the certificates of all authorities that the pods are to trust, where no
    public one signed the object store's; empty: the image's own."""
    pull_secrets: Annotated[tuple[rules.KubeName, ...], Items(0, 20)] = ()
    """Secrets for the image's registry."""
    node_selector: Annotated[tuple[rules.NodeLabel, ...], Items(0, 50)] = ()
    """Labels of the nodes, label=value each."""
    tolerations: Annotated[tuple[rules.Taint, ...], Items(0, 50)] = ()
    """Taints of nodes that are no obstacle, as key[=value][:effect]; with ``gpus`` also nvidia.com/gpu."""
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
