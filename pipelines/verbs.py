"""The verbs that need a Kubeflow Pipelines server: submit, runs, logs, upload-version, schedule."""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipelines import NAMES
from pipelines.arguments import typed
from pipelines.remote import Remote
from posewatch.config import load
from posewatch.errors import InputError, PosewatchError

CRON = re.compile(r"(\S+ ){5}\S+|@(yearly|monthly|weekly|daily|hourly)|@every \S+")


def add(verbs: Any) -> None:
    """Add the verbs; each sets ``act``, which takes the parsed arguments and returns the exit status."""
    server = argparse.ArgumentParser(add_help=False)
    server.add_argument(
        "--host", default="", help="the server's URL (default: KF_PIPELINES_ENDPOINT, or the cluster's)"
    )
    server.add_argument("--token-file", type=Path, help="a bearer token (default: POSEWATCH_KFP_TOKEN)")
    server.add_argument("--namespace", default="", help="your namespace, in a multi-user Kubeflow")
    server.add_argument("--ca", default="", help="the certificate authority of an https:// server")
    values = argparse.ArgumentParser(add_help=False)
    values.add_argument("pipeline", choices=NAMES)
    values.add_argument("argument", nargs="*", help="name=value, the pipeline's own parameters (source=…, store=…)")
    values.add_argument("--config", default="default", help="experiment: a name, a YAML file or JSON")
    values.add_argument("--set", action="append", default=[], metavar="section.key=value", help="override one value")
    values.add_argument("--experiment", default="posewatch", help="experiment on the server that holds the run")
    values.add_argument("--name", default="", help="name on the server (default: the pipeline's name)")
    values.add_argument("--resources", help="resources of the steps: a YAML file, gpu or cpu (default: gpu)")

    def verb(name: str, act: Callable[..., int], text: str, *parents: argparse.ArgumentParser) -> Any:
        parser = verbs.add_parser(name, help=text, description=text, parents=[server, *parents])
        parser.set_defaults(act=act)
        return parser

    parser = verb("submit", _submit, "start a run on a Kubeflow Pipelines server", values)
    parser.add_argument("--wait", action="store_true", help="wait until it has ended; exit status 1 when it failed")
    parser.add_argument("--service-account", default="", help="the steps' service account (default: the server's)")
    parser = verb("schedule", _schedule, "run a pipeline repeatedly", values)
    parser.add_argument("--cron", required=True, help='six fields, seconds first: "0 0 3 * * *" is at 3 every night')
    parser = verb("runs", _runs, "the newest runs")
    parser.add_argument("--limit", type=int, default=20)
    parser = verb("logs", _logs, "a run's steps with their errors, and the logs of failed steps")
    parser.add_argument("run")
    parser.add_argument("--step", default="", help="the whole log of this step")
    parser = verb("upload-version", _upload, "upload the pipelines, so that they can be started on the server's page")
    parser.add_argument("pipelines", nargs="*", metavar="PIPELINE", help=f"{', '.join(NAMES)} (default: all)")
    parser.add_argument("--version", default="", help="the version's name (default: the images' tag)")
    parser.add_argument("--resources", help="resources of the steps: a YAML file, gpu or cpu (default: gpu)")


def arguments_of(name: str, items: list[str], config: str = "", store: str = "") -> dict[str, Any]:
    """``name=value`` items as the parameters of the pipeline that a server runs. Raises InputError."""
    from pipelines import pipeline

    more = {"config": config, "store": store}
    return typed(name, pipeline(name).component_spec.inputs or {}, items, more)


def _package(name: str, folder: str) -> Path:
    from kfp import compiler

    from pipelines import pipeline

    path = Path(folder) / f"{name}.yaml"
    compiler.Compiler().compile(pipeline(name), str(path))
    return path


def _values(args: argparse.Namespace) -> dict[str, Any]:
    import os

    config = load(args.config, args.set).to_json()
    found = arguments_of(args.pipeline, args.argument, config, os.environ.get("POSEWATCH_STORE", ""))
    source = str(found.get("source", "s3://"))
    if "://" not in source:
        raise InputError(f"source={source} is a folder of this machine: a cluster reads s3:// URIs (copy it there)")
    return found


def _remote(args: argparse.Namespace) -> Remote:
    return Remote(args.host, args.token_file, args.namespace, args.ca)


def _submit(args: argparse.Namespace) -> int:
    values = _values(args)
    with tempfile.TemporaryDirectory(prefix="posewatch-") as temp:
        package = _package(args.pipeline, temp)
        server = _remote(args)
        run = server.submit(package, values, args.experiment, args.name or args.pipeline, args.service_account)
    print(run, flush=True)
    print(f"follow it: posewatch pipeline logs {run}  ({server.host}/#/runs/details/{run})", file=sys.stderr)
    if not args.wait:
        return 0
    ended = server.wait(run)
    if ended["state"] != "SUCCEEDED":
        more = f": {ended['error']}" if ended["error"] else f" (posewatch pipeline logs {run})"
        raise PosewatchError(f"the run {run} has ended as {ended['state']}{more}")
    return 0


def _schedule(args: argparse.Namespace) -> int:
    if not CRON.fullmatch(args.cron):
        raise InputError(
            f'--cron {args.cron!r} needs six fields, seconds first ("0 0 3 * * *"), or @daily and the like'
        )
    values = _values(args)
    with tempfile.TemporaryDirectory(prefix="posewatch-") as temp:
        package = _package(args.pipeline, temp)
        print(_remote(args).schedule(package, values, args.experiment, args.name or args.pipeline, args.cron))
    return 0


def _runs(args: argparse.Namespace) -> int:
    if not 1 <= args.limit <= 200:
        raise InputError(f"--limit must be between 1 and 200, not {args.limit}")
    for row in _remote(args).runs(args.limit):
        print(f"{row['run']}  {row['state']:<10}  {row['created'][:19]:<19}  {row['name']}")
    return 0


def _logs(args: argparse.Namespace) -> int:
    server = _remote(args)
    run, tasks = server.run(args.run)
    if args.step:
        chosen = [t for t in tasks if t["name"] == args.step]
        if not chosen:
            raise InputError(f"the run has no step {args.step!r} (it has: {', '.join(t['name'] for t in tasks)})")
    else:
        print(f"{run['name']}: {run['state']}" + (f" - {run['error']}" if run["error"] else ""))
        for row in tasks:
            print(f"  {row['state']:<10} {row['name']}" + (f" - {row['error']}" if row["error"] else ""))
        chosen = [t for t in tasks if t["state"] == "FAILED" and t["pod"]]
    for row in chosen:
        text = server.log(args.run, row["pod"]) if row["pod"] else None
        print(f"\n== {row['name']} ({row['pod'] or 'no pod'})")
        print(text.rstrip() if text is not None else "its log is deleted: archive logs (docs/pipelines.md)")
    return 0


def _upload(args: argparse.Namespace) -> int:
    names = args.pipelines or list(NAMES)
    for name in names:
        if name not in NAMES:
            raise InputError(f"no pipeline {name!r} (there are: {', '.join(NAMES)})")
    from components.image import image

    version = args.version or image("base").rpartition(":")[2]
    with tempfile.TemporaryDirectory(prefix="posewatch-") as temp:
        packages = {name: _package(name, temp) for name in names}
        server = _remote(args)
        for name, package in packages.items():
            title = f"posewatch-{name.replace('_', '-')}"
            pipeline_id, version_id = server.upload(package, title, f"{title}-{version}")
            print(json.dumps({"pipeline": title, "id": pipeline_id, "version": version, "version_id": version_id}))
    return 0
