"""A grid of experiments on one file of skeletons."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from posewatch.cli.context import Force, Writes, topic, verb
from posewatch.cores import share_cores
from posewatch.errors import InputError

app = topic()


@verb(app, "experiment", stack=False)
def experiment(
    file: Annotated[Path, Argument(help="A YAML file: the annotations, and a grid of train.* settings.")],
    out: Annotated[
        Path, Option(metavar="DIR", help="Folder for the table, the plot and every training."), Writes(here=False)
    ],
    force: Force = False,
) -> str:
    """Compare models, streams, seeds, pretrainings."""
    share_cores()
    from posewatch import outputs
    from posewatch.cli.train import Skeletons, task_of
    from posewatch.recognition import distributed
    from posewatch.recognition.training import grid as grids
    from posewatch.recognition.training import grid_report

    grid = grids.read(file)
    given = grid.settings
    skeletons = Skeletons(
        annotations=Path(given.annotations),
        classes=",".join(given.classes) or None,
        layout=given.layout,
        positive=given.positive,
        subject_pattern=given.subject_pattern,
        allow_shared_subjects=given.allow_shared_subjects,
        drop_empty=given.drop_empty,
        keep_empty=given.keep_empty,
        labels=Path(given.labels) if given.labels else None,
        resplit=given.resplit,
    )
    task = task_of(skeletons, given.train_split, given.test_split, grid.unit, given.cross_validate)
    grids.require(grid, task)
    outputs.check(grids.written(grid, task, out), grid.inputs(), force=force)
    with distributed.processes():
        report = grids.run(grid, task, out)
        if distributed.rank():
            return ""
    failed = [cell for row in report["rows"] for cell in row["cells"] if "error" in cell]
    if failed:
        raise InputError(f"{len(failed)} trainings failed, the others are in {out / grids.TABLE}: {failed[0]['error']}")
    return f"{grid_report.table(report)}\n{out / grids.TABLE}"
