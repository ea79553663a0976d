import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

torch = pytest.importorskip("torch")

from posewatch.config import TrainConfig  # noqa: E402
from posewatch.datasets.layouts import Layout  # noqa: E402
from posewatch.errors import ConfigError, InputError, LabelError  # noqa: E402
from posewatch.recognition.ensemble import combine  # noqa: E402
from posewatch.recognition.models import build  # noqa: E402
from posewatch.recognition.recogniser import Recogniser, load_checkpoint, save  # noqa: E402
from posewatch.recognition.sampling import resample  # noqa: E402
from posewatch.recognition.threshold import choose_threshold, decide  # noqa: E402
from posewatch.recognition.training import state as states  # noqa: E402
from posewatch.recognition.training import trainer as training  # noqa: E402
from posewatch.recognition.training.trainer import train  # noqa: E402

TINY = TrainConfig(
    width=0.1, model_options={"prototypes": 4}, clip_frames=12, people=1, epochs=3, batch=8, threads=1, lr=0.005
)


def test_it_learns_what_can_be_learned(tmp_path, clips):
    config = dataclasses.replace(TINY, epochs=14, clip_frames=16, patience=0)
    held = clips(8, 100)
    recogniser = load_checkpoint(train(clips(32), held, config, tmp_path))
    test = clips(24, 200)
    x = resample(test.keypoints, recogniser.frames, recogniser.people)
    assert (recogniser.decide(recogniser.probabilities(x)) == test.labels).mean() >= 0.9
    gone = np.random.default_rng(0).random(x.shape[:-1]) < 0.1
    x[gone] = 0
    assert (recogniser.decide(recogniser.probabilities(x)) == test.labels).mean() >= 0.85, "10 % of joints dropped"
    rows = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert [r["epoch"] for r in rows] == list(range(1, 15))
    assert rows[-1]["train_loss"] < 0.7 * rows[0]["train_loss"]
    recogniser.temperature = 1.0  # which is fitted after the last epoch
    p = recogniser.score(held)
    loss = -np.log(p[np.arange(8), held.labels]).mean()  # four clips of each class
    assert rows[-1]["val_loss"] == pytest.approx(loss, abs=1e-4), "the curve is that of the weights that are kept"
    assert rows[-1]["val_accuracy"] == (p.argmax(1) == held.labels).mean()
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["train"]["width"] == 0.1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint.pt", "config.yaml", "history.jsonl"]


def test_checkpoint_holds_everything(tmp_path, clips):
    made = load_checkpoint(train(clips(8), clips(0), dataclasses.replace(TINY, epochs=1), tmp_path))
    assert made.labels == ("normal", "abnormal")
    assert (made.positive, made.frames, made.people, made.fps, made.threshold) == ("abnormal", 12, 1, 10.0, 0.5)
    assert made.layout.name == "coco17"
    assert not made.training
    p, e, *_ = made(torch.zeros(3, 1, 12, 17, 3))
    assert p.shape == (3, 2)
    assert e.shape == (3, 32)
    assert torch.allclose(p.sum(1), torch.ones(3))


def test_a_killed_run_goes_on_and_ends_bit_equal(tmp_path, clips):
    """A real kill -9 after the second epoch, in a process of its own; of two networks, one with dropout."""
    both = dataclasses.replace(TINY, beside="pooled-statistics:j")
    script = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from pathlib import Path
from skeletons import clip_set
from posewatch.config import TrainConfig
from posewatch.sections import from_dict
from posewatch.recognition.training.trainer import train

class Killer:
    done = 0
    def advance(self, count=1, note="", *, before=False):
        self.done += count
        if self.done == 2:
            os.kill(os.getpid(), signal.SIGKILL)

