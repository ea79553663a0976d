"""The options of a served model, and their text in Triton's ``config.pbtxt``, written by Triton's protobuf."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from posewatch import rules
from posewatch.errors import InputError
from posewatch.sections import Section

DEVICES = {"auto": "KIND_AUTO", "cpu": "KIND_CPU", "gpu": "KIND_GPU"}


@dataclass(frozen=True)
class Batching(Section):
    """Dynamic batching: a request waits up to ``delay_us`` microseconds for others.

    max_queue   requests that may wait, more are refused at once; 0: no limit
    timeout_us  a request that waits longer, or beyond its own shorter ``timeout``, is refused; 0: none

    Either of them costs dearly. With any queue policy, Triton's batcher fetches no batch ahead but waits until an
    instance says that it is idle (core, src/scheduler_utils.cc, ``support_prefetching_``), and can miss that for half a
    second (dynamic_batch_scheduler.cc, ``default_wait_microseconds``): with one instance, at one request in a few
    hundred. Up to at least 26.06 it may also stop for good (server, issue 8870). Without one, gRPC requests whose
    client gave up are dropped all the same.
    """

    delay_us: rules.QueueDelay = 2000
    max_queue: rules.QueueLength = 0
    timeout_us: rules.QueueTimeout = 0

    def settings(self) -> dict[str, Any]:
        """Fields of ``ModelConfig``. A request's own deadline counts only if it is shorter than the default one."""
        batching: dict[str, Any] = {"max_queue_delay_microseconds": self.delay_us}
        if self.max_queue or self.timeout_us:
            batching["default_queue_policy"] = {
                "timeout_action": "REJECT",
                "default_timeout_microseconds": self.timeout_us,
                "allow_timeout_override": True,
                "max_queue_size": self.max_queue,
            }
        return batching


@dataclass(frozen=True)
class ServeOptions(Section):
    """How a model is served.

    max_batch    most clips of one execution
    batching     None: every request is an execution of its own
    instances    copies that run at a time, on each of ``gpus`` if some are named
    device       auto (a GPU if there is one), cpu or gpu
    threads      of each instance, per operator; a CPU is used best with one thread and as many instances as cores: more
                 threads spin against each other
    model_warmup batch sizes that run before the model is ready: all up to the maximum (on a GPU the first run of each
                 size takes up to a second), powers of two, or none; for tensorrt
                 the largest and the smallest come first
    accelerator  tensorrt (on a GPU), openvino (on a CPU), or none
    precision    that the accelerator computes in: fp32, fp16, bf16; int8 is a property of the file
    """

    max_batch: rules.Batch = 16
    batching: Batching | None = field(default_factory=Batching)
    instances: rules.Instances = 2
    device: rules.ServingDevice = "auto"
    gpus: tuple[int, ...] = ()
    threads: rules.Threads = 1
    model_warmup: rules.Warmup = "all"
    accelerator: rules.Accelerator = ""
    precision: rules.ServingPrecision = "fp32"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gpus and self.device != "gpu":
            raise InputError(f"gpus {list(self.gpus)} are named, but device is {self.device!r}: make it gpu")

    @property
    def kind(self) -> str:
        """Triton's name for the device; with ``auto`` the accelerator decides."""
        if self.device == "auto" and self.accelerator:
            return "KIND_GPU" if self.accelerator == "tensorrt" else "KIND_CPU"
        return DEVICES[self.device]

    def warmup_sizes(self) -> list[int]:
        """The batch sizes that run before the model is ready."""
        if self.model_warmup == "none":
            return []
        sizes = list(range(1, self.max_batch + 1))
        if self.model_warmup == "powers":
            sizes = sorted({min(1 << i, self.max_batch) for i in range(self.max_batch.bit_length() + 1)})
        if self.accelerator == "tensorrt":
            # ONNX Runtime builds TensorRT's engine, for up to minutes, each time a batch is smaller or larger than all
            # before it: after these two never again.
            sizes.sort(key=lambda size: (size not in (1, self.max_batch), -size))
        return sizes

    def settings(self, digest: str) -> dict[str, Any]:
        """The fields of ``ModelConfig`` that depend on no more of the model than its file's sha256."""
        # skeletons never repeat: a cache would only cost memory and a hash
        out: dict[str, Any] = {"max_batch_size": self.max_batch, "response_cache": {"enable": False}}
        out["instance_group"] = [{"kind": self.kind, "count": self.instances, "gpus": list(self.gpus)}]
        if self.batching:
            out["dynamic_batching"] = self.batching.settings()
        if self.accelerator:
            parameters = {"precision_mode": self.precision.upper()}
            if self.accelerator == "openvino" and self.precision == "fp32":
                parameters = {}  # the default; Triton's own backend takes no parameters for OpenVINO, the laptop's does
            if self.accelerator == "tensorrt":
                parameters |= {"max_workspace_size_bytes": str(1 << 30), "trt_engine_cache_enable": "true"}
                # by itself the cache goes by the names in the graph: a new version would answer with the old weights
                parameters["trt_engine_cache_prefix"] = digest[:16]
            where = "gpu" if self.accelerator == "tensorrt" else "cpu"
            entry = {"name": self.accelerator, "parameters": parameters}
            out["optimization"] = {"execution_accelerators": {f"{where}_execution_accelerator": [entry]}}
        return out


def config_text(settings: Mapping[str, Any]) -> str:
    """The text of ``config.pbtxt`` for the fields of Triton's ``ModelConfig``. Raises InputError for others."""
    from google.protobuf import json_format, text_format
    from tritonclient.grpc import model_config_pb2

    try:
        config = json_format.ParseDict(settings, model_config_pb2.ModelConfig())
    except json_format.ParseError as error:
        raise InputError(f"config.pbtxt is not a model configuration of Triton: {error}") from None
    return text_format.MessageToString(config, as_utf8=True)
