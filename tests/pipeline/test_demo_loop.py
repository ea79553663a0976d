"""`make demo-loop` in its smallest form, as a user runs it: from rendered cameras to figures, and again at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import run

SMALL = ("--first", "10", "--watched", "3", "--later", "3", "--no-browser", "--set", "labels.min_verdicts=1")


def ours(out: str) -> str:
    """The screen of text at the end, but for the time."""
    return out.partition("false alarms  per")[2].partition("done in")[0]


@pytest.mark.slow
@pytest.mark.usefixtures("real_networks")
def test_the_whole_loop_and_a_second_run_that_finds_it_done(tmp_path: Path) -> None:
    pytest.importorskip("pybullet", reason="the footage extra is not installed")
    env = {"POSEWATCH_HOME": str(tmp_path)}
    done = run(*SMALL, env=env, module="pipelines.demo_loop")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (path,) = tmp_path.glob("demo-loop/*/loop.json")
    told = json.loads(path.read_text())
    assert sum(told["verdicts"].values()) >= 1
    assert told["figures"]["recordings"] == 3
    assert told["promoted"] <= told["better"], "what its gate refuses is never promoted"
    assert path.with_name("loop.png").stat().st_size > 10_000
    for word in ("gate ", "verdicts ", "plot ", "figures ", "lineage ", "No browser here"):
        assert word in done.stdout
    again = run(*SMALL, env=env, module="pipelines.demo_loop")
    assert again.returncode == 0
    assert "stack:" not in again.stdout, "no server is started"
    assert ours(again.stdout) == ours(done.stdout)
