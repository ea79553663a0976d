"""A checkpoint and a dataset → metrics on the held-out clips, with classical baselines beside them."""

from __future__ import annotations

from pathlib import Path

from posewatch.artifact import Artifact, Job, produce
from posewatch.config import RobustnessConfig
from posewatch.digests import canonical
from posewatch.progress import Progress
from posewatch.stages.contents import HISTORY, METRICS, dataset_part, recogniser_of
from posewatch.store import ObjectStore


def evaluate(
    store: ObjectStore, dataset: Artifact, checkpoint: Artifact, robustness: RobustnessConfig | None = None
) -> Artifact:
    """Measure a checkpoint on the test part; writes ``metrics.json`` and plots, with classical baselines beside it.

    With ``robustness.draws`` it writes ``robustness.json`` and ``robustness.png``, too.
    """
    draws = robustness.draws if robustness else 0
    job = Job("evaluations", "", {"robustness_draws": draws} if draws else {}, (dataset, checkpoint), revision=2)

    def write(folder: Path) -> None:
        from posewatch.recognition.evaluation import robustness as corruption
        from posewatch.recognition.evaluation.evaluate import evaluate as measure
        from posewatch.recognition.evaluation.plots import plots
        from posewatch.recognition.training.holdout import curve

        recogniser = recogniser_of(checkpoint)
        steps = 1 + (corruption.steps(recogniser, draws) if draws else 0)
        with Progress("evaluate", steps, "scoring") as progress:
            test_set, train_set = dataset_part(dataset, "test"), dataset_part(dataset, "train")
            metrics = measure(recogniser, test_set, train_set=train_set)
            (folder / METRICS).write_text(canonical(metrics) + "\n", encoding="utf-8")
            plots(metrics, curve(checkpoint.lines(HISTORY)), folder)
            progress.advance()
            if draws:
                corruption.robustness(recogniser, test_set, folder, train_set=train_set, draws=draws, progress=progress)

    return produce(store, job, write)
