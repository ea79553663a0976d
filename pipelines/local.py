"""Run a pipeline without a cluster: kfp.local, every step a process of this Python, results in the object store."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from pipelines import stages
from pipelines.arguments import typed
from posewatch import boundary, files, stack
from posewatch.errors import InputError, PosewatchError, first_line


def run_local(name: str, items: list[str], config: str, home: Path | None = None) -> dict[str, Any]:
    """Run the stages of ``prepare``, ``train``, ``end_to_end`` or ``refresh`` here and return its outputs.

    ``items`` are parameters as name=value, ``config`` is the experiment as JSON. The store and the served model are
    those of the embedded stack when it is up, else what the environment names. Raises InputError for a wrong parameter,
    and the step's own error when a step fails.
    """
    from kfp import local

    stack.use(home)
    pipeline = stages(name)
    store = os.environ.get("POSEWATCH_STORE", "")
    if not store and not any(item.startswith("store=") for item in items):
        raise InputError("no object store: give store=s3://bucket, set POSEWATCH_STORE, or run `posewatch up`")
    more = {"config": config, "store": store}
    arguments = typed(name, pipeline.component_spec.inputs or {}, items, more)
    # the engine starts its steps as `python3`: let that be this Python
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    root = files.home(home) / "pipeline-runs"
    local.init(
        runner=local.SubprocessRunner(use_venv=False),
        pipeline_root=str(root),
        raise_on_error=True,
        enable_caching=False,
    )
    with tempfile.TemporaryDirectory(prefix="posewatch-run-") as temp:
        told = os.environ[boundary.ERROR_FILE] = str(Path(temp) / "error.json")
        try:
            with _steps_end_with_us():
                task = without_retries(pipeline)(**arguments)
        except RuntimeError as error:
            raise _error_of_step(name, Path(told), error) from None
        finally:
            del os.environ[boundary.ERROR_FILE]
        return dict(task.outputs)


@contextlib.contextmanager
def _steps_end_with_us() -> Iterator[None]:
    """Inside, SIGTERM also goes to the processes that were started here: the engine would wait for its step's end."""
    before, handler = set(_processes()), signal.getsignal(signal.SIGTERM)
    heeds = callable(handler) and threading.current_thread() is threading.main_thread()

    def end(number: int, frame: FrameType | None) -> None:
        for process in set(_processes()) - before:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM)
        if callable(handler):
            handler(number, frame)

    if heeds:
        signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        if heeds:
            signal.signal(signal.SIGTERM, handler)


def _processes(of: int | None = None) -> list[int]:
    """The children of a process, or of this one, and theirs."""
    found = []
    for tasks in Path(f"/proc/{of or os.getpid()}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, tasks.read_text().split()):
                found += [child, *_processes(child)]
    return found


def _error_of_step(pipeline: str, told: Path, error: RuntimeError) -> PosewatchError:
    """What the step that failed said, with its exit code; what the engine says where the step was killed."""
    try:
        step = json.loads(told.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        reason = re.sub(r"\x1b\[\d+m", "", first_line(error))
        return PosewatchError(f"the pipeline {pipeline} failed: {reason} (its output is above)")
    failed = PosewatchError(f"{pipeline}: {step['line']}")
    failed.exit_code = step["code"]
    return failed


def without_retries(pipeline: Any) -> Any:
    """The pipeline without retries: those are for lost nodes of a cluster; a local failure is reported at once."""
    spec = pipeline.pipeline_spec
    for dag in (spec.root.dag, *(c.dag for c in spec.components.values() if c.HasField("dag"))):
        for task in dag.tasks.values():
            task.ClearField("retry_policy")
    return pipeline
