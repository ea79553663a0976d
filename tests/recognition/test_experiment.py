"""`posewatch train --annotations`: skeletons in, checkpoint, metrics and plots out, and one line for bad input."""

import dataclasses
import json
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from posewatch.cli.export import ExportedFile, _clips  # noqa: E402
from posewatch.cli.main import main  # noqa: E402
from posewatch.cli.train import Skeletons  # noqa: E402
from posewatch.datasets.pyskl import write_pyskl  # noqa: E402
from posewatch.recognition.recogniser import load_checkpoint  # noqa: E402
from posewatch.recognition.training.experiment import positive_of  # noqa: E402
from posewatch.recognition.training.holdout import curve  # noqa: E402

TINY = [
    f"--set=train.{item}"
    for item in ("width=0.1", "model_options.prototypes=4", "clip_frames=12", "people=1", "batch=8", "threads=1")
]
FILES = {"checkpoint.pt", "config.yaml", "confusion_matrix.png", "history.jsonl", "learning_curves.png"} | {
    "metrics.json",
    "predictions.jsonl",
    "roc.png",
    "reliability.png",
    "risk_coverage.png",
}


def train(path, out, *more, epochs=2):
    return main(["train", "--annotations", str(path), "--out", str(out), *TINY, f"--set=train.epochs={epochs}", *more])


def test_everything_is_written_and_says_the_same(annotations, tmp_path, capsys):
    out = tmp_path / "out"
    assert train(annotations, out, "--seed", "3") == 0
    assert {p.name for p in out.iterdir() if p.is_file()} == FILES
    metrics = json.loads((out / "metrics.json").read_text())
    assert {"accuracy", "precision", "recall", "f1", "auc", "threshold", "per_class", "confusion_matrix"} <= set(
        metrics
    )
    assert {f"baseline_{b}_{k}" for b in ("forest", "logistic") for k in ("accuracy", "f1", "auc")} <= set(metrics)
    assert metrics["n"] == 8
    assert "then trained on all clips" in metrics["validation"]["method"]
    assert set(metrics["validation"]["groups"]) < {"s00", "s01", "s02", "s03", "s04"}, "whole subjects of the training"
    assert load_checkpoint(out / "checkpoint.pt").threshold == metrics["threshold"]
    history = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
    assert [row["training"] for row in history] == ["validation"] * 2 + ["final"] * 2
    assert curve(history) == history[2:], "the curve is that of the network that is kept"
    rows = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert len(rows) == 8
    assert metrics["accuracy"] == pytest.approx(sum(r["label"] == r["predicted"] for r in rows) / 8, abs=1e-6)
    said = capsys.readouterr().out
    assert "random forest" in said
    assert str(out / "metrics.json") in said


def test_several_seeds_are_summed_up_and_not_trained_twice(annotations, tmp_path, capsys):
    out = tmp_path / "out"
    assert train(annotations, out, "--seed", "0", "1", epochs=1) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    each = [json.loads((out / f"seed{s}" / "metrics.json").read_text())["auc"] for s in (0, 1)]
    assert metrics["auc"] == pytest.approx(np.mean(each), abs=1e-6)
    assert metrics["auc_std"] == pytest.approx(np.std(each), abs=1e-6)
    before = (out / "seed0" / "checkpoint.pt").stat().st_mtime_ns
    assert train(annotations, out, "--seed", "0", "1", epochs=1) == 0
    assert (out / "seed0" / "checkpoint.pt").stat().st_mtime_ns == before


