"""Pretraining on skeletons without labels."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from posewatch.cli.context import Context, Writes, notes, topic, verb
from posewatch.cores import share_cores
from posewatch.errors import InputError
from posewatch.rules import Range

app = topic()


@verb(app, "pretrain")
def pretrain(
    context: Context,
    skeletons: Annotated[str | None, Argument(help="URI of the skeletons of `prepare`; or give --annotations.")] = None,
    annotations: Annotated[
        Path | None, Option(metavar="FILE", help="Skeletons in pyskl's annotation format (.pkl), labelled or not.")
    ] = None,
    layout: Annotated[
        str | None, Option(help="Joint layout of the file: a built-in name or a YAML file (default: the file's).")
    ] = None,
    rendered: Annotated[
        int | None,
        Option(metavar="N", help="Also, or only, N clips of rendered people (default: pretrain.rendered)."),
        Range(0, 1_000_000),
    ] = None,
    out: Annotated[
        Path | None,
        Option(metavar="DIR", help="Folder for the checkpoint, unless the skeletons are in the store."),
        Writes("checkpoint.pt", "history.jsonl"),
    ] = None,
) -> str:
    """Learn from clips without labels, before train."""
    config = context.experiment.pretrain
    if rendered is not None:
        config = dataclasses.replace(config, rendered=rendered)
    if skeletons is not None:
        if annotations is not None:
            raise InputError(f"give skeletons of the store ({skeletons}) or --annotations, not both")
        from posewatch.stages.pretrain import pretrain as stage

        return stage(context.objects, context.artifact(skeletons), config, context.experiment.train).uri
    if annotations is None and not config.rendered:
        raise InputError("give what to pretrain on: a URI of skeletons, --annotations FILE.pkl, or --rendered N")
    if out is None:
        raise InputError("give a folder for the checkpoint: --out DIR")
    share_cores()
    from posewatch.datasets import layouts
    from posewatch.datasets.pyskl import read_pyskl
    from posewatch.recognition.training.pretrain import pretrain as run
    from posewatch.recognition.training.pretrain import source_of

    clips = None
    chosen = layouts.from_yaml(layout) if layout and layout.endswith((".yaml", ".yml")) else layout
    if annotations is not None:
        clips, _ = read_pyskl(annotations, layout=chosen, drop_empty=True, labelled=False)
        notes(clips.notes)
    own = chosen if isinstance(chosen, layouts.Layout) else None
    train = context.experiment.train
    return str(run(source_of(clips, train, config, own), train, config, out))
