"""A checkpoint and a dataset → metrics on the held-out clips, with classical baselines beside them."""

from __future__ import annotations

import tempfile
from pathlib import Path

from posewatch.artifact import Artifact, Job, produce
from posewatch.config import RobustnessConfig
from posewatch.digests import canonical
from posewatch.progress import Progress
from posewatch.stages.contents import read
from posewatch.store import ObjectStore


def evaluate(
    store: ObjectStore, dataset: Artifact, checkpoint: Artifact, robustness: RobustnessConfig | None = None
) -> Artifact:
    """Measure a checkpoint on the test part; writes ``metrics.json`` and plots, with classical baselines beside it.

    With ``robustness.draws`` it writes ``robustness.json`` and ``robustness.png``, too.
    """
    draws = robustness.draws if robustness else 0
    job = Job("evaluations", "", {"robustness_draws": draws} if draws else {}, (dataset, checkpoint), revision=2)

    def make(folder: Path) -> None:
        from posewatch.recognition.evaluation import robustness as robust
        from posewatch.recognition.evaluation.evaluate import evaluate as measure
        from posewatch.recognition.evaluation.plots import plots
        from posewatch.recognition.training.holdout import curve
        from posewatch.recognition.training.trainer import load_checkpoint

        with tempfile.TemporaryDirectory() as temp:
            recogniser = load_checkpoint(checkpoint.fetch("checkpoint.pt", Path(temp)))
        count = 1 + (robust.steps(recogniser, draws) if draws else 0)
        with Progress("evaluate", count, "scoring") as progress:
            test_set, train_set = read(dataset, "test"), read(dataset, "train")
            metrics = measure(recogniser, test_set, train_set=train_set)
            history = curve(checkpoint.lines("history.jsonl"))
            (folder / "metrics.json").write_text(canonical(metrics) + "\n", encoding="utf-8")
            plots(metrics, history, folder)
            progress.advance()
            if draws:
                robust.robustness(recogniser, test_set, folder, train_set=train_set, draws=draws, progress=progress)

    return produce(store, job, make)
