"""end_to_end: prepare, import label files where some are given, wait until people have labelled enough, train."""

from typing import NamedTuple

from kfp import dsl

from components.label_gate.component import label_gate
from components.label_import.component import label_import
from pipelines.prepare import prepare_stages
from pipelines.tasks import announced, task
from pipelines.train import train_stages


class Served(NamedTuple):
    model: str
    endpoint: str
    report: str


@dsl.pipeline(name="posewatch-end-to-end-stages", description="Raw video to a served, measured recogniser")
def end_to_end_stages(
    source: str,
    store: str,
    config: str,
    labels: str = "",
    about: str = "",
    persons: str = "",
    shard_size: int = 50,
    source_seconds: float = 0.0,
) -> Served:
    """From raw videos to a served model.

    Args:
        source: a folder of videos, an s3:// URI, or a camera (rtsp://...).
        store: object store, s3://bucket[/prefix].
        config: the whole experiment as JSON.
        labels: label files to import (a folder, a labels.csv or an s3:// URI); empty when people label in the web app.
        about: a remark for the report on where the videos come from.
        persons: URI of videos masked person by person, of which the report shows one moment; empty for none.
        shard_size: videos that one pod takes.
        source_seconds: how long a camera is recorded.
    """
    ready = prepare_stages(
        source=source, store=store, config=config, shard_size=shard_size, source_seconds=source_seconds
    )
    clips, skeletons = ready.outputs["clips"], ready.outputs["skeletons"]
    imported = task(
        label_import(store=store, clips=clips, labels=labels, config=config, after=ready.outputs["queued"]), cache=False
    )
    enough = task(label_gate(store=store, clips=clips, config=config), cache=False).after(imported)
    trained = train_stages(
        clips=clips, skeletons=skeletons, store=store, config=config, about=about, persons=persons
    ).after(enough)
    return Served(trained.outputs["model"], trained.outputs["endpoint"], trained.outputs["report"])


end_to_end = announced("end_to_end", end_to_end_stages)
