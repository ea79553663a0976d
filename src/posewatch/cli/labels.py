"""Labels: queue, import, verdicts, wait, snapshot, set, roles, audit, agreement, export, refresh."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from typer import Argument, Option

from posewatch.cli.context import Force, LabelContext, Writes, notes, topic, verb
from posewatch.errors import InputError
from posewatch.rules import Range

if TYPE_CHECKING:
    from posewatch.inference.predictor import Predictor
    from posewatch.records import Skeleton

app = topic()
labels = topic(help="Queue, import, verdicts, snapshot, role, ...")
app.add_typer(labels, name="labels")

Clips = Annotated[str, Argument(help="URI of a set of clips.")]


AllowDisagreement = Annotated[
    bool, Option("--allow-disagreement", help="Take the majority's label where people disagree.")
]


@verb(labels, "queue")
def queue(
    clips: Clips,
    context: LabelContext,
    skeletons: Annotated[str | None, Option(metavar="URI", help="Skeletons to draw over the previews.")] = None,
) -> dict[str, int]:
    """Put the clips of a set on the labelers' queue."""
    from posewatch.stages.queue_clips import previews, queue_clips

    artifact = context.artifact(clips)
    small = previews(context.objects, artifact, context.artifact(skeletons)) if skeletons else None
    return {"queued": queue_clips(artifact, context.labels, small)}


@verb(labels, "import")
def import_(
    clips: Clips,
    source: Annotated[str, Argument(help="A label file, or a folder of them.")],
    context: LabelContext,
    fps: Annotated[
        float | None,
        Option(
            metavar="RATE",
            help="Frames per second of videos labelled in CVAT or Supervisely (default: of the masked ones),"
            " or Label Studio (24).",
        ),
        Range(1, 240),
    ] = None,
    zeros: Annotated[
        Literal["touched", "all", "none"],
        Option(help="Which clips of class 0 in an output_data.json are labelled: in touched videos, all, none."),
    ] = "touched",
) -> dict[str, Any]:
    """Import label files as events."""
    from posewatch.stages.label_import import label_import

    return label_import(context.artifact(clips), source, context.labels, context.experiment.labels, fps, zeros)


@verb(labels, "verdicts")
def verdicts(
    context: LabelContext,
    clips: Annotated[str | None, Argument(help="URI of a set of clips that goes along.")] = None,
    skeletons: Annotated[str | None, Argument(help="URI of its skeletons.")] = None,
) -> dict[str, Any]:
    """Make labelled clips of judged alarms; prints the sets of their clips and skeletons."""
    from posewatch.stages.verdicts import verdicts

    if (clips is None) != (skeletons is None):
        raise InputError("give the clips and their skeletons, or neither")
    also = [context.artifact(uri) for uri in (clips, skeletons) if uri]
    made = verdicts(context.objects, context.labels, context.experiment, *also)
    return {"clips": made.clips.uri, "skeletons": made.skeletons.uri, **made.counts}


@verb(labels, "wait")
def wait(clips: Clips, context: LabelContext) -> Any:
    """Wait until every class has enough labels."""
    from posewatch.stages.label_gate import label_gate

    return label_gate(context.artifact(clips), context.labels, context.experiment.labels)


@verb(labels, "snapshot")
def snapshot(
    clips: Clips,
    context: LabelContext,
    allow_disagreement: AllowDisagreement = False,
) -> str:
    """Freeze the current labels."""
    from posewatch.labels.formats.snapshot import outside
    from posewatch.stages.contents import label_rows
    from posewatch.stages.snapshot import snapshot

    store, config = context.labels, context.experiment.labels
    made = snapshot(context.objects, context.artifact(clips), store, config, allow_disagreement=allow_disagreement)
    notes(outside(label_rows(made), config.classes))
    return made.uri


@verb(labels, "set")
def set_(
    clip: Annotated[str, Argument(help="Id of a clip.")],
    label: Annotated[str, Argument(help="One of the classes.")],
    context: LabelContext,
    who: Annotated[str | None, Option(metavar="NAME", help="Who labels it (default: USER).")] = None,
) -> str:
    """Label one clip by hand."""
    name = who or os.environ.get("USER", "me")
    event = context.labels.set_label(clip, label, name, "human", classes=context.experiment.labels.classes)
    return "unchanged" if event is None else f"{event.clip_id}: {event.old} -> {event.new}"


