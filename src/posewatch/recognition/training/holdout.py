"""From labelled clips to one checkpoint whose threshold was chosen on people that its networks had not seen.

Few clips are too few to leave a fifth of them unused. So either one training holds out whole subjects and chooses the
threshold, and a second one uses all clips with it (``train.refit``), or several networks each leave out a fold of the
subjects (``train.folds``), are judged on it, and answer together.
"""

from __future__ import annotations

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
from posewatch.progress import Progress
from posewatch.recognition import distributed as parallel
from posewatch.recognition.ensemble import combine
from posewatch.recognition.recogniser import load_checkpoint
from posewatch.recognition.threshold import odds_of, shrunk_threshold
from posewatch.recognition.training import trainer as training
from posewatch.recognition.training.checks import check
from posewatch.recognition.training.mlflow import FilesOnly, Tracker

CHECKPOINT, HISTORY, CONFIG = "checkpoint.pt", "history.jsonl", "config.yaml"
MEMBER_SEED = 1000
"""What lies between the seeds of an ensemble's members: more than between those that people choose."""


@dataclass(frozen=True)
class Plan:
    """Which clips the trainings of a run fit on and judge on, in what folders, and how in words.

    ``members``: all trainings are members of an ensemble; else the last one is the result.
    """

    parts: tuple[HoldOut, ...]
    names: tuple[str, ...]
    method: str
    members: bool = False

    @property
    def judged(self) -> tuple[HoldOut, ...]:
        """The trainings whose held-out clips chose the threshold."""
        return self.parts if self.members else self.parts[:1]


def plan(clips: ClipSet, config: TrainConfig, positive: str, held: HoldOut | None = None) -> Plan:
    """How to train on ``clips``; ``held`` is their hold-out where the data come with one."""
    everything = HoldOut(np.arange(len(clips)), np.arange(0))
    if config.folds >= 2:
        parts = tuple(folds(clips, config.folds, config.seed))
        if len(parts) > 1:
            names = tuple(f"member{k}" for k in range(len(parts)))
            return Plan(parts, names, f"{len(parts)} networks, each judged on the people it has not seen", True)
    # Without a threshold to choose and an epoch to stop at, nothing needs to be held out.
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
) -> Plan:
    """Train on ``clips`` and write ``checkpoint.pt``, ``history.jsonl`` and ``config.yaml`` to ``out``.

    Run again after a kill it goes on; run again when it is done it only looks. Raises InputError, LabelError or
    ConfigError for what cannot be trained on, before anything is written.
    """
    layout = layout or layouts.get(config.layout or clips.layout)
    check(clips, clips.subset([]), config, positive, layout)
    how = plan(clips, config, positive, held)
    tracker = tracker or FilesOnly()
    with Progress("train", config.epochs * len(how.parts), "epoch") as progress:

        def train(k: int, threshold: float | None = None) -> Path:
            part, name = how.parts[k], how.names[k]
            return training.train(
                clips.subset(part.train),
                clips.subset(part.validation),
                replace(config, seed=config.seed + MEMBER_SEED * k) if how.members else config,
                out / name,
                positive=positive,
                layout=layout,
                threshold=threshold,
                allow_shared=True,
                progress=progress,
                tracker=tracker.section(name) if name else tracker,
            )

        if how.members:
            paths = [train(k) for k in range(len(how.parts))]
            if parallel.writer():
                _join(clips, how, paths, positive, config, out)
            parallel.barrier()
        elif len(how.parts) == 2:
            train(1, load_checkpoint(train(0)).threshold)
            if parallel.writer():
                _write_history(how, out)
        else:
            train(0)
    return how


def curve(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of the rows of ``history.jsonl`` those of the first training: the one that was judged on clips held out."""
    return [row for row in rows if row.get("training") == rows[0].get("training")]


def _write_history(how: Plan, out: Path) -> None:
    """All trainings in one file, each row with the name of its own."""
    rows = []
    for name in how.names:
        told = {"training": name or "final"}
        found = [json.loads(row) for row in (out / name / HISTORY).read_text().splitlines()]
        # The last training writes to the very file: what stands there may be from an earlier run, and complete.
        rows += [{**told, **row} for row in found if row.get("training", told["training"]) == told["training"]]
    write_atomically(out / HISTORY, "".join(canonical(row) + "\n" for row in rows).encode())


def _join(clips: ClipSet, how: Plan, paths: list[Path], positive: str, config: TrainConfig, out: Path) -> None:
    """Make one checkpoint of the members, with the threshold that suits each one's unseen people best."""
    scores = np.zeros((len(clips), len(clips.classes)), np.float32)
    for part, path in zip(how.parts, paths, strict=True):
        member = load_checkpoint(path).to(training.device_of(config))
        scores[part.validation] = member.score(clips.subset(part.validation))
    threshold = None
    if positive:
        index = clips.classes.index(positive)
        odds = odds_of(clips, index, config)
        threshold = shrunk_threshold(scores[:, index], clips.labels == index, odds)
    _write_history(how, out)
    write_atomically(out / CONFIG, training.text(config).encode())
    combine(paths, out / CHECKPOINT, threshold=threshold)
