"""Official checkpoints: imported, equal to what they were, and trained on; what files of mmcv hold beside weights."""

from __future__ import annotations

import os
import sys
import types
from collections import OrderedDict
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from skeletons import clip_set

torch = pytest.importorskip("torch")

from posewatch.artifact import Job, produce  # noqa: E402
from posewatch.cli.main import main  # noqa: E402
from posewatch.config import TrainConfig, load  # noqa: E402
from posewatch.datasets import layouts  # noqa: E402
from posewatch.errors import ConfigError, InputError, LabelError  # noqa: E402
from posewatch.recognition.features import Features  # noqa: E402
from posewatch.recognition.imported import any_checkpoint, import_official  # noqa: E402
from posewatch.recognition.models.protogcn.network import ProtoGCN  # noqa: E402
from posewatch.recognition.models.protogcn.official import read_official, to_official  # noqa: E402
from posewatch.recognition.recogniser import Recogniser, load_checkpoint, save  # noqa: E402
from posewatch.recognition.training.holdout import fit  # noqa: E402
from posewatch.recognition.training.pretrained import Pretrained  # noqa: E402
from posewatch.stages.train import job_of  # noqa: E402
from posewatch.store import open_store  # noqa: E402

PARITY = Path(
    os.environ.get("POSEWATCH_PARITY_FILE")
    or Path(__file__).resolve().parents[2].parent / "shared/data/parity/protogcn_coco17.npz"
)
TEXT = """model = dict(type='RecognizerGCN')
train_pipeline = [dict(type='UniformSampleFrames', clip_len=24), dict(type='GenSkeFeat', feats=['b'])]
test_pipeline = [dict(type='UniformSampleFrames', clip_len=24, num_clips=3),
    dict(type='FormatGCNInput', num_person=1)]
"""


def official(path: Path, joints: int = 20, classes: int = 2, width: int = 16, meta: dict | None = None) -> ProtoGCN:
    """Write a checkpoint as mmcv's runner does, of a small network whose terms are all active."""
    torch.manual_seed(1)
    network = ProtoGCN(joints=joints, classes=classes, width=width, prototypes=12).eval()
    with torch.no_grad():
        for name, value in [*network.named_parameters(), *network.named_buffers()]:
            if name.endswith(("alpha", "beta", "mean_joint")):
                value.normal_(0, 0.5)
            elif name.endswith("running_var"):
                value.uniform_(0.5, 1.5)
    meta = {"epoch": 150, "hook_msgs": {"best_score": np.float64(0.9)}} if meta is None else meta
    torch.save({"meta": meta, "state_dict": OrderedDict(to_official(network.state_dict())), "optimizer": {}}, path)
    return network


def test_the_parity_file_is_met_through_the_import(tmp_path):
    if not PARITY.is_file():
        pytest.skip(f"no parity file at {PARITY} (POSEWATCH_PARITY_FILE)")
    want = np.load(PARITY)
    state = OrderedDict((k[3:], torch.from_numpy(want[k])) for k in want.files if k.startswith("sd/"))
    torch.save({"meta": {"epoch": 150}, "state_dict": state}, tmp_path / "official.pth")
    assert main(["import-checkpoint", str(tmp_path / "official.pth"), "--out", str(tmp_path / "ours.pt")]) == 0
    ours = load_checkpoint(tmp_path / "ours.pt")
    assert (ours.layout.name, ours.frames, ours.people, ours.labels) == ("coco17", 100, 2, ("class_0", "class_1"))
    with torch.no_grad():
        (output,) = ours.run(torch.from_numpy(want["x"]))
    assert np.abs(output.logits.numpy() - want["eval/logits"]).max() <= 5e-5
    assert np.abs(ours.probabilities(want["x"]) - want["eval/probs"]).max() <= 5e-5


def test_the_coco20_form_takes_17_joints(tmp_path):
    """Clients send what an estimator gives; the virtual joints and streams are in our graph."""
    theirs = official(tmp_path / "a.pth")
    ours, _ = import_official(tmp_path / "a.pth", stream="bm", frames=30, people=1)
    clips = np.stack([clip_set(1, i).keypoints[0][:, :1].repeat(30, 1) for i in range(2)])
    features = Features(layouts.get("coco20"), 30, "raw")
    x, _ = features(torch.from_numpy(clips))
    assert x.shape[3] == 20
    np.testing.assert_allclose(x[..., 17, :2].numpy(), (clips[..., 11, :2] + clips[..., 12, :2]) / 2, rtol=1e-6)
    np.testing.assert_allclose(x[..., 19, :2].numpy(), (clips[..., 5, :2] + clips[..., 6, :2]) / 2, rtol=1e-6)
    with torch.no_grad():
        want = theirs(features.stack(x, None, "bm")).logits.softmax(1).numpy()
    assert np.abs(ours.probabilities(clips) - want).max() <= 5e-5


