"""prepare: raw videos → masked → clips → skeletons → the labelers' queue. Holds no pod while people label."""

from typing import NamedTuple

from kfp import dsl

from components.ingest.component import ingest
from components.mask.component import mask
from components.pose.component import pose
from components.queue_clips.component import queue_clips
from components.split.component import split
from pipelines.tasks import task


class Prepared(NamedTuple):
    clips: str
    skeletons: str
    queued: int


@dsl.pipeline(name="posewatch-prepare", description="Raw video to masked clips, skeletons and a labelling queue")
def prepare(source: str, store: str, config: str) -> Prepared:
    """Everything that needs no person.

    Args:
        source: a folder of videos, or an s3:// URI.
        store: object store, s3://bucket[/prefix].
        config: the whole experiment as JSON (``python -m pipelines`` resolves a name to it).
    """
    raw = task(ingest(store=store, source=source), cache=False)
    masked = task(mask(store=store, raw=raw.outputs["Output"], config=config))
    clips = task(split(store=store, masked=masked.outputs["Output"], config=config))
    skeletons = task(pose(store=store, clips=clips.outputs["Output"], config=config))
    queued = task(
        queue_clips(store=store, clips=clips.outputs["Output"], skeletons=skeletons.outputs["Output"]), cache=False
    )
    return Prepared(clips.outputs["Output"], skeletons.outputs["Output"], queued.output)