config = from_dict(TrainConfig, {dataclasses.asdict(both)!r})
train(clip_set(12), clip_set(4, 50), config, Path(sys.argv[1]), progress=Killer())
"""
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path / "killed")], timeout=120, env=os.environ)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed/checkpoint.pt").exists()
    said = []

    class Listener:
        def advance(self, count=1, note="", *, before=False):
            said.append((count, note))

    again = train(clips(12), clips(4, 50), both, tmp_path / "killed", progress=Listener())
    assert said[0] == (2, "resumed after epoch 2")
    assert len(said) == 2
    whole = train(clips(12), clips(4, 50), both, tmp_path / "whole")
    assert again.read_bytes() == whole.read_bytes()
    assert (tmp_path / "killed/history.jsonl").read_bytes() == (tmp_path / "whole/history.jsonl").read_bytes()


def test_the_state_of_another_run_is_not_gone_on_with(tmp_path, clips):
    run = training._Run(clips(8), clips(0), TINY, training.layouts.get("coco17"), "abnormal")
    run.one_epoch()
    states.write(tmp_path, run.state())
    (same := training._Run(clips(8), clips(0), TINY, run.layout, "abnormal")).resume(tmp_path)
    assert same.epoch == 1
    other = training._Run(clips(8, 1), clips(0), TINY, run.layout, "abnormal")
    other.resume(tmp_path)
    assert other.epoch == 0
    (tmp_path / states.STATE).write_bytes(b"half a sta")
    other.resume(tmp_path)
    assert other.epoch == 0


def test_what_is_done_is_not_done_again(tmp_path, clips, monkeypatch):
    path = train(clips(8), clips(0), dataclasses.replace(TINY, epochs=1), tmp_path)
    before = path.stat().st_mtime_ns
    monkeypatch.setattr(training._Run, "one_epoch", lambda self: pytest.fail("trained again"))
    assert train(clips(8), clips(0), dataclasses.replace(TINY, epochs=1), tmp_path) == path
    assert path.stat().st_mtime_ns == before


def test_clips_labelled_by_verdicts_have_their_weight_in_the_loss(tmp_path, clips):
    data = dataclasses.replace(clips(8), sources=("human",) * 4 + ("verdict",) * 4)
    config = dataclasses.replace(TINY, epochs=1)

    def weights(name, clip_set, **changes):
        path = train(clip_set, clips(0), dataclasses.replace(config, **changes), tmp_path / name)
        return torch.load(path, weights_only=True)["run"], load_checkpoint(path).state_dict()

    plain, same = weights("plain", clips(8)), weights("same", data, verdict_weight=1.0)
    assert plain[0] != weights("less", data)[0], "by default they weigh less"
    assert all(torch.equal(value, same[1][name]) for name, value in plain[1].items())
    heavy = weights("heavy", data, verdict_weight=5.0)
    assert not all(torch.equal(value, heavy[1][name]) for name, value in plain[1].items())
    assert data.subset([0, 7]).joined(data.subset([5])).sources == ("human", "verdict", "verdict")


def test_several_streams_are_one_recogniser(tmp_path, clips):
    """Networks of their own, averaged by weight; the checkpoint brings all of them back."""
    config = dataclasses.replace(TINY, epochs=1, stream="j+jm, b", stream_weights=(3.0, 1.0))
    both = load_checkpoint(train(clips(8), clips(0), config, tmp_path))
    assert [b.stream for b in both.branches] == ["j+jm", "b"]
    x = torch.from_numpy(resample(clips(4).keypoints, 12, 1))
    with torch.no_grad():
        p, e, *_ = both(x)
        features, present = both.features(x)
        alone = [
            torch.softmax(n(both.features.stack(features, present, b.stream), present).logits, 1)
            for n, b in zip(both.networks, both.branches, strict=True)
        ]
    assert torch.allclose(p, 0.75 * alone[0] + 0.25 * alone[1], atol=1e-6)
    assert e.shape == (4, 64)


BESIDE = dataclasses.replace(
    TINY, model="stgcn++", width=0.12, epochs=1, stream="j+b", beside="statistics:j, 2 * pooled-statistics: j + c"
)


def test_networks_of_other_models_are_trained_beside(tmp_path, clips):
    """Each as if it were alone; they answer together, by weight, also in the exported file."""
    made = load_checkpoint(path := train(clips(12), clips(4, 50), BESIDE, tmp_path / "both"))
    assert [(b.model, b.stream, b.weight) for b in made.branches] == [
        ("stgcn++", "j+b", 1.0), ("statistics", "j", 1.0), ("pooled-statistics", "j + c", 2.0),
    ]  # fmt: skip
    alone = load_checkpoint(train(clips(12), clips(4, 50), BESIDE.without_beside(), tmp_path / "alone"))
    first = dict(made.networks[0].named_parameters())
    for name, value in alone.networks[0].named_parameters():
        assert torch.allclose(first[name], value, atol=1e-4), f"{name} learned something else beside others"
    x = torch.from_numpy(resample(clips(4).keypoints, 12, 1))
    with torch.no_grad():
        p = made(x)[0]
        each = [torch.softmax(output.logits, 1) for output in made.run(x)]
    mean = (each[0] + each[1] + 2 * each[2]) / 4
    want = torch.softmax(mean.log() / made.temperature, 1)
    assert torch.allclose(p, want, atol=1e-5)
    pytest.importorskip("onnxruntime")
    from posewatch.export.onnx import export

    assert export(path, tmp_path / "model.onnx")["max_abs_error"] < 1e-4


def test_a_training_without_networks_beside_is_the_one_it_was(clips):
    """The new key is no part of its fingerprint."""
    key = training._Run(clips(8), clips(0), TINY, training.layouts.get("coco17"), "abnormal").key
    assert "beside" not in training.fingerprinted(training.plain(TINY))
    assert key != training._Run(clips(8), clips(0), BESIDE, training.layouts.get("coco17"), "abnormal").key


@pytest.mark.parametrize(
    "change", [{"features": "raw", "layout": "coco20", "optimiser": "sgd", "lr": 0.025}, {"balance": "sampling"}]
)
def test_published_recipe_and_balanced_sampling_run(tmp_path, clips, change):
    config = dataclasses.replace(TINY, epochs=2, test_clips=3, **change)
    recogniser = load_checkpoint(train(clips(10), clips(4, 50), config, tmp_path))
    p = recogniser.score(clips(4, 100))
    assert p.shape == (4, 2)
    assert np.allclose(p.sum(1), 1, atol=1e-5)


def test_balanced_sampling_draws_classes_alike(clips):
    rare = clips(40).subset([0, 1, *range(2, 40, 2)])
    run = training._Run(
        rare, clips(0), dataclasses.replace(TINY, balance="sampling"), training.layouts.get("coco17"), ""
    )
    drawn = np.bincount(rare.labels[run._order()])
    assert 0.3 < drawn[1] / drawn.sum() < 0.7
    assert np.bincount(rare.labels)[1] == 1


def test_a_batch_that_does_not_fit_says_which_does(clips, monkeypatch):
    """The memory of a GPU, played by a network that refuses more than two clips at once."""
    run = training._Run(clips(8), clips(0), TINY, training.layouts.get("coco17"), "abnormal")
    forward = type(run.recogniser.networks[0]).forward

    def small(self, x, present=None):
        if len(x) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, x, present)

    monkeypatch.setattr(type(run.recogniser.networks[0]), "forward", small)
    with pytest.raises(InputError, match=r"8 clips does not fit into the memory of cpu: 2 do; set train.batch=2"):
        run.one_epoch()


def test_early_stop(tmp_path, clips):
    """Validation clips with swapped labels: the better the model learns, the worse it does on them."""
    mean = clips(4, 50)
    swapped = dataclasses.replace(mean, labels=1 - mean.labels)
    train(clips(16), swapped, dataclasses.replace(TINY, epochs=12, patience=1), tmp_path)
    assert len((tmp_path / "history.jsonl").read_text().splitlines()) < 12


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"model": "protogcm"}, ConfigError, "did you mean 'protogcn'"),
        ({"width": 8}, ConfigError, "train.width must be a number above 0"),
        ({"epochs": 0}, ConfigError, "epochs"),
        ({"stream": "jj"}, ConfigError, "train.stream must be streams"),
        ({"lr": 0.05}, ConfigError, "too high for adamw: at most 0.02; set it to about 0.003 for adamw, 0.025 for sgd"),
        ({"optimiser": "adam"}, ConfigError, "train.optimiser must be one of adamw, sgd, not 'adam'"),
        ({"balance": "yes"}, ConfigError, "train.balance must be one of"),
        ({"stream": "j,b", "stream_weights": (1.0,)}, ConfigError, "2 in all, not 1"),
        ({"beside": "0*statistics:j"}, ConfigError, "train.beside must be MODEL:STREAMS"),
        ({"beside": "statistics"}, ConfigError, "train.beside must be MODEL:STREAMS, several separated by commas"),
        ({"features": "pixels"}, ConfigError, "train.features must be one of"),
        ({"layout": "coco21"}, ConfigError, "did you mean 'coco20'"),
    ],
)
def test_bad_config(tmp_path, clips, change, error, message):
    with pytest.raises(error, match=message):
        train(clips(8), clips(0), dataclasses.replace(TINY, **change), tmp_path)
    assert not (tmp_path / "checkpoint.pt").exists()


def test_bad_clips(tmp_path, clips):
    eight = clips(8)
    with pytest.raises(LabelError, match="no training clip is labelled 'abnormal'"):
        train(eight.subset([0, 2, 4]), clips(0), TINY, tmp_path)
    with pytest.raises(InputError, match="video-clip0 is on both sides"):
        train(eight, eight.subset([0]), TINY, tmp_path)
    with pytest.raises(LabelError, match="'fall' is none of normal, abnormal"):
        train(eight, clips(0), TINY, tmp_path, positive="fall")
    with pytest.raises(InputError, match="17 joints, layout 'ntu25' wants 25"):
        train(dataclasses.replace(eight, layout="ntu25"), clips(0), TINY, tmp_path)


def test_bad_checkpoint(tmp_path):
    with pytest.raises(InputError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "none.pt")
    (tmp_path / "x.pt").write_bytes(b"nothing")
    with pytest.raises(InputError, match="not a posewatch checkpoint") as caught:
        load_checkpoint(tmp_path / "x.pt")
    assert "\n" not in str(caught.value)


def test_threshold_is_the_best_and_the_least_extreme():
    truth = np.array([0, 0, 0, 1, 1])
    assert choose_threshold(np.array([0.05, 0.1, 0.15, 0.3, 0.4]), truth) == pytest.approx(0.285)
    assert choose_threshold(np.array([0.1, 0.2, 0.3, 0.8, 0.9]), truth) == 0.5
    assert choose_threshold(np.array([0.6, 0.7, 0.8]), np.zeros(3)) == 0.5


def test_decide():
    p = np.array([[0.5, 0.3, 0.2], [0.1, 0.65, 0.25], [0.6, 0.1, 0.3]], np.float32)
    assert decide(p, positive=2, threshold=0.25).tolist() == [0, 2, 2]


def test_builders_name_the_nearest():
    layout = training.layouts.get("coco17")
    assert sum(p.numel() for p in build("protogcn", layout=layout, classes=2).parameters()) == 4_209_586
    with pytest.raises(ConfigError, match=r"unknown model .ctrgcm.: did you mean .ctrgcn."):
        build("ctrgcm", layout=layout, classes=2)


def test_an_ensemble_is_the_weighted_mean_of_its_members(tmp_path, clips):
    configs = [dataclasses.replace(TINY, epochs=1), dataclasses.replace(TINY, epochs=1, seed=1, stream="b,k")]
    paths = [train(clips(8), clips(0), c, tmp_path / str(i)) for i, c in enumerate(configs)]
    both = load_checkpoint(combine(paths, tmp_path / "both.pt", (1.0, 3.0)))
    x = resample(clips(5).keypoints, 12, 1)
    a, b = (load_checkpoint(path).probabilities(x) for path in paths)
    assert np.allclose(both.probabilities(x), 0.25 * a + 0.75 * b, atol=1e-6)
    other = train(clips(8), clips(0), dataclasses.replace(TINY, epochs=1, clip_frames=8), tmp_path / "other")
    with pytest.raises(InputError, match="its frames differ"):
        combine([paths[0], other], tmp_path / "no.pt")
    with pytest.raises(ConfigError, match="give 2 positive weights"):
        combine(paths, tmp_path / "no.pt", (1.0,))
    assert not (tmp_path / "no.pt").exists()


def test_layouts_that_no_ensemble_joins_are_named_not_printed(tmp_path):
    joints, own = tuple("abcde"), tmp_path / "own.pt"
    star = Layout("mine", joints, ((1, 0), (2, 0), (3, 0), (4, 0)), 0, ())
    chain = dataclasses.replace(star, edges=((1, 0), (2, 1), (3, 2), (4, 3)), parents=())
    for path, layout in ((own, star), (tmp_path / "a.pt", training.layouts.get("coco17")), (tmp_path / "b.pt", chain)):
        made = Recogniser(TINY, layout, ("normal", "abnormal"), "abnormal", 10.0)
        save(path, made, made.state_dict())
    for other, said in (
        ("a.pt", "('coco17' of 17 joints against 'mine' of 5 joints)"),
        ("b.pt", "(both are 'mine' of 5 joints, which are named or joined differently)"),
    ):
        with pytest.raises(InputError) as caught:
            combine([own, tmp_path / other], tmp_path / "no.pt")
        assert str(caught.value).endswith(said)


@pytest.mark.parametrize("left", [0, 100])
def test_a_state_that_was_cut_is_told_and_the_one_before_it_is_used(left, tmp_path, clips, capsys):
    run = training._Run(clips(8), clips(0), TINY, training.layouts.get("coco17"), "abnormal")
    for _ in range(2):
        run.one_epoch()
        states.write(tmp_path, run.state())
    os.truncate(tmp_path / states.STATE, left)
    again = training._Run(clips(8), clips(0), TINY, run.layout, "abnormal")
    again.resume(tmp_path)
    assert again.epoch == 1
    assert "damaged" in capsys.readouterr().err
    assert (tmp_path / f"{states.STATE}.damaged").stat().st_size == left


def test_the_state_of_another_training_is_kept_and_found_again(tmp_path, clips, capsys):
    first = training._Run(clips(8), clips(0), TINY, training.layouts.get("coco17"), "abnormal")
    first.one_epoch()
    states.write(tmp_path, first.state())
    other = training._Run(clips(8), clips(0), dataclasses.replace(TINY, seed=9), first.layout, "abnormal")
    other.resume(tmp_path)
    assert other.epoch == 0
    assert "other settings" in capsys.readouterr().err
    again = training._Run(clips(8), clips(0), TINY, first.layout, "abnormal")
    again.resume(tmp_path)
    assert again.epoch == 1
