"""train: labels → dataset → checkpoint → ONNX → served and measured model, with a report."""

from typing import Any, NamedTuple

from kfp import dsl

from components.benchmark.component import benchmark
from components.dataset.component import dataset
from components.deploy.component import deploy
from components.evaluate.component import evaluate
from components.export.component import export
from components.image import image
from components.pretrain.component import pretrain
from components.publish.component import publish
from components.report.component import report
from components.score.component import score
from components.smoke_test.component import smoke_test
from components.snapshot.component import snapshot
from components.train.component import train as fit
from pipelines.tasks import announced, task


class Model(NamedTuple):
    """The outputs of steps, each a URI: what came of a training."""

    checkpoint: Any
    evaluation: Any
    onnx: Any
    model: Any


class Trained(NamedTuple):
    model: str
    endpoint: str
    report: str


def model_of(data: Any, skeletons: Any, store: Any, config: Any) -> Model:
    """The steps from a dataset to a published version."""
    begun = task(pretrain(store=store, skeletons=skeletons, data=data, config=config))
    fitted = task(fit(store=store, data=data, config=config, pretrained=begun.output))
    fitted.set_env_variable("POSEWATCH_IMAGE", image("train"))  # the nodes of a TrainJob run what this step runs
    checkpoint = fitted.outputs["Output"]
    evaluation = task(evaluate(store=store, data=data, checkpoint=checkpoint, config=config)).outputs["Output"]
    onnx = task(export(store=store, checkpoint=checkpoint, config=config)).outputs["Output"]
    return Model(checkpoint, evaluation, onnx, task(publish(store=store, onnx=onnx, config=config)).outputs["Output"])


@dsl.pipeline(name="posewatch-train-stages", description="Labelled clips to a served, measured recogniser")
def train_stages(clips: str, skeletons: str, store: str, config: str, about: str = "", persons: str = "") -> Trained:
    """Everything after people have labelled.

    Args:
        clips: URI of a set of clips, from ``prepare``.
        skeletons: URI of the set of their skeletons, from ``prepare``.
        store: object store, s3://bucket[/prefix].
        config: the whole experiment as JSON.
        about: a remark for the report on where the videos come from.
        persons: URI of videos masked person by person, of which the report shows one moment; empty for none.
    """
    frozen = task(snapshot(store=store, clips=clips, config=config), cache=False)
    labels = frozen.outputs["Output"]
    frozen_data = task(dataset(store=store, snapshot=labels, skeletons=skeletons, config=config))
    data = frozen_data.outputs["Output"]
    checkpoint, evaluation, onnx, model = model_of(data, skeletons, store, config)
    served = task(deploy(store=store, model=model, evaluation=evaluation, config=config), cache=False)
    endpoint = served.output
    smoke = task(smoke_test(store=store, endpoint=endpoint, data=data, onnx=onnx, model=model), cache=False)
    scores = task(
        score(store=store, endpoint=endpoint, clips=clips, skeletons=skeletons, snapshot=labels, model=model),
        cache=False,
    ).after(smoke)
    bench = task(benchmark(store=store, onnx=onnx, checkpoint=checkpoint, data=data, config=config)).after(scores)
    page = task(
        report(
            store=store,
            evaluation=evaluation,
            bench=bench.outputs["Output"],
            scores=scores.outputs["Output"],
            smoke=smoke.outputs["Output"],
            about=about,
            persons=persons,
        )
    )
    return Trained(model, endpoint, page.outputs["Output"])


train = announced("train", train_stages)
