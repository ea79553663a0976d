"""``python -m pipelines run``: parameters have the pipeline's own types, and whatever is wrong with one is one line."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from support import run

from pipelines.__main__ import main
from pipelines.arguments import typed
from posewatch.errors import InputError


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["sorce=/x"], "prepare has no parameter 'sorce' (it has: config, shard_size, source, source_seconds, store)"),
        (["source=/x", "shard_size=2.5"], "shard_size must be a whole number, not '2.5'"),
        (["source=/x", "shard_size="], "shard_size must be a whole number, not ''"),
        (["source=/x", "shard_size=true"], "shard_size must be a whole number, not 'true'"),
        (["source=/x", "shard_size=99999999999999999999"], "shard_size must be a whole number"),
        (["source=/x", "source=/y"], "source is given twice"),
        (["source"], "argument 'source' must look like name=value"),
        (["shard_size=2"], "prepare needs source=…"),
        (["source="], "prepare needs source=…"),
        (["source=rtsp://me:hunter2@cam/x"], "source=rtsp://cam/x holds a password"),
        (["source=/x", "--config", "nope"], "no configuration named 'nope'"),
        (["source=/x", "--set", "mask.no=1"], "mask.no"),
        (["source=/x", "--no-such=rtsp://me:hunter2@cam"], "No such option: --no-such"),
    ],
)
def test_a_wrong_parameter_is_one_line(
    words: list[str], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("POSEWATCH_STORE", str(tmp_path))
    monkeypatch.setenv("POSEWATCH_HOME", str(tmp_path))
    code = main(["run", "prepare", *words])
    err = capsys.readouterr().err
    assert code == 2
    assert err.startswith("posewatch: ")
    assert err.count("\n") == 1
    assert line in err
    assert "hunter2" not in err
    assert list(tmp_path.iterdir()) == []


def test_parameters_of_every_type() -> None:
    kinds = {"i": "Integer", "f": "Float", "b": "Boolean", "l": "List", "d": "Dict", "s": "String"}
    inputs = {key: SimpleNamespace(type=kind, optional=True) for key, kind in kinds.items()}
    given = ["i=-3", "f=2", "b=True", 'l=["a", 1]', 'd={"a": 1}', "s=1=2"]
    found = typed("p", inputs, given, {"s": "other", "i": ""})
    assert found == {"i": -3, "f": 2.0, "b": True, "l": ["a", 1], "d": {"a": 1}, "s": "1=2"}
    assert isinstance(found["f"], float)
    for wrong in ("i=x", "f=abc", "b=maybe", "l=a,b", "d=[]"):
        with pytest.raises(InputError, match=f"{wrong[0]} must be"):
            typed("p", inputs, [wrong], {})


def test_a_step_that_fails_is_one_line_with_its_exit_code_and_a_number_gets_there(tmp_path: Path) -> None:
    env = {"POSEWATCH_STORE": str(tmp_path / "store"), "POSEWATCH_HOME": str(tmp_path / "home")}
    done = run("run", "prepare", "source=/no/such", "shard_size=2", env=env, module="pipelines")
    assert done.returncode == 2
    assert "Traceback" not in done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("posewatch: ")]
    assert lines == [
        "posewatch: prepare: no such file or folder: /no/such (give a video, a folder of videos, or an s3:// URI)"
    ]
    assert "posewatch: no such file or folder: /no/such" in done.stdout
