"""What looking at fewer frames, and decoding fewer pictures, brings in videos of one's own, labelled or not."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from posewatch import video
from posewatch.bench.watch_ways import WAYS, each_way
from posewatch.config import load
from posewatch.datasets import layouts
from posewatch.files import write_atomically
from posewatch.inference.open import open_predictor
from posewatch.inference.predictor import Predictor
from posewatch.perception.networks import build_estimator
from posewatch.progress import Progress
from posewatch.records import Prediction
from posewatch.units import require_unit
from posewatch.video.skipping import Skipping
from posewatch.watch.config import WatchConfig

RATES = (8.0, 10.0)
"""Frames a second at which decoding is measured: those of the demo and of watching."""
STRIDE_S, ROUNDS = 0.5, 3


@dataclass(frozen=True)
class Decoded:
    """Pictures of a video and how many of them were decoded; processor seconds of that, and of decoding all."""

    pictures: int
    decoded: int
    cpu_s: float
    all_cpu_s: float


class _Calm(Predictor):
    """A model that never raises an alarm."""

    def __init__(self, layout: str) -> None:
        self.labels, self.shape = ("normal", "abnormal"), (2, 30, layouts.get(layout).observed, 3)
        self.metadata = {"layout": layout, "positive": "abnormal"}

    def predict(self, keypoints: NDArray[np.float32]) -> Prediction:
        count = len(keypoints)
        answer = np.repeat(np.array([[1, 0]], np.float32), count, 0)
        return Prediction(answer, self.labels, np.zeros((count, 1), np.float32))


def bench_skipping(files: Sequence[tuple[str, Path]], out: Path, *, model: str = "") -> str:
    """Measure the videos ``files``, (name, path); write ``skipping.json`` and ``skipping.md`` to ``out``.

    ``model`` is an address or a file whose alarms are compared; default: none. Returns the page. Raises VideoError.
    """
    config = load("default")
    video.require_pictures([path for _, path in files])
    estimator = build_estimator(config.pose)
    rows: list[dict[str, Any]] = []
    with (
        open_predictor(model) if model else _Calm(estimator.layout) as predictor,
        Progress("videos", len(files), "video") as progress,
    ):
        require_unit(predictor.unit, config.mask.unit, model or "the model", "the configuration")
        settings = WatchConfig(config.mask.fps, config.split.length_s, STRIDE_S)
        for name, path in files:
            decoding = {f"{rate:g}": _decoding(path, rate, config.mask.max_side) for rate in RATES}
            ways = each_way(path, predictor, estimator, config, settings)
            row = {"video": name, "decoding": {rate: vars(one) for rate, one in decoding.items()}}
            rows.append({**row, "ways": {way: cost._asdict() for way, cost in ways.items()}})
            progress.advance(1, name)
    write_atomically(out / "skipping.json", json.dumps(rows, indent=1) + "\n")
    page = _page(rows, bool(model))
    write_atomically(out / "skipping.md", page)
    return page


def _decoding(path: Path, rate: float, side: int) -> Decoded:
    """Both ways in turn, of which the fastest of ``ROUNDS`` counts."""
    pictures, left = video.probe(path).frames, 0
    spent: dict[bool, float] = {}
    for _ in range(ROUNDS):
        for skip in (True, False):
            with _left_out() as counted:
                began = time.process_time()
                for _frame in video.read(path, rate, side, skip=skip):
                    pass
                took = time.process_time() - began
            spent[skip] = min(spent.get(skip, took), took)
            left = counted["left out"] if skip else left
    return Decoded(pictures, pictures - left, round(spent[True], 4), round(spent[False], 4))


@contextmanager
def _left_out() -> Iterator[dict[str, int]]:
    """Counts the pictures that are left out of decoding; those of an attempt that is given up do not count."""
    counted = {"at first": 0, "left out": 0}
    send, finish = Skipping.send, Skipping.finish

    def counting(self: Skipping, packet: Any, at: float) -> bool:
        spared = send(self, packet, at)
        counted["at first"] += spared
        return spared

    def finished(self: Skipping) -> Iterator[Any]:
        yield from finish(self)
        counted["left out"] = counted["at first"]

    with mock.patch.object(Skipping, "send", counting), mock.patch.object(Skipping, "finish", finished):
        yield counted


def _page(rows: Sequence[dict[str, Any]], alarms: bool) -> str:
    """One table of decoding, one of watching: a row for each video, and one for all of them."""
    decoding = ["| video |", "|---|"]
    for rate in rows[0]["decoding"]:
        decoding[0] += f" decoded at {rate} a second | CPU, of decoding all |"
        decoding[1] += "--:|--:|"
    watching = ["| video | seconds |", "|---|--:|"]
    for way in WAYS:
        watching[0] += f" {way}: looked at | of one core |" + (" alarms |" if alarms else "")
        watching[1] += "--:|--:|" + ("--:|" if alarms else "")
    for name, part in [*((row["video"], [row]) for row in rows), ("all", rows)]:
        line = f"| {name} |"
        for rate in rows[0]["decoding"]:
            of = [row["decoding"][rate] for row in part]
            share = sum(one["cpu_s"] for one in of) / max(1e-9, sum(one["all_cpu_s"] for one in of))
            line += f" {sum(one['decoded'] for one in of)} of {sum(one['pictures'] for one in of)} | {share:.2f} |"
        decoding.append(line)
        seconds = sum(row["ways"]["every frame"]["seconds"] for row in part)
        line = f"| {name} | {seconds:.0f} |"
        for way in WAYS:
            costs = [row["ways"][way] for row in part]
            looked = sum(cost["looked"] * cost["seconds"] for cost in costs) / max(1e-9, seconds)
            line += f" {looked:.0%} | {sum(cost['cpu_s'] for cost in costs) / max(1e-9, seconds):.2f} |"
            line += f" {sum(len(cost['raised_s']) for cost in costs)} |" if alarms else ""
        watching.append(line)
    return "\n".join([*decoding, "", *watching, ""])
