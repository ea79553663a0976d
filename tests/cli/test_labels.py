"""``posewatch labels``: what an operator does from the command line."""

from __future__ import annotations

import json

import pytest

from posewatch.cli.main import main
from posewatch.labels.store import LabelStore
from posewatch.labels.team import roles


@pytest.fixture
def run(sqlite_store: LabelStore, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("POSEWATCH_HOME", str(tmp_path / "home"))

    def go(*words: str) -> tuple[int, str, str]:
        code = main(["labels", *words, "--labels-url", sqlite_store.url, "--store", str(tmp_path / "objects")])
        out = capsys.readouterr()
        return code, out.out, out.err

    return go


def test_roles_are_given_and_listed(run, sqlite_store):
    assert run("role") == (0, "nobody has a role yet\n", "")
    assert run("role", "ann@x", "reviewer") == (0, "ann@x: reviewer\n", "")
    assert run("role", "ann@x") == (0, "reviewer\n", "")
    assert "ann@x" in run("role")[1]
    code, _, err = run("role", "ann@x", "king")
    assert code == 2
    assert err == "posewatch: unknown role 'king' (known: none, labeler, reviewer, admin, operator)\n"
    assert roles.role_of(sqlite_store, "ann@x") == "reviewer"


def test_labels_are_exported_audited_and_compared(run, sqlite_store, make_clips, tmp_path):
    clips = make_clips(count=3)
    sqlite_store.register(clips)
    ids = [e.clip.id for e in clips]
    sqlite_store.set_labels(dict.fromkeys(ids, "normal"), "ann", "human")
    sqlite_store.set_label(ids[0], "abnormal", "bob", "human")
    code, _, err = run("export", "csv", "--out", str(tmp_path / "a.csv"))
    assert code == 2
    assert "people disagree on 1 clip" in err
    assert not (tmp_path / "a.csv").exists()
    code, out, _ = run("export", "csv", "--out", str(tmp_path / "a.csv"), "--allow-disagreement")
    assert (code, out) == (0, f"3 labelled clips in {tmp_path / 'a.csv'}\n")
    assert run("audit", "--out", str(tmp_path / "a.jsonl"))[1].startswith("4 rows")
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 4
    result = json.loads(run("agreement")[1])
    assert (result["clips"], result["differ"]) == (1, 1)


def test_a_refresh_needs_one_model(run):
    for words in ((), ("--endpoint", "grpc://x:1/m", "--checkpoint", "a.pt")):
        code, _, err = run("refresh", "clips/x", "skeletons/x", *words)
        assert code == 2
        assert err.startswith("posewatch: choose one model: --endpoint")
        assert err.count("\n") == 1


def test_a_checkpoint_orders_the_queue_of_a_set(run, sqlite_store, tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    from labeling.test_object_store import prepared

    from posewatch.config import TrainConfig
    from posewatch.datasets.layouts import get
    from posewatch.recognition.recogniser import Recogniser, save
    from posewatch.stages.queue_clips import queue_clips
    from posewatch.store import FolderStore

    monkeypatch.setenv("POSEWATCH_WORKERS", "1")
    objects = FolderStore(tmp_path / "objects")
    clips, skeletons = prepared(objects)
    queue_clips(clips, sqlite_store)
    torch.manual_seed(0)
    config = TrainConfig(model="stgcn", width=0.05, clip_frames=10, stream="j")
    recogniser = Recogniser(config, get("coco17"), ("normal", "abnormal"), "abnormal", 10.0)
    save(tmp_path / "a.pt", recogniser, recogniser.state_dict())
    words = ("refresh", clips.uri, skeletons.uri, "--checkpoint", str(tmp_path / "a.pt"))
    code, out, err = run(*words)
    assert code == 0, err
    result = json.loads(out)
    assert result["scored"] == result["ordered"] + result["random"] == 4
    ids = [e.clip.id for e in sqlite_store.clips()]
    sqlite_store.set_label(ids[0], "normal", "ann", "human")
    assert json.loads(run(*words)[1])["scored"] == 3, "what a person has labelled is not asked again"


def test_labels_of_a_class_that_was_taken_out_are_told_when_they_are_exported(run, sqlite_store, make_clips, tmp_path):
    clips = make_clips(count=3)
    sqlite_store.register(clips)
    labels = {e.clip.id: label for e, label in zip(clips, ("normal", "fight", "fight"), strict=True)}
    for clip, label in labels.items():
        sqlite_store.set_label(clip, label, "ann", "human", classes=("normal", "abnormal", "fight"))
    code, _, err = run("export", "csv", "--out", str(tmp_path / "a.csv"))
    assert code == 0
    assert err == "posewatch: note: 2 clips 'fight', which is none of the classes normal, abnormal\n"
