"""The robustness report: what each corruption drops, the drop of F1, and the gate that reads it."""

import dataclasses
import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from skeletons import clip_set  # noqa: E402

from posewatch.cli.main import main  # noqa: E402
from posewatch.config import RobustnessConfig, TrainConfig  # noqa: E402
from posewatch.datasets import layouts  # noqa: E402
from posewatch.datasets.pyskl import write_pyskl  # noqa: E402
from posewatch.errors import InputError, LabelError  # noqa: E402
from posewatch.progress import Progress  # noqa: E402
from posewatch.recognition.evaluation import corruptions  # noqa: E402
from posewatch.recognition.evaluation.robustness import CORRUPTIONS, robustness, steps  # noqa: E402
from posewatch.recognition.evaluation.robustness_gate import judge  # noqa: E402
from posewatch.recognition.recogniser import Recogniser, save  # noqa: E402

COCO = layouts.get("coco17")


def gate(report, config):
    return [verdict.text for verdict in judge(report, config) if not verdict.passed]


@pytest.fixture
def clip():
    return clip_set(2, people=2).keypoints[1]


def gone(clip):
    assert ((clip[..., 2] > 0) | ~clip.any(-1)).all(), "what is missing has no place either"
    return clip[..., 2] == 0


@pytest.mark.parametrize("layout", ["coco17", "coco20", "openpose18", "kinect15", "kinect20", "ntu25"])
def test_body_parts_of_every_layout_are_apart(layout):
    made = layouts.get(layout)
    parts = corruptions.body_parts(made)
    assert {"left_arm", "right_arm", "left_leg", "right_leg"} <= set(parts)
    joints = [j for part in parts.values() for j in part]
    assert len(joints) == len(set(joints))
    assert max(joints) < made.observed
    for part, those in parts.items():
        side = part.split("_")[0]
        if side in ("left", "right"):
            assert all(made.joints[j].lower().lstrip("_").startswith(side[0]) for j in those), part
    mirrored = {tuple(sorted(made.mirror[j] for j in parts["left_arm"])), tuple(sorted(parts["right_arm"]))}
    assert len(mirrored) == 1


def test_body_parts_where_names_say_nothing():
    plain = dataclasses.replace(COCO, joints=tuple(f"point{i}" for i in range(17)))
    parts = corruptions.body_parts(plain)
    assert {("7", "9"), ("8", "10")} <= {tuple(map(str, joints)) for joints in parts.values()} or "core" in parts
    joints = sorted(j for part in parts.values() for j in part)
    assert joints == list(range(17))


@pytest.mark.parametrize("kind", ["joints_dropped", "joints_occluded", "frames_dropped"])
def test_shares_are_what_they_say_and_levels_are_nested(kind, clip):
    many = np.tile(clip, (1, 40, 1, 1)) if kind != "joints_occluded" else np.tile(clip, (200, 1, 1, 1))
    before = gone(many)
    corrupt, levels = CORRUPTIONS[kind]
    for level in levels:
        made = corrupt(many, level, np.random.default_rng(1))
        assert abs(gone(made).mean() - level) < 0.03
        assert not (before & ~gone(made)).any(), "a higher level drops what a lower one does and more"
        assert np.array_equal(made[~gone(made)], many[~gone(made)])
        before = gone(made)
    if kind == "joints_occluded":
        assert (gone(made).all(1) == gone(made).any(1)).all(), "the same joints throughout"
    if kind == "frames_dropped":
        assert (gone(made).all((0, 2)) == gone(made).any((0, 2))).all(), "everybody's whole frame"
        assert not gone(corruptions.drop_frames(clip[:, :1], 0.8, np.random.default_rng(1))).any(), "one frame is left"


def test_hidden_jittered_and_removed(clip):
    hidden = gone(corruptions.hide(clip, (5, 7)))
    assert hidden[..., [5, 7]].all()
    assert not np.delete(hidden, [5, 7], 2).any()
    noisy = corruptions.jitter(clip, 0.1, np.random.default_rng(2))
    step = (noisy - clip)[..., :2] / corruptions.body_size(clip)
    assert abs(step.std() - 0.1) < 0.005
    assert np.array_equal(noisy[..., 2], clip[..., 2])
    lost = corruptions.drop_joints(clip, 0.5, np.random.default_rng(3))
    assert not corruptions.jitter(lost, 0.1, np.random.default_rng(4))[gone(lost)].any(), (
        "what is missing stays missing"
    )
    still = clip.copy()
    still[0, :, :, :2] = still[0, :1, :, :2]
    assert gone(corruptions.remove_person(still, "most_moving")).all((1, 2)).tolist() == [False, True]
    assert gone(corruptions.remove_person(still, "least_moving")).all((1, 2)).tolist() == [True, False]


@pytest.fixture(scope="module")
def recogniser():
    torch.manual_seed(0)
    made = Recogniser(
        TrainConfig(width=0.1, model_options={"prototypes": 4}, clip_frames=12, people=2),
        COCO,
        ("normal", "abnormal"),
        "abnormal",
        10.0,
    )
    return made.eval()


