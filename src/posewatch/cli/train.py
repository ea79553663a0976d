"""Recognition: dataset, train, evaluate, robustness, ensemble; on artifacts of the store, or on files of skeletons."""

from __future__ import annotations

import dataclasses
import fnmatch
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from posewatch.cli.context import Context, Force, Writes, notes, topic, verb
from posewatch.cores import share_cores
from posewatch.errors import InputError
from posewatch.rules import AT, Range
from posewatch.units import PERSON, SCENE

if TYPE_CHECKING:
    from posewatch.config import TrainConfig
    from posewatch.datasets.clipset import ClipSet
    from posewatch.datasets.layouts import Layout
    from posewatch.recognition.recogniser import Recogniser
    from posewatch.recognition.training.experiment import Task

app = topic()


@dataclass(frozen=True)
class Skeletons:
    """Clips of a file in pyskl's annotation format: their classes, joint layout and subjects."""

    PANEL = "Skeletons from a file"

    annotations: Annotated[
        Path | None, Option(metavar="FILE", help="Skeletons in pyskl's annotation format (.pkl).")
    ] = None
    classes: Annotated[
        str | None,
        Option(metavar="LIST", help="Class names, separated by commas, or a label_map.txt (default: the file's)."),
    ] = None
    layout: Annotated[
        str | None, Option(help="Joint layout: a built-in name or a YAML file (default: the file's).")
    ] = None
    positive: Annotated[
        str | None,
        Option(
            metavar="CLASS", help="Class that raises alerts; '' for none (default: abnormal, else the second of two)."
        ),
    ] = None
    subject_pattern: Annotated[
        str | None, Option(metavar="REGEX", help="Finds the subjects in a clip's name, e.g. 's[0-9]+'.")
    ] = None
    allow_shared_subjects: Annotated[
        bool, Option("--allow-shared-subjects", help="Accept people who are in both splits.")
    ] = False
    drop_empty: Annotated[bool, Option("--drop-empty", help="Leave out clips in which nobody is seen.")] = False
    keep_empty: Annotated[bool, Option("--keep-empty", help="Test on them, without training on them.")] = False
    labels: Annotated[
        Path | None, Option(metavar="CSV", help="label.csv of the paper's tools, for their dataset_*.pkl.")
    ] = None
    resplit: Annotated[
        str | None,
        Option(metavar="[SHARE]", help="Split anew by source video or subject: SHARE (0.2) is test, the rest train."),
    ] = None

    acts: Annotated[
        Path | None,
        Option(metavar="CSV", help="Columns clip and act: false alarms are told by act (default: the file's own)."),
    ] = None

    def read(
        self, classes: tuple[str, ...] = (), layout: Layout | None = None, unit: str = SCENE
    ) -> tuple[ClipSet, dict[str, list[int]], Layout]:
        """The clips, splits and layout; notes on them are printed.

        ``classes`` and ``layout`` stand in for options that are not given, ``unit`` for what the file does not tell:
        clips of one person each may be of single persons.
        Raises InputError, LabelError or ConfigError.
        """
        from posewatch.datasets import layouts
        from posewatch.datasets.paper import class_names
        from posewatch.datasets.pyskl import read_pyskl

        assert self.annotations is not None
        chosen: str | Layout | None = self.layout
        if isinstance(chosen, str) and chosen.endswith((".yaml", ".yml")):
            chosen = layouts.from_yaml(chosen)
        names = class_names(self.classes) or list(classes)
        clips, splits = read_pyskl(
            self.annotations,
            classes=names or None,
            layout=chosen,
            subject_pattern=self.subject_pattern,
            drop_empty=self.drop_empty,
            keep_empty=self.keep_empty,
            labels=self.labels,
            resplit=_share(self.resplit),
            acts=self.acts,
            model_layout=layout,
        )
        notes(clips.notes)
        if unit == PERSON and max(map(len, clips.keypoints)) == 1:
            clips = dataclasses.replace(clips, unit=PERSON)
        own = chosen or layout
        return clips, splits, own if isinstance(own, layouts.Layout) else layouts.get(clips.layout)


def _share(text: str | None) -> float:
    """The value of ``--resplit``: 0 where it is not given, .2 without a number, as the paper has it."""
    if text is None:
        return 0.0
    rule = Range(0.01, 0.95)
    try:
        share = float(text or 0.2)
    except ValueError:
        share = 0.0
    if not rule.holds(share):
        raise InputError(f"--resplit must be {rule.words}, not {text}")
    return share


def _figures(values: dict[str, Any]) -> list[Path]:
    """What `robustness` and `evaluate` write."""
    own = (
        ("robustness.json", "robustness.png")
        if "draws" in values
        else ("metrics.json", "confusion_matrix.png", "roc.png", "reliability.png", "risk_coverage.png")
    )
    return [values["out"] / name for name in own]


