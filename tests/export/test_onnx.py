import copy
import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from posewatch.cli.main import main  # noqa: E402
from posewatch.config import Experiment, TrainConfig  # noqa: E402
from posewatch.datasets import layouts  # noqa: E402
from posewatch.errors import InputError, ServingError  # noqa: E402
from posewatch.export.onnx import TOLERANCE, _difference, export, synthetic_clips, verify  # noqa: E402
from posewatch.export.protogcn import arrange  # noqa: E402
from posewatch.inference.files import predict_files  # noqa: E402
from posewatch.inference.open import open_predictor  # noqa: E402
from posewatch.recognition import novelty  # noqa: E402
from posewatch.recognition.recogniser import Recogniser, from_recipe, load_checkpoint, save  # noqa: E402
from posewatch.recognition.sampling import resample  # noqa: E402
from posewatch.serving.repository import write_repository  # noqa: E402


def checkpoint(path, layout="coco17", stream="j+b+jm", novel=True):
    """Weights far from their initial values: at those, the learned graph is switched off."""
    torch.manual_seed(1)
    config = TrainConfig(width=0.1, model_options={"prototypes": 4}, clip_frames=12, people=2, stream=stream)
    made = Recogniser(config, layouts.get(layout), ("normal", "abnormal"), "abnormal", 10.0, 0.37)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    if novel:
        made.novelty = novelty.fit(np.random.default_rng(0).normal(size=(20, made.embedding_size)))
    save(path, made, made.state_dict())
    return path


def statistics(folder, unit="scene", **about):
    """A checkpoint of a model whose export takes a fifth of ProtoGCN's time."""
    config = TrainConfig(model="statistics", model_options={}, clip_frames=12, stream="j", **about)
    made = Recogniser(config, layouts.get("coco17"), ("normal", "abnormal"), "abnormal", 10.0, unit=unit)
    save(folder / "checkpoint.pt", made, made.state_dict())
    return folder / "checkpoint.pt"


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    path = checkpoint(folder / "checkpoint.pt", "coco20")
    return path, folder / "model.onnx", export(path, folder / "model.onnx", lineage="abc123")


def test_report_and_metadata(exported):
    _, path, report = exported
    assert report["max_abs_error"] <= 1e-4
    assert report["bytes"] == path.stat().st_size
    assert report["opset"] == 18
    model = onnx.load(path)
    about = {p.key: p.value for p in model.metadata_props}
    assert json.loads(about.pop("labels")) == ["normal", "abnormal"]
    alike = from_recipe(about.pop("recipe"))
    assert (alike.labels, alike.frames, alike.layout.name) == (("normal", "abnormal"), 12, "coco20")
    assert about == {
        "layout": "coco20",
        "frames": "12",
        "people": "2",
        "fps": "10",
        "positive": "abnormal",
        "threshold": "0.37",
        "lineage": "abc123",
        "version": "1",
        "absent": "skipped",
    }
    assert "NonZero" in {node.op_type for node in model.graph.node}, "absent persons are computed"
    shape = [d.dim_param or d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    assert shape[1:] == [2, 12, 17, 3]
    assert isinstance(shape[0], str)
    assert [o.name for o in model.graph.output] == ["probabilities", "embedding", "novelty"]


def test_equal_to_torch_on_skeletons_with_holes(exported, clips):
    path, onnx_path, _ = exported
    recogniser = load_checkpoint(path)
    session = onnxruntime.InferenceSession(onnx_path, providers=["CPUExecutionProvider"])
    for n in (1, 2, 5, 8):
        x = resample(clips(n, people=2).keypoints, 12, 2)
        x[np.random.default_rng(n).random(x.shape[:-1]) < 0.2] = 0
        x[0, 1] = 0
        if n > 2:
            x[1] = 0
        with torch.no_grad():
            want = recogniser(torch.from_numpy(x))
        got = session.run(["probabilities", "embedding", "novelty"], {"keypoints": x})
        assert got[2].shape == (n,)
        assert np.allclose(got[2], want[2].numpy(), rtol=1e-4)
        assert np.abs(got[0] - want[0].numpy()).max() < 1e-4
        assert np.abs(got[1] - want[1].numpy()).max() < 1e-4
        assert n < 3 or got[0][1].tolist() == [1, 0], "nobody is seen: no alert"
        assert n == 1 or np.ptp(got[0][:, 0]) > 1e-5, "the answers do not depend on the input"


def test_same_bytes_again_and_no_path_of_this_machine(exported, tmp_path, capsys):
    path, onnx_path, _ = exported
    export(path, tmp_path / "again.onnx", lineage="abc123")
    data = onnx_path.read_bytes()
    assert data == (tmp_path / "again.onnx").read_bytes()
    for word in (b".py", b"site-packages", str(tmp_path).encode(), b"/home", b"/src/", b"posewatch"):
        assert word not in data
    assert capsys.readouterr() == ("", "")
    assert [p.name for p in tmp_path.iterdir()] == ["again.onnx"]


@pytest.mark.parametrize("features", ["body", "raw"])
@pytest.mark.parametrize("model", ["protogcn", "stgcn++"])
def test_absent_persons_cost_nothing_and_answers_do_not_change(model, features):
    """In the published recipe (raw) absent persons count in the mean over persons."""
    torch.manual_seed(2)
    config = TrainConfig(
        model=model, width=0.1, model_options={"prototypes": 4}, clip_frames=8, people=2, features=features
    )
    whole = Recogniser(config, layouts.get("coco17"), ("normal", "abnormal"), "abnormal", 10.0).eval()
    fixed, packed = copy.deepcopy(whole), copy.deepcopy(whole)
    whole.networks[0].skip_absent = False
    arrange(fixed, skip_absent=False)
    arrange(packed)
    x = torch.from_numpy(synthetic_clips(5, (2, 8, 17, 3)))  # one person; one in the last place; two; two; nobody
    rows = []
    for recogniser in (fixed, packed):
        recogniser.networks[0].blocks[0].register_forward_hook(lambda _, given, __: rows.append(len(given[0])))
    with torch.no_grad():
        want, *got = (r(x) for r in (whole, fixed, packed))
        nobody = packed(x[-1:]), whole(x[-1:])
    assert rows == [10, 6, 1]
    for one, other in ((got[0], want), (got[1], want), nobody):
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(one, other, strict=True))


