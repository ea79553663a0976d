"""Pretraining without labels, and what a training takes of it."""

from __future__ import annotations

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

from posewatch.artifact import Job, collect, produce  # noqa: E402
from posewatch.cli.main import main  # noqa: E402
from posewatch.config import AugmentConfig, Experiment, PretrainConfig, TrainConfig  # noqa: E402
from posewatch.datasets import layouts  # noqa: E402
from posewatch.errors import ConfigError, InputError, NotFound  # noqa: E402
from posewatch.recognition.models import NETWORKS  # noqa: E402
from posewatch.recognition.recogniser import Recogniser, load_checkpoint  # noqa: E402
from posewatch.recognition.training import pretrain as pretraining  # noqa: E402
from posewatch.recognition.training.pretrain import MaskedMotion, Source, pretrain, source_of  # noqa: E402
from posewatch.recognition.training.pretrained import Pretrained  # noqa: E402
from posewatch.stages.contents import CLIPS, SKELETONS, SKELETONS_ABOUT  # noqa: E402
from posewatch.stages.pretrain import pretrain as stage  # noqa: E402
from posewatch.stages.pretrain import unlabelled  # noqa: E402
from posewatch.stages.train import job_of  # noqa: E402
from posewatch.store import open_store  # noqa: E402

TINY = TrainConfig(model="stgcn++", width=0.12, clip_frames=8, people=1, threads=1)
SHORT = PretrainConfig(epochs=2, batch=2)
COCO = layouts.get("coco17")


@pytest.fixture
def source(clips):
    return Source(clips(8), COCO)


@pytest.fixture(scope="module")
def made(tmp_path_factory, clips):
    return pretrain(Source(clips(8), COCO), TINY, SHORT, tmp_path_factory.mktemp("pretrained"))


def task(config: TrainConfig = TINY, mask: float = 0.5) -> MaskedMotion:
    return MaskedMotion(Recogniser(config, layouts.get(config.layout or "coco17"), pretraining.CLASSES, "", 10), mask)


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_what_is_hidden_is_not_looked_at(clips):
    """The loss must not change with what stands where joints are hidden, but for the target itself."""
    torch.manual_seed(0)
    module = task().eval()
    clip = torch.from_numpy(clips(1).keypoints[0][None, :1, :8].copy())
    seen = {}
    handle = module.recogniser.features.register_forward_hook(lambda m, given, out: seen.update(x=given[0]))
    with torch.no_grad():
        module(clip, draws())
    handle.remove()
    given = seen["x"][..., 2] > 0
    was = clip[..., 2] > 0
    assert 0.3 < (was & ~given).sum() / was.sum() < 0.7
    assert (seen["x"][~given] == 0).all()


def test_limbs_are_hidden_as_a_whole_and_movers_first():
    module = task(mask=0.3)
    motion = torch.zeros(400, 1, 7, 17, 2)
    motion[..., 9, :] = 4.0  # the left wrist waves
    hidden = module.hidden(motion, torch.ones(400, 1, 8, 17, dtype=torch.bool), draws())
    assert torch.equal(hidden[..., 7], hidden[..., 9]), "elbow and wrist are of one limb"
    assert hidden[..., 9].float().mean() > 1.5 * hidden[..., 16].float().mean()
    assert abs(hidden[:, 0].float().mean() - 0.3) < 0.08
    assert torch.equal(hidden[:, :, 0], hidden[:, :, 1]), "for a quarter of the clip at the least"


@pytest.mark.parametrize("model", [name for name in NETWORKS if not name.endswith("statistics")])
def test_every_network_learns_from_hidden_motion(model, clips):
    torch.manual_seed(0)
    module = task(dataclasses.replace(TINY, model=model, layout="coco20", stream="j+bm"))
    x = torch.from_numpy(np.stack([k[:1, :8] for k in clips(4).keypoints]))
    loss, without = module(x, draws())
    loss.backward()
    assert torch.isfinite(loss)
    assert without > 0
    names = [n for n, p in module.recogniser.networks.named_parameters() if p.grad is None and "classify" not in n]
    assert not [n for n in names if "prototypes" not in n and "contrast" not in n]