@dataclass(frozen=True)
class Evaluated(Skeletons):
    """The clips of a file that a checkpoint is evaluated on."""

    PANEL = "Evaluation on a file"

    split: Annotated[str, Option(help="Split of the file to evaluate on (of one without splits: all).")] = "test"
    train_split: Annotated[
        str | None, Option(help="Split that the baselines are fitted on (default: no baselines).")
    ] = None
    out: Annotated[
        Path | None,
        Option(metavar="DIR", help="Folder for figures and plots."),
        Writes(paths=_figures),
    ] = None

    def load(self, checkpoint: str | Path) -> tuple[Recogniser, ClipSet, ClipSet | None, Path]:
        """The recogniser, the clips to evaluate it on, those for the baselines, and the output folder."""
        from posewatch.recognition.recogniser import load_checkpoint

        if self.annotations is None or self.out is None:
            raise InputError("give the clips to evaluate on and an output folder: --annotations FILE.pkl --out DIR")
        recogniser = load_checkpoint(checkpoint)
        clips, splits, _ = self.read(tuple(recogniser.labels), recogniser.layout, recogniser.unit)
        if not splits and not self.train_split and self.split == "test":  # a file of test clips, as a bare list
            notes([f"The file has no splits: all {len(clips)} clips are tested."])
            splits = {"test": [*range(len(clips))]}
        test = clips.subset(split_of(splits, self.split))
        train = None
        if self.train_split:
            train = clips.subset(split_of(splits, self.train_split, "--train-split"))
            train = train.subset(train.seen().nonzero()[0])
        return recogniser, test, train, self.out


def split_of(splits: dict[str, list[int]], name: str, option: str = "--split") -> list[int]:
    """The clips of a split. Raises InputError that lists the splits."""
    if name not in splits:
        raise _no_split(splits, name, option)
    return splits[name]


def _no_split(splits: dict[str, list[int]], name: str, option: str) -> InputError:
    known = ", ".join(sorted(splits)) or "none"
    return InputError(f"no split is named {name!r}; the file has {known} (choose one by {option})")


def pairs_of(splits: dict[str, list[int]], train: str, test: str) -> list[tuple[str, str]]:
    """The (training, test) splits that two names or patterns stand for. Raises InputError that lists the splits."""
    if not splits:
        raise InputError(
            "the file has no splits: it must name the clips to train and to test on (see docs/data.md); or let "
            "--resplit or --cross-validate choose them"
        )

    def matching(pattern: str, option: str) -> list[str]:
        names = sorted(fnmatch.filter(splits, pattern))
        if not names:
            raise _no_split(splits, pattern, option)
        return names

    a, b = matching(train, "--train-split"), matching(test, "--test-split")
    if len(a) != len(b):
        raise InputError(f"{train!r} stands for {len(a)} splits, {test!r} for {len(b)}: they must go in pairs")
    return list(zip(a, b, strict=True))


@verb(app, "dataset")
def dataset(
    snapshot: Annotated[str, Argument(help="URI of a label snapshot.")],
    skeletons: Annotated[str, Argument(help="URI of the clips' skeletons.")],
    context: Context,
) -> str:
    """Freeze labels and skeletons, split by video."""
    from posewatch.stages.dataset import dataset

    config = context.experiment
    artifacts = (context.artifact(snapshot), context.artifact(skeletons))
    return dataset(context.objects, *artifacts, config.dataset, config.labels).uri


@dataclass(frozen=True)
class Training:
    """Splits, network and output of a training from a file."""

    PANEL = "Training from a file"

    train_split: Annotated[str, Option(help="Split of the file; with * several, e.g. 'fold*_train'.")] = "train"
    test_split: Annotated[str, Option(help="Split of the file; with * as many as --train-split.")] = "test"
    cross_validate: Annotated[
        int | None,
        Option(metavar="K", help="K folds by source video or subject instead of the file's splits."),
        Range(2, 1000),
    ] = None
    model: Annotated[str | None, Option(metavar="NAME", help="Network (default: the configuration's).")] = None
    seed: Annotated[
        list[int] | None,
        Option(metavar="N...", help="One or several (default: the configuration's)."),
        Range(0, 2**32 - 1),
    ] = None
    out: Annotated[
        Path | None, Option(metavar="DIR", help="Folder for checkpoint, metrics and plots."), Writes(here=False)
    ] = None


Pretrained = Annotated[
    str | None, Option(metavar="CHECKPOINT", help="Begin with these weights: ours or official, a file or a URI.")
]


At = Annotated[str | None, Option(metavar="WISH", help="Choose the threshold at f1, precision=.9, ... (docs).")]


