"""prepare: raw videos → masked → clips → skeletons → the labelers' queue. Holds no pod while people label."""

from typing import Any, NamedTuple

from kfp import dsl

from components.gather.component import gather
from components.ingest.component import ingest
from components.mask.component import mask
from components.pose.component import pose
from components.queue_clips.component import queue_clips
from components.shards.component import shards
from components.split.component import split
from pipelines.resources import resources
from pipelines.tasks import announced, camera_task, task


class Prepared(NamedTuple):
    clips: str
    skeletons: str
    queued: int


def _cut_and_posed(store: Any, raw: Any, config: Any) -> tuple[dsl.PipelineTask, dsl.PipelineTask]:
    """The steps that make clips of raw videos, and their skeletons."""
    masked = task(mask(store=store, raw=raw, config=config))
    cut = task(split(store=store, masked=masked.outputs["Output"], config=config))
    return cut, task(pose(store=store, clips=cut.outputs["Output"], config=config))


@dsl.pipeline(name="posewatch-prepare-stages", description="Raw video to masked clips, skeletons and a labelling queue")
def prepare_stages(source: str, store: str, config: str, shard_size: int = 50, source_seconds: float = 0.0) -> Prepared:
    """Everything that needs no person; masking, clips and skeletons shard by shard.

    Args:
        source: a folder of videos, an s3:// URI, or a camera (rtsp://...).
        store: object store, s3://bucket[/prefix].
        config: the whole experiment as JSON (``python -m pipelines`` resolves a name to it).
        shard_size: videos that one pod takes.
        source_seconds: how long a camera is recorded.
    """
    raw = camera_task(ingest(store=store, source=source, seconds=source_seconds))
    if resources().shards:
        parts = task(shards(store=store, raw=raw.outputs["Output"], size=shard_size))
        with dsl.ParallelFor(parts.output, parallelism=resources().parallelism) as part:
            cut, posed = _cut_and_posed(store, part, config)
        clips = task(gather(store=store, parts=dsl.Collected(cut.outputs["Output"])))
        skeletons = task(gather(store=store, parts=dsl.Collected(posed.outputs["Output"])))
    else:
        clips, skeletons = _cut_and_posed(store, raw.outputs["Output"], config)
    queued = task(
        queue_clips(store=store, clips=clips.outputs["Output"], skeletons=skeletons.outputs["Output"]), cache=False
    )
    return Prepared(clips.outputs["Output"], skeletons.outputs["Output"], queued.output)


prepare = announced("prepare", prepare_stages)