def test_what_the_file_says_is_taken_and_what_it_does_not_say_is_told(tmp_path, capsys):
    official(tmp_path / "a.pth", meta={"config": TEXT})
    (tmp_path / "label_map.txt").write_text("normal\nselfharm\n")
    options = ["--classes", str(tmp_path / "label_map.txt"), "--features", "hips", "--out", str(tmp_path / "a.pt")]
    assert main(["import-checkpoint", str(tmp_path / "a.pth"), *options]) == 0
    ours, told = load_checkpoint(tmp_path / "a.pt"), capsys.readouterr().err
    assert (ours.config.stream, ours.frames, ours.people, ours.config.test_clips) == ("b", 24, 1, 3)
    assert (ours.labels, ours.positive, ours.config.features) == (("normal", "selfharm"), "selfharm", "hips")
    for part in (
        "stream b (from the file)",
        "people 1 (from the file)",
        "30 frames per second (the file does not say)",
    ):
        assert part in told, part
    assert main(["import-checkpoint", str(tmp_path / "a.pth"), "--stream", "j", "--out", str(tmp_path / "b.pt")]) == 0
    assert "stream j (as given)" in (told := capsys.readouterr().err)
    assert "they are class_0, class_1" in told
    first = (tmp_path / "b.pt").read_bytes()
    assert main(["import-checkpoint", str(tmp_path / "a.pth"), "--stream", "j", "--out", str(tmp_path / "b.pt")]) == 0
    assert (tmp_path / "b.pt").read_bytes() == first, "equal input gives equal bytes"


class Hostile:
    def __reduce__(self):
        return os.system, ("touch pwned",)


class History:
    """Like mmengine's HistoryBuffer, of a package that is not here: arrays as attributes."""

    def __init__(self):
        self.values = np.arange(3)


def test_files_run_no_code_and_say_what_they_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    History.__module__, History.__qualname__ = "mmengine.logging", "History"
    monkeypatch.setitem(sys.modules, "mmengine.logging", types.SimpleNamespace(History=History))
    monkeypatch.setitem(sys.modules, "mmengine", types.SimpleNamespace(logging=sys.modules["mmengine.logging"]))
    official(tmp_path / "history.pth", meta={"h": History(), "n": np.arange(3)})
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert "state_dict" in read_official("history.pth"), "unknown objects beside the weights are left out"
    official(tmp_path / "hostile.pth", meta={"x": Hostile()})
    with pytest.raises(InputError, match="not a checkpoint of weights alone"):
        import_official("hostile.pth")
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"classes": ["a", "b", "c"]}, LabelError, "has 2 classes, but 3 are named: a, b, c"),
        ({"layout": layouts.get("coco17")}, InputError, "has 20 joints, layout 'coco17' has 17"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, options, error, message):
    official(tmp_path / "a.pth")
    with pytest.raises(error, match=message):
        import_official(tmp_path / "a.pth", **options)


def test_an_imported_checkpoint_is_an_artifact_from_which_a_pipeline_trains(tmp_path, capsys):
    """It is found again, and a training's name holds the digest of what it began with, not its place."""
    official(tmp_path / "a.pth", width=8)
    store = open_store(str(tmp_path / "store"))
    argv = ["import-checkpoint", str(tmp_path / "a.pth"), "--classes", "normal,abnormal", "--store", store.uri]
    uris = []
    for _ in range(2):
        assert main(argv) == 0
        uris.append(capsys.readouterr().out.strip())
    assert uris[0] == uris[1], "the same file is the same artifact"
    dataset = produce(store, Job("datasets", "", {}), lambda folder: (folder / "dataset.json").write_text("{}"))
    (tmp_path / "b.pth").write_bytes((tmp_path / "a.pth").read_bytes())
    places = ["", uris[0], str(tmp_path / "a.pth"), str(tmp_path / "b.pth")]
    jobs = [job_of(store, dataset, replace(SMALL, pretrained=place))[0] for place in places]
    assert jobs[0].fingerprint == Job("checkpoints", "", {**asdict(SMALL)}, (dataset,), revision=2).fingerprint
    assert len({job.fingerprint for job in jobs}) == 3
    assert jobs[2].fingerprint == jobs[3].fingerprint
    assert jobs[1].parents[1].uri == uris[0], "lineage leads to it"
    for place, message in (("nowhere.pt", "neither a file nor a checkpoint"), (dataset.uri, "holds no checkpoint.pt")):
        with pytest.raises(InputError, match=message):
            job_of(store, dataset, replace(SMALL, pretrained=place))
    with pytest.raises(InputError, match="a file of this machine, which the job's pods do not see"):
        job_of(store, dataset, replace(SMALL, pretrained=places[2]), remote=True)


