"""The command line of recognition on files: train, evaluate, robustness, ensemble. Errors are raised, not printed."""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from posewatch.errors import InputError

if TYPE_CHECKING:
    from posewatch.config import Experiment, TrainConfig
    from posewatch.datasets.clipset import ClipSet
    from posewatch.datasets.layouts import Layout
    from posewatch.recognition.recogniser import Recogniser


def data_options(parser: argparse.ArgumentParser) -> None:
    """What says which clips are meant: a file in pyskl's annotation format, its splits, its layout and subjects."""
    group = parser.add_argument_group("skeletons from a file")
    group.add_argument("--annotations", type=Path, metavar="FILE", help="skeletons in pyskl's annotation format (.pkl)")
    group.add_argument("--classes", help="names of the classes, separated by commas (default: the file's own)")
    group.add_argument(
        "--layout", help="joint layout: a built-in name or a YAML file (default: the file's, or by joints)"
    )
    group.add_argument(
        "--positive", help="the class that raises alerts; '' for none (default: abnormal, or the 2nd of 2)"
    )
    group.add_argument("--subject-pattern", metavar="REGEX", help="finds the subjects in a clip's name, e.g. 's[0-9]+'")
    group.add_argument("--allow-shared-subjects", action="store_true", help="accept people who are on both sides")
    group.add_argument("--drop-empty", action="store_true", help="leave clips out in which nobody is seen")


def train_options(parser: argparse.ArgumentParser) -> None:
    data_options(parser)
    group = parser.add_argument_group("training from a file")
    group.add_argument("--train-split", default="train", help="a split of the file; with * several, e.g. 'fold*_train'")
    group.add_argument(
        "--test-split", default="test", help="a split of the file; with * as many as --train-split gives"
    )
    group.add_argument("--model", help="network by name (default: the configuration's)")
    group.add_argument("--seed", type=int, nargs="+", help="one or several (default: the configuration's)")
    group.add_argument("--out", type=Path, help="folder for checkpoint, metrics and plots")


def judge_options(parser: argparse.ArgumentParser) -> None:
    """What says which clips of a file a checkpoint is measured on."""
    data_options(parser)
    group = parser.add_argument_group("measuring on a file")
    group.add_argument("--split", default="test", help="the split of the file to measure on")
    group.add_argument("--train-split", help="the split that the baselines are fitted on (default: none are)")
    group.add_argument("--out", type=Path, help="folder for figures and plots")


def read(args: argparse.Namespace) -> tuple[ClipSet, dict[str, list[int]], Layout]:
    """The clips, splits and layout that ``data_options`` name. Raises InputError, LabelError or ConfigError."""
    from posewatch.datasets import layouts
    from posewatch.datasets.pyskl import read_pyskl

    layout: str | Layout | None = args.layout
    if args.layout and args.layout.endswith((".yaml", ".yml")):
        layout = layouts.from_yaml(args.layout)
    clips, splits = read_pyskl(
        args.annotations,
        classes=[c.strip() for c in args.classes.split(",")] if args.classes else None,
        layout=layout,
        subject_pattern=args.subject_pattern,
        drop_empty=args.drop_empty,
    )
    return clips, splits, layout if isinstance(layout, layouts.Layout) else layouts.get(clips.layout)


def pairs_of(splits: dict[str, list[int]], train: str, test: str) -> list[tuple[str, str]]:
    """The (training, test) splits that two names or patterns stand for. Raises InputError listing what there is."""

    if not splits:
        raise InputError("the file has no splits: it must say which clips to train and to test on (see docs/data.md)")

    def matching(pattern: str) -> list[str]:
        found = sorted(fnmatch.filter(splits, pattern))
        if not found:
            raise InputError(f"no split is called {pattern!r}: there are {', '.join(sorted(splits))}")
        return found

    a, b = matching(train), matching(test)
    if len(a) != len(b):
        raise InputError(f"{train!r} stands for {len(a)} splits, {test!r} for {len(b)}: they must go in pairs")
    return list(zip(a, b, strict=True))


def train_files(args: argparse.Namespace, experiment: Experiment) -> str:
    """Train and measure on splits of an annotation file; several seeds or folds give a summary, too."""
    # Threads that spin while they wait make training several times slower as soon as anything else runs.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from posewatch.datasets.subjects import check_split
    from posewatch.recognition import distributed as parallel
    from posewatch.recognition.training import experiment as runs

    if args.out is None:
        raise InputError("say where to write checkpoint and metrics: --out DIR")
    clips, splits, layout = read(args)
    _say(clips.notes)
    pairs = pairs_of(splits, args.train_split, args.test_split)
    notes = {}
    for a, b in pairs:
        notes[a] = check_split(clips, splits[a], splits[b], allow_shared=args.allow_shared_subjects, names=(a, b)).note
        _say([notes[a]] if notes[a] else [])
    config = config_of(args, experiment)
    positive = runs.positive_of(clips.classes, args.positive)
    seeds = args.seed or [config.seed]
    done: dict[str, dict[str, Any]] = {}
    with parallel.processes():
        for seed in seeds:
            for a, b in pairs:
                parts = [f"seed{seed}"] * (len(seeds) > 1) + [a] * (len(pairs) > 1)
                folder = args.out.joinpath(*parts)
                done["/".join(parts)] = runs.run(
                    clips.subset(splits[a]),
                    clips.subset(splits[b]),
                    dataclasses.replace(config, seed=seed),
                    folder,
                    positive=positive,
                    layout=layout_for(config.layout, layout),
                    note=notes[a],
                )
        if parallel.rank():
            return ""
    metrics = runs.summary(done, args.out) if len(done) > 1 else next(iter(done.values()))
    return runs.table(metrics) + f"\n{args.out / runs.METRICS}"


