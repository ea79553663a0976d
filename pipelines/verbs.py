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
from pipelines.remote import Remote
from posewatch.config import load
from posewatch.errors import InputError, PosewatchError

CRON = re.compile(r"(\S+ ){5}\S+|@(yearly|monthly|weekly|daily|hourly)|@every \S+")


def add(verbs: Any) -> None:
    """Add the verbs; each sets ``act``, which takes the told arguments and returns the exit status."""
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
    values.add_argument("--experiment", default="posewatch", help="under which the server files the run")
    values.add_argument("--name", default="", help="what the server calls it (default: the pipeline's name)")
    values.add_argument("--resources", help="what steps ask the cluster for: a YAML file, gpu or cpu (default: gpu)")

    def verb(name: str, act: Callable[..., int], text: str, *parents: argparse.ArgumentParser) -> Any:
        made = verbs.add_parser(name, help=text, description=text, parents=[server, *parents])
        made.set_defaults(act=act)
        return made

    made = verb("submit", _submit, "start a run on a Kubeflow Pipelines server", values)
    made.add_argument("--wait", action="store_true", help="until it has ended; exit status 1 when it failed")
    made.add_argument("--service-account", default="", help="the steps' service account (default: the server's)")
    made = verb("schedule", _schedule, "run a pipeline again and again", values)
    made.add_argument("--cron", required=True, help='six fields, seconds first: "0 0 3 * * *" is at 3 every night')
    made = verb("runs", _runs, "the newest runs")
    made.add_argument("--limit", type=int, default=20)
    made = verb("logs", _logs, "a run's steps with their errors, and what failed steps wrote")
    made.add_argument("run")
    made.add_argument("--step", default="", help="the whole log of this step")
    made = verb("upload-version", _upload, "give the server the pipelines, so that its page can start them")
    made.add_argument("pipelines", nargs="*", metavar="PIPELINE", help=f"{', '.join(NAMES)} (default: all)")
    made.add_argument("--version", default="", help="the version's name (default: the images' tag)")
    made.add_argument("--resources", help="what steps ask the cluster for: a YAML file, gpu or cpu (default: gpu)")


def arguments_of(name: str, items: list[str], config: str = "", where: str = "") -> dict[str, Any]:
    """``name=value`` items as a pipeline's parameters, of the types that it has. Raises InputError."""
    told: dict[str, str] = {}
    for item in items:
        key, sep, value = item.partition("=")
        if not sep:
            raise InputError(f"argument {item!r} must look like name=value")
        told[key] = value
    if config:
        told["config"] = config
    if where:
        told.setdefault("store", where)
    from pipelines import pipeline

    inputs = pipeline(name).component_spec.inputs or {}
    for key in told:
        if key not in inputs:
            raise InputError(f"{name} has no parameter {key!r} (it has: {', '.join(sorted(inputs))})")
    missing = [key for key, about in inputs.items() if key not in told and not about.optional]
    if missing:
        raise InputError(f"{name} needs {', '.join(f'{key}=…' for key in missing)}")
    return {key: _typed(key, value, inputs[key].type) for key, value in told.items()}


def _typed(key: str, value: str, kind: str) -> Any:
    if kind != "Integer":
        return value
    try:
        return int(value)
    except ValueError:
        raise InputError(f"{key} must be a whole number, not {value!r}") from None


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
        print(text.rstrip() if text is not None else "its log is gone: keep logs in the cluster (docs/pipelines.md)")
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
            made = f"posewatch-{name.replace('_', '-')}"
            pipeline_id, version_id = server.upload(package, made, f"{made}-{version}")
            print(json.dumps({"pipeline": made, "id": pipeline_id, "version": version, "version_id": version_id}))
    return 0
