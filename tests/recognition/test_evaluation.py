import dataclasses
import json
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from posewatch.config import TrainConfig  # noqa: E402
from posewatch.datasets import layouts  # noqa: E402
from posewatch.errors import InputError, LabelError  # noqa: E402
from posewatch.recognition.evaluation.acts import acts_of, lines  # noqa: E402
from posewatch.recognition.evaluation.evaluate import evaluate  # noqa: E402
from posewatch.recognition.evaluation.plots import FONTS, plots, styled, write_figure  # noqa: E402
from posewatch.recognition.recogniser import Recogniser  # noqa: E402

TINY = TrainConfig(width=0.1, model_options={"prototypes": 4}, clip_frames=12, people=1)


@pytest.fixture(scope="module")
def recogniser():
    torch.manual_seed(0)
    return Recogniser(TINY, layouts.get("coco17"), ("normal", "abnormal"), "abnormal", 10.0).eval()


class Says(Recogniser):
    """A recogniser with given answers, to check the arithmetic by hand."""

    def probabilities(self, keypoints, batch=32):
        p = np.array(self.answers, np.float32)
        return np.stack([1 - p, p], 1)


def test_numbers_by_hand(clips):
    model = Says(TINY, layouts.get("coco17"), ("normal", "abnormal"), "abnormal", 10.0, threshold=0.4)
    model.answers = [0.1, 0.9, 0.6, 0.45, 0.2, 0.3, 0.05, 0.8]
    metrics = evaluate(model, clips(8))
    assert metrics["confusion_matrix"] == [[3, 1], [1, 3]]
    assert metrics["accuracy"] == 0.75
    assert (metrics["precision"], metrics["recall"], metrics["f1"]) == (0.75, 0.75, 0.75)
    assert metrics["auc"] == pytest.approx(14 / 16)
    assert metrics["per_class"]["normal"]["support"] == 4
    assert (metrics["roc"]["fpr"][0], metrics["roc"]["tpr"][-1], metrics["n"]) == (0, 1, 8)
    assert np.isfinite(metrics["roc"]["thresholds"]).all()


def test_false_alarms_are_told_by_act(clips):
    model = Says(TINY, layouts.get("coco17"), ("normal", "abnormal"), "abnormal", 10.0, threshold=0.4)
    model.answers = [0.1, 0.9, 0.6, 0.45, 0.2, 0.3, 0.5, 0.8]
    acts = ("walk", "fall", "lie_down", "fall", "walk", "slip", "lie_down", "fall")
    metrics = evaluate(model, dataclasses.replace(clips(8), acts=acts))
    assert {act: row["share"] for act, row in metrics["false_alarms_by_act"].items()} == {"walk": 0, "lie_down": 1}
    assert metrics["false_alarms_by_act"]["lie_down"]["interval"][0] < 0.4, "two clips say little"
    assert {act: (row["alarms"], row["clips"]) for act, row in metrics["recall_by_act"].items()} == {
        "fall": (3, 3),
        "slip": (0, 1),
    }
    table = lines(metrics)
    assert table[1].split()[:3] == ["lie_down", "2", "2"], "what alarms most stands first"
    assert lines(evaluate(model, clips(8))) == [], "two classes say no more than the confusion matrix"


def test_without_acts_the_classes_are_the_acts(clips):
    made = dataclasses.replace(
        clips(8), classes=("normal", "abnormal", "sit"), labels=np.array([0, 1, 2, 1, 0, 1, 2, 1])
    )
    assert list(acts_of(made)) == ["normal", "abnormal", "sit", "abnormal", "normal", "abnormal", "sit", "abnormal"]
    assert acts_of(clips(8)) == ()


def test_baselines_and_plots(recogniser, clips, tmp_path):
    metrics = evaluate(recogniser, clips(12, 100), train_set=clips(24))
    assert metrics["baseline_logistic_auc"] > 0.9
    assert metrics["baseline_forest_f1"] > 0.9
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics
    history = [{"epoch": e, "train_loss": 1 / e, "train_accuracy": 0.5, "val_loss": 1.0} for e in (1, 2, 3)]
    for folder in (tmp_path / "a", tmp_path / "b"):
        names = [p.name for p in plots(metrics, history, folder)]
    assert names == ["learning_curves.png", "confusion_matrix.png", "roc.png", "reliability.png", "risk_coverage.png"]
    for name in names:
        data = (tmp_path / "a" / name).read_bytes()
        assert data.startswith(b"\x89PNG")
        assert data == (tmp_path / "b" / name).read_bytes()


def test_one_class_in_the_test(recogniser, clips, tmp_path):
    metrics = evaluate(recogniser, clips(8).subset([0, 2]), train_set=clips(8))
    assert metrics["auc"] is None
    assert metrics["baseline_forest_auc"] is None
    assert metrics["note"] == "all 2 test clips are other than abnormal: AUC and ROC need both"
    assert [p.name for p in plots(metrics, [], tmp_path)] == ["confusion_matrix.png", "risk_coverage.png"]


def test_refusals(recogniser, clips):
    with pytest.raises(InputError, match="no test clip"):
        evaluate(recogniser, clips(0))
    with pytest.raises(LabelError, match="classes"):
        evaluate(recogniser, dataclasses.replace(clips(2), classes=("a", "b")))
    with pytest.raises(LabelError, match="'fall' is none of"):
        evaluate(recogniser, clips(2), "fall")


def test_korean_class_names_in_plots(recogniser, clips, tmp_path, capsys, monkeypatch):
    """They take an installed font; without one a line says so, not a warning for each letter of each figure."""
    from matplotlib import font_manager

    made = Recogniser(TINY, layouts.get("coco17"), ("보통", "낙상, 옆"), "낙상, 옆", 10.0).eval()
    own = evaluate(made, dataclasses.replace(clips(8), classes=made.labels))
    known = [font for font in font_manager.fontManager.ttflist if font.name not in FONTS]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", known)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plots(own, [], tmp_path)
    said = [line for line in capsys.readouterr().err.splitlines() if "confusion_matrix.png" in line]
    assert len(said) == 1
    assert "install fonts-nanum" in said[0]
    named = dataclasses.replace(known[0], name="NanumGothic")
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [*known, named])
    with styled() as plt:
        assert plt.rcParams["font.family"] == ["sans-serif", "NanumGothic"]


def test_a_font_without_a_bold_weight_is_no_warning(tmp_path, monkeypatch, caplog):
    from matplotlib import font_manager

    fonts = [font for font in font_manager.fontManager.ttflist if font.name not in FONTS]
    plain = next(font for font in fonts if font.name == "DejaVu Sans" and font.weight == 400 and font.style == "normal")
    named = dataclasses.replace(plain, name="NanumGothic")
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [*fonts, named])
    with styled() as plt:
        figure, axis = plt.subplots()
        axis.set_title("낙상", fontweight="bold")
        write_figure(plt, figure, tmp_path / "a.png")
    assert [record.message for record in caplog.records] == []
