"""refresh: a round of active learning. The served model scores unlabelled clips; uncertain ones come first."""

from kfp import dsl

from components.refresh.component import refresh as score
from pipelines.tasks import announced, task


@dsl.pipeline(name="posewatch-refresh-stages", description="The labelers' queue, uncertain clips first")
def refresh_stages(clips: str, skeletons: str, store: str, config: str, endpoint: str, version: str = "") -> int:
    """One round; returns the number of clips that were scored.

    Args:
        clips: URI of a set of clips, from ``prepare``.
        skeletons: URI of the set of their skeletons, from ``prepare``.
        store: object store, s3://bucket[/prefix].
        config: the whole experiment as JSON.
        endpoint: address of the served model, grpc://host:port/name.
        version: the model's name on the labeling page; empty: that in the endpoint.
    """
    scored = task(
        score(store=store, clips=clips, skeletons=skeletons, endpoint=endpoint, version=version, config=config),
        cache=False,
    )
    return scored.outputs["Output"]


refresh = announced("refresh", refresh_stages)