def test_it_explains_motion_that_can_be_foreseen(tmp_path):
    """Everybody sways alike: hidden limbs can be told from the others."""
    rng = np.random.default_rng(0)
    from skeletons import clip_set

    made = clip_set(12)
    clips = []
    for k in made.keypoints:
        body = k[:1, :1].repeat(16, 1)
        sway = 40 * np.sin(np.arange(16) * rng.uniform(0.5, 1.2) + rng.uniform(0, 6))
        body[..., 0] += sway[None, :, None].astype(np.float32)
        clips.append(body)
    source = Source(dataclasses.replace(made, keypoints=tuple(clips)), COCO)
    how = PretrainConfig(epochs=14, batch=8, lr=0.01)
    still = AugmentConfig(rotate=0, stretch=0, jitter=0, crop=0, speed=0)
    out = pretrain(source, dataclasses.replace(TINY, model="stgcn++", width=0.12, augment=still), how, tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert out.name == "checkpoint.pt"
    assert rows[-1]["explained"] > max(0.15, rows[0]["explained"])


def test_training_takes_all_but_the_head(made):
    taken = Pretrained(made).plan(TINY, COCO, ("normal", "abnormal"))
    assert taken.share > 0.9
    assert any("classify" in line for line in taken.lines if "afresh" in line)
    with pytest.raises(ConfigError, match=r"train\.width must be"):
        Pretrained(made).plan(dataclasses.replace(TINY, width=0.5), COCO, ("normal", "abnormal"))


def test_networks_beside_begin_afresh_and_are_not_pretrained(made, source):
    beside = dataclasses.replace(TINY, beside=".5*pooled-statistics:j+c")
    before = made.stat().st_mtime_ns
    assert pretrain(source, beside, SHORT, made.parent) == made
    assert made.stat().st_mtime_ns == before, "it is the same pretraining"
    taken = Pretrained(made).plan(beside, COCO, ("normal", "abnormal"))
    assert taken.share > 0.9
    assert any("pooled-statistics of train.beside starts afresh" in line for line in taken.lines)


def test_a_pretrained_checkpoint_is_no_recogniser(made):
    with pytest.raises(InputError, match=r"knows no classes yet: train with --pretrained"):
        load_checkpoint(made)


def test_a_killed_pretraining_goes_on_and_ends_bit_equal(tmp_path, source, made):
    script = f"""
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from skeletons import clip_set
from posewatch.config import PretrainConfig, TrainConfig
from posewatch.datasets import layouts
from posewatch.recognition.training import state
from posewatch.recognition.training.pretrain import Source, pretrain
from posewatch.sections import from_dict
wrote = state.write
def write(out, content):
    wrote(out, content)
    if content["epoch"] == 1:
        os.kill(os.getpid(), signal.SIGKILL)
state.write = write
config = from_dict(TrainConfig, {dataclasses.asdict(TINY)!r})
pretrain(Source(clip_set(8), layouts.get("coco17")), config, PretrainConfig(epochs=2, batch=2), Path(sys.argv[1]))
"""
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path / "killed")], timeout=120, env=os.environ)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed/checkpoint.pt").exists()
    again = pretrain(source, TINY, SHORT, tmp_path / "killed")
    assert again.read_bytes() == made.read_bytes()
    assert (tmp_path / "killed/history.jsonl").read_bytes() == (made.parent / "history.jsonl").read_bytes()
    assert not list((tmp_path / "killed").glob(".state*"))


def test_what_is_done_is_not_done_again(made, source, monkeypatch):
    monkeypatch.setattr(pretraining._Run, "one_epoch", lambda self: pytest.fail("pretrained again"))
    assert pretrain(source, TINY, SHORT, made.parent) == made


def test_rendered_people_are_as_long_as_the_clips_beside_them(clips):
    pytest.importorskip("pybullet", reason="the footage maker needs pybullet (pip install 'posewatch[footage]')")
    own = clips(4)
    made = source_of(own, TINY, PretrainConfig(rendered=5)).clips
    assert len(made) == 9
    assert {k.shape[1] for k in made.keypoints[4:]} == {round(float(np.median([k.shape[1] for k in own.keypoints])))}
    with pytest.raises(InputError, match="the clips are kinect15: leave one out"):
        source_of(dataclasses.replace(own, layout="kinect15"), TINY, PretrainConfig(rendered=5))
    with pytest.raises(InputError, match="single persons"):
        source_of(dataclasses.replace(own, unit="person"), TINY, PretrainConfig(rendered=5))


