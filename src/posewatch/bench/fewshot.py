"""F1 by the number of labelled clips: a network from scratch and from pretrained weights, beside the two baselines.

Each file is split once, whole subjects or sources on one side; a seed draws which of the training clips are labelled
and trains the network. Pretraining sees the training clips without their labels, and nothing of the test clips.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch.config import Experiment, PretrainConfig, TrainConfig, load
from posewatch.datasets import layouts
from posewatch.datasets.clipset import ClipSet
from posewatch.datasets.pyskl import read_pyskl
from posewatch.datasets.rendered import rendered_clips
from posewatch.datasets.split import hold_out
from posewatch.digests import digest
from posewatch.errors import InputError, PosewatchError
from posewatch.files import write_atomically
from posewatch.fingerprints import fingerprinted
from posewatch.progress import Progress, say
from posewatch.recognition.ensemble import combine
from posewatch.recognition.evaluation.baselines import NAMES, baseline_scores
from posewatch.recognition.evaluation.metrics import metrics_of
from posewatch.recognition.evaluation.plots import BLUE, GREY, styled, write_figure
from posewatch.recognition.recogniser import load_checkpoint
from posewatch.recognition.sampling import resample
from posewatch.recognition.training.experiment import positive_of
from posewatch.recognition.training.holdout import CHECKPOINT, fit
from posewatch.recognition.training.pretrain import pretrain, source_of
from posewatch.recognition.training.pretrained import Pretrained
from posewatch.recognition.training.trainer import plain, train

REPORT, TABLE, PLOT = "fewshot.json", "fewshot.md", "fewshot.png"
TEST = 0.3
"""Share of the clips to test on where a file has no splits ``train`` and ``test``."""
WAYS = {
    "statistics": "pose statistics (train.model=statistics)",
    "scratch": "network from scratch",
    "motion": "network, pretrained on hidden motion",
    "acts": "network, pretrained on rendered acts",
    "small": "the configuration small",
    "quick": "the configuration quick",
}
"""How a model begins: fresh, pretrained on the training clips without labels, or on the acts of rendered people; and
what a user gets from a shipped configuration, whatever the other settings are."""
SHIPPED = ("small", "quick")
"""The ways that are configurations of their own."""
NETWORKS = ("scratch", "motion", "acts")
"""The ways of the configured network, each also beside the pose statistics."""
BESIDE = "+statistics"
"""What the name of a network's way ends with where it is in an ensemble with the pose statistics."""
RENDERED, EPOCHS, LENGTH_S, RATE = 1500, 6, 2.0, 12.0
"""Rendered clips, passes over them, and the seconds and frames a second of each."""
METRICS = ("f1", "accuracy", "auc")