SMALL = replace(load("small-gcn").train, width=1 / 6, model_options={"prototypes": 12}, features="raw", stream="j",
                layout="coco20", people=1, clip_frames=8, epochs=1, average_epochs=0.0, batch=4, threads=1,
                validation=0.0, refit=False)  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # threads that wait for each other cost more than these tiny networks
    yield
    torch.set_num_threads(before)


def test_fine_tuning_begins_with_the_checkpoint_and_says_so(tmp_path, capsys):
    """Another number of classes, joints without virtual ones: the rest is taken, to the bit, and the report names what
    was not."""
    official(tmp_path / "a.pth", classes=5)
    clips = clip_set(4)
    config = replace(SMALL, layout="", pretrained=str(tmp_path / "a.pth"))
    begin = Pretrained(config.pretrained)
    target = Recogniser(config, layouts.get("coco17"), clips.classes, "abnormal", 10.0)
    before = {k: v.clone() for k, v in target.state_dict().items()}
    taken = begin.into(target)
    own, theirs = target.networks[0].state_dict(), begin.source.networks[0].state_dict()
    assert torch.equal(own["blocks.0.graph.topology"], theirs["blocks.0.graph.topology"][:, :17, :17])
    assert torch.equal(own["input_norm.running_var"], theirs["input_norm.running_var"][: 17 * 3])
    assert torch.equal(own["blocks.3.time.mean_joint"][:17], theirs["blocks.3.time.mean_joint"][:17])
    assert torch.equal(own["blocks.9.graph.pre.0.weight"], theirs["blocks.9.graph.pre.0.weight"])
    assert torch.equal(own["classify.weight"], before["networks.0.classify.weight"]), "other classes start afresh"
    square = theirs["contrast.project.weight"].view(-1, 20, 20)[:, :17, :17].reshape(-1, 289)
    assert torch.equal(own["contrast.project.weight"], square)
    assert 0.9 < taken.share < 1
    assert "not taken, so that they start afresh: classify.weight" in " ".join(taken.lines)
    fit(clips, config, tmp_path / "run", positive="abnormal", begin=begin)
    assert capsys.readouterr().err.count("% of the weights are those of") == 1
    assert load_checkpoint(tmp_path / "run" / "checkpoint.pt").labels == clips.classes


def test_joints_and_classes_are_matched_by_name(tmp_path):
    """Our own checkpoints too: OpenPose's order of joints, and classes of which some are new, in another order."""
    clips = clip_set(4)
    source = Recogniser(replace(SMALL, layout=""), layouts.get("coco17"), ("normal", "fall", "fight"), "fall", 10.0)
    save(tmp_path / "a.pt", source, source.state_dict())
    target = Recogniser(replace(SMALL, layout=""), layouts.get("openpose18"), ("fall", "normal", "theft"), "fall", 10.0)
    taken = Pretrained(tmp_path / "a.pt").into(target)
    a, b = source.networks[0].state_dict(), target.networks[0].state_dict()
    coco, openpose = layouts.get("coco17").joints, layouts.get("openpose18").joints
    i, j = coco.index("left_wrist"), coco.index("nose")
    k, m = openpose.index("left_wrist"), openpose.index("nose")
    assert torch.equal(b["blocks.2.graph.topology"][:, k, m], a["blocks.2.graph.topology"][:, i, j])
    assert torch.equal(b["classify.weight"][0], a["classify.weight"][1])
    assert torch.equal(b["classify.weight"][1], a["classify.weight"][0])
    assert not torch.equal(b["classify.weight"][2], a["classify.weight"][2])
    told = " ".join(taken.lines)
    assert "1 joint unknown to the checkpoint: neck" in told
    assert "1 class unknown to the checkpoint: theft" in told
    assert len(clips) == 4


