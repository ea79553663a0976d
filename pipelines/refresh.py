"""refresh: the served model's next round. It orders the labelers' queue; and where operators have judged enough alarms,
a new version learns from them, and becomes a canary when it raises fewer false alarms than the served one."""

from typing import NamedTuple

from kfp import dsl

from components.compare.component import compare
from components.dataset.component import dataset
from components.deploy.component import deploy
from components.refresh.component import refresh as score
from components.snapshot.component import snapshot
from components.verdicts.component import verdicts
from pipelines.tasks import announced, task
from pipelines.train import model_of


class Refreshed(NamedTuple):
    Output: int
    verdicts: str


@dsl.pipeline(name="posewatch-refresh-stages", description="The queue, uncertain clips first; and learning from alarms")
def refresh_stages(
    clips: str, skeletons: str, store: str, config: str, endpoint: str, version: str = "", drifted: bool = False
) -> Refreshed:
    """One round; returns the number of clips that were scored, and what became of the verdicts on alarms.

    Args:
        clips: URI of a set of clips, from ``prepare``.
        skeletons: URI of the set of their skeletons, from ``prepare``.
        store: object store, s3://bucket[/prefix].
        config: the whole experiment as JSON.
        endpoint: address of the served model, grpc://host:port/name.
        version: the model's name on the labeling page; empty: that in the endpoint.
        drifted: train on a single new verdict, because the cameras' pictures have changed.
    """
    scored = task(
        score(store=store, clips=clips, skeletons=skeletons, endpoint=endpoint, version=version, config=config),
        cache=False,
    )
    judged = task(
        verdicts(
            store=store, clips=clips, skeletons=skeletons, endpoint=endpoint, config=config, drifted=drifted
        ),
        cache=False,
    )  # fmt: skip
    with dsl.If(judged.outputs["Output"] == True, name="enough verdicts"):  # noqa: E712
        frozen = task(snapshot(store=store, clips=judged.outputs["all_clips"], config=config), cache=False)
        made = task(
            dataset(
                store=store, config=config, snapshot=frozen.outputs["Output"],
                skeletons=judged.outputs["all_skeletons"], before=judged.outputs["before"],
            )
        )  # fmt: skip
        data = made.outputs["Output"]
        _, evaluation, _, model = model_of(data, judged.outputs["all_skeletons"], store, config)
        compared = task(compare(store=store, model=model, served=judged.outputs["served"], data=data))
        with dsl.If(compared.outputs["Output"] == True, name="better"):  # noqa: E712
            task(deploy(store=store, model=model, evaluation=evaluation, config=config), cache=False)
    return Refreshed(scored.outputs["Output"], judged.outputs["told"])


refresh = announced("refresh", refresh_stages)