def test_the_verb_takes_a_file_without_labels(tmp_path, annotations, capsys):
    content = pickle.loads(annotations.read_bytes())
    for row in content["annotations"]:
        del row["label"]
    annotations.write_bytes(pickle.dumps({"annotations": content["annotations"]}))
    small = ["--set", "train.model=stgcn++", "--set", "train.width=0.12", "--set", "train.clip_frames=8"]
    words = ["pretrain", "--annotations", str(annotations), *small, "--set", "pretrain.epochs=1"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    path = capsys.readouterr().out.strip()
    assert load_checkpoint(path, pretraining=True).labels == ("unlabelled",)
    assert main(["predict", path, str(annotations)]) == 2
    assert "train with --pretrained" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "give what to pretrain on: a URI of skeletons, --annotations FILE.pkl, or --rendered N"),
        (("--rendered", "4"), "give a folder for the checkpoint: --out DIR"),
        (
            ("sets/pose/a", "--annotations", "a.pkl"),
            "give skeletons of the store (sets/pose/a) or --annotations, not both",
        ),
        (("--annotations", "nowhere.pkl", "--out", "out"), "nowhere.pkl"),
        (("--rendered", "4", "--set", "train.model=statistics", "--out", "out"), "has no layers to pretrain"),
        (("--rendered", "4", "--set", "pretrain.mask=2", "--out", "out"), "pretrain.mask"),
        (
            ("--rendered", "4", "--set", "pretrain.enabled=true", "--set", "train.pretrained=a.pt", "--out", "out"),
            "both say what training begins with",
        ),
    ],
)
def test_bad_input_is_told_in_one_line(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["pretrain", *words]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert message in err
    assert not (tmp_path / "out").exists()


def video(store, name: str, clips) -> dict[str, object]:
    """The skeletons of one video as `pose` writes them; the row of the set and the artifact."""

    def write(folder: Path) -> None:
        np.savez_compressed(folder / SKELETONS, **{f"{name}-{i}": k for i, k in enumerate(clips)})
        about = {"fps": 10.0, "width": 640, "height": 480, "layout": "coco17"}
        (folder / SKELETONS_ABOUT).write_text(json.dumps(about))

    return {"video": name, "names": [f"{name}.mp4"]}, produce(store, Job("skeletons", name, {}), write)


def test_the_stage_leaves_out_the_videos_of_the_test_part(tmp_path, clips, monkeypatch):
    """And it is found again; a training that begins with it has it among its parents."""
    monkeypatch.setenv("POSEWATCH_HOME", str(tmp_path / "home"))
    store = open_store(str(tmp_path / "store"))
    empty = np.zeros((1, 12, 17, 3), np.float32)
    made = [video(store, name, [*clips(3, seed).keypoints, empty]) for seed, name in enumerate(("a", "b", "c"))]
    skeletons = collect(store, "pose", *zip(*made, strict=True))
    rows = [{"video": name, "part": part} for name, part in (("a", "train"), ("c", "test"))]
    written = "".join(json.dumps(row) + "\n" for row in rows)
    dataset = produce(store, Job("datasets", "", {}), lambda folder: (folder / CLIPS).write_text(written))
    assert sorted(unlabelled(skeletons, {"c"}).groups) == ["a"] * 3 + ["b"] * 3
    monkeypatch.setattr("posewatch.stages.pretrain.MOST", 4)
    assert len(unlabelled(skeletons, set())) == 4
    config = dataclasses.replace(SHORT, epochs=1)
    begun = stage(store, skeletons, config, TINY, dataset)
    assert begun.uri == stage(store, skeletons, config, TINY, dataset).uri
    assert stage(store, skeletons, config, dataclasses.replace(TINY, lr=0.01, epochs=9), dataset).uri == begun.uri
    assert {parent.prefix for parent in begun.lineage().parents} == {skeletons.prefix, dataset.prefix}
    job, _ = job_of(store, dataset, dataclasses.replace(TINY, pretrained=begun.uri))
    assert job.parents[1].uri == begun.uri
    with pytest.raises(InputError, match="nobody is seen in any clip"):
        unlabelled(skeletons, {"a", "b", "c"})


def test_the_step_of_a_pipeline_does_nothing_unless_it_is_asked_for(tmp_path):
    from components.pretrain.component import pretrain as component

    given = {"store": str(tmp_path), "skeletons": "sets/pose/none", "data": "datasets/none"}
    assert component.python_func(**given, config=Experiment().to_json()) == ""
    asked = Experiment(pretrain=PretrainConfig(enabled=True))
    with pytest.raises(NotFound, match="sets/pose/none"):
        component.python_func(**given, config=asked.to_json())