def _say(notes: Iterable[str]) -> None:
    if os.environ.get("RANK", "0") == "0":  # one of the processes that torchrun starts speaks for all
        for note in notes:
            print(f"posewatch: note: {note}", file=sys.stderr)


def config_of(args: argparse.Namespace, experiment: Experiment) -> TrainConfig:
    """The training's configuration with what the options say. Raises InputError for several seeds of one training."""
    config = experiment.train
    if args.annotations is None and args.seed and len(args.seed) > 1:
        raise InputError("a dataset is trained on with one --seed at a time")
    if args.model:
        config = dataclasses.replace(config, model=args.model)
    return dataclasses.replace(config, seed=args.seed[0]) if args.seed else config


def layout_for(wanted: str, own: Layout) -> Layout:
    """The layout that a network sees: the data's own, or one that adds virtual joints to it."""
    from posewatch.datasets import layouts

    return layouts.get(wanted) if wanted else own


def _judged(args: argparse.Namespace) -> tuple[Recogniser, ClipSet, ClipSet | None, str | None]:
    """The recogniser, the clips to measure it on, those for the baselines, and the positive class asked for."""
    from posewatch.recognition.recogniser import load_checkpoint

    if args.annotations is None or args.out is None:
        raise InputError("say what to measure on and where to write it: --annotations FILE.pkl --out DIR")
    recogniser = load_checkpoint(args.checkpoint)
    if not args.classes:
        args.classes = ",".join(recogniser.labels)
    if not args.layout:
        args.layout = recogniser.layout.name if recogniser.layout.name in _same_joints(recogniser) else None
    clips, splits, _ = read(args)

    def part(name: str) -> ClipSet:
        if name not in splits:
            raise InputError(f"no split is called {name!r}: there are {', '.join(sorted(splits)) or 'none'}")
        return clips.subset(splits[name])

    return recogniser, part(args.split), part(args.train_split) if args.train_split else None, args.positive


def _same_joints(recogniser: Recogniser) -> list[str]:
    """The built-in layouts that name the joints that the recogniser's clips have."""
    from posewatch.datasets import layouts

    return [n for n in layouts.names() if len(layouts.get(n).joints) == recogniser.layout.observed]


def evaluate_files(args: argparse.Namespace) -> str:
    """Measure a checkpoint on a split of an annotation file: metrics.json and plots in ``--out``."""
    from posewatch.files import write_atomically
    from posewatch.recognition.evaluation.evaluate import evaluate, plots
    from posewatch.recognition.training import experiment as runs

    recogniser, clips, train_set, positive = _judged(args)
    metrics = evaluate(recogniser, clips, positive, train_set=train_set)
    args.out.mkdir(parents=True, exist_ok=True)
    plots(metrics, [], args.out)
    write_atomically(args.out / runs.METRICS, (json.dumps(metrics, indent=1, sort_keys=True) + "\n").encode())
    return runs.table(metrics) + f"\n{args.out / runs.METRICS}"


def robustness_files(args: argparse.Namespace) -> str:
    """What is left of F1 and AUC when joints, limbs, frames or people go missing: a report, a plot, and a gate."""
    from posewatch.progress import Progress
    from posewatch.recognition.evaluation.robustness import robustness, steps

    recogniser, clips, train_set, positive = _judged(args)
    with Progress("robustness", steps(recogniser, args.draws), "scoring") as progress:
        report = robustness(
            recogniser, clips, args.out, args.draw_seed,
            positive=positive, train_set=train_set, draws=args.draws, progress=progress,
        )  # fmt: skip
    lines = [f"{'joints dropped':<16}{'F1':>8}{'AUC':>8}{'F1 lost':>10}"]
    for row in report["joints_dropped"]:
        auc = "-" if row["auc"] is None else f"{row['auc']:.3f}"
        lines.append(f"{row['level']:<16.0%}{row['f1']:>8.3f}{auc:>8}{row['f1_loss']:>10.3f}")
    return "\n".join([*lines, str(args.out / "robustness.json")])


def ensemble_files(args: argparse.Namespace) -> str:
    """Several checkpoints as one."""
    from posewatch.recognition.ensemble import combine

    return str(combine(args.checkpoints, args.out, args.weights or ()))
