"""What tests of several areas use: run our commands as a user would, and read the one line in which they fail."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup

from posewatch.cli import main as cli
from posewatch.inference import triton_admin
from posewatch.stack.process import wait_until

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
CONFIG = [
    "--set", "split.length_s=1.5",
    "--set", "train.epochs=2",
    "--set", "train.width=0.1",
    "--set", "train.clip_frames=12",
    "--set", "train.batch=4",
    "--set", "serving.bench_seconds=0.5",
    "--set", "serving.concurrency=1,4",
]  # fmt: skip


def run(*arguments: str, env: dict[str, str], module: str = "posewatch.cli.main") -> subprocess.CompletedProcess[str]:
    """Run a command of ours as a user would, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        capture_output=True, text=True, cwd=ROOT, env={**os.environ, **env}, timeout=900,
    )  # fmt: skip


def said(done: subprocess.CompletedProcess[str]) -> str:
    """The one line in which a command that failed says why."""
    assert done.returncode != 0, done.stdout
    lines = [line for line in done.stderr.splitlines() if line.startswith("posewatch: ") and "; try " not in line]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return lines[0]


def stop_and_wait(pid: int) -> None:
    """SIGSTOP, which a process with many threads obeys a moment after it was sent."""
    os.kill(pid, signal.SIGSTOP)
    assert wait_until(lambda: all(_stopped(task) for task in Path(f"/proc/{pid}/task").iterdir()), 20)


def _stopped(task: Path) -> bool:
    try:
        return (task / "stat").read_text().rpartition(")")[2].split()[0] in "TZ"
    except OSError:
        return True  # a thread that ended


def heeds_ctrl_c() -> None:
    """For ``preexec_fn``: a shell starts background jobs with SIGINT ignored, and children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def parsed(words: Sequence[str]) -> dict[str, Any]:
    """The options of a command line, without running its verb. Raises TyperException for what it does not know."""
    command: Any = typer.main.get_command(cli.app)
    context, args = None, list(words)
    while isinstance(command, TyperGroup):
        context = command.make_context(command.name, args, parent=context)
        name, command, args = command.resolve_command(context, [*context._protected_args, *context.args])
    return dict(command.make_context(name, args, parent=context).params)


def self_signed(folder: Path) -> tuple[Path, Path]:
    """(key, certificate) of a server at 127.0.0.1, which nobody trusts. Skips the test where there is no openssl."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl here (apt-get install openssl)")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=test"]
    made = [
        openssl,
        "req",
        "-x509",
        *kind,
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-keyout",
        key,
        "-out",
        certificate,
    ]
    subprocess.run(made, check=True, capture_output=True)
    return key, certificate


def counted(url: str, model: str, before: dict[str, int], **wanted: int) -> dict[str, int]:
    """What a Triton counted since ``before``, once it has counted what is ``wanted``: it answers first, then counts."""
    end = time.monotonic() + 20
    while True:
        after = triton_admin.statistics(url, model)
        since = {key: after[key] - before[key] for key in after}
        if wanted.items() <= since.items():
            return since
        assert time.monotonic() < end, f"{since} instead of {wanted}"
        time.sleep(0.02)