@verb(labels, "role")
def role(
    context: LabelContext,
    who: Annotated[str | None, Argument(help="A person; nobody: list all.")] = None,
    role: Annotated[str | None, Argument(help="none, labeler, reviewer, admin or operator.")] = None,
) -> str:
    """List roles, or give one."""
    from posewatch.labels.team import roles

    store = context.labels
    if who is None:
        return "\n".join(f"{name:30} {of}" for name, of in roles.all_roles(store).items()) or "nobody has a role yet"
    if role is None:
        return roles.role_of(store, who)
    roles.set_role(store, who, role, f"operator {os.environ.get('USER', '')}".strip())
    return f"{who}: {role}"


@verb(labels, "audit")
def audit(
    out: Annotated[Path, Option(metavar="FILE", help="A .csv, .jsonl or .parquet file."), Writes()],
    context: LabelContext,
) -> str:
    """Write every act since the beginning to a file."""
    from posewatch.labels.team import audit

    return f"{audit.export(context.labels, out)} rows in {out}"


@verb(labels, "agreement")
def agreement(context: LabelContext) -> dict[str, Any]:
    """Cohen's and Fleiss' kappa of clips that several people labelled."""
    import dataclasses

    from posewatch.labels.team.agreement import agreement, opinions

    return dataclasses.asdict(agreement(opinions(context.labels)))


@verb(labels, "export")
def export(
    format: Annotated[
        Literal["csv", "parquet", "pyskl", "folders", "labelstudio", "cvat", "fiftyone"],
        Argument(help="Format to write."),
    ],
    out: Annotated[
        Path,
        Option(metavar="PATH", help="The file; a folder for folders, cvat, fiftyone."),
        Writes(here=False),
    ],
    context: LabelContext,
    skeletons: Annotated[str | None, Option(metavar="URI", help="The clips' skeletons, for pyskl.")] = None,
    allow_disagreement: AllowDisagreement = False,
    force: Force = False,
) -> str:
    """Write the current labels for other tools."""
    from posewatch import outputs
    from posewatch.artifact import members
    from posewatch.labels.formats.exporters import OPEN, export
    from posewatch.labels.formats.snapshot import outside, snapshot
    from posewatch.stages.contents import skeletons_of

    if format != "folders":
        outputs.check([out], context.label_files, force=force)
    store = context.labels
    poses: dict[str, Skeleton] | None = None
    frozen = snapshot(
        store, allow_disagreement=allow_disagreement, allow_none=format in OPEN, unit=context.experiment.mask.unit
    )
    notes(outside(frozen.rows, context.experiment.labels.classes))
    if skeletons:
        parts = [skeletons_of(artifact) for _, artifact in members(context.artifact(skeletons))]
        poses = {clip: skeleton for part in parts for clip, skeleton in part.items()}
    count = export(
        store, frozen, format, out, context.experiment.labels, poses, force=force, grouped=context.experiment.dataset
    )
    rest = f", {store.size() - count} clips to label" if format in OPEN else ""
    return f"{count} labelled clips{rest} in {out}"


@verb(labels, "refresh")
def refresh(
    clips: Clips,
    skeletons: Annotated[str, Argument(help="URI of the clips' skeletons.")],
    context: LabelContext,
    endpoint: Annotated[str | None, Option(metavar="URL", help="A served model: grpc://host:port/model.")] = None,
    checkpoint: Annotated[Path | None, Option(metavar="FILE", help="Or a checkpoint file.")] = None,
    version: Annotated[
        str | None, Option(help="Model version that the page shows (default: its name, or its digest).")
    ] = None,
) -> dict[str, int]:
    """Score unlabelled clips with a model, and put the uncertain ones first."""
    from posewatch.stages.refresh import refresh

    if (endpoint is None) == (checkpoint is None):
        raise InputError("choose one model: --endpoint grpc://host:8001/model, or --checkpoint FILE")
    predictor: Predictor
    if endpoint is not None:
        from posewatch.inference.open import open_predictor

        predictor, name = open_predictor(endpoint), endpoint.rsplit("/", 1)[-1]
    else:
        import hashlib

        from posewatch.inference.pytorch import TorchPredictor

        assert checkpoint is not None
        predictor = TorchPredictor.from_checkpoint(checkpoint)
        name = hashlib.sha256(checkpoint.read_bytes()).hexdigest()[:12]
    with predictor:
        return refresh(
            context.artifact(clips), context.artifact(skeletons), context.labels, predictor, version or name,
            context.experiment.labels,
        )  # fmt: skip
