import json

import pytest

from posewatch import progress as module
from posewatch.progress import Progress


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.delenv("POSEWATCH_PROGRESS", raising=False)
    monkeypatch.delenv("RANK", raising=False)
    return now


def run(clock, steps=12, every=3.0):
    with Progress("train", steps, "epoch") as progress:
        for i in range(steps):
            clock[0] += every
            progress.advance(note=f"loss {i}")
        progress.say("done soon")


def test_a_log_has_a_line_every_ten_seconds(clock, capsys):
    run(clock)
    rows = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [row["done"] for row in rows if "done" in row] == [0, 4, 8, 12, 12]
    assert rows[-2]["message"] == "done soon"
    assert rows[-1]["note"] == "finished"


def test_a_file_has_every_step(clock, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("POSEWATCH_PROGRESS", str(tmp_path / "progress.jsonl"))
    run(clock)
    rows = [json.loads(line) for line in (tmp_path / "progress.jsonl").read_text().splitlines()]
    assert [row["done"] for row in rows if "done" in row] == [*range(13), 12]
    assert [json.loads(line) for line in capsys.readouterr().err.splitlines()] == [rows[-2]]


def test_of_several_processes_the_first_one_speaks(clock, capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    run(clock)
    assert capsys.readouterr().err == ""


def test_a_line_says_how_long_it_still_takes(clock, capsys):
    with Progress("train", 12, "epoch") as progress:
        progress.advance(4, before=True)  # of a run that was killed: no pace follows from them
        for _ in range(4):
            clock[0] += 11.0
            progress.advance()
    rows = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [row.get("left_s") for row in rows] == [None, 77, 66, 55, 44, 44]
