"""Asks a served model over and over while versions change, and draws which version answered when.

One client holds a gRPC connection for as long as it gets, as a camera's watcher does; the other opens a new HTTP
connection for each request. Run it in the cluster during `posewatch deploy`, `promote` and `rollback`.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from posewatch.errors import PosewatchError
from posewatch.files import atomic, write_atomically
from posewatch.inference.open import parse_endpoint
from posewatch.inference.triton import TritonPredictor

PROTOCOLS = ("grpc", "http")
TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Answer:
    """One request at ``at_s`` seconds: the version that answered, or, with ``error``, why none did."""

    at_s: float
    protocol: str
    version: str
    error: str = ""


class RolloutClient:
    """Asks both endpoints every ``every_s`` seconds while it is entered; ``answers`` are in order of time."""

    def __init__(self, grpc: str, http: str, every_s: float = 0.5) -> None:
        self._endpoints = {"grpc": parse_endpoint(grpc), "http": parse_endpoint(http)}
        self._every_s = every_s
        self.answers: list[Answer] = []
        self.marks: list[tuple[float, str]] = []
        """(seconds, what began then): lines in the plot."""
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(p,), daemon=True) for p in PROTOCOLS]
        self._began = time.monotonic()

    def __enter__(self) -> RolloutClient:
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        time.sleep(2 * self._every_s)
        self._over.set()
        for thread in self._threads:
            thread.join(2 * TIMEOUT_S)

    def mark(self, text: str) -> None:
        """Note that something begins now."""
        self.marks.append((time.monotonic() - self._began, text))

    @property
    def failures(self) -> list[str]:
        """Requests without an answer."""
        return [f"{a.at_s:.2f} s, {a.protocol}: {a.error}" for a in self.answers if a.error]

    def order(self, protocol: str = "http") -> list[str]:
        """The versions in the order in which they answered; each change counts."""
        return [v for v, _ in groupby(a.version for a in self.answers if a.protocol == protocol and not a.error)]

    def fresh(self, protocol: str) -> str:
        """The version that answers a new connection now. Raises ServingError."""
        with self._connect(protocol) as predictor:
            return predictor.version

    def _connect(self, protocol: str, retries: int = 0) -> TritonPredictor:
        _, url, model = self._endpoints[protocol]
        return TritonPredictor(url, model, protocol, timeout_s=TIMEOUT_S, retries=retries)

    def _ask(self, protocol: str) -> None:
        held: TritonPredictor | None = None
        while not self._over.wait(self._every_s):
            at, version, problem = time.monotonic() - self._began, "", ""
            try:
                if held is None:
                    held = self._connect(protocol, retries=3 if protocol == "grpc" else 0)
                held.predict(np.zeros((1, *held.shape), np.float32))
                held.select(fresh=True)
                version = held.version
            except PosewatchError as error:
                problem = str(error)
            if held is not None and (protocol == "http" or problem):
                held.close()
                held = None
            self.answers.append(Answer(at, protocol, version, problem))
        if held is not None:
            held.close()


def run(grpc: str, http: str, minutes: float, out: Path, every_s: float = 0.5) -> str:
    """Ask for so many minutes, write ``rollout.json`` and ``rollout.png`` into ``out``; one line for people."""
    client = RolloutClient(grpc, http, every_s)
    with client:
        time.sleep(60 * minutes)
    return report(client, out)


def report(client: RolloutClient, out: Path) -> str:
    """Write what the client saw into ``out``; one line for people."""
    rows: dict[str, Any] = {"answers": [asdict(a) for a in client.answers], "marks": client.marks}
    write_atomically(out / "rollout.json", json.dumps(rows, indent=1) + "\n")
    plot(client, out / "rollout.png")
    versions = ", then ".join(client.order()) or "no version"
    return (
        f"{len(client.answers)} requests, {len(client.failures)} without an answer; {versions}; {out / 'rollout.png'}"
    )


def plot(client: RolloutClient, path: Path) -> None:
    """Answers by version over time, one row of dots per protocol and version; requests without an answer in red."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    versions = list(dict.fromkeys(a.version for a in client.answers if a.version))
    for shift, (protocol, colour) in zip((-0.12, 0.12), (("grpc", "#1b6ca8"), ("http", "#e07b39")), strict=True):
        rows = [a for a in client.answers if a.protocol == protocol]
        good = [(a.at_s, versions.index(a.version) + shift) for a in rows if a.version]
        label = {"grpc": "gRPC, one connection held", "http": "HTTP, a new connection each time"}[protocol]
        axes.plot(*zip(*good, strict=True) if good else ((), ()), "o", ms=3, color=colour, label=label)
        bad = [a.at_s for a in rows if a.error]
        axes.plot(bad, [-0.6 + shift] * len(bad), "x", color="red", label=f"{protocol}: no answer" if bad else None)
    for at, text in client.marks:
        axes.axvline(at, color="0.75", lw=0.8, zorder=0)
        axes.annotate(text, (at, 1.0), xycoords=("data", "axes fraction"), fontsize=8, rotation=28, ha="left")
    axes.set_yticks(range(len(versions)), [f"version {v[:6]}" for v in versions])
    axes.set_ylim(-0.9, max(0.5, len(versions) - 0.5))
    axes.set_xlabel("seconds")
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.16), fontsize=8, frameon=False, ncols=4)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    with atomic(path) as partial:
        figure.savefig(partial, format="png", dpi=110)
