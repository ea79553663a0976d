"""Run a pipeline without a cluster: kfp.local, every step a process of this Python, results in the object store."""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from pathlib import Path
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
            task = without_retries(pipeline)(**arguments)
        except RuntimeError as error:
            raise _error_of_step(name, Path(told), error) from None
        finally:
            del os.environ[boundary.ERROR_FILE]
        return dict(task.outputs)


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
