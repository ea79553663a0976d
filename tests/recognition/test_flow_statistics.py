"""Clips with columns of flow: trained on, exported, cut and filled, and left out where nobody measured them."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from posewatch.config import AugmentConfig, TrainConfig  # noqa: E402
from posewatch.datasets import layouts  # noqa: E402
from posewatch.datasets.clipset import ClipSet  # noqa: E402
from posewatch.datasets.layouts import FLOW, OF_PERSON, OF_SCENE  # noqa: E402
from posewatch.datasets.pyskl import read_pyskl, write_pyskl  # noqa: E402
from posewatch.errors import ConfigError, InputError  # noqa: E402
from posewatch.export.onnx import export  # noqa: E402
from posewatch.inference.files import Item, predicted  # noqa: E402
from posewatch.inference.open import open_predictor  # noqa: E402
from posewatch.recognition.evaluation.evaluate import evaluate  # noqa: E402
from posewatch.recognition.evaluation.robustness import _replaced  # noqa: E402
from posewatch.recognition.recogniser import Recogniser, branches_of, load_checkpoint  # noqa: E402
from posewatch.recognition.sampling import chosen_people, fitting  # noqa: E402
from posewatch.recognition.training import holdout  # noqa: E402
from posewatch.recognition.training.augment import Augment  # noqa: E402
from posewatch.recognition.training.holdout import fit  # noqa: E402

BOTH = TrainConfig(
    model="pooled-statistics", stream="j", beside="3*flow-statistics:f", clip_frames=8, epochs=12, batch=8, lr=0.02,
    validation=0.0, threads=1, people=2,
)  # fmt: skip


def with_flow(clips: ClipSet, told: bool = True) -> ClipSet:
    """The same joints for all, so that only flow tells the classes apart; with ``told`` it does."""
    rng = np.random.default_rng(0)
    joints = clips.keypoints[0]
    out = []
    for label in clips.labels:
        flow = np.ones((*joints.shape[:2], FLOW, 3), np.float32)
        flow[..., :2] = rng.gamma(3, 30 if label and told else 10, flow[..., :2].shape)
        moved = joints.copy()
        moved[..., :2] += rng.normal(0, 2, moved[..., :2].shape)
        out.append(np.concatenate([moved, flow], 2))
    return dataclasses.replace(clips, keypoints=tuple(out), layout="coco17+flow")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, clips) -> Path:
    out = tmp_path_factory.mktemp("flow")
    fit(with_flow(clips(24, people=2)), BOTH, out, positive="abnormal")
    return out / "checkpoint.pt"


def test_flow_alone_tells_the_classes_apart(trained: Path, clips) -> None:
    recogniser = load_checkpoint(trained)
    assert (recogniser.layout.name, recogniser.joints, recogniser.flow) == ("coco17+flow", 17 + FLOW, FLOW)
    test = with_flow(clips(16, 100, people=2))
    assert evaluate(recogniser, test, train_set=test)["auc"] > 0.95
    assert evaluate(recogniser, with_flow(clips(16, 100, people=2), told=False))["auc"] < 0.8


def test_clips_without_flow_are_answered_by_the_others(trained: Path, clips) -> None:
    recogniser = load_checkpoint(trained)
    whole = with_flow(clips(8, 100, people=2))
    plain = recogniser.score(whole.with_flow(0))
    x = torch.from_numpy(fitting(whole.keypoints, recogniser))
    x[:, :, :, 17:] = 0
    with torch.no_grad():
        alone = torch.softmax(recogniser.run(x)[0].logits / 1, 1).numpy()
    assert recogniser.temperature == 1
    np.testing.assert_allclose(plain, alone, atol=1e-6)
    assert np.abs(recogniser.score(whole) - plain).max() > 0.1
    mixed = torch.cat([x[:1], torch.from_numpy(fitting(whole.keypoints[1:2], recogniser))])
    got = recogniser.probabilities(mixed.numpy())
    np.testing.assert_allclose(got[0], plain[0], atol=1e-6)
    np.testing.assert_allclose(got[1], recogniser.score(whole)[1], atol=1e-6)


@pytest.mark.parametrize(("left", "without"), [("f", slice(-OF_SCENE, None)), ("fs", slice(17, -OF_SCENE))])
def test_each_network_on_flow_is_left_out_where_its_own_was_not_measured(left: str, without: slice, clips) -> None:
    def answers(beside: str, x: torch.Tensor) -> np.ndarray:
        torch.manual_seed(0)
        config = dataclasses.replace(BOTH, beside=beside)
        model = Recogniser(config, layouts.get("coco17+flow"), ("normal", "abnormal"), "abnormal", 10.0).eval()
        for network, branch in zip(model.networks, model.branches, strict=True):
            network.classify.bias.data += {"j": 0.0, "f": 1.0, "fs": 3.0}[branch.stream] * torch.tensor([1.0, -1.0])
        return model.probabilities(x.numpy())

    whole = with_flow(clips(3, people=2))
    x = torch.from_numpy(np.stack([k[:, :8] for k in whole.keypoints]))
    x[..., without, :] = 0
    both = answers("2*flow-statistics:f,2*flow-statistics:fs", x)
    np.testing.assert_allclose(both, answers(f"2*flow-statistics:{left}", x), atol=1e-6)


def test_clips_are_cut_and_filled_for_whoever_takes_them(trained: Path, tmp_path: Path, clips) -> None:
    recogniser = load_checkpoint(trained)
    whole = with_flow(clips(4, people=2))
    plain = whole.with_flow(0)
    assert (plain.layout, plain.keypoints[0].shape[2]) == ("coco17", 17)
    filled = fitting(plain.keypoints, recogniser)
    assert filled.shape[3] == 17 + FLOW
    assert not filled[..., 17:, :].any()

    class Other:
        frames, people, people_by, joints, flow = 8, 2, "presence", 17, 0

    np.testing.assert_array_equal(fitting(whole.keypoints, Other()), fitting(plain.keypoints, Other()))
    export(trained, tmp_path / "model.onnx")
    for model in (trained, tmp_path / "model.onnx"):
        with open_predictor(str(model)) as predictor:
            assert (predictor.joints, predictor.flow) == (17 + FLOW, FLOW)
            rows = predicted(predictor, [Item("a.pkl", "a", k, layout=whole.layout) for k in whole.keypoints])
            rows += predicted(predictor, [Item("a.pkl", "a", k, layout="coco17") for k in plain.keypoints])
            got = [[row["probabilities"][name] for name in ("normal", "abnormal")] for row in rows]
            np.testing.assert_allclose(got, np.concatenate([recogniser.score(c) for c in (whole, plain)]), atol=1e-4)
            with pytest.raises(InputError, match="a has 18 joints, the model takes 17"):
                predicted(predictor, [Item("a.pkl", "a", np.ones((1, 4, 18, 3), np.float32))])


def test_the_persons_are_chosen_by_their_joints(trained: Path) -> None:
    recogniser = load_checkpoint(trained)
    clip = np.zeros((3, 8, 17 + FLOW, 3), np.float32)
    clip[0, :, :3, 2], clip[1:, :, :6, 2] = 1, 1
    clip[0, :, 17:, 2] = 1  # with flow the first would have most
    clip[0, :, 17:, :2], clip[:, :, :6, :2] = 7, np.random.default_rng(0).uniform(0, 99, (3, 8, 6, 2))
    assert chosen_people(clip[:, :, :17], 2).tolist() == [1, 2]
    assert not fitting([clip], recogniser)[0, :, :, 17:].any()


def test_a_network_on_flow_is_left_out_where_there_is_none(
    tmp_path: Path, clips, capsys: pytest.CaptureFixture[str]
) -> None:
    holdout._once.cache_clear()
    for folder in (tmp_path, tmp_path / "again"):
        fit(clips(12, people=2), dataclasses.replace(BOTH, epochs=1), folder, positive="abnormal")
    assert capsys.readouterr().err.count("these clips have no flow of pixels") == 1
    recogniser = load_checkpoint(tmp_path / "checkpoint.pt")
    assert [branch.model for branch in recogniser.branches] == ["pooled-statistics"]
    assert (recogniser.layout.name, recogniser.joints) == ("coco17", 17)
    nothing = dataclasses.replace(BOTH, beside="", epochs=1)
    fit(with_flow(clips(12, people=2)), nothing, tmp_path / "b", positive="abnormal")
    assert load_checkpoint(tmp_path / "b" / "checkpoint.pt").layout.name == "coco17", "nobody asks for flow"
    assert "no flow of pixels" not in capsys.readouterr().err
    only = dataclasses.replace(BOTH, model="flow-statistics", stream="f", beside="")
    with pytest.raises(ConfigError, match="the clips have no flow for flow-statistics: prepare them"):
        fit(clips(12, people=2), only, tmp_path / "c", positive="abnormal")
    for wrong in ({"model": "flow-statistics"}, {"stream": "f", "beside": ""}, {"beside": "statistics:f"}):
        with pytest.raises(ConfigError, match="f and fs are for flow-statistics, which takes no others"):
            branches_of(dataclasses.replace(BOTH, **wrong))


@pytest.mark.parametrize(("stream", "own"), [("f", slice(17, -OF_SCENE)), ("fs", slice(-OF_SCENE, None))])
def test_each_stream_sees_its_own_columns(stream: str, own: slice, clips) -> None:
    config = dataclasses.replace(BOTH, model="flow-statistics", stream=stream, beside="")
    recogniser = Recogniser(config, layouts.get("coco17+flow"), ("normal", "abnormal"), "abnormal", 10.0)
    x = torch.from_numpy(fitting(with_flow(clips(4, people=2)).keypoints, recogniser)).requires_grad_()
    (output,) = recogniser.run(x)
    output.embedding.sum().backward()
    assert x.grad is not None
    assert x.grad[..., own, :].any()
    x.grad[..., own, :] = 0
    assert not x.grad.any()


def test_flow_bends_its_border(tmp_path: Path, clips) -> None:
    """Medium speeds are the positive class, slow and fast ones are not: no weighted sum of them tells that."""
    rng = np.random.default_rng(1)

    def some(count: int, seed: int) -> ClipSet:
        whole = with_flow(clips(count, seed, people=2))
        for clip, label in zip(whole.keypoints, whole.labels, strict=True):
            speed = 60 if label else rng.choice([20, 180])
            clip[:, :, 17:, :2] = rng.gamma(9, speed / 9, clip[:, :, 17:, :2].shape)
        return whole

    config = dataclasses.replace(BOTH, model="flow-statistics", stream="f", beside="", epochs=30)
    fit(some(60, 0), config, tmp_path, positive="abnormal")
    assert evaluate(load_checkpoint(tmp_path / "checkpoint.pt"), some(40, 500))["auc"] > 0.9


def test_a_layout_s_name_tells_whether_it_has_flow() -> None:
    plain = layouts.get("coco17")
    assert layouts.get("coco17+flow") == plain.with_flow()
    assert plain.with_flow().with_flow(0) == plain
    assert layouts.Layout.from_dict(plain.with_flow().to_dict()) == plain.with_flow()
    with pytest.raises(InputError, match=r"'mine\+flow': a name that ends with \+flow"):
        layouts.Layout.from_dict({**plain.to_dict(), "name": "mine+flow"})
    with pytest.raises(InputError, match="5 columns of flow are of another version, not 10: train anew"):
        layouts.Layout.from_dict({**plain.with_flow().to_dict(), "flow": 5})


def test_a_joint_layout_with_virtual_joints_and_flow(tmp_path: Path, clips) -> None:
    config = dataclasses.replace(BOTH, layout="coco20", epochs=1)
    fit(with_flow(clips(12, people=2)), config, tmp_path, positive="abnormal")
    recogniser = load_checkpoint(tmp_path / "checkpoint.pt")
    assert (recogniser.layout.name, recogniser.joints) == ("coco20+flow", 17 + FLOW)
    assert recogniser.score(with_flow(clips(2, people=2))).shape == (2, 2)


def test_augmentation_leaves_flow_as_it_is(clips) -> None:
    x = torch.from_numpy(np.stack([k[:, :18] for k in with_flow(clips(8, people=2)).keypoints]))
    plain = AugmentConfig(swap=False, joint_dropout=0, limb_dropout=0, frame_dropout=0.9, person_dropout=0.5)
    layout = layouts.get("coco17+flow")
    out = Augment(layout, plain)(x, torch.Generator().manual_seed(0))
    left = (out[..., :17, 2] > 0).any(-1)
    assert 0 < left.sum() < left.numel()
    torch.testing.assert_close(out[left][:, 17:], x[left][:, 17:])
    assert not out[~left][:, :-OF_SCENE].any(), "whoever is not seen has no flow of their own"
    some = left.any(-1)
    assert not some.all()
    torch.testing.assert_close(out[some][..., -OF_SCENE:, :], x[some][..., -OF_SCENE:, :])
    assert not out[~some].any(), "whoever is never seen has none of the scene either"
    assert not torch.equal(out[left][:, :17], x[left][:, :17])


def test_corrupted_clips_keep_the_flow_of_whoever_is_left(clips) -> None:
    whole = with_flow(clips(1, people=2))
    joints = whole.with_flow(0).keypoints[0].copy()
    joints[0, 3] = 0
    (out,) = _replaced(whole, iter([joints])).keypoints
    assert not out[0, 3, :-OF_SCENE].any()
    np.testing.assert_array_equal(out[:, :, -OF_SCENE:], whole.keypoints[0][:, :, -OF_SCENE:])
    np.testing.assert_array_equal(out[1, :, 17:], whole.keypoints[0][1, :, 17:])
    joints[0] = 0
    (out,) = _replaced(whole, iter([joints])).keypoints
    assert not out[0].any(), "who is not seen at all"


def test_annotation_files_hold_flow_beside_the_joints(tmp_path: Path, clips) -> None:
    whole, path = with_flow(clips(3, people=2)), tmp_path / "a.pkl"
    write_pyskl(path, whole, {"train": [0, 1, 2]})
    data = pickle.loads(path.read_bytes())
    assert data["layout"] == "coco17"
    assert data["annotations"][0]["keypoint"].shape[2:] == (17, 2)
    assert data["annotations"][0]["pixel_flow"].shape[2:] == (FLOW, 3)
    again, _ = read_pyskl(path)
    assert again.layout == "coco17+flow"
    for a, b in zip(again.keypoints, whole.keypoints, strict=True):
        np.testing.assert_array_equal(a, b)
    assert read_pyskl(path, model_layout=layouts.get("coco17+flow"))[0].layout == "coco17+flow"
    del data["annotations"][1]["pixel_flow"]
    path.write_bytes(pickle.dumps(data))
    mixed, _ = read_pyskl(path)
    assert [bool(k[:, :, 17:].any()) for k in mixed.keypoints] == [True, False, True]
    for row in data["annotations"]:
        row["pixel_flow"] = whole.keypoints[0][:, :, 17 : 17 + OF_PERSON]
    path.write_bytes(pickle.dumps(data))
    for k in read_pyskl(path)[0].keypoints:
        np.testing.assert_array_equal(k[:, :, 17 : 17 + OF_PERSON], data["annotations"][0]["pixel_flow"])
        assert not k[:, :, -OF_SCENE:].any(), "a file from before there was that of the scene"
    data["annotations"][1]["pixel_flow"] = np.ones((2, 3))
    path.write_bytes(pickle.dumps(data))
    with pytest.raises(InputError, match="clip clip1: pixel_flow must be finite numbers"):
        read_pyskl(path)
