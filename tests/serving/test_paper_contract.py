"""A model behind the contract of the paper's clients, on a real Triton: their own preprocessing, faults included, gets
the answers that the model gives to pixels."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf import text_format
from skeletons import clip_set
from support import counted
from tiny_models import tiny_model
from tritonclient import grpc as client
from tritonclient.grpc import model_config_pb2

torch = pytest.importorskip("torch")

from posewatch.config import load  # noqa: E402
from posewatch.datasets import layouts  # noqa: E402
from posewatch.errors import ConfigError, InputError  # noqa: E402
from posewatch.inference import triton_admin  # noqa: E402
from posewatch.inference.triton import TritonPredictor  # noqa: E402
from posewatch.recognition.features import Features  # noqa: E402
from posewatch.recognition.sampling import resample  # noqa: E402
from posewatch.serving.paper_contract import wrap  # noqa: E402
from posewatch.serving.repository import write_repository  # noqa: E402
from posewatch.stack import TritonServer  # noqa: E402


def asked_by_the_paper(pixels: np.ndarray) -> np.ndarray:
    """What such a client makes of keypoints (N, 1, 100, 17, 3): relative to the hips; the neck from a shoulder and an
    eye, the pelvis from a hip and an elbow, at the places of the pelvis and the spine, without scores."""
    xy = pixels[..., :2]
    left, right = xy[..., 11:12, :], xy[..., 12:13, :]
    relative = (xy - (left + right) / 2) / np.linalg.norm(left - right, axis=-1, keepdims=True)
    sent = np.zeros((*pixels.shape[:3], 20, 3), np.float32)
    sent[..., :17, :2], sent[..., :17, 2] = relative, pixels[..., 2]
    sent[..., 17, :2] = (relative[..., 5, :] + relative[..., 2, :]) / 2
    sent[..., 18, :2] = (relative[..., 11, :] + relative[..., 8, :]) / 2
    sent[..., 19, :2] = (sent[..., 17, :2] + sent[..., 18, :2]) / 2
    return sent


class Small(torch.nn.Module):
    """Our features in front of a linear layer: what an exported recogniser does with its input, quickly exported."""

    def __init__(self) -> None:
        super().__init__()
        self.features = Features(layouts.get("coco20"), 100, "hips")
        self.classify = torch.nn.Linear(20 * 3, 2)

    def forward(self, keypoints: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x, present = self.features(keypoints)
        embedding = self.features.stack(x, present, "j").square().mean((1, 2)).flatten(1)
        return torch.softmax(self.classify(embedding), 1), embedding


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> tuple[Path, Small]:
    """A model file with the contract of our exports, and what made it."""
    torch.manual_seed(0)
    small, path = Small().eval(), tmp_path_factory.mktemp("paper") / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            small, (torch.rand(2, 1, 100, 17, 3),), dynamo=True, opset_version=18, input_names=["keypoints"],
            output_names=["probabilities", "embedding"], verbose=False,
            dynamic_shapes={"keypoints": {0: torch.export.Dim("N", min=1, max=4096)}},
        )  # fmt: skip
    model = program.model_proto
    onnx.helper.set_model_props(model, {"labels": '["normal", "selfharm"]', "layout": "coco20", "features": "hips"})
    onnx.save(model, str(path))
    return path, small


def _ask(url: str, data: np.ndarray) -> np.ndarray:
    """As the authors' script asks."""
    with client.InferenceServerClient(url=url) as triton:
        wanted = client.InferInput("input", data.shape, "FP32")
        wanted.set_data_from_numpy(data)
        found = triton.infer(
            model_name="protogcn_selfharm", model_version="1", inputs=[wanted],
            outputs=[client.InferRequestedOutput("output")],
        )  # fmt: skip
        return found.as_numpy("output")