def test_a_killed_experiment_ends_like_one_that_was_not(annotations, tmp_path):
    """kill -9 in the middle of the second training, by a process of its own."""
    script = """
import os, signal, sys
from posewatch.recognition.training import trainer as training
from posewatch.cli.main import main
one, count = training._Run.one_epoch, [0]
def epoch(self):
    row = one(self)
    count[0] += 1
    if count[0] == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return row
training._Run.one_epoch = epoch
sys.exit(main(sys.argv[1:]))
"""
    told = [
        "train",
        "--annotations",
        str(annotations),
        "--out",
        str(tmp_path / "killed"),
        *TINY,
        "--set=train.epochs=3",
    ]
    killed = subprocess.run([sys.executable, "-c", script, *told], timeout=300, env=os.environ, capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    assert (tmp_path / "killed/validation/checkpoint.pt").exists()
    assert not (tmp_path / "killed/checkpoint.pt").exists()
    assert main(told) == 0
    assert train(annotations, tmp_path / "whole", epochs=3) == 0
    for name in FILES:
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_folds_of_people_make_an_ensemble(annotations, tmp_path):
    """Each member is judged on people it has not seen; the whole is one checkpoint, and is not trained twice."""
    out = tmp_path / "out"
    assert train(annotations, out, "--set", "train.folds=3", epochs=1) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    history = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
    assert curve(history) == [row for row in history if row["training"] == "member0"]
    assert metrics["validation"]["clips"] == 20
    assert metrics["validation"]["groups"] == [f"s{k:02d}" for k in range(5)]
    assert "3 networks" in metrics["validation"]["method"]
    made = load_checkpoint(out / "checkpoint.pt")
    assert len(made.branches) == 3
    assert made.threshold == metrics["threshold"]
    weights = [next(n.parameters()).detach() for n in made.networks]
    assert not torch.equal(weights[0], weights[1])
    assert {json.loads(row)["training"] for row in (out / "history.jsonl").read_text().splitlines()} == {
        "member0",
        "member1",
        "member2",
    }
    before = [(out / f"member{k}/checkpoint.pt").stat().st_mtime_ns for k in range(3)]
    assert train(annotations, out, "--set", "train.folds=3", epochs=1) == 0
    assert before == [(out / f"member{k}/checkpoint.pt").stat().st_mtime_ns for k in range(3)]
    assert {p.name for p in out.iterdir() if p.is_file()} == FILES


def test_positive_class():
    assert positive_of(("a", "b")) == "b"
    assert positive_of(("abnormal", "normal")) == "abnormal"
    assert positive_of(("a", "b", "c")) == ""
    assert positive_of(("a", "b", "c"), "c") == "c"


def test_folds_and_many_classes_have_no_threshold(tmp_path, clips):
    made = dataclasses.replace(clips(18), labels=np.arange(18) % 3, classes=("a", "b", "c"))
    path = tmp_path / "three.pkl"
    splits = {
        f"fold{k}_{p}": [i for i in range(18) if (i % 2 == k) == (p == "test")]
        for k in (0, 1)
        for p in ("train", "test")
    }
    write_pyskl(path, made, splits)
    out = tmp_path / "out"
    assert train(path, out, "--train-split", "fold*_train", "--test-split", "fold*_test", epochs=1) == 0
    one = json.loads((out / "fold0_train" / "metrics.json").read_text())
    assert one["positive"] == ""
    assert one["threshold"] is None
    assert not (out / "fold0_train" / "validation").exists(), "all clips are trained on"
    assert "accuracy_std" in json.loads((out / "metrics.json").read_text())


def _spoil(path, change):
    data = pickle.loads(path.read_bytes())
    change(data)
    path.write_bytes(pickle.dumps(data))


def _nan(data):
    data["annotations"][3]["keypoint"] = np.full_like(data["annotations"][3]["keypoint"], np.nan)


def _nobody(data):
    data["annotations"][5]["keypoint_score"] = np.zeros_like(data["annotations"][5]["keypoint_score"])


def _one_frame(data):
    row = data["annotations"][5]
    row.update(keypoint=row["keypoint"][:, :1], keypoint_score=row["keypoint_score"][:, :1], total_frames=1)


def _move(data):
    data["split"]["train"].remove("s00_clip_1")
    data["split"]["test"].append("s00_clip_1")


class _Evil:
    def __reduce__(self):
        return os.system, ("touch /tmp/posewatch-was-here",)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda d: d["annotations"][2].update(label=7), ("s00_clip_2", "7", "class")),
        (_nan, ("s00_clip_3", "NaN")),
        (_nobody, ("s01_clip_5", "--drop-empty")),
        (_one_frame, ("s01_clip_5", "--drop-empty")),
        (lambda d: d["split"]["test"].append("s00_clip_1"), ("s00_clip_1",)),
        (_move, ("s00", "--allow-shared-subjects")),
        (lambda d: d["annotations"].append(_Evil()), ("system", "safe pickle")),
        (lambda d: d["split"].update(test=[]), ("test", "no clip")),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_leaves_nothing(annotations, tmp_path, capsys, spoil, words):
    _spoil(annotations, spoil)
    assert train(annotations, tmp_path / "out") != 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("posewatch: ")]
    assert len(lines) == 1
    for word in words:
        assert word in lines[0], lines[0]
    assert not (tmp_path / "out").exists()
    assert not Path("/tmp/posewatch-was-here").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--train-split", "trian"], ("trian", "train")),
        (["--positive", "fall"], ("fall", "normal, abnormal")),
        (["--model", "protogcm"], ("did you mean 'protogcn'",)),
        (["--layout", "ntu25"], ("17", "25")),
        (["--set", "train.lr=9"], ("train.lr", "at most 1, not 9")),
        (["--subject-pattern", "("], ("pattern",)),
    ],
)
def test_bad_options(annotations, tmp_path, capsys, options, words):
    assert train(annotations, tmp_path / "out", *options) != 0
    said = capsys.readouterr().err
    for word in words:
        assert word in said
    assert not (tmp_path / "out").exists()


