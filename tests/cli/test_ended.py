"""SIGTERM, as a pod or a batch system ends a program: its temporary folders go, and its status says why."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import ROOT

from posewatch.footage import make_footage
from posewatch.stack.process import wait_until

ENDED = "posewatch: stopped; finished work is saved"


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    make_footage(folder, videos=3, seconds=8.0, size=(320, 240), seed=5)
    return folder


Ended = Callable[[list[str], Callable[[], bool]], "subprocess.CompletedProcess[str]"]


@pytest.fixture
def ended(tmp_path: Path) -> Iterator[Ended]:
    """Start Python with arguments, wait, send SIGTERM to it alone, and return how it ended."""
    started: list[subprocess.Popen[str]] = []
    (tmp_path / "tmp").mkdir()

    def run(arguments: list[str], ready: Callable[[], bool]) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "TMPDIR": str(tmp_path / "tmp"), "POSEWATCH_WORKERS": "2"}
        program = subprocess.Popen(
            [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, cwd=ROOT
        )
        started.append(program)
        assert wait_until(lambda: ready() or program.poll() is not None, 120)
        assert program.poll() is None, program.communicate()
        program.send_signal(signal.SIGTERM)
        out, err = program.communicate(timeout=60)
        return subprocess.CompletedProcess(arguments, program.returncode, out, err)

    yield run
    for program in started:
        program.kill()
        program.communicate()


def left(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "tmp").rglob("*") if path.name.startswith("posewatch-")]


def test_a_verb_with_workers_tidies_up(ended: Ended, videos: Path, tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    verb = [sys.executable, "-m", "posewatch.cli.main", "ingest", str(videos), "--store", store]
    raw = subprocess.run(verb, capture_output=True, text=True, check=True).stdout.strip()
    done = ended(
        ["-m", "posewatch.cli.main", "mask", raw, "--store", store],
        lambda: any("posewatch-work-" in path.parent.name for path in left(tmp_path)),
    )
    assert (done.returncode, done.stderr.strip().splitlines()[-1]) == (143, ENDED)
    assert left(tmp_path) == []


_STEP = """
import pathlib, signal, sys, time
def end(*_):
    pathlib.Path(sys.argv[1]).with_suffix(".ended").write_text("tidied up")
    raise SystemExit(0)
signal.signal(signal.SIGTERM, end)
pathlib.Path(sys.argv[1]).write_text("started")
time.sleep(300)
"""
_FOREGROUND = """
import sys
from posewatch.boundary import guarded
from posewatch.cli.services import _foreground
sys.exit(guarded("posewatch", lambda: _foreground([sys.executable, "-c", *sys.argv[1:]])))
"""
_LOCAL = """
import subprocess, sys
from pipelines.local import _steps_end_with_us
from posewatch.boundary import guarded
def run():
    words = ["sh", "-c", '"$0" -c "$1" "$2"; true', sys.executable, *sys.argv[1:]]
    with _steps_end_with_us(), subprocess.Popen(words, stdout=subprocess.PIPE) as step:
        return step.wait()
sys.exit(guarded("posewatch", run))
"""


@pytest.mark.parametrize("program", [_FOREGROUND, _LOCAL], ids=["posewatch label", "a step of a pipeline"])
def test_a_program_in_our_place_is_told_and_waited_for(ended: Ended, tmp_path: Path, program: str) -> None:
    told = tmp_path / "told"
    done = ended(["-c", program, _STEP, str(told)], told.exists)
    assert wait_until(told.with_suffix(".ended").exists, 20)
    assert (done.returncode, done.stderr.strip()) == (143, ENDED)


_STEP_OF_KUBEFLOW = """
import pathlib, sys, tempfile, time
from posewatch.stages.run import step
step("memory://")
with tempfile.TemporaryDirectory(prefix="posewatch-"):
    pathlib.Path(sys.argv[1]).write_text("started")
    time.sleep(300)
"""


def test_a_step_tidies_up(ended: Ended, tmp_path: Path) -> None:
    done = ended(["-c", _STEP_OF_KUBEFLOW, str(tmp_path / "told")], (tmp_path / "told").exists)
    assert (done.returncode, left(tmp_path)) == (143, [])


def test_an_ignored_signal_stays_ignored(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys\nfrom posewatch.boundary import guarded\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "sys.exit(guarded('posewatch', lambda: os.kill(os.getpid(), signal.SIGHUP)))"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60, check=False).returncode == 0


def test_a_second_signal_does_not_wait_for_the_first_ones_tidying_up() -> None:
    code = """
import time
from posewatch.boundary import terminable
with terminable():
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        print("tidying", flush=True)
        time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        for line in ("ready\n", "tidying\n"):
            assert program.stdout.readline() == line
            program.send_signal(signal.SIGTERM)
        assert program.wait(30) == -signal.SIGTERM