def draw(labels: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """``count`` clips of N with ``labels`` (N,), each class with its share and two clips at least; more labels of the
    same seed add to fewer."""
    rng = np.random.default_rng([seed, 3])
    shares = np.bincount(labels) / len(labels)
    chosen = [
        rng.permutation(np.flatnonzero(labels == label))[: max(2, round(count * share))]
        for label, share in enumerate(shares)
    ]
    return np.sort(np.concatenate(chosen))


class Bench:
    """One run: its cells are written as they come, so that a killed run goes on."""

    def __init__(self, out: Path, experiment: Experiment, numbers: Sequence[int], seeds: int, ways: Sequence[str]):
        self.out, self.config, self.how = out, experiment.train.without_beside(), experiment.pretrain
        here: dict[str, Any] = {"threads": self.config.threads, "device": self.config.device}
        self.shipped = {name: replace(load(name).train, **here) for name in SHIPPED if name in ways}
        self.numbers, self.seeds, self.ways = sorted(set(numbers)), seeds, ways
        settings = [fingerprinted(plain(self.config)), asdict(self.how)]
        settings += [fingerprinted(plain(config)) for config in self.shipped.values()]
        self.key = digest(settings)[:12]
        self.cells: dict[str, dict[str, Any]] = {}
        if (out / REPORT).exists():
            before = json.loads((out / REPORT).read_text(encoding="utf-8"))
            if before.get("key") == self.key:
                self.cells = before["cells"]
            else:
                say(f"posewatch: note: {out / REPORT} is of other settings: it is measured anew")

    def report(self) -> dict[str, Any]:
        return {"key": self.key, "config": plain(self.config), "cells": self.cells}

    def file(self, path: Path, progress: Progress) -> None:
        """All cells of one file: the few labels first, and one seed after the other."""
        clips, splits = read_pyskl(path, drop_empty=True)
        training, test = sides(clips, splits)
        sizes = [n for n in self.numbers if n < len(training)]
        if len(sizes) < len(self.numbers) and len(training) > 1.5 * max(sizes, default=0):
            sizes.append(len(training))
        progress.total += self.seeds * len(sizes) * len(self.ways)
        folder = self.out / "work" / f"{path.stem}-{self.key}"
        for seed in range(self.seeds):
            for n in sizes:
                chosen = training.subset(draw(training.labels, n, seed) if n < len(training) else range(n))
                for way in self.ways:
                    if f"{path.stem}/{way}/{n}/{seed}" not in self.cells:
                        begin = self.begin(way, training, folder)
                        found = self.measure(way, chosen, test, seed, begin, folder / f"{n}-{seed}")
                        self.cells |= {f"{path.stem}/{name}/{n}/{seed}": cell for name, cell in found.items()}
                        report = json.dumps(self.report(), indent=1, sort_keys=True)
                        write_atomically(self.out / REPORT, report + "\n")
                    progress.advance(note=f"{way}, {n} labels, seed {seed}")
                shutil.rmtree(folder / f"{n}-{seed}", ignore_errors=True)

    def begin(self, way: str, training: ClipSet, folder: Path) -> Path | None:
        """The checkpoint that a way begins with, made the first time."""
        if way not in ("motion", "acts"):
            return None
        if way == "motion":
            return pretrain(source_of(training, self.config, self.how), self.config, self.how, folder / "motion")
        place = self.out / "work" / f"acts-{self.key}" / CHECKPOINT
        return place if place.exists() else acts(self.config, self.how, place.parent)

    def measure(
        self, way: str, chosen: ClipSet, test: ClipSet, seed: int, begin: Path | None, work: Path
    ) -> dict[str, dict[str, Any]]:
        """Way → its metrics; with the pose statistics come the baselines, with a network its ensemble with them."""
        config = replace(self.shipped.get(way, self.config), seed=seed)
        if way == "statistics":
            config = replace(config, model="statistics", stream="j")
        positive = positive_of(chosen.classes)
        index = chosen.classes.index(positive) if positive else None
        fit(chosen, config, work / way, positive=positive, begin=Pretrained(begin) if begin else None)
        found = {way: _scored(work / way / CHECKPOINT, test, index)}
        beside = work / "statistics" / CHECKPOINT
        if way == "statistics":
            how = config.clip_frames, config.people, config.people_by
            scores, _ = baseline_scores(
                resample(chosen.keypoints, *how), chosen.labels,
                resample(test.keypoints, *how), len(chosen.classes), layouts.get(chosen.layout),
            )  # fmt: skip
            found |= {name: metrics_of(s, s.argmax(1), test.labels, index) for name, s in scores.items()}
        elif way in NETWORKS and beside.exists():
            both = combine([beside, work / way / CHECKPOINT], work / f"{way}{BESIDE}.pt")
            found[f"{way}{BESIDE}"] = _scored(both, test, index)
        return {name: {metric: values[metric] for metric in METRICS} for name, values in found.items()}


def _scored(checkpoint: Path, test: ClipSet, positive: int | None) -> dict[str, Any]:
    recogniser = load_checkpoint(checkpoint)
    p = recogniser.score(test)
    return metrics_of(p, recogniser.decide(p), test.labels, positive)


def acts(config: TrainConfig, how: PretrainConfig, out: Path) -> Path:
    """A network that tells the acts of rendered people; nothing is held out for a threshold that nobody uses."""
    clips = rendered_clips(RENDERED, seconds=LENGTH_S, fps=RATE)
    config = replace(
        config, epochs=EPOCHS, batch=how.batch, lr=how.lr, balance="sampling", average_epochs=1.0, patience=0
    )
    with Progress("rendered acts", EPOCHS, "epoch") as progress:
        return train(clips, clips.subset([]), config, out, positive="", progress=progress)


def sides(clips: ClipSet, splits: Mapping[str, Sequence[int]]) -> tuple[ClipSet, ClipSet]:
    """Training and test clips: the file's own, else whole subjects or sources held out. Raises InputError."""
    if {"train", "test"} <= set(splits):
        return clips.subset(splits["train"]), clips.subset(splits["test"])
    held = hold_out(clips, TEST)
    if not len(held.validation):
        raise InputError(f"no clips can be held out for testing: {held.note}")
    return clips.subset(held.train), clips.subset(held.validation)


def summary(cells: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, dict[int, dict[str, list[float]]]]]:
    """File → way → number of labels → mean and deviation of each metric over the seeds."""
    values: dict[tuple[str, str, int, str], list[float]] = {}
    for name, cell in cells.items():
        file, way, labels, _ = name.split("/")
        for metric in METRICS:
            if cell[metric] is not None:
                values.setdefault((file, way, int(labels), metric), []).append(cell[metric])
    out: dict[str, dict[str, dict[int, dict[str, list[float]]]]] = {}
    for (file, way, count, metric), found in sorted(values.items()):
        row = out.setdefault(file, {}).setdefault(way, {}).setdefault(count, {})
        row[metric] = [round(float(np.mean(found)), 4), round(float(np.std(found)), 4), len(found)]
    return out


