"""A grid of experiments on one annotation file: every combination of models, streams, pretrained weights and other
settings of training, each with all seeds and splits. A finished cell is not trained again, a killed one goes on.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import shlex
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch

from posewatch.config import TrainConfig, load
from posewatch.datasets.clipset import ClipSet
from posewatch.digests import digest
from posewatch.errors import ConfigError, InputError
from posewatch.files import write_atomically
from posewatch.fingerprints import fingerprinted
from posewatch.progress import Progress, say
from posewatch.recognition import distributed as parallel
from posewatch.recognition.recogniser import load_checkpoint
from posewatch.recognition.training import experiment, grid_report
from posewatch.recognition.training.checks import check
from posewatch.recognition.training.experiment import Part, Task
from posewatch.recognition.training.holdout import CHECKPOINT
from posewatch.recognition.training.pretrained import Pretrained
from posewatch.recognition.training.trainer import plain
from posewatch.rules import Range
from posewatch.sections import from_dict, is_null, read_yaml

REPORT, TABLE, PLOT = "experiment.json", "experiment.md", "experiment.png"
MOST = 1000
"""Rows of a grid; more are a slip of the pen."""
TIMED_S, TIMED = 0.5, 30
"""How long the CPU time of one clip is measured, and how often at most."""


@dataclass(frozen=True)
class Settings:
    """The file of an experiment. ``grid``: keys of ``train.*``, each with one value or a list; the others are the
    options of ``posewatch train``. Paths are relative to the file, else to the current folder."""

    annotations: str
    grid: dict[str, Any] = field(default_factory=dict)
    config: str = "default"
    train_split: str = "train"
    test_split: str = "test"
    cross_validate: Annotated[int, Range(0, 1000)] = 0
    """From 2 on: that many folds by source video or subject, instead of the two splits."""
    classes: tuple[str, ...] = ()
    layout: str | None = None
    positive: str | None = None
    subject_pattern: str | None = None
    labels: str | None = None
    resplit: str | None = None
    allow_shared_subjects: bool = False
    drop_empty: bool = False
    keep_empty: bool = False

    def options(self) -> Iterator[str]:
        """What of them ``posewatch train`` must be told."""
        yield from ("--annotations", self.annotations)
        defaults = {"train_split": "train", "test_split": "test", "cross_validate": 0, "config": "default"}
        for name, default in defaults.items():
            if (value := getattr(self, name)) != default:
                yield from (_option(name), str(value))
        if self.classes:
            yield from ("--classes", ",".join(self.classes))
        for name in ("layout", "positive", "subject_pattern", "labels", "resplit"):
            if (value := getattr(self, name)) is not None:
                yield from (_option(name), value)
        flags = ("allow_shared_subjects", "drop_empty", "keep_empty")
        yield from (_option(name) for name in flags if getattr(self, name))


@dataclass(frozen=True)
class Row:
    """One combination of settings: the values of the grid's keys as texts, and all settings of its training."""

    values: Mapping[str, str]
    config: TrainConfig

    @property
    def name(self) -> str:
        """The name of its folder. It depends on the settings only, not on the rest of the grid: a grid that grows finds
        its finished cells."""
        key = digest(fingerprinted(plain(replace(self.config, seed=0))))[:8]
        return re.sub(r"[^\w+.]+", "-", f"{self.config.model}-{self.config.stream}") + f"-{key}"


@dataclass(frozen=True)
class Grid:
    """The rows and seeds of an experiment's file; ``unit`` is what its clips show."""

    file: Path
    settings: Settings
    rows: tuple[Row, ...]
    seeds: tuple[int, ...]
    unit: str

    def inputs(self) -> list[Path]:
        """Every file that is read."""
        own = self.settings
        named = [own.annotations, own.config, own.layout, own.labels, *own.classes]
        return [self.file, *map(Path, filter(None, [*named, *(row.config.pretrained for row in self.rows)]))]

    def place(self, row: Row, out: Path) -> Path:
        """Where ``posewatch train`` writes a row: one seed alone has the folder that it has among several."""
        place = out / row.name
        return place if len(self.seeds) > 1 else place / f"seed{self.seeds[0]}"

    def command(self, row: Row, out: Path) -> str:
        """The command that makes a row by itself."""
        words = ["posewatch", "train", *self.settings.options()]
        for key, value in row.values.items():
            if key in ("model", "pretrained"):
                words += [_option(key), value] if value else []
            else:
                words += ["--set", f"train.{key}={value}"]
        return shlex.join([*words, "--seed", *map(str, self.seeds), "--out", str(self.place(row, out))])