@pytest.mark.parametrize("model", ["protogcn", "stgcn", "stgcn++", "aagcn", "ctrgcn", "hypergcn"])
def test_every_network_takes_its_own_weights_whole(tmp_path, model):
    config = TrainConfig(model=model, width=0.125)
    source = Recogniser(config, layouts.get("coco17"), ("a", "b"), "b", 10.0)
    save(tmp_path / "a.pt", source, source.state_dict())
    torch.manual_seed(5)
    target = Recogniser(config, layouts.get("coco17"), ("a", "b"), "b", 10.0)
    assert Pretrained(tmp_path / "a.pt").into(target).share == 1
    for name, value in source.state_dict().items():
        assert torch.equal(value, target.state_dict()[name]), name
    other = Recogniser(config, layouts.get("coco20"), ("a", "b"), "b", 10.0)
    # Hyper-GCN's graphs of all joints and virtual ones are a third of its weights at this width.
    assert Pretrained(tmp_path / "a.pt").into(other).share > (0.7 if model == "hypergcn" else 0.8)


def test_another_network_is_refused_with_the_remedy(tmp_path):
    official(tmp_path / "a.pth")
    for change, message in (({"model": "ctrgcn"}, "holds a protogcn, train.model is ctrgcn: set train.model=protogcn"),
                            ({"width": 0.5}, "must be those of the checkpoint \\(protogcn, 0.16")):  # fmt: skip
        target = Recogniser(replace(SMALL, **change), layouts.get("coco20"), ("a", "b"), "b", 10.0)
        with pytest.raises(ConfigError, match=message):
            Pretrained(tmp_path / "a.pth").into(target)


def test_a_run_from_other_weights_is_another_run(tmp_path):
    """A finished run is not taken for one that begins elsewhere, and an unset key changes nothing."""
    clips, config = clip_set(4), replace(SMALL, width=1 / 12)
    official(tmp_path / "a.pth", width=8)
    results = []
    for place in ("", str(tmp_path / "a.pth"), ""):
        out = tmp_path / ("with" if place else "without")
        begin = Pretrained(place) if place else None
        fit(clips, replace(config, pretrained=place), out, positive="abnormal", begin=begin)
        results.append((out / "checkpoint.pt").read_bytes())
    assert results[0] == results[2] != results[1]
    assert "pretrained" not in load_checkpoint(tmp_path / "with" / "checkpoint.pt").description()["config"]


def test_hips_are_the_measure(tmp_path):
    """As the paper's tool computes it, frame by frame; coordinates that are relative already do not change; hips on top
    of each other do not blow up."""
    features = Features(layouts.get("coco20"), 12, "hips")
    clip = clip_set(1).keypoints[0][None, :, :12].copy()
    x, present = features(torch.from_numpy(clip))
    for t in range(12):
        k = clip[0, 0, t, :, :2]
        want = (k - (k[11] + k[12]) / 2) / np.linalg.norm(k[11] - k[12])
        np.testing.assert_allclose(x[0, 0, t, :17, :2].numpy(), want, atol=2e-4)
    assert present is None
    again, _ = features(x[..., :17, :])
    np.testing.assert_allclose(again.numpy(), x.numpy(), atol=1e-4)
    clip[..., 11, :2] = clip[..., 12, :2]
    assert features(torch.from_numpy(clip))[0][..., :2].abs().max() < 100
    with pytest.raises(ConfigError, match="layout 'hipless' has no left_hip and right_hip"):
        Features(layouts.Layout("hipless", ("a", "b"), ((1, 0),), 0, ()), 4, "hips")


def test_ours_or_official_is_found_out(tmp_path):
    official(tmp_path / "a.pth", width=8)
    ours, _ = import_official(tmp_path / "a.pth")
    save(tmp_path / "a.pt", ours, ours.state_dict())
    for name in ("a.pth", "a.pt"):
        assert any_checkpoint(tmp_path / name)[0].layout.name == "coco20"
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(InputError, match="not a checkpoint of weights alone"):
        any_checkpoint(tmp_path / "text.pth")