def table(cells: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """F1, mean and deviation over the seeds, as Markdown: a table for each file."""
    for file, ways in summary(cells).items():
        sizes = sorted({n for way in ways.values() for n in way})
        yield from ("", f"{file}: F1 with so many labelled clips (AUC)", "")
        yield "| | " + " | ".join(map(str, sizes)) + " |"
        yield "|---|" + "---:|" * len(sizes)
        for way in sorted(ways, key=list(_names()).index):
            row = [ways[way].get(n) for n in sizes]
            texts = ["" if r is None else _cell(r) for r in row]
            yield f"| {_names()[way]} | " + " | ".join(texts) + " |"


def _names() -> dict[str, str]:
    """Way → what it is called, in the order of the table."""
    named = dict(NAMES)
    for way, name in WAYS.items():
        named[way] = name
        if way in NETWORKS:
            named[f"{way}{BESIDE}"] = f"{name}, with the statistics"
    return named


def _cell(row: Mapping[str, Sequence[float]]) -> str:
    auc = f" ({row['auc'][0]:.3f})" if "auc" in row else ""
    return f"{row['f1'][0]:.3f} ± {row['f1'][1]:.3f}{auc}"


def plot(cells: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """F1 against the number of labelled clips, a panel for each file."""
    files = summary(cells)
    lines = {
        "logistic": (GREY, "--"), "forest": ("#b08968", "--"), "statistics": ("#3a9d5d", "-"),
        "scratch": ("#d6404f", "-"), f"scratch{BESIDE}": ("#d6404f", ":"), "motion": (BLUE, "-"),
        "acts": ("#8e5bb5", "-"), "small": ("#222222", "-"), "quick": ("#e08a1e", "-"),
    }  # fmt: skip
    with styled() as plt:
        figure, panels = plt.subplots(
            1, len(files), figsize=(1.6 + 6.4 * len(files), 5.4), layout="constrained", squeeze=False, sharey=True
        )
        for axes, (name, ways) in zip(panels[0], files.items(), strict=True):
            for place, (way, (colour, line)) in enumerate(lines.items(), -len(lines) // 2):
                if way not in ways:
                    continue
                sizes = sorted(ways[way])
                mean, std = (np.array([ways[way][n]["f1"][k] for n in sizes]) for k in (0, 1))
                beside = np.array(sizes) * 1.012**place  # so that the deviations do not cover each other
                axes.plot(beside, mean, line, color=colour, lw=2, marker="o", ms=4, label=_names()[way])
                axes.vlines(beside, mean - std, mean + std, color=colour, alpha=0.45, lw=1.2)
            ticks = sorted({n for way in ways.values() for n in way})
            axes.set(xscale="log", xlabel="labelled clips", title=name)
            axes.set_xticks(ticks, [str(n) for n in ticks])
            axes.minorticks_off()
            axes.grid(alpha=0.2)
        panels[0][0].set_ylabel("F1 on people not seen in training")
        handles = {
            text: handle for axes in panels[0] for handle, text in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        figure.legend(
            handles.values(), handles.keys(), frameon=False, loc="outside lower center", ncols=min(4, 2 * len(files))
        )
        write_figure(plt, figure, path)


def bench_fewshot(
    files: Sequence[Path], out: Path, experiment: Experiment, *, numbers: Sequence[int], seeds: int, ways: Sequence[str]
) -> str:
    """Measure, and write ``fewshot.json``, ``fewshot.md`` and ``fewshot.png`` to ``out``; returns the table.

    Cells that an earlier run measured under the same settings are not measured again. Raises InputError.
    """
    if len({path.stem for path in files}) < len(files):
        raise InputError("two files have the same name: the table could not tell them apart (rename one)")
    bench = Bench(out, experiment, numbers, seeds, ways)
    with Progress("few labels", 0, "training") as progress:
        for path in files:
            try:
                bench.file(path, progress)
            except PosewatchError as error:
                raise type(error)(f"{path}: {error}" if str(path) not in str(error) else str(error)) from None
    text = "\n".join(table(bench.cells)).lstrip("\n") + "\n"
    write_atomically(out / TABLE, text)
    plot(bench.cells, out / PLOT)
    return text