def read(file: Path) -> Grid:
    """The grid in a YAML file. Raises ConfigError that names a wrong key or value, and InputError."""
    data = read_yaml(file)
    try:
        settings = _placed(from_dict(Settings, data), file)
        values = {key: _values(key, value) for key, value in settings.grid.items()}
        if "pretrained" in values:
            values["pretrained"] = [_beside(value, file) for value in values["pretrained"]]
        seeds = tuple(load(settings.config, [f"train.seed={seed}"]).train.seed for seed in values.pop("seed", []))
        base = load(settings.config)
        count = int(np.prod([len(some) for some in values.values()]))
        if count > MOST:
            raise ConfigError(f"the grid has {count} rows: at most {MOST}")
        rows = []
        for chosen in itertools.product(*values.values()):
            row = dict(zip(values, chosen, strict=True))
            rows.append(Row(row, load(settings.config, [f"train.{k}={v}" for k, v in row.items()]).train))
        _require_different("grid.seed", seeds)
        _require_different("the grid", [row.name for row in rows])
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from None
    return Grid(file, settings, tuple(rows), seeds or (base.train.seed,), base.mask.unit)


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _placed(settings: Settings, file: Path) -> Settings:
    """The settings with the paths that they stand for."""

    def found(name: str) -> str:
        return _beside(name, file) if name.endswith((".yaml", ".yml", ".txt")) else name

    return replace(
        settings,
        annotations=_beside(settings.annotations, file),
        config=found(settings.config),
        layout=found(settings.layout) if settings.layout else None,
        labels=_beside(settings.labels, file) if settings.labels else None,
        classes=tuple(map(found, settings.classes)),
    )


def _beside(name: str, file: Path) -> str:
    """A path relative to ``file``, or to the current folder where it is only there."""
    beside = file.parent / name
    return str(beside if name and (beside.exists() or not Path(name).exists()) else name)


def _values(key: str, given: Any) -> list[str]:
    """The values of a key as texts that ``--set`` takes. Raises ConfigError."""
    values = list(given) if isinstance(given, list | tuple) else [given]
    if not values or any(isinstance(value, Mapping) for value in values):
        raise ConfigError(f"grid.{key} must be a value or a list of values (write augment.flip for a key in a section)")
    return [_text(value) for value in values]


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_text, value))}]"
    if is_null(value):
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _require_different(what: str, values: Sequence[Any]) -> None:
    twice = next((value for i, value in enumerate(values) if value in values[:i]), None)
    if twice is not None:
        raise ConfigError(f"{what} has {twice} twice")


def require(grid: Grid, task: Task) -> None:
    """Raises InputError, LabelError or ConfigError for a cell that cannot be trained, before any is."""
    for row in grid.rows:
        layout, config = task.layout_for(row.config), row.config
        for part in task.parts:
            check(part.train, part.train.subset([]), config, task.positive, layout)
        if config.pretrained:
            Pretrained(config.pretrained).plan(config, layout, task.parts[0].train.classes)


def written(grid: Grid, task: Task, out: Path) -> list[Path]:
    """Every file that ``run`` writes."""
    paths = [out / name for name in (REPORT, TABLE, PLOT)]
    for row in grid.rows:
        place = grid.place(row, out)
        folders = {place, *task.folders(grid.seeds, place).values()}
        paths += [folder / name for folder in folders for name in experiment.files(row.config)]
    return paths


def run(grid: Grid, task: Task, out: Path) -> dict[str, Any]:
    """Train and evaluate every cell that is not finished; returns what ``experiment.json`` holds.

    It is written after each cell, ``experiment.md`` with it, and a plot at the end. A cell whose training fails is told
    and keeps its error; the others are trained. Without a result in another process than the first one.
    """
    finished = _finished(out / REPORT)
    rows = [_described(grid, row, task, out) for row in grid.rows]
    report = {"rows": rows}
    parts = {part.name: (part, _digest(part)) for part in task.parts}
    with Progress("experiment", sum(len(row["cells"]) for row in rows), "training") as progress:
        for row, about in zip(grid.rows, rows, strict=True):
            for cell in about["cells"]:
                folder, (part, data) = out / cell["folder"], parts[cell["split"]]
                key = _key(row.config, cell["seed"], task, data)
                before = finished.get(key) if (folder / CHECKPOINT).exists() else None
                if before:
                    cell |= {**before, "folder": cell["folder"]}
                else:
                    cell |= _trained(task, part, row.config, cell["seed"], folder, key)
                if parallel.rank() == 0:
                    _sum_up(about, grid.place(row, out), out)
                    _write(report, out)
                progress.advance(note=cell["folder"], before=bool(before))
    if parallel.rank() == 0:
        grid_report.plot(report, out / PLOT)
    return report