def test_statistics_that_hardly_varied_in_training_are_exported_equal(tmp_path):
    torch.manual_seed(1)
    config = TrainConfig(model="statistics", model_options={}, clip_frames=12, people=2, stream="j")
    made = Recogniser(config, layouts.get("coco17"), ("normal", "abnormal"), "abnormal", 10.0, 0.5).eval()
    (network,) = made.networks
    seen = []
    hook = network.norm.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.no_grad():
        made(torch.from_numpy(synthetic_clips(2, (made.people, made.frames, made.layout.observed, 3))))
    hook.remove()
    network.norm.running_mean.copy_(seen[0][0])  # the first clip is the mean
    network.norm.running_var.fill_(1e-9)
    torch.nn.init.normal_(network.classify.weight, std=0.1)
    save(tmp_path / "checkpoint.pt", made, made.state_dict())
    assert export(tmp_path / "checkpoint.pt", tmp_path / "model.onnx")["max_abs_error"] <= 1e-4


def test_a_model_that_answers_otherwise_is_refused(exported):
    path, onnx_path, _ = exported
    recogniser = load_checkpoint(path)
    assert verify(onnx.load(onnx_path), recogniser) <= 1e-4
    with torch.no_grad():
        recogniser.networks[0].classify.bias.add_(torch.tensor([0.01, 0.0]))
    with pytest.raises(ServingError, match=r"differs from PyTorch by 0\.00"):
        verify(onnx.load(onnx_path), recogniser)


def test_a_frozen_batch_is_refused(exported):
    path, onnx_path, _ = exported
    model = onnx.load(onnx_path)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    with pytest.raises(ServingError, match="fixed at 2"):
        verify(model, load_checkpoint(path))


def test_refusals(tmp_path):
    with pytest.raises(InputError, match="no such checkpoint"):
        export(tmp_path / "none.pt", tmp_path / "model.onnx")


def test_command_line(tmp_path, capsys):
    path = statistics(tmp_path)
    assert main(["export", str(path), "--out", str(tmp_path / "m/model.onnx")]) == 0
    assert json.loads(capsys.readouterr().out)["labels"] == ["normal", "abnormal"]
    assert onnx.load(tmp_path / "m/model.onnx").graph.input[0].name == "keypoints"
    assert main(["export", str(tmp_path / "none.pt"), "--out", str(tmp_path / "x.onnx")]) != 0
    assert "no such checkpoint" in capsys.readouterr().err
    assert not (tmp_path / "x.onnx").exists()


def test_what_a_clip_is_made_of_travels_from_the_checkpoint_into_the_file_and_the_served_config(tmp_path):
    statistics(tmp_path, people=1, people_by="contact", unit="person")
    assert load_checkpoint(tmp_path / "checkpoint.pt").unit == "person"
    assert export(tmp_path / "checkpoint.pt", tmp_path / "model.onnx")["unit"] == "person"
    with (
        open_predictor(str(tmp_path / "checkpoint.pt")) as trained,
        open_predictor(str(tmp_path / "model.onnx")) as file,
    ):
        assert (trained.unit, file.unit, from_recipe(file.metadata["recipe"]).unit) == ("person",) * 3
        by = (trained.people_by, file.people_by, from_recipe(file.metadata["recipe"]).people_by)
        assert by == ("contact",) * 3
    config_text = (
        write_repository(tmp_path / "model.onnx", tmp_path / "models", name="m") / "config.pbtxt"
    ).read_text()
    assert 'key: "unit"' in config_text
    assert 'key: "people_by"' in config_text
    with pytest.raises(InputError, match="recognises single persons"):
        predict_files(str(tmp_path / "model.onnx"), [], Experiment())


@pytest.mark.parametrize(
    ("want", "error", "equal"),
    [
        ([45_050.0, 2.0], 0.0004, True),  # an untrained 2s-AGCN: what float32 leaves open of the large one
        ([45_050.0, 2.0], 0.5, False),
        ([40.0, 2.0], 0.0004, False),  # a trained network
        ([0.9, 0.1], 0.00009, True),
        ([0.9, 0.1], 0.0002, False),
        ([3.0, float("nan")], 0.0, False),
    ],
)
def test_a_small_number_is_as_exact_as_the_large_ones_beside_it(want: list[float], error: float, equal: bool) -> None:
    exact = np.array([want, want], np.float32)
    answer = exact + np.array([[0, 0], [0, error]], np.float32)
    assert (_difference(answer, exact) <= TOLERANCE) == equal