@pytest.fixture
def knows_waving(recogniser, monkeypatch):
    """A recogniser that can be understood: abnormal is who has a wrist above the nose, as far as those are seen."""

    def probabilities(keypoints, batch=32):
        y, seen = keypoints[..., 1], keypoints[..., 2] > 0
        raised = (np.minimum(y[..., 9], y[..., 10]) < y[..., 0]) & seen[..., 9] & seen[..., 10] & seen[..., 0]
        p = (raised.mean((1, 2)) > 0.4).astype(np.float32)
        return np.stack([1 - p, p], 1)

    monkeypatch.setattr(recogniser, "probabilities", probabilities)
    return recogniser


def test_report_finds_what_a_recogniser_depends_on(knows_waving, tmp_path):
    clips, train_set = clip_set(12, people=2), clip_set(20, 50, people=2)
    with Progress("robustness", steps(knows_waving, 2)) as progress:
        made = robustness(knows_waving, clips, tmp_path, draws=2, train_set=train_set, progress=progress)
        assert progress.done == progress.total
    assert made["clean"] | {"forest_f1": 0} == {"accuracy": 1.0, "f1": 1.0, "auc": 1.0, "forest_f1": 0}
    assert made["clean"]["forest_f1"] > 0.9
    curve = [row["f1"] for row in made["joints_dropped"]]
    assert curve[0] == 1.0
    assert curve[-1] == 0.0
    parts = {row["part"]: row["f1_drop"] for row in made["body_part_hidden"]}
    assert parts == {p: float(p in ("head", "left_arm", "right_arm")) for p in parts}
    assert [row["n"] for row in made["person_removed"]] == [12, 12]
    assert json.loads((tmp_path / "robustness.json").read_text()) == made
    assert (tmp_path / "robustness.png").read_bytes().startswith(b"\x89PNG")
    again = robustness(knows_waving, clips, None, draws=2, train_set=train_set)
    assert again == made
    strict = RobustnessConfig(max_f1_drop_10=0.0, min_f1_30=0.99, max_f1_drop_part=0.5)
    reasons = gate(made, strict)
    assert any("hiding the" in reason and "100.0 points of F1" in reason for reason in reasons)
    assert any("leaves an F1 of" in reason for reason in reasons)
    assert gate(made, RobustnessConfig()) == []


def test_clips_of_one_person_have_nobody_to_remove(knows_waving):
    clips = clip_set(4)
    with Progress("robustness", steps(knows_waving, 1)) as progress:
        made = robustness(knows_waving, clips, None, draws=1, progress=progress)
        assert progress.done == progress.total
    assert [(row["n"], row["skipped"], row["f1"]) for row in made["person_removed"]] == [(0, 4, None)] * 2


def test_gate_by_hand():
    def row(level, lost):
        return {"level": level, "f1": 0.9 - lost, "f1_drop": lost}

    found = {
        "joints_dropped": [row(0.1, 0.02), row(0.3, 0.09)],
        "frames_dropped": [row(0.3, float("nan"))],
        "jitter": [row(0.05, 0.0)],
    }
    assert gate(found, RobustnessConfig(max_f1_drop_10=0.02)) == []
    assert gate(found, RobustnessConfig(max_f1_drop_30=0.08)) == [
        "30 % of the joints dropped costs 9.0 points of F1, max_f1_drop_30 allows 8.0"
    ]
    assert len(gate(found, RobustnessConfig(max_f1_drop_frames_30=0.5))) == 1, "what is not a number does not pass"
    with pytest.raises(InputError, match="has no result for hidden body parts"):
        gate(found, RobustnessConfig(max_f1_drop_part=0.5))
    with pytest.raises(InputError, match="has no result for 30 % of the frames"):
        gate({}, RobustnessConfig(max_f1_drop_frames_30=0.5))


def test_gate_reads_reports_of_earlier_versions():
    """Evaluations in the store have f1_loss where new ones have f1_drop."""
    old = {
        "joints_dropped": [{"level": 0.3, "f1": 0.8, "f1_loss": 0.1}],
        "body_part_hidden": [{"part": "head", "f1_loss": 0.1}, {"part": "left_arm", "f1_loss": 0.3}],
    }
    assert gate(old, RobustnessConfig(max_f1_drop_30=0.1, max_f1_drop_part=0.3)) == []
    assert gate(old, RobustnessConfig(max_f1_drop_30=0.05, max_f1_drop_part=0.2)) == [
        "30 % of the joints dropped costs 10.0 points of F1, max_f1_drop_30 allows 5.0",
        "hiding the left arm costs 30.0 points of F1, max_f1_drop_part allows 20.0",
    ]


def test_refusals(recogniser):
    other = dataclasses.replace(clip_set(4), classes=("calm", "abnormal"))
    with pytest.raises((LabelError, InputError), match="calm"):
        robustness(recogniser, other, None)


def test_command_line(recogniser, tmp_path, capsys):
    save(tmp_path / "checkpoint.pt", recogniser, recogniser.state_dict())
    write_pyskl(tmp_path / "clips.pkl", clip_set(8), {"test": range(8)})
    out = tmp_path / "out"
    command = ["robustness", str(tmp_path / "checkpoint.pt"), "--annotations", str(tmp_path / "clips.pkl")]
    assert main([*command, "--out", str(out), "--draws", "1"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].split() == ["joints", "dropped", "F1", "AUC", "F1", "drop"]
    assert len(said) == 11
    assert said[-1].endswith("robustness.json")
    assert {p.name for p in out.iterdir()} == {"robustness.json", "robustness.png"}
    assert main(command) != 0
    assert "--out DIR" in capsys.readouterr().err
