"""The Triton model repository, written from the ONNX file alone."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from google.protobuf import text_format
from tiny_models import tiny_model
from tritonclient.grpc import model_config_pb2

from posewatch.config import ServingConfig
from posewatch.errors import ConfigError, InputError
from posewatch.inference.predictor import METADATA
from posewatch.serving.model_config import config_text
from posewatch.serving.repository import write_repository


def _config(folder: Path) -> model_config_pb2.ModelConfig:
    return text_format.Parse((folder / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())


def test_everything_comes_from_the_file(tmp_path: Path, tiny: Path) -> None:
    folder = write_repository(tiny, tmp_path, name="abnormal", max_batch=12, queue_delay_us=700, instances=3, version=4)
    files = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    assert files == ["abnormal/4/model.onnx", "abnormal/config.pbtxt", "abnormal/labels.txt"]
    assert (folder / "4/model.onnx").read_bytes() == tiny.read_bytes()
    assert (folder / "labels.txt").read_text() == "normal\nabnormal\n"
    config = _config(folder)
    assert (config.name, config.backend, config.max_batch_size) == ("abnormal", "onnxruntime", 12)
    described = [(t.name, t.data_type, list(t.dims)) for t in (*config.input, *config.output)]
    fp32 = model_config_pb2.TYPE_FP32
    assert described == [
        ("keypoints", fp32, [2, 6, 17, 3]),
        ("probabilities", fp32, [2]),
        ("embedding", fp32, [3]),
    ]
    assert config.dynamic_batching.max_queue_delay_microseconds == 700
    # with any policy Triton's batcher fetches nothing ahead, and stalls: see ``Batching``
    assert not config.dynamic_batching.HasField("default_queue_policy")
    assert config.instance_group[0].count == 3
    assert [w.batch_size for w in config.model_warmup] == list(range(1, 13))
    assert config.parameters["labels"].string_value == '["normal", "abnormal"]'
    assert config.parameters["layout"].string_value == "coco17"


def test_an_output_of_one_number_a_clip(tmp_path: Path) -> None:
    """Triton wants dims: the client gets (N, 1)."""
    tiny_model(tmp_path / "model.onnx", novelty=True)
    novelty = _config(write_repository(tmp_path / "model.onnx", tmp_path, name="m")).output[-1]
    assert (novelty.name, list(novelty.dims)) == ("novelty", [1])
    assert novelty.HasField("reshape")
    assert not novelty.reshape.shape


def test_without_batching(tmp_path: Path, tiny: Path) -> None:
    config = _config(write_repository(tiny, tmp_path, name="plain", dynamic_batching=False))
    assert not config.HasField("dynamic_batching")
    assert config.max_batch_size == 16


def test_how_it_is_served(tmp_path: Path, tiny: Path) -> None:
    config = _config(write_repository(tiny, tmp_path, name="m", max_queue=7, queue_timeout_us=900, threads=2))
    policy = config.dynamic_batching.default_queue_policy
    assert policy.timeout_action == model_config_pb2.ModelQueuePolicy.REJECT
    assert (policy.max_queue_size, policy.default_timeout_microseconds, policy.allow_timeout_override) == (7, 900, True)
    policy = _config(write_repository(tiny, tmp_path, name="m", max_queue=7)).dynamic_batching.default_queue_policy
    assert (policy.max_queue_size, policy.default_timeout_microseconds) == (7, 0)
    assert not config.response_cache.enable
    assert config.parameters["intra_op_thread_count"].string_value == "2"
    # https://github.com/triton-inference-server/server/issues/8808: only this spelling is read
    assert config.parameters["cudnn_conv_algo_search"].string_value == "1"
    assert config.instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_AUTO


@pytest.mark.parametrize(
    ("options", "kind", "where", "precision"),
    [
        ({"accelerator": "tensorrt", "precision": "fp16"}, "KIND_GPU", "gpu_execution_accelerator", "FP16"),
        ({"accelerator": "openvino", "precision": "bf16"}, "KIND_CPU", "cpu_execution_accelerator", "BF16"),
        ({"device": "gpu", "gpus": (0, 2)}, "KIND_GPU", "", ""),
        ({"device": "cpu"}, "KIND_CPU", "", ""),
    ],
)
def test_devices_and_accelerators(tmp_path: Path, tiny: Path, options, kind: str, where: str, precision: str) -> None:
    config = _config(write_repository(tiny, tmp_path, name="m", **options))
    group = config.instance_group[0]
    assert group.Kind.Name(group.kind) == kind
    assert list(group.gpus) == list(options.get("gpus", ()))
    assert config.HasField("optimization") == bool(where)
    if where:
        (accelerator,) = getattr(config.optimization.execution_accelerators, where)
        assert accelerator.name == options["accelerator"]
        assert accelerator.parameters["precision_mode"] == precision


@pytest.mark.parametrize(
    ("model_warmup", "sizes"), [("powers", [1, 2, 4, 6]), ("none", []), ("all", [1, 2, 3, 4, 5, 6])]
)
def test_model_warmup(tmp_path: Path, tiny: Path, model_warmup: str, sizes: list[int]) -> None:
    config = _config(write_repository(tiny, tmp_path, name="m", max_batch=6, model_warmup=model_warmup))
    assert [w.batch_size for w in config.model_warmup] == sizes
    for sample in config.model_warmup:
        assert list(sample.inputs["keypoints"].dims) == [2, 6, 17, 3]
        assert sample.inputs["keypoints"].zero_data


@pytest.mark.parametrize("model_warmup", ["all", "powers"])
def test_tensorrt_builds_its_engine_for_all_batches_before_the_rest(
    tmp_path: Path, tiny: Path, model_warmup: str
) -> None:
    """ONNX Runtime widens an engine to a batch that is outside of the range of those before, by building it again."""
    folder = write_repository(tiny, tmp_path, name="m", max_batch=6, model_warmup=model_warmup, accelerator="tensorrt")
    low = high = builds = 0
    sizes = [sample.batch_size for sample in _config(folder).model_warmup]
    for size in sizes:
        if not low <= size <= high:
            low, high, builds = min(low or size, size), max(high, size), builds + 1
    assert builds == 2
    plain = write_repository(tiny, tmp_path, name="m", max_batch=6, model_warmup=model_warmup)
    assert sorted(sizes) == [sample.batch_size for sample in _config(plain).model_warmup]


def test_tensorrt_keeps_the_engines_of_two_versions_apart(tmp_path: Path, tiny: Path) -> None:
    """A container caches engines by the names in a graph, which the weights do not change, and by this prefix."""
    retrained = tiny_model(tmp_path / "retrained.onnx", seed=5)

    def prefix(onnx: Path) -> str:
        config = _config(write_repository(onnx, tmp_path / "models", name="m", accelerator="tensorrt"))
        (accelerator,) = config.optimization.execution_accelerators.gpu_execution_accelerator
        return str(accelerator.parameters["trt_engine_cache_prefix"])

    assert len({prefix(tiny), prefix(tiny), prefix(retrained)}) == 2


def test_warmup_of_a_graph_that_skips_absent_persons_has_persons(tmp_path: Path, tiny: Path) -> None:
    """Zeros are nobody: no batch size would be warm."""
    model = onnx.load(tiny)
    onnx.helper.set_model_props(model, {p.key: p.value for p in model.metadata_props} | {"absent": "skipped"})
    onnx.save(model, tmp_path / "model.onnx")
    config = _config(write_repository(tmp_path / "model.onnx", tmp_path, name="m"))
    assert all(sample.inputs["keypoints"].random_data for sample in config.model_warmup)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "tpu"}, "device must be one of auto, cpu, gpu, not 'tpu'"),
        ({"gpus": (1,)}, "make it gpu"),
        ({"model_warmup": "some"}, "model_warmup must be one of"),
        ({"precision": "fp8"}, "precision must be one of"),
        ({"queue_timeout_us": -1}, "timeout_us must be a whole number from 0"),
        ({"threads": 0}, "threads must be a whole number from 1"),
    ],
)
def test_options_that_do_not_go(tmp_path: Path, tiny: Path, options, message: str) -> None:
    with pytest.raises(InputError, match=message):
        write_repository(tiny, tmp_path / "out", name="m", **options)
    assert not (tmp_path / "out").exists()


def test_the_fields_are_checked_against_tritons_own_protobuf() -> None:
    with pytest.raises(InputError, match=r"not a model configuration of Triton: .*max_batch"):
        config_text({"name": "m", "max_batch": 4})


def test_same_input_same_bytes_and_a_second_write_replaces(tmp_path: Path, tiny: Path) -> None:
    folder = write_repository(tiny, tmp_path, name="m", max_batch=2)
    first = (folder / "config.pbtxt").read_bytes()
    write_repository(tiny, tmp_path, name="m", max_batch=4, version=2)
    assert not (folder / "1").exists()
    write_repository(tiny, tmp_path, name="m", max_batch=2)
    assert (folder / "config.pbtxt").read_bytes() == first
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_labels_with_quotes_and_umlauts(tmp_path: Path) -> None:
    path = tiny_model(tmp_path / "m.onnx", labels=['"Sturz" \\', "Prügelei"])
    config = _config(write_repository(path, tmp_path / "out", name="m"))
    assert config.parameters["labels"].string_value == '["\\"Sturz\\" \\\\", "Prügelei"]'


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"batch": 4}, r"first dimension of 'keypoints' is fixed"),
        ({"labels": None}, "'labels' must be a JSON list"),
        ({"labels": "not json"}, "'labels' must be a JSON list"),
        ({"labels": ["one", "two", "three"]}, "3 labels but"),
    ],
)
def test_a_file_that_does_not_fit(tmp_path: Path, model: dict[str, object], message: str) -> None:
    path = tiny_model(tmp_path / "m.onnx", **model)
    with pytest.raises(InputError, match=message):
        write_repository(path, tmp_path / "out", name="m")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"", b"not an onnx file at all", None])
def test_a_broken_or_missing_file(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "m.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"is not an ONNX file|no such ONNX file"):
        write_repository(path, tmp_path / "out", name="m")


@pytest.mark.parametrize(
    "value",
    [{"name": "../x"}, {"name": ""}, {"max_batch": 0}, {"instances": 0}, {"queue_delay_us": -1}],
)
def test_values_out_of_range(tmp_path: Path, tiny: Path, value: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"must be a whole number from|bad model name"):
        write_repository(tiny, tmp_path / "out", **{"name": "m", **value})


READ = {
    "parameters": {
        "intra_op_thread_count",
        "inter_op_thread_count",
        "cudnn_conv_algo_search",
    },
    "tensorrt": {
        "precision_mode",
        "max_workspace_size_bytes",
        "trt_engine_cache_enable",
        "trt_engine_cache_prefix",
    },
    "openvino": set[str](),
}
"""What Triton's backend reads of what we write: onnxruntime_backend r26.06 (7db2534), src/onnxruntime.cc."""


@pytest.mark.parametrize("accelerator", ["", "tensorrt", "openvino"])
def test_tritons_own_backend_reads_every_option_that_is_written(accelerator: str, tiny: Path, tmp_path: Path) -> None:
    config = _config(write_repository(tiny, tmp_path, name="m", accelerator=accelerator))
    assert set(config.parameters) - {"labels", *METADATA} == READ["parameters"], "the rest is for clients"
    accelerators = config.optimization.execution_accelerators
    found = [*accelerators.gpu_execution_accelerator, *accelerators.cpu_execution_accelerator]
    assert [row.name for row in found] == ([accelerator] if accelerator else [])
    assert all(set(row.parameters) <= READ[row.name] for row in found)


@pytest.mark.parametrize(
    ("accelerator", "precision"), [("openvino", "bf16"), ("tensorrt", "fp16"), ("tensorrt", "bf16")]
)
def test_a_precision_that_has_no_effect_on_a_cluster_is_refused(accelerator: str, precision: str) -> None:
    with pytest.raises(ConfigError, match=r"has no effect on (OpenVINO|TensorRT 11)"):
        ServingConfig(target="kserve", accelerator=accelerator, precision=precision)
    ServingConfig(target="kserve", accelerator=accelerator)
