"""What only a real process shows: a closed pipe, Ctrl-C, a full stdout, a terminal without UTF-8, another user."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import ROOT, heeds_ctrl_c

from posewatch.cli import main as cli

POSEWATCH = [sys.executable, "-m", "posewatch.cli"]
LIST = [*POSEWATCH, "weights", "list"]


def env(tmp_path: Path, **more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("POSEWATCH")}
    return {**kept, "PYTHONPATH": str(ROOT / "src"), "POSEWATCH_HOME": str(tmp_path / "home"), **more}


def test_a_reader_that_goes_away_ends_it_quietly(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(LIST, stdout=write, stderr=subprocess.PIPE, text=True, env=env(tmp_path))
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_full_stdout_is_told(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(LIST, stdout=full, stderr=subprocess.PIPE, text=True, env=env(tmp_path))
    assert done.returncode == 8
    assert done.stderr.startswith("posewatch: stdout: no space is left on the disk")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("closed", [1, 2])
def test_a_closed_stream_is_no_error(closed: int, tmp_path: Path) -> None:
    done = subprocess.run(LIST, capture_output=True, text=True, env=env(tmp_path), preexec_fn=lambda: os.close(closed))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "told", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}]
)
def test_a_terminal_without_utf_8(told: dict[str, str], tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + "/복도.mp4".encode()
    done = subprocess.run(
        [*POSEWATCH, "ingest", name, "--store", str(tmp_path / "s")],
        capture_output=True,
        text=True,
        env=env(tmp_path, **told),
    )
    assert done.returncode == 2
    assert done.stderr.startswith("posewatch: no such file or folder: ")
    assert done.stderr.count("\n") == 1


def test_ctrl_c(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*POSEWATCH, "ingest", "rtsp://127.0.0.1:9/x", "--duration", "9", "--store", str(tmp_path / "s")],
        stderr=subprocess.PIPE, text=True, env=env(tmp_path), preexec_fn=heeds_ctrl_c,
    )  # fmt: skip
    assert process.stderr is not None
    first = process.stderr.readline()  # the progress has begun
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert "capture" in first
    assert process.returncode in (2, 130)  # nothing was recorded
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("posewatch: ")


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def nobody(number: int) -> None:
        raise KeyError(number)

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("POSEWATCH_CACHE", raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)
    assert cli.main(["weights", "where", "movenet"]) == 2
    line = "posewatch: this user has no home folder: set HOME, or POSEWATCH_CACHE and POSEWATCH_HOME\n"
    assert capsys.readouterr().err == line


def test_a_folder_of_another_user(tmp_path: Path) -> None:
    if os.geteuid() or not shutil.which("setpriv"):
        pytest.skip("only root, with setpriv, can give up the right to read and write everything")
    kept = tmp_path / "kept"
    kept.mkdir(mode=0o755)
    secret = kept / "secret.pkl"
    secret.write_bytes(b"x")
    secret.chmod(0o600)
    for path in (kept, secret):
        os.chown(path, 65534, 65534)
    another = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", *POSEWATCH]
    for words, line in [
        (["footage", "--out", str(kept / "run")], f"{kept}: not allowed"),
        (["events", "--windows", str(secret), "--intervals", str(secret), "--out", str(tmp_path / "e")], "secret.pkl"),
        (["ingest", str(secret), "--store", str(kept / "store")], "secret.pkl"),
    ]:
        done = subprocess.run([*another, *words], capture_output=True, text=True, env=env(tmp_path))
        assert done.returncode in (2, 3), done.stderr
        assert line in done.stderr
        assert "Traceback" not in done.stderr
        assert len([row for row in done.stderr.splitlines() if not row.startswith("{")]) == 1
    assert [path.name for path in kept.iterdir()] == ["secret.pkl"]


def test_read_only_file_systems_and_too_many_open_files() -> None:
    import errno

    from posewatch.faults import explained

    for number, code, words in [
        (errno.EROFS, 2, "read-only"), (errno.ENOSPC, 8, "no space"), (errno.EMFILE, 8, "ulimit -n"),
        (errno.EDQUOT, 8, "quota"), (errno.ENAMETOOLONG, 2, "too long"), (errno.EACCES, 2, "not allowed"),
    ]:  # fmt: skip
        ours = explained(OSError(number, os.strerror(number), "/a/b"))
        assert (ours.exit_code, str(ours)[:6], words in str(ours)) == (code, "/a/b: ", True)
    assert "set TMPDIR" in str(explained(FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")))
    assert explained(MemoryError()).exit_code == 8