@verb(app, "train")
def train(
    clips: Skeletons,
    training: Training,
    context: Context,
    dataset: Annotated[str | None, Argument(help="URI of a dataset; or give --annotations.")] = None,
    pretrained: Pretrained = None,
    at: At = None,
    force: Force = False,
) -> str:
    """Train on a dataset, or on a file of skeletons."""
    config = context.experiment.train
    if at:
        config = dataclasses.replace(config, threshold_at=at)
    if pretrained:
        config = dataclasses.replace(config, pretrained=pretrained)
    if training.model:
        config = dataclasses.replace(config, model=training.model)
    seeds = training.seed or [config.seed]
    config = dataclasses.replace(config, seed=seeds[0])
    if clips.annotations is not None:
        if dataset is not None:
            raise InputError(f"give a dataset ({dataset}) or --annotations, not both")
        if training.out is None:
            raise InputError("give a folder for checkpoint and metrics: --out DIR")
        return _train_files(clips, config, training, seeds, training.out, context, force)
    if dataset is None:
        raise InputError("give what to train on: a dataset's URI, or --annotations FILE.pkl")
    if len(seeds) > 1:
        raise InputError("training on a dataset takes one --seed at a time")
    from posewatch.stages.train import train

    trained = train(context.objects, context.artifact(dataset), config, context.experiment.trainer)
    return trained.uri if os.environ.get("RANK", "0") == "0" else ""  # the first of torchrun's processes prints


def _train_files(
    skeletons: Skeletons,
    config: TrainConfig,
    given: Training,
    seeds: list[int],
    out: Path,
    context: Context,
    force: bool,
) -> str:
    """Train and evaluate on splits of an annotation file; several seeds or folds also give a summary."""
    share_cores()
    from posewatch import outputs
    from posewatch.recognition import distributed
    from posewatch.recognition.training import experiment

    splits = given.train_split, given.test_split
    task = task_of(skeletons, *splits, context.experiment.mask.unit, given.cross_validate or 0)
    folders = task.folders(seeds, out)
    written = [folder / name for folder in {out, *folders.values()} for name in experiment.files(config)]
    read = (skeletons.annotations, Path(context.config), Path(config.pretrained) if config.pretrained else None)
    outputs.check(written, [p for p in read if p], force=force)
    results: dict[str, dict[str, Any]] = {}
    with distributed.processes():
        for seed in seeds:
            for part in task.parts:
                folder = folders[seed, part.name]
                results[folder.relative_to(out).as_posix()] = task.run(part, config, seed, folder)
        if distributed.rank():
            return ""
    metrics = experiment.summary(results, out) if len(results) > 1 else next(iter(results.values()))
    return _table(metrics) + f"\n{out / experiment.METRICS}"


def task_of(skeletons: Skeletons, train_split: str, test_split: str, unit: str, cross_validate: int = 0) -> Task:
    """The clips of a file and the splits to train and test on; notes on them are printed.

    ``cross_validate``: that many folds, the same for every seed, each to test on once; the two splits do not count.
    Raises InputError, LabelError or ConfigError.
    """
    import numpy as np

    from posewatch.datasets.split import folds
    from posewatch.datasets.subjects import check_split
    from posewatch.recognition.training.experiment import Part, Task, positive_of

    clips, splits, layout = skeletons.read(unit=unit)
    if clips.unit != unit == PERSON:
        raise InputError(
            f"{skeletons.annotations} has clips of several persons, mask.unit is person: set mask.unit=scene, and"
            " train.people to their number"
        )
    parts = []
    if cross_validate:
        dealt = folds(clips, cross_validate)
        notes(sorted({fold.note for fold in dealt if fold.note}))
        names = [(f"fold{k}_train", f"fold{k}_test") for k in range(len(dealt))]
        sides = zip(names, dealt, strict=True)
        splits = {n: i.tolist() for (a, b), fold in sides for n, i in ((a, fold.train), (b, fold.validation))}
    else:
        names = pairs_of(splits, train_split, test_split)
    for a, b in names:
        allow = skeletons.allow_shared_subjects
        note = check_split(clips, splits[a], splits[b], allow_shared=allow, names=(a, b)).note
        notes([note] if note else [])
        shown = np.array(splits[a])[clips.seen()[splits[a]]]
        parts.append(Part(a, clips.subset(shown), clips.subset(splits[b]), note))
    return Task(tuple(parts), positive_of(clips.classes, skeletons.positive), layout)


