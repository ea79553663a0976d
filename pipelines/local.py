"""Run a pipeline without a cluster: kfp.local, every step a process of this Python, results in the object store."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from pipelines import stages
from posewatch import stack
from posewatch.errors import InputError, PosewatchError


def run_local(name: str, arguments: dict[str, Any], home: Path | None = None) -> dict[str, Any]:
    """Run the stages of ``prepare``, ``train``, ``end_to_end`` or ``refresh`` here and return its outputs.

    The store and the served model are those of the embedded stack when it is up, else what the environment names.
    Raises PosewatchError when a step fails; the step's own message is on the log.
    """
    from kfp import local

    info = stack.current(home)
    if info is not None:
        for key, value in stack.env(info).items():
            os.environ.setdefault(key, value)
    arguments.setdefault("store", os.environ.get("POSEWATCH_STORE", ""))
    if not arguments["store"]:
        raise InputError("no object store: give store=s3://bucket, set POSEWATCH_STORE, or run `posewatch up`")
    # the engine starts its steps as `python3`: let that be this Python
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    root = (home or Path(os.environ.get("POSEWATCH_HOME") or ".posewatch")) / "pipeline-runs"
    local.init(
        runner=local.SubprocessRunner(use_venv=False),
        pipeline_root=str(root),
        raise_on_error=True,
        enable_caching=False,
    )
    pipeline = without_retries(stages(name))
    try:
        task = pipeline(**arguments)
    except RuntimeError as error:
        raise PosewatchError(f"the pipeline {name} failed: {str(error).splitlines()[0]}") from error
    return dict(task.outputs)


def without_retries(pipeline: Any) -> Any:
    """The pipeline without retries: those are for lost nodes of a cluster; a local failure is reported at once."""
    spec = pipeline.pipeline_spec
    for dag in (spec.root.dag, *(c.dag for c in spec.components.values() if c.HasField("dag"))):
        for task in dag.tasks.values():
            task.ClearField("retry_policy")
    return pipeline