def test_a_clip_in_which_nobody_is_seen_is_answered_and_not_trained_on(annotations, tmp_path):
    data = pickle.loads(annotations.read_bytes())
    for i in (5, 21, 22):  # one to train on, two to test on
        data["annotations"][i]["keypoint_score"] = np.zeros_like(data["annotations"][i]["keypoint_score"])
    annotations.write_bytes(pickle.dumps(data))
    out = tmp_path / "out"
    assert train(annotations, out, "--keep-empty", "--set=train.refit=false", epochs=1) == 0
    rows = {row["clip"]: row for row in map(json.loads, (out / "predictions.jsonl").read_text().splitlines())}
    assert len(rows) == 8
    assert [rows[f"s05_clip_{i}"]["p"] for i in (21, 22)] == [[1.0, 0.0]] * 2
    assert rows["s05_clip_20"]["p"] != [1.0, 0.0]


def test_shared_people_can_be_accepted(annotations, tmp_path):
    _spoil(
        annotations,
        lambda d: d["split"].update(test=[*d["split"]["test"], "s00_clip_1"], train=d["split"]["train"][2:]),
    )
    assert train(annotations, tmp_path / "out", "--allow-shared-subjects", epochs=1) == 0
    assert "s00" in json.loads((tmp_path / "out/metrics.json").read_text())["note"]


def test_a_checkpoint_is_evaluated_in_the_layout_that_it_holds(annotations, tmp_path, capsys):
    """The YAML file of ``train --layout`` is not asked for again, and those who have the checkpoint may not have it."""
    data = pickle.loads(annotations.read_bytes())
    for row in data["annotations"]:
        row |= {key: row[key][:, :, :5] for key in ("keypoint", "keypoint_score")}
    annotations.write_bytes(pickle.dumps(data))
    layout = tmp_path / "mine.yaml"
    layout.write_text("name: mine\njoints: [a, b, c, d, e]\nedges: [[b, a], [d, c]]\ncentre: a\n")
    assert train(annotations, tmp_path / "run", f"--layout={layout}", "--model=statistics", epochs=1) == 0
    layout.unlink()
    checkpoint = tmp_path / "run/checkpoint.pt"
    said = ["--annotations", str(annotations), "--out", str(tmp_path / "again")]
    assert main(["evaluate", str(checkpoint), *said]) == 0, capsys.readouterr().err
    again, first = (json.loads((tmp_path / n / "metrics.json").read_text()) for n in ("again", "run"))
    assert again["accuracy"] == first["accuracy"]
    judge, _ = _clips(checkpoint, ExportedFile(precision="fp16"), Skeletons(annotations=annotations))
    assert judge.keypoints.shape == (8, 1, 12, 5, 3)


def test_a_file_without_splits_is_evaluated_whole(annotations, tmp_path, capsys):
    """MMAction2's files of 0.x and pyskl's custom_2d_skeleton.py: a list for each of training and test."""
    assert train(annotations, tmp_path / "run", "--model=statistics", epochs=1) == 0
    bare = tmp_path / "val.pkl"
    bare.write_bytes(pickle.dumps(pickle.loads(annotations.read_bytes())["annotations"][-8:]))
    said = ["evaluate", str(tmp_path / "run/checkpoint.pt"), "--annotations", str(bare)]
    assert main([*said, "--out", str(tmp_path / "again")]) == 0, capsys.readouterr().err
    assert "note: The file has no splits: all 8 clips are tested." in capsys.readouterr().err
    again, first = (json.loads((tmp_path / n / "metrics.json").read_text()) for n in ("again", "run"))
    assert again["n"] == 8
    assert again["accuracy"] == first["accuracy"], "the same clips as the split test"
    assert main([*said, "--out", str(tmp_path / "other"), "--split", "val"]) == 2
    assert "the file has none" in capsys.readouterr().err
