from __future__ import annotations

import subprocess
import sys

import pytest

from posewatch.config import LabelConfig
from posewatch.errors import LabelError
from posewatch.labels.gate import wait_for_labels
from posewatch.progress import Progress


def test_the_gate_opens_at_once_when_enough_is_labelled(sqlite_store, make_clips):
    clips = make_clips()
    sqlite_store.register(clips)
    sqlite_store.set_labels({e.clip.id: ("normal", "abnormal")[i % 2] for i, e in enumerate(clips)}, "ann", "human")
    assert wait_for_labels(sqlite_store, LabelConfig()) == {"normal": 2, "abnormal": 2}


def test_the_gate_names_the_class_that_is_short(sqlite_store, make_clips):
    clips = make_clips()
    sqlite_store.register(clips)
    ids = [e.clip.id for e in clips]
    sqlite_store.set_labels({ids[0]: "normal", ids[1]: "normal", ids[2]: "abnormal"}, "ann", "human")
    sqlite_store.set_label(ids[3], "abnormal", "net", "model", "m/1")  # a model's opinion opens no gate
    with pytest.raises(LabelError) as caught:
        wait_for_labels(sqlite_store, LabelConfig())
    assert str(caught.value).startswith("class 'abnormal' has 1 labelled clip, 2 are needed: label more with")
    with pytest.raises(LabelError, match="class 'normal' has no labelled clips, and class 'abnormal' has 1 labelled"):
        wait_for_labels(sqlite_store, LabelConfig(), clip_ids=ids[2:])
    with pytest.raises(LabelError, match=r"1 labelled clip after 0\.05 s, 2 are needed"):
        wait_for_labels(sqlite_store, LabelConfig(timeout_s=0.05), poll_s=0.01)


def test_the_gate_waits_for_people(sqlite_store, make_clips, tmp_path, monkeypatch):
    log = tmp_path / "progress.jsonl"
    monkeypatch.setenv("POSEWATCH_PROGRESS", str(log))
    clips = make_clips()
    sqlite_store.register(clips)
    ids = [e.clip.id for e in clips]
    sqlite_store.set_labels({ids[0]: "normal", ids[1]: "normal"}, "ann", "human")
    code = (
        "import sys, time; from pathlib import Path; from posewatch.labels.store import LabelStore\n"
        "store, log = LabelStore(sys.argv[1]), Path(sys.argv[2])\n"
        "for done, clip in enumerate(sys.argv[3:]):\n"
        "    end = time.monotonic() + 50\n"
        "    while f'abnormal {done}' not in (log.read_text() if log.exists() else '') and time.monotonic() < end:\n"
        "        time.sleep(0.02)\n"  # the next one once the gate has told of the last
        "    store.set_label(clip, 'abnormal', 'bob', 'human')"
    )
    with subprocess.Popen([sys.executable, "-c", code, sqlite_store.url, str(log), *ids[2:]]) as labeler:
        with Progress("labels", 4, "label") as progress:
            counts = wait_for_labels(sqlite_store, LabelConfig(timeout_s=60), progress, poll_s=0.02)
        assert counts == {"normal": 2, "abnormal": 2}
        assert progress.done == 4
    assert labeler.returncode == 0
    assert "labelled: normal 2, abnormal 1" in log.read_text()
