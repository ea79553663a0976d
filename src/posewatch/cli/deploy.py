"""The verbs of a deployment on a cluster: deploy's options, ``promote``, ``rollback``, ``history``."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from posewatch.config import ServingConfig, load
from posewatch.errors import InputError

if TYPE_CHECKING:
    from posewatch.deploy.rollout import Rollout
    from posewatch.store import ObjectStore


def deploy_options(parser: argparse.ArgumentParser) -> None:
    """What ``posewatch deploy`` takes besides the model."""
    parser.add_argument("--evaluation", help="evaluation of this model: its F1 and robustness must pass the gates")
    parser.add_argument(
        "--canary-percent", type=int, metavar="N", help="give it N %% of the traffic, until `promote` (default: all)"
    )
    parser.add_argument(
        "--override-gates", default="", metavar="REASON", help="serve it although it misses a gate; kept in the history"
    )
    _rollout_options(parser)


def deploy_options_of(args: argparse.Namespace) -> dict[str, Any]:
    """The same as keyword arguments of ``stages.deploy.deploy``."""
    return {
        "force": args.force,
        "percent": args.canary_percent,
        "override": args.override_gates,
        "smoke": not args.skip_smoke_test,
        "smoke_url": args.smoke_url,
    }


def add(verb: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the verbs; ``verb`` as in ``posewatch.cli.main``."""
    made = verb("promote", _promote, "give the canary of serving.name all of the traffic")
    _rollout_options(made)
    made = verb("rollback", _rollback, "take the canary back, or serve the version that served before")
    made.add_argument("--to", default="", metavar="VERSION", help="a version that has served (default: the one before)")
    made.add_argument("--reason", default="", help="kept in the history")
    _rollout_options(made)
    made = verb("history", _history, "what was deployed, when, by whom, on what figures")
    made.add_argument("--json", action="store_true", help="every event as JSON, oldest first")


def _rollout_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--force", action="store_true", help="take over fields that another manager of the service owns"
    )
    parser.add_argument(
        "--skip-smoke-test", action="store_true", help="do not compare its answers on held-out clips with its export"
    )
    parser.add_argument(
        "--smoke-url", default="", metavar="URL", help="where to test it from here, http://host:port (a port-forward)"
    )


def _service(args: argparse.Namespace) -> tuple[ObjectStore, ServingConfig]:
    from posewatch.store import open_store

    config = load(args.config, args.set).serving
    return open_store(args.store), config


def _rollout(args: argparse.Namespace) -> Rollout:
    from posewatch.stages.deploy import rollout

    store, config = _service(args)
    if config.target != "kserve":
        raise InputError(f"{args.verb} is for a cluster: set serving.target=kserve (it is {config.target!r})")
    return rollout(store, config, force=args.force, smoke=not args.skip_smoke_test, smoke_url=args.smoke_url)


def _promote(args: argparse.Namespace) -> str:
    return _rollout(args).promote().uri


def _rollback(args: argparse.Namespace) -> str:
    made = _rollout(args).rollback(args.to, reason=args.reason)
    return f"{made.uri} serves version {made.version}"


def _history(args: argparse.Namespace) -> Any:
    from posewatch.deploy import history

    store, config = _service(args)
    events = history.read(store, config.namespace, config.name)
    return [dataclasses.asdict(event) for event in events] if args.json else history.text(events)
