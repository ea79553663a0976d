"""From labelled clips to one checkpoint, its threshold chosen on people that its networks have not seen.

A small set cannot spare a fifth of its clips for the threshold. So either one training holds out whole subjects and
chooses the threshold, and a second one trains on all clips and takes it over (``train.refit``), or several networks
each hold out a fold of the subjects for the threshold and are averaged (``train.folds``).
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from posewatch.config import TrainConfig
from posewatch.datasets import layouts
from posewatch.datasets.clipset import ClipSet
from posewatch.datasets.layouts import Layout
from posewatch.datasets.split import HoldOut, folds, hold_out
from posewatch.digests import canonical
from posewatch.files import write_atomically
from posewatch.progress import Progress, say
from posewatch.recognition import distributed as parallel
from posewatch.recognition.calibration import Calibration, HeldOut, calibrate
from posewatch.recognition.ensemble import combine
from posewatch.recognition.recogniser import load_checkpoint, wants_flow
from posewatch.recognition.threshold import odds_of
from posewatch.recognition.training import trainer as training
from posewatch.recognition.training.checks import check
from posewatch.recognition.training.mlflow import Tracker
from posewatch.recognition.training.pretrained import Pretrained

CHECKPOINT, HISTORY, CONFIG = "checkpoint.pt", "history.jsonl", "config.yaml"
MEMBER_SEED = 1000
"""Distance of the seeds of an ensemble's members, larger than between seeds that people choose."""


NO_FLOW = (
    "posewatch: note: these clips have no flow of pixels: the networks on it are left out (`prepare` measures it, with "
    "pose.flow, where it has the raw video)"
)


@dataclass(frozen=True)
class Plan:
    """The trainings of a run: clips to train and to validate on, folders, and the method in words.

    ``members``: all trainings are members of an ensemble; else the last one is the result.
    """

    parts: tuple[HoldOut, ...]
    names: tuple[str, ...]
    method: str
    members: bool = False

    @property
    def judged(self) -> tuple[HoldOut, ...]:
        """The trainings whose held-out clips choose the threshold."""
        return self.parts if self.members else self.parts[:1]


def plan(clips: ClipSet, config: TrainConfig, positive: str, held: HoldOut | None = None) -> Plan:
    """How to train on ``clips``; ``held`` is their hold-out where the data come with one."""
    everything = HoldOut(np.arange(len(clips)), np.arange(0))
    if config.folds >= 2:
        parts = tuple(folds(clips, config.folds, config.seed))
        if len(parts) > 1:
            names = tuple(f"member{k}" for k in range(len(parts)))
            return Plan(parts, names, f"{len(parts)} networks, each judged on the people it has not seen", True)
    # Nothing needs to be held out without a threshold to choose or early stopping.
    if not (positive or config.patience > 0) or (held is None and config.validation <= 0):
        return Plan((everything,), ("",), "nothing was held out: there is no threshold to choose")
    held = held or hold_out(clips, config.validation, config.seed)
    if not len(held.validation):
        return Plan((held,), ("",), "nothing could be held out")
    if not (config.refit and positive):
        return Plan((held,), ("",), "one network, judged on people held out")
    return Plan((held, everything), ("validation", ""), "threshold from people held out, then trained on all clips")


def fit(
    clips: ClipSet,
    config: TrainConfig,
    out: Path,
    *,
    positive: str,
    layout: Layout | None = None,
    held: HoldOut | None = None,
    tracker: Tracker | None = None,
    begin: Pretrained | None = None,
) -> Plan:
    """Train on ``clips`` and write ``checkpoint.pt``, ``history.jsonl`` and ``config.yaml`` to ``out``.

    ``begin`` is the checkpoint that every network begins with; what is taken of it is told. A killed run goes
    on when it is called again; a finished one is only read. Raises InputError, LabelError or ConfigError before
    anything is written.
    """
    clips = clips.with_flow(clips.flow if wants_flow(config) else 0)
    layout = (layout or layouts.get(config.layout or clips.layout)).with_flow(clips.flow)
    check(clips, clips.subset([]), config, positive, layout)
    if wants_flow(config) and not clips.flow and parallel.rank() == 0:
        _once(NO_FLOW)
    if begin is not None:
        told = [*begin.notes, *begin.plan(config, layout, clips.classes).lines]
        for line in told if parallel.rank() == 0 else ():
            say(f"posewatch: pretrained: {line}")
    trainings = plan(clips, config, positive, held)
    tracker = tracker or Tracker()
    with Progress("train", config.epochs * len(trainings.parts), "epoch") as progress:

        def train(k: int, calibration: Calibration | None = None) -> Path:
            part, name = trainings.parts[k], trainings.names[k]
            return training.train(
                clips.subset(part.train),
                clips.subset(part.validation),
                replace(config, seed=config.seed + MEMBER_SEED * k) if trainings.members else config,
                out / name,
                positive=positive,
                layout=layout,
                calibration=calibration,
                allow_shared=True,
                progress=progress,
                tracker=tracker.section(name) if name else tracker,
                begin=begin,
            )

        if trainings.members:
            paths = [train(k) for k in range(len(trainings.parts))]
            if parallel.writer():
                _join(clips, trainings, paths, positive, config, out)
            parallel.barrier()
        elif len(trainings.parts) == 2:
            train(1, load_checkpoint(train(0)).calibration)
            if parallel.writer():
                _write_history(trainings, out)
        else:
            train(0)
    return trainings


def curve(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of ``history.jsonl`` of the training whose network is kept; of an ensemble, of its first member.

    After a refit that is the second training, on all clips. The network that chose the threshold saw fewer people, so
    its validation loss, in the file as well, says little about the one that is kept.
    """
    kept = "final" if any(row.get("training") == "final" for row in rows) else rows[0].get("training")
    return [row for row in rows if row.get("training") == kept]


def read_history(path: Path) -> list[dict[str, Any]]:
    """The rows of a ``history.jsonl``; one that was cut by a power loss is told and left out."""
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            say(f"posewatch: note: {path} is damaged: the learning curve lacks an epoch")
    return rows


def _write_history(trainings: Plan, out: Path) -> None:
    """All trainings in one file, each row with the name of its training."""
    rows = []
    for name in trainings.names:
        training = name or "final"
        read = read_history(out / name / HISTORY)
        # The last training writes to this very file, which may be complete already, from an earlier run.
        rows += [{"training": training, **row} for row in read if row.get("training", training) == training]
    write_atomically(out / HISTORY, "".join(canonical(row) + "\n" for row in rows).encode())


def _join(clips: ClipSet, trainings: Plan, paths: list[Path], positive: str, config: TrainConfig, out: Path) -> None:
    """Write one checkpoint of the members, its threshold chosen on the people that each member has not seen."""
    scores = np.zeros((len(clips), len(clips.classes)), np.float32)
    for part, path in zip(trainings.parts, paths, strict=True):
        member = load_checkpoint(path).to(training.device_of(config))
        member.temperature = 1.0
        scores[part.validation] = member.score(clips.subset(part.validation))
    index = clips.classes.index(positive) if positive else None
    odds = 1.0 if index is None else odds_of(clips, index, config)
    chosen = calibrate(HeldOut.by(scores, clips), index, config, odds)
    _write_history(trainings, out)
    write_atomically(out / CONFIG, training.text(config).encode())
    combine(paths, out / CHECKPOINT, calibration=chosen)


@functools.cache
def _once(line: str) -> None:
    """Tell what is the same for all trainings of a run."""
    say(line)
