"""Runs told to MLflow while they train, when MLFLOW_TRACKING_URI is set; the files of a run are written either way.

The server is a spectator: one that is down, slow or full costs a warning and a few seconds, never a training. What it
missed is sent again later.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from posewatch import __version__
from posewatch.digests import digest
from posewatch.errors import InputError
from posewatch.progress import say

RUN = ".mlflow.json"
"""Beside the checkpoint: which run of the server this folder belongs to."""
EXPERIMENT = "posewatch"
LONGEST = 500
"""Characters of a parameter that every server takes."""
BATCH = 100
"""Parameters that one request may hold, and a modest number of metrics."""
GONE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "BAD_REQUEST")
"""Answers that asking again will not change."""
SETTINGS = {
    # The client's own defaults wait for minutes.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    # Footage of people: nothing about its processing is told to third parties.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


class Tracker(Protocol):
    """Whoever wants to know how a training goes. Its methods never raise for a server's sake."""

    def start(self, params: Mapping[str, Any]) -> None:
        """Begin, or go on with what was begun with the same ``params`` (nested plain data)."""

    def epoch(self, row: Mapping[str, Any], step: int) -> None:
        """The figures of one epoch; what is no number is left out."""

    def section(self, name: str) -> Tracker:
        """The same run, for a part of it: figures of the part are called ``name/...``."""

    def finish(self, metrics: Mapping[str, Any], files: Sequence[Path]) -> None:
        """The final figures (nested plain data) and the files worth keeping."""