def _table(metrics: dict[str, Any]) -> str:
    """The network's metrics beside those of its baselines, and its alarms by act, as text."""
    from posewatch.recognition.evaluation import acts

    rows: list[tuple[str, ...]] = [("", "accuracy", "precision", "recall", "F1", "AUC")]
    for prefix, name in (("", "network"), ("baseline_forest_", "random forest"), ("baseline_logistic_", "logistic")):
        values = [metrics.get(f"{prefix}{key}") for key in ("accuracy", "precision", "recall", "f1", "auc")]
        if any(v is not None for v in values):
            rows.append((name, *("-" if v is None else f"{v:.3f}" for v in values)))
    lines = ["".join(f"{cell:<14}" if i == 0 else f"{cell:>10}" for i, cell in enumerate(row)) for row in rows]
    return "\n".join([*lines, *filter(None, [metrics.get("baseline_note")]), *acts.lines(metrics)])


@verb(app, "evaluate")
def evaluate(
    checkpoint: Annotated[str, Argument(help="URI of a checkpoint, or a file with --annotations.")],
    clips: Evaluated,
    context: Context,
    dataset: Annotated[str | None, Argument(help="URI of a dataset; or give --annotations.")] = None,
    at: At = None,
) -> str:
    """Evaluate on held-out videos or skeletons."""
    if clips.annotations is not None:
        return _evaluate_files(checkpoint, clips, at)
    if at:
        raise InputError("--at goes with --annotations: a checkpoint of the store has the threshold of its training")
    if dataset is None:
        raise InputError("give what to evaluate on: a dataset's URI, or --annotations FILE.pkl")
    from posewatch.stages.evaluate import evaluate

    artifacts = (context.artifact(dataset), context.artifact(checkpoint))
    return evaluate(context.objects, *artifacts, context.experiment.robustness).uri


def _evaluate_files(checkpoint: str, clips: Evaluated, at: str | None) -> str:
    """Writes metrics.json and plots to ``--out``; returns a table."""
    from posewatch.files import write_atomically
    from posewatch.recognition.evaluation.evaluate import evaluate
    from posewatch.recognition.evaluation.operating_point import choose
    from posewatch.recognition.evaluation.plots import plots
    from posewatch.recognition.training import experiment

    recogniser, test, train, out = clips.load(checkpoint)
    if at:
        recogniser.threshold = choose(recogniser, at, checkpoint).threshold
    metrics = evaluate(recogniser, test, clips.positive, train_set=train)
    plots(metrics, [], out)
    write_atomically(out / experiment.METRICS, (json.dumps(metrics, indent=1, sort_keys=True) + "\n").encode())
    return _table(metrics) + f"\n{out / experiment.METRICS}"


@verb(app, "robustness")
def robustness(
    checkpoint: Annotated[Path, Argument(help="A checkpoint file.")],
    clips: Evaluated,
    draws: Annotated[int, Option(help="Random draws of each corruption."), Range(1, 1000)] = 3,
    draw_seed: Annotated[int, Option(help="Seed of the draws."), Range(0, 2**32 - 1)] = 0,
) -> str:
    """F1 when joints, frames or people are missing."""
    from posewatch.progress import Progress
    from posewatch.recognition.evaluation.robustness import robustness, steps

    recogniser, test, train, out = clips.load(checkpoint)
    with Progress("robustness", steps(recogniser, draws), "scoring") as progress:
        report = robustness(
            recogniser, test, out, draw_seed,
            positive=clips.positive, train_set=train, draws=draws, progress=progress,
        )  # fmt: skip
    lines = [f"{'joints dropped':<16}{'F1':>8}{'AUC':>8}{'F1 drop':>10}"]
    for row in report["joints_dropped"]:
        auc = "-" if row["auc"] is None else f"{row['auc']:.3f}"
        lines.append(f"{row['level']:<16.0%}{row['f1']:>8.3f}{auc:>8}{row['f1_drop']:>10.3f}")
    return "\n".join([*lines, str(out / "robustness.json")])


@verb(app, "threshold")
def threshold(
    checkpoint: Annotated[Path, Argument(help="A checkpoint file.")],
    at: Annotated[str, Option(metavar="WISH", help=AT.words[0].upper() + AT.words[1:] + ".")],
    out: Annotated[
        Path | None, Option(metavar="FILE", help="The checkpoint to write (default: only tell)."), Writes()
    ] = None,
) -> str:
    """Choose the threshold anew, by held-out clips."""
    from posewatch.recognition.evaluation.operating_point import choose_again

    return "\n".join(choose_again(checkpoint, at, out))


@verb(app, "ensemble")
def ensemble(
    checkpoints: Annotated[list[Path], Argument(help="Checkpoint files.")],
    out: Annotated[Path, Option(metavar="FILE", help="The checkpoint to write."), Writes()],
    weights: Annotated[
        list[float] | None,
        Option(metavar="X...", help="One for each checkpoint (default: equal)."),
        Range(0, 1_000_000),
    ] = None,
) -> str:
    """Average several checkpoints into one."""
    from posewatch.recognition.ensemble import combine

    return str(combine(checkpoints, out, weights or ()))
