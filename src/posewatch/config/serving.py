"""Export, model repository and deployment: the section ``serving``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from posewatch import rules
from posewatch.errors import ConfigError
from posewatch.rules import Items, Like, OneOf, Range, Share
from posewatch.sections import Section


@dataclass(frozen=True)
class ServingConfig(Section):
    """Export, model repository and deployment."""

    SECTION: ClassVar[str] = "serving"
    RENAMED: ClassVar[dict[str, str]] = {"warm_up": "model_warmup"}
    ADDED: ClassVar[tuple[str, ...]] = ("paper_contract", "skip_absent", "wire")

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
    max_queue: rules.QueueLength = 0
    """Largest number of waiting requests, the next one is refused at once; 0: no limit (its price: docs/serving.md)."""
    queue_timeout_us: rules.QueueTimeout = 0
    """Largest queue delay in microseconds, a request that waits longer is refused; 0: no limit."""
    device: rules.ServingDevice = "auto"
    """``auto`` (a GPU where there is one), ``cpu`` or ``gpu``."""
    threads: rules.Threads = 1
    """Of each instance."""
    model_warmup: rules.Warmup = "all"
    """Batch sizes that run before a model is ready: ``all``, ``powers`` of two, or ``none``."""
    accelerator: rules.Accelerator = ""
    """``tensorrt`` (on a GPU), ``openvino`` (on a CPU), or none."""
    precision: rules.ServingPrecision = "fp32"
    """Of the accelerator: ``fp32``, ``fp16`` or ``bf16``; Triton's container takes none but fp32."""
    paper_contract: Annotated[str, Like(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,99})?", "a name as serving.name, or empty")] = ""
    """The name of a second model that takes the input of the paper's clients (docs/from-the-paper.md); empty: none."""

    skip_absent: bool = True
    """The exported graph computes nothing for persons who are not there. ``accelerator: tensorrt`` wants fixed shapes
    and turns it off."""

    wire: Annotated[str, OneOf(("float32", "uint16"))] = "float32"
    """How clients send keypoints: as they are, or in 16 bits (sixteenths of a pixel), half the bytes."""

    @property
    def skips_absent(self) -> bool:
        """``skip_absent``, where the accelerator takes shapes that depend on the clips."""
        return self.skip_absent and self.accelerator != "tensorrt"

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
                f"serving.precision {self.precision} has no effect on OpenVINO in Triton's container: take fp32"
            )
        if self.target == "kserve" and self.accelerator == "tensorrt" and self.precision != "fp32":
            # TensorRT 11 has no such flags any more (in Triton since 26.06): a network is computed as it is typed
            raise ConfigError(
                f"serving.precision {self.precision} has no effect on TensorRT 11, which Triton's container has: take"
                " fp32, which TensorRT computes as the file is typed (posewatch export --precision)"
            )
        if self.autoscaler == "keda" and not self.prometheus:
            raise ConfigError("serving.autoscaler=keda needs serving.prometheus, the address of Prometheus")
        if self.gateway and not (self.hostname or self.grpc_hostname):
            raise ConfigError("serving.gateway needs serving.hostname or serving.grpc_hostname, and two different ones")
        if self.hostname and self.hostname == self.grpc_hostname:
            raise ConfigError(
                "serving.hostname and serving.grpc_hostname must differ: Gateway API refuses one for both"
            )