def open_tracker(out: Path) -> Tracker:
    """The tracker of the run that writes to ``out``: MLflow's if MLFLOW_TRACKING_URI is set, else none.

    Raises InputError when the variable is set and mlflow is not installed.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI", "").strip()
    if not uri:
        return FilesOnly()
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


class FilesOnly:
    """Does nothing: the folder of the run says it all."""

    def start(self, params: Mapping[str, Any]) -> None:
        """Nothing to do."""

    def epoch(self, row: Mapping[str, Any], step: int) -> None:
        """Nothing to do."""

    def section(self, name: str) -> FilesOnly:
        """Itself."""
        return self

    def finish(self, metrics: Mapping[str, Any], files: Sequence[Path]) -> None:
        """Nothing to do."""


class MLflow:
    """One folder, one run: a training that was killed goes on in the run that it began.

    The run's number stands in ``out/.mlflow.json``. The experiment is MLFLOW_EXPERIMENT_NAME or "posewatch".
    """

    def __init__(self, uri: str, out: Path) -> None:
        self._uri, self._out = uri, out
        self._run = ""
        self._todo: list[Callable[[Any], None]] = []
        self._warned = False
        self._after = 0.0
        self._client: Any = None

    def start(self, params: Mapping[str, Any]) -> None:
        """Begin a run, or go on with the folder's own if it was begun with the same ``params``."""
        # The address may hold a password: its digest is enough to know it again.
        key = digest([hashlib.sha256(self._uri.encode()).hexdigest(), params])
        self._do(lambda client: self._begin(client, params, key))

    def epoch(self, row: Mapping[str, Any], step: int) -> None:
        """Send the numbers of one epoch."""
        self._send_metrics(row, step)

    def section(self, name: str) -> Tracker:
        """This run under a prefix."""
        return _Section(self, name)

    def finish(self, metrics: Mapping[str, Any], files: Sequence[Path]) -> None:
        """Send the final figures as ``final/...`` and the files, and close the run."""
        self._send_metrics({"final": metrics}, 0)
        self._todo.append(lambda client: client.set_terminated(self._run))
        # Last, since a server whose folder for files is not set up right still has the figures.
        for path in files:
            self._todo.append(partial(MLflow._send_file, self, path))
        self._flush()

    def _send_file(self, path: Path, client: Any) -> None:
        client.log_artifact(self._run, str(path))

    def _send_metrics(self, row: Mapping[str, Any], step: int) -> None:
        found = {_legal(key): float(v) for key, v in _flat(row) if _is_number(v)}

        now = int(time.time() * 1000)

        def send(client: Any) -> None:
            from mlflow.entities import Metric

            listed = [Metric(key, value, now, step) for key, value in found.items()]
            for i in range(0, len(listed), BATCH):
                client.log_batch(self._run, metrics=listed[i : i + BATCH])

        self._do(send)

    def _begin(self, client: Any, params: Mapping[str, Any], key: str) -> None:
        from mlflow.entities import Param

        path = self._out / RUN
        run = self._known(client, path, key)
        if not run:
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "").strip() or EXPERIMENT
            experiment = client.get_experiment_by_name(name)
            number = experiment.experiment_id if experiment else client.create_experiment(name)
            tags = {"posewatch.config_digest": digest(params), "posewatch.version": __version__}
            run = client.create_run(number, run_name=self._out.resolve().name, tags=tags).info.run_id
            part = path.with_name(f"{RUN}.part")
            part.write_text(json.dumps({"key": key, "run": run}) + "\n", encoding="utf-8")
            part.replace(path)
        listed = [Param(_legal(k), str(v)[:LONGEST]) for k, v in _flat(params)]
        for i in range(0, len(listed), BATCH):
            client.log_batch(run, params=listed[i : i + BATCH])
        self._run = run

    def _known(self, client: Any, path: Path, key: str) -> str:
        """The run that this folder began and the server still has, running again; else nothing."""
        from mlflow.exceptions import MlflowException

        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            run = str(told["run"]) if told["key"] == key else ""
        except (OSError, ValueError, KeyError, TypeError):
            return ""
        if not run:
            return ""
        try:
            if client.get_run(run).info.lifecycle_stage != "active":
                return ""
            client.update_run(run, status="RUNNING")
        except MlflowException as error:
            if error.error_code not in GONE:
                raise
            return ""
        return run

    def _do(self, call: Callable[[Any], None]) -> None:
        """Make a call, after those that are still to be made; after a failure only when some time has passed."""
        self._todo.append(call)
        if time.monotonic() >= self._after:
            self._flush()

    def _flush(self) -> None:
        began = time.monotonic()
        try:
            with warnings.catch_warnings():
                # The client warns of its own and of its libraries' future; a training's user can do nothing about it.
                warnings.simplefilter("ignore")
                if self._client is None:
                    from mlflow.tracking import MlflowClient

                    self._client = MlflowClient(tracking_uri=self._uri)
                while self._todo:
                    self._call(self._todo[0])
                    self._todo.pop(0)
        except Exception as error:
            now = time.monotonic()
            # Some clients try for minutes: never let that be more than a small part of the training.
            self._after = now + max(10.0, 20 * (now - began))
            self._warn(error)

    def _call(self, call: Callable[[Any], None]) -> None:
        try:
            call(self._client)
        except Exception as error:
            if not self._run or getattr(error, "error_code", "") not in GONE:
                raise
            # What the server will never take must not keep the rest from it.
            self._warn(error)

    def _warn(self, error: Exception) -> None:
        if self._warned:
            return
        self._warned = True
        said = " ".join(f"{type(error).__name__}: {error}".split())
        text = f"MLflow at {self._uri} does not answer as it should; training goes on, {self._out} holds all. {said}"
        say(f"posewatch: warning: {re.sub(r'//[^/@ ]*@', '//', text)[:400]}")


class _Section:
    """A part of a run: its figures have names of their own."""

    def __init__(self, whole: Tracker, name: str) -> None:
        self._whole, self._name = whole, name

    def start(self, params: Mapping[str, Any]) -> None:
        """The whole has started already."""

    def epoch(self, row: Mapping[str, Any], step: int) -> None:
        """The part's figures."""
        self._whole.epoch({self._name: row}, step)

    def section(self, name: str) -> Tracker:
        """A part of the part."""
        return _Section(self._whole, f"{self._name}/{name}")

    def finish(self, metrics: Mapping[str, Any], files: Sequence[Path]) -> None:
        """The whole finishes, not its parts."""


def _flat(tree: Mapping[str, Any], above: str = "") -> list[tuple[str, Any]]:
    """Nested mappings as (a/b/c, value)."""
    out: list[tuple[str, Any]] = []
    for key, value in tree.items():
        name = f"{above}/{key}" if above else str(key)
        out += _flat(value, name) if isinstance(value, Mapping) else [(name, value)]
    return out


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _legal(name: str) -> str:
    """A name that MLflow takes, and that is not a path out of its folder."""
    parts = [re.sub(r"[^\w\-. :]", "_", part).strip(".") or "_" for part in name.split("/")]
    return "/".join(parts)[:250]