def _described(grid: Grid, row: Row, task: Task, out: Path) -> dict[str, Any]:
    """A row before its cells are trained."""
    folders = task.folders(grid.seeds, grid.place(row, out))
    return {
        "name": row.name,
        "settings": {"model": row.config.model, "stream": row.config.stream, **row.values},
        "command": grid.command(row, out),
        "cells": [
            {"folder": folder.relative_to(out).as_posix(), "seed": seed, "split": part}
            for (seed, part), folder in folders.items()
        ],
    }


def _finished(path: Path) -> dict[str, dict[str, Any]]:
    """The finished cells of an earlier run by what was trained; none where the file is missing or damaged."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
        return {cell["run"]: cell for row in rows for cell in row["cells"] if "metrics" in cell}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _digest(part: Part) -> str:
    """What the clips of a part are known by."""
    found = hashlib.sha256()
    for clips in (part.train, part.test):
        for keypoints in clips.keypoints:
            found.update(np.ascontiguousarray(keypoints).tobytes())
        found.update(repr((clips.labels.tolist(), clips.groups, clips.classes, clips.fps, clips.unit)).encode())
    return found.hexdigest()


def _key(config: TrainConfig, seed: int, task: Task, data: str) -> str:
    begin = hashlib.sha256(Path(config.pretrained).read_bytes()).hexdigest() if config.pretrained else ""
    settings = fingerprinted({k: v for k, v in plain(replace(config, seed=seed)).items() if k != "pretrained"})
    return digest([settings, begin, task.layout_for(config).to_dict(), task.positive, data])


def _trained(task: Task, part: Part, config: TrainConfig, seed: int, folder: Path, key: str) -> dict[str, Any]:
    """Metrics and costs of a cell, or why there are none."""
    try:
        metrics = task.run(part, config, seed, folder)
    except InputError as error:  # training diverged, or a batch is too large for this GPU: the other rows may not
        if parallel.rank() == 0:
            say(f"posewatch: note: {folder} failed: {error}")
        return {"error": str(error)}
    if not metrics:
        return {}
    numbers = {k: v for k, v in metrics.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    return {"run": key, "metrics": numbers, **cost(folder / CHECKPOINT, part.test)}


def cost(checkpoint: Path, clips: ClipSet) -> dict[str, Any]:
    """``parameters`` of the networks of a checkpoint, and ``cpu_ms``: processor time for one clip, alone, on one thread
    (the median of up to 30)."""
    recogniser = load_checkpoint(checkpoint)
    one, threads, took = clips.subset([0]), torch.get_num_threads(), [0.0]
    torch.set_num_threads(1)
    try:
        recogniser.score(one)
        while sum(took) < TIMED_S and len(took) <= TIMED:
            began = time.process_time()
            recogniser.score(one)
            took.append(time.process_time() - began)
    finally:
        torch.set_num_threads(threads)
    parameters = sum(p.numel() for network in recogniser.networks for p in network.parameters())
    return {"parameters": parameters, "cpu_ms": round(1000 * statistics.median(took[1:]), 2)}


def _sum_up(row: dict[str, Any], place: Path, out: Path) -> None:
    """Mean and deviation over the finished cells of a row, beside ``metrics.json`` as `posewatch train` writes it."""
    finished = {(out / c["folder"]).relative_to(place).as_posix(): c for c in row["cells"] if "metrics" in c}
    metrics = {name: cell["metrics"] for name, cell in finished.items()}
    if not metrics:
        return
    row["n"] = len(metrics)
    row["metrics"] = experiment.mean_of(metrics)
    row["parameters"] = max(cell["parameters"] for cell in finished.values())
    row["cpu_ms"] = round(statistics.fmean(cell["cpu_ms"] for cell in finished.values()), 2)
    if len(metrics) == len(row["cells"]) > 1:
        experiment.summary(metrics, place)


def _write(report: dict[str, Any], out: Path) -> None:
    write_atomically(out / REPORT, json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    write_atomically(out / TABLE, grid_report.markdown(report))
