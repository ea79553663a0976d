"""Serve a published version: deploy, smoke-test, promote, rollback, history."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from posewatch.cli.context import Context, topic, verb
from posewatch.errors import InputError
from posewatch.rules import Range

if TYPE_CHECKING:
    from posewatch.deploy.rollout import Rollout

app = topic()


@dataclass(frozen=True)
class RolloutOptions:
    """How a version is rolled out on a cluster."""

    force: Annotated[bool, Option("--force", help="Take over fields that another manager of the service owns.")] = False
    skip_smoke_test: Annotated[
        bool, Option("--skip-smoke-test", help="Do not compare its answers on held-out clips with its export.")
    ] = False
    smoke_url: Annotated[
        str, Option(metavar="URL", help="Where to test it from here, http://host:port (a port-forward).")
    ] = ""


Model = Annotated[str, Argument(help="URI of a published version.")]


@verb(app, "deploy")
def deploy(
    model: Model,
    rollout: RolloutOptions,
    context: Context,
    evaluation: Annotated[
        str | None, Option(metavar="URI", help="Evaluation of this model: its F1 and robustness must pass the gates.")
    ] = None,
    canary_percent: Annotated[
        int | None,
        Option(metavar="N", help="Give it N % of the traffic, until `promote` (default: all)."),
        Range(1, 100),
    ] = None,
    override_gates: Annotated[
        str, Option(metavar="REASON", help="Serve it although it misses a gate; recorded in the history.")
    ] = "",
) -> str:
    """Serve a published version."""
    from posewatch.stages.deploy import deploy

    return deploy(
        context.artifact(model),
        context.artifact(evaluation) if evaluation else None,
        context.experiment.serving,
        robustness=context.experiment.robustness,
        force=rollout.force,
        percent=canary_percent,
        override=override_gates,
        smoke=not rollout.skip_smoke_test,
        smoke_url=rollout.smoke_url,
    )


@verb(app, "smoke-test")
def smoke_test(
    endpoint: Annotated[str, Argument(help="Address of the served model.")],
    dataset: Annotated[str, Argument(help="URI of the dataset whose held-out clips are sent.")],
    onnx: Annotated[str, Argument(help="URI of the export to compare with.")],
    model: Model,
    context: Context,
) -> str:
    """Compare served answers with the export."""
    from posewatch.stages.smoke_test import smoke_test

    artifacts = (context.artifact(dataset), context.artifact(onnx), context.artifact(model))
    return smoke_test(context.objects, endpoint, *artifacts).uri


def _rollout(verb: str, options: RolloutOptions, context: Context) -> Rollout:
    from posewatch.stages.deploy import rollout

    config = context.experiment.serving
    if config.target != "kserve":
        raise InputError(f"{verb} is for a cluster: set serving.target=kserve (it is {config.target!r})")
    return rollout(
        context.objects, config, force=options.force, smoke=not options.skip_smoke_test, smoke_url=options.smoke_url
    )


@verb(app, "promote")
def promote(rollout: RolloutOptions, context: Context) -> str:
    """Give the canary all of the traffic."""
    return _rollout("promote", rollout, context).promote().uri


@verb(app, "rollback")
def rollback(
    rollout: RolloutOptions,
    context: Context,
    to: Annotated[
        str, Option(metavar="VERSION", help="A version that was served before (default: the previous one).")
    ] = "",
    reason: Annotated[str, Option(help="Recorded in the history.")] = "",
) -> str:
    """Withdraw the canary, or serve the version before."""
    served = _rollout("rollback", rollout, context).rollback(to, reason=reason)
    return f"{served.uri} serves version {served.version}"


@verb(app, "history")
def history(
    context: Context,
    as_json: Annotated[bool, Option("--json", help="Every event as JSON, oldest first.")] = False,
    hours: Annotated[
        float,
        Option(help="How far to look back for what cameras saw (serving.prometheus)."),
        Range(0, 100_000, above=True),
    ] = 24.0,
) -> Any:
    """Deployments: version, time, person, figures."""
    from posewatch.deploy import figures, history

    config = context.experiment.serving
    events = history.read(context.objects, config.namespace, config.name)
    if as_json:
        return [dataclasses.asdict(event) for event in events]
    seen = figures.watched(config, hours)
    return "\n\n".join([history.text(events), *([figures.table(seen, hours)] if seen else [])])
