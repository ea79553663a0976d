"""The stack's state files after a power loss."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from posewatch.errors import StackError
from posewatch.stack import current, seaweed
from posewatch.stack.process import wait_until
from posewatch.stack.state import State, processes_of


@pytest.fixture
def state(tmp_path: Path) -> State:
    state = State.new(tmp_path)
    state.s3_ports = (1, 2)
    state.write()
    return state


@pytest.mark.parametrize("text", ["", '{"s3_ports": [1'])
@pytest.mark.parametrize("name", ["stack.json", "credentials.json"])
def test_a_state_file_that_was_cut_is_told_and_written_anew(
    name: str, text: str, state: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text(text)
    assert current(tmp_path) is None
    again = State.read(tmp_path) or State.new(tmp_path)
    again.write()
    assert State.read(tmp_path) is not None
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert f"{name} is damaged" in err
    assert (tmp_path / f"{name}.damaged").read_text() == text
    assert (tmp_path / "credentials.json").stat().st_mode & 0o777 == 0o600


def test_a_server_that_runs_is_never_forgotten(state: State, tmp_path: Path) -> None:
    (tmp_path / "stack.json").write_text("")
    words = [sys.executable, "-c", "import time; time.sleep(60)", f"-dir={tmp_path / 's3'}"]
    with subprocess.Popen(words) as server:
        assert wait_until(lambda: processes_of(tmp_path) == [server.pid], 20)
        for _ in range(2):
            with pytest.raises(StackError, match=f"stop process {server.pid}"):
                current(tmp_path)
        server.kill()


def test_a_folder_that_the_s3_server_would_take_for_two_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="comma"):
        seaweed.launch(tmp_path / "a,b", tmp_path / "log", (1, 2, 3, 4, 5), "key", "secret")