def test_the_papers_clients_are_answered_and_batched(server: TritonServer, exported, tmp_path):
    path, small = exported
    model = wrap(path, tmp_path / "paper.onnx")
    write_repository(
        tmp_path / "paper.onnx", server.repository, name="protogcn_selfharm", model=model, model_warmup="none",
        queue_delay_us=200_000, instances=1,
    )  # fmt: skip
    write_repository(path, server.repository, name="abnormal", model_warmup="none")
    for name in ("protogcn_selfharm", "abnormal"):
        triton_admin.load_model(server.grpc, name)
    clips = resample(clip_set(6).keypoints, 100, 1)
    with torch.no_grad():
        want = small(torch.from_numpy(clips))[0].numpy()
    sent = asked_by_the_paper(clips)
    np.testing.assert_allclose(_ask(server.grpc, sent), want, atol=1e-3)
    with TritonPredictor(server.grpc, "abnormal") as predictor:
        np.testing.assert_allclose(predictor.predict(clips).probabilities, want, atol=1e-3)
    before = triton_admin.statistics(server.grpc, "protogcn_selfharm")
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda i: _ask(server.grpc, sent[i : i + 1]), range(6)))
    np.testing.assert_allclose(np.concatenate(answers), want, atol=1e-3)
    since = counted(server.grpc, "protogcn_selfharm", before, inferences=6)
    assert since["executions"] < 6, "requests that wait together are one execution"


def test_the_config_says_what_is_served(exported, tmp_path):
    model = wrap(exported[0], tmp_path / "paper.onnx")
    folder = write_repository(tmp_path / "paper.onnx", tmp_path / "out", name="p", model=model, release="r1")
    config = text_format.Parse((folder / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())
    assert [(t.name, list(t.dims)) for t in (*config.input, *config.output)] == [
        ("input", [1, 100, 20, 3]),
        ("output", [2]),
    ]
    assert config.HasField("dynamic_batching")
    assert config.max_batch_size == 16
    assert config.output[0].label_filename == "labels.txt"
    assert config.parameters["release"].string_value == "r1"


@pytest.mark.parametrize(
    ("shape", "features", "message"),
    [
        (
            (2, 100, 17, 3),
            "hips",
            r"the model takes 2, 100, 17: train it with train.people=1 and train.clip_frames=100",
        ),
        ((1, 30, 17, 3), "hips", "the model takes 1, 30, 17"),
        ((1, 100, 17, 3), "body", "the model takes pixels: train it with train.features=hips"),
    ],
)
def test_a_model_that_cannot_answer_them_is_refused(tmp_path, shape, features, message):
    path = tiny_model(tmp_path / "model.onnx", shape=shape)
    file = onnx.load(str(path))
    if features == "hips":
        file.metadata_props.add(key="features", value=features)
        onnx.save(file, str(path))
    with pytest.raises(InputError, match=message):
        wrap(path, tmp_path / "paper.onnx")
    assert not (tmp_path / "paper.onnx").exists()


def test_a_published_version_holds_both(tmp_path, capsys):
    from posewatch.artifact import Job, get, produce
    from posewatch.cli.main import main
    from posewatch.store import open_store

    path = tiny_model(tmp_path / "model.onnx", shape=(1, 100, 17, 3))
    file = onnx.load(str(path))
    file.metadata_props.add(key="features", value="hips")
    onnx.save(file, str(path))
    store = open_store(str(tmp_path / "store"))
    made = produce(store, Job("onnx", "", {}), lambda folder: (folder / "model.onnx").write_bytes(path.read_bytes()))
    uris = []
    for options in ([], ["--paper-contract", "protogcn_selfharm"]):
        assert main(["publish", made.uri, "--store", store.uri, *options]) == 0
        uris.append(capsys.readouterr().out.strip())
    tops = [{name.partition("/")[0] for name in get(store, uri).files if "/" in name} for uri in uris]
    assert tops == [{"abnormal"}, {"abnormal", "protogcn_selfharm"}]
    settings = {k: v for k, v in get(store, uris[0]).lineage().config.items() if k != "paper_contract"}
    assert Job("models", "abnormal", settings, (made,)).prefix == get(store, uris[0]).prefix, (
        "an unset key names nothing"
    )
    with pytest.raises(ConfigError, match="must not be serving"):
        load("default", ["serving.paper_contract=abnormal"])
