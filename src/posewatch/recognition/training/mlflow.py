"""Experiment tracking: a training is also a run of MLflow when MLFLOW_TRACKING_URI is set.

The files of a run are written either way. A server that is down, slow or full costs a warning and a few seconds, never
a training; what it missed is sent again later.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from posewatch import __version__
from posewatch.digests import digest
from posewatch.errors import InputError
from posewatch.files import write_atomically
from posewatch.progress import say
from posewatch.redact import redact

RUN = ".mlflow.json"
"""Beside the checkpoint: the id of this folder's run on the server."""
EXPERIMENT = "posewatch"
LONGEST = 500
"""Characters of a parameter that every server accepts."""
PERMANENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "BAD_REQUEST")
"""Errors that a second try does not change."""
SETTINGS = {
    # The client's own defaults wait for minutes.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    # Footage of people: no usage reports to third parties.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


class Tracker:
    """Receives the progress of a training; this one logs nothing. No method raises because of a server."""

    def start(self, params: Mapping[str, Any]) -> None:
        """Begin a run, or go on with the folder's own if it was begun with the same ``params`` (nested plain data)."""

    def epoch(self, row: Mapping[str, Any], step: int) -> None:
        """Log the numbers of one epoch; other values are left out."""

    def section(self, name: str) -> Tracker:
        """The same run, for a part of it: the part's metrics are named ``name/...``."""
        return _Section(self, name)

    def finish(self, metrics: Mapping[str, Any], files: Sequence[Path]) -> None:
        """Log the final metrics (nested plain data) as ``final/...`` and the files, and end the run."""


def open_tracker(out: Path) -> Tracker:
    """The tracker of the run that writes to ``out``, which logs to MLFLOW_TRACKING_URI if that is set.

    Raises InputError when the variable is set and mlflow is not installed.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI", "").strip()
    if not uri:
        return Tracker()
    for key, value in SETTINGS.items():
        os.environ.setdefault(key, value)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import mlflow.tracking  # noqa: F401
    except ImportError as error:
        name = str(error.name).split(".")[0]
        raise InputError(
            f"MLFLOW_TRACKING_URI is set, but {name} is not installed: pip install 'posewatch[tracking]'"
        ) from None
    return MLflow(uri, out)


class _Section(Tracker):
    """A part of a run; only its epochs are logged."""

    def __init__(self, whole: Tracker, name: str) -> None:
        self._whole, self._name = whole, name

    def epoch(self, row: Mapping[str, Any], step: int) -> None:
        self._whole.epoch({self._name: row}, step)


class MLflow(Tracker):
    """One folder, one run of the experiment MLFLOW_EXPERIMENT_NAME ("posewatch"); a killed training goes on in it.

    Calls wait in a queue. It is sent at once while the server answers; after a failure it rests for some time.
    """

    def __init__(self, uri: str, out: Path) -> None:
        self._uri, self._out = uri, out
        self._run = ""
        self._queue: list[Callable[[Any], object]] = []
        self._retry_at = 0.0
        self._warned = False

    def start(self, params: Mapping[str, Any]) -> None:
        self._log(lambda client: self._begin(client, params))

    def epoch(self, row: Mapping[str, Any], step: int) -> None:
        now = int(time.time() * 1000)
        numbers = {
            key: float(value)
            for key, value in _flat(row)
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        }

        def log(client: Any) -> None:
            from mlflow.entities import Metric

            client.log_batch(self._run, metrics=[Metric(key, value, now, step) for key, value in numbers.items()])

        self._log(log)

    def finish(self, metrics: Mapping[str, Any], files: Sequence[Path]) -> None:
        self.epoch({"final": metrics}, 0)
        self._queue.append(lambda client: client.set_terminated(self._run))
        # Last: a server that cannot store files still has the metrics.
        self._queue += [partial(self._log_file, path) for path in files]
        self._send()

    def _log_file(self, path: Path, client: Any) -> None:
        client.log_artifact(self._run, str(path))

    def _begin(self, client: Any, params: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        path = self._out / RUN
        # The address may hold a password: its digest identifies it.
        key = digest([hashlib.sha256(self._uri.encode()).hexdigest(), params])
        run = _resume(client, path, key)
        if not run:
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "").strip() or EXPERIMENT
            experiment = client.get_experiment_by_name(name)
            number = experiment.experiment_id if experiment else client.create_experiment(name)
            tags = {"posewatch.config_digest": digest(params), "posewatch.version": __version__}
            run = client.create_run(number, run_name=self._out.resolve().name, tags=tags).info.run_id
            write_atomically(path, (json.dumps({"key": key, "run": run}) + "\n").encode())
        client.log_batch(run, params=[Param(name, str(value)[:LONGEST]) for name, value in _flat(params)])
        self._run = run

    def _log(self, call: Callable[[Any], object]) -> None:
        self._queue.append(call)
        if time.monotonic() >= self._retry_at:
            self._send()

    def _send(self) -> None:
        began = time.monotonic()
        try:
            with warnings.catch_warnings():
                # The client warns of its libraries' future, which a training's user cannot change.
                warnings.simplefilter("ignore")
                from mlflow.tracking import MlflowClient

                client = MlflowClient(tracking_uri=self._uri)
                while self._queue:
                    try:
                        self._queue[0](client)
                    except Exception as error:
                        if not self._run or getattr(error, "error_code", "") not in PERMANENT:
                            raise
                        self._warn(error)
                    self._queue.pop(0)
        except Exception as error:
            # Some clients try for minutes: that must stay a small part of the training.
            now = time.monotonic()
            self._retry_at = now + max(10.0, 20 * (now - began))
            self._warn(error)

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            text = f"MLflow at {self._uri} does not work; training goes on, {self._out} holds everything. {reason}"
            say(f"posewatch: warning: {redact(text)[:400]}")
        self._warned = True


def _resume(client: Any, path: Path, key: str) -> str:
    """The id in ``path`` if it is of the same ``key`` and its run still exists, which then runs again; else ""."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["key"] != key:
            return ""
        run = str(record["run"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    try:
        if client.get_run(run).info.lifecycle_stage != "active":
            return ""
        client.update_run(run, status="RUNNING")
    except Exception as error:
        if getattr(error, "error_code", "") not in PERMANENT:
            raise
        return ""
    return run


def _flat(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Nested mappings as (a/b/c, value), in names that MLflow accepts."""
    for key, value in tree.items():
        parts = [re.sub(r"[^\w\-. :]", "_", part).strip(".") or "_" for part in str(key).split("/")]
        name = "/".join([above, *parts] if above else parts)
        if isinstance(value, Mapping):
            yield from _flat(value, name)
        else:
            yield name[:250], value
