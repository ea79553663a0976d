"""The pipelines' command line: compile them, run one here, or on a server. ``posewatch pipeline VERB`` is the same."""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from typer import Argument, Option

from pipelines import NAMES
from posewatch.cli.context import Writes, say, topic, verb
from posewatch.cli.main import run_app
from posewatch.config import load
from posewatch.errors import InputError, PosewatchError
from posewatch.files import write_atomically
from posewatch.rules import Range

if TYPE_CHECKING:
    from pipelines.remote import Remote

app = topic(help="Kubeflow pipelines: compile, run here, submit, follow, schedule.")
CRON = re.compile(r"(\S+ ){5}\S+|@(yearly|monthly|weekly|daily|hourly)|@every \S+")

Pipeline = Annotated[Literal["prepare", "train", "end_to_end", "refresh"], Argument(help="Which one.")]
Arguments = Annotated[
    list[str] | None, Argument(metavar="NAME=VALUE", help="The pipeline's own parameters (source=…, store=…).")
]


@dataclass(frozen=True)
class Resources:
    """What the steps ask a cluster for."""

    resources: Annotated[
        str | None, Option(metavar="FILE", help="Resources of the steps: a YAML file, gpu or cpu (default: gpu).")
    ] = None
    secret_key: Annotated[
        list[str] | None,
        Option(metavar="NAME", help="For a server before 2.15: an optional key that the secret posewatch has."),
    ] = None

    def package(self, names: list[str] | tuple[str, ...], folder: str) -> dict[str, Path]:
        """Each pipeline compiled to ``<name>.yaml``."""
        if self.resources:
            os.environ["POSEWATCH_RESOURCES"] = self.resources
        from kfp import compiler

        from pipelines import pipeline

        packages = {name: Path(folder) / f"{name}.yaml" for name in names}
        for name, path in packages.items():
            compiler.Compiler().compile(pipeline(name), str(path))
        return packages

    def fit(self, packages: dict[str, Path], release: tuple[int, int] | None, *, some: bool = False) -> dict[str, Path]:
        """The packages that a server of ``release`` can run, changed for it; what it goes without is said.

        Raises PosewatchError for one that it cannot run; with ``some``, only where it can run none.
        """
        from pipelines.servers import adapt

        fitting, without, refused = {}, {}, []
        for name, path in packages.items():
            try:
                without |= dict.fromkeys(adapt(path, release, self.secret_key or ()))
                fitting[name] = path
            except PosewatchError as error:
                if not some or isinstance(error, InputError):
                    raise
                refused.append(error)
        if refused and not fitting:
            raise refused[0]
        for line in map(str, refused):
            say(line)
        if without and release:
            say(f"a server of {release[0]}.{release[1]} goes without: {'; '.join(without)} (docs/pipelines.md)")
        return fitting


@dataclass(frozen=True)
class Experiment:
    """The experiment's configuration."""

    config: Annotated[str, Option(help="Experiment: a name, a YAML file or JSON.")] = "default"
    set: Annotated[list[str] | None, Option(metavar="SECTION.KEY=VALUE", help="Override one value.")] = None

    def json(self) -> str:
        return load(self.config, self.set or ()).to_json()


@dataclass(frozen=True)
class Server:
    """A Kubeflow Pipelines server."""

    PANEL = "Server"

    host: Annotated[
        str, Option(metavar="URL", help="The server (default: KF_PIPELINES_ENDPOINT, or the cluster's).")
    ] = ""
    token_file: Annotated[Path | None, Option(help="A bearer token (default: POSEWATCH_KFP_TOKEN).")] = None
    namespace: Annotated[str, Option(help="Your namespace, in a multi-user Kubeflow.")] = ""
    ca: Annotated[str, Option(metavar="FILE", help="The certificate authority of an https:// server.")] = ""

    def open(self) -> Remote:
        from pipelines.remote import Remote

        return Remote(self.host, self.token_file, self.namespace, self.ca)


@dataclass(frozen=True)
class Run:
    """How a run is filed on the server."""

    experiment: Annotated[str, Option(help="Experiment on the server that holds the run.")] = "posewatch"
    name: Annotated[str, Option(help="Name on the server (default: the pipeline's name).")] = ""


@verb(app, "compile", stack=False)
def compile_(
    resources: Resources,
    out: Annotated[
        Path, Option(metavar="DIR", help="Folder to write to."), Writes(*(f"{name}.yaml" for name in NAMES))
    ] = Path("build/pipelines"),
    server: Annotated[
        str, Option(metavar="RELEASE", help="For a server older than 2.17: its release, such as 2.5.")
    ] = "",
) -> str:
    """Write the YAML that a Kubeflow Pipelines server takes: of all pipelines, or none where one cannot be compiled."""
    from pipelines.servers import release_of

    release = release_of(server)
    if server and not release:
        raise InputError(f"--server {server!r} is no release, such as 2.5")
    with tempfile.TemporaryDirectory(prefix="posewatch-") as temp:  # nothing is left in ``out`` by what is refused
        packages = resources.fit(resources.package(NAMES, temp), release, some=True)
        for name in set(NAMES) - set(packages):  # of an earlier run: it would be taken for one that the server can run
            (out / f"{name}.yaml").unlink(missing_ok=True)
        for path in packages.values():
            write_atomically(out / path.name, path.read_bytes())
    return "\n".join(str(out / path.name) for path in packages.values())


@verb(app, "run", stack=False)
def run(pipeline: Pipeline, values: Experiment, argument: Arguments = None) -> str:
    """Run a pipeline here, every step in a process of its own."""
    from pipelines.local import run_local

    outputs = run_local(pipeline, argument or [], values.json())
    return "\n".join(f"{name}: {value}" for name, value in outputs.items())


@verb(app, "submit", stack=False)
def submit(
    pipeline: Pipeline,
    values: Experiment,
    resources: Resources,
    about: Run,
    server: Server,
    argument: Arguments = None,
    wait: Annotated[bool, Option("--wait", help="Wait until it has ended; exit status 1 when it failed.")] = False,
    service_account: Annotated[str, Option(help="The steps' service account (default: the server's).")] = "",
    no_cache: Annotated[
        bool, Option("--no-cache", help="Run every step: after results were deleted, or the store moved.")
    ] = False,
) -> None:
    """Start a run on a Kubeflow Pipelines server."""
    given = _arguments(pipeline, argument, values)
    with tempfile.TemporaryDirectory(prefix="posewatch-") as temp:
        package = resources.package([pipeline], temp)[pipeline]
        if no_cache:
            _uncache(package)
        remote = server.open()
        resources.fit({pipeline: package}, remote.release)
        started = remote.submit(package, given, about.experiment, about.name or pipeline, service_account)
    print(started, flush=True)
    say(f"follow it: posewatch pipeline logs {started}  ({remote.host}/#/runs/details/{started})")
    ended = remote.wait(started) if wait else {"state": "SUCCEEDED"}
    if ended["state"] != "SUCCEEDED":
        more = f": {ended['error']}" if ended["error"] else f" (posewatch pipeline logs {started})"
        raise PosewatchError(f"the run {started} has ended as {ended['state']}{more}")


@verb(app, "schedule", stack=False)
def schedule(
    pipeline: Pipeline,
    cron: Annotated[str, Option(help='Six fields, seconds first: "0 0 3 * * *" is at 3 every night.')],
    values: Experiment,
    resources: Resources,
    about: Run,
    server: Server,
    argument: Arguments = None,
) -> str:
    """Run a pipeline repeatedly."""
    if not CRON.fullmatch(cron):
        raise InputError(f'--cron {cron!r} needs six fields, seconds first ("0 0 3 * * *"), or @daily and the like')
    given = _arguments(pipeline, argument, values)
    with tempfile.TemporaryDirectory(prefix="posewatch-") as temp:
        package = resources.package([pipeline], temp)[pipeline]
        remote = server.open()
        resources.fit({pipeline: package}, remote.release)
        return remote.schedule(package, given, about.experiment, about.name or pipeline, cron)


@verb(app, "runs", stack=False)
def runs(server: Server, limit: Annotated[int, Option(help="How many."), Range(1, 200)] = 20) -> str:
    """List the newest runs."""
    rows = server.open().runs(limit)
    return "\n".join(f"{row['run']}  {row['state']:<10}  {row['created'][:19]:<19}  {row['name']}" for row in rows)


@verb(app, "logs", stack=False)
def logs(
    run: Annotated[str, Argument(help="Id of a run.")],
    server: Server,
    step: Annotated[str, Option(help="The whole log of this step.")] = "",
) -> str:
    """Show a run's steps with their errors, and the logs of failed steps."""
    remote = server.open()
    about, tasks = remote.run(run)
    lines = []
    if step:
        chosen = [t for t in tasks if t.name == step]
        if not chosen:
            raise InputError(
                f"the run has no step {step!r} (it has: {', '.join(dict.fromkeys(t.name for t in tasks))})"
            )
    else:
        lines = [f"{about['name']}: {about['state']}" + (f" - {about['error']}" if about["error"] else "")]
        lines += [f"  {t.state:<10} {t.name}" + (f" - {t.error}" if t.error else "") for t in tasks]
        chosen = [t for t in tasks if t.state == "FAILED" and t.pods]
    for row in chosen:
        text = remote.log(run, row.pods)
        lines.append(f"\n== {row.name} ({row.pods[0] if row.pods else 'no pod'})")
        lines.append(text.rstrip() if text is not None else "its log is deleted: archive logs (docs/pipelines.md)")
    return "\n".join(lines)


@verb(app, "upload-version", stack=False)
def upload(
    resources: Resources,
    server: Server,
    pipelines: Annotated[list[str] | None, Argument(metavar="PIPELINE", help="Which ones (default: all).")] = None,
    version: Annotated[str, Option(help="The version's name (default: the images' tag).")] = "",
) -> str:
    """Upload the pipelines, so that they can be started on the server's page."""
    for name in pipelines or ():
        if name not in NAMES:
            raise InputError(f"no pipeline {name!r} (there are: {', '.join(NAMES)})")
    from components.image import image

    version = version or image("base").rpartition(":")[2]
    lines = []
    with tempfile.TemporaryDirectory(prefix="posewatch-") as temp:
        packages = resources.package(pipelines or NAMES, temp)
        remote = server.open()
        for name, package in resources.fit(packages, remote.release, some=not pipelines).items():
            title = f"posewatch-{name.replace('_', '-')}"
            pipeline_id, version_id = remote.upload(package, title, f"{title}-{version}")
            row = {"pipeline": title, "id": pipeline_id, "version": version, "version_id": version_id}
            lines.append(json.dumps(row))
    return "\n".join(lines)


def _uncache(package: Path) -> None:
    """Let no step of a compiled pipeline use the cache; kfp's own ``enable_caching`` reaches the outermost only."""
    import yaml

    spec, platform = yaml.safe_load_all(package.read_text(encoding="utf-8"))
    for component in (spec["root"], *spec["components"].values()):
        for task in component.get("dag", {}).get("tasks", {}).values():
            task["cachingOptions"] = {}
    package.write_text(yaml.safe_dump_all([spec, platform], allow_unicode=True), encoding="utf-8")


def _arguments(name: str, items: list[str] | None, values: Experiment) -> dict[str, Any]:
    """``name=value`` items as the parameters of a pipeline, for a cluster. Raises InputError."""
    from pipelines import pipeline
    from pipelines.arguments import typed

    more = {"config": values.json(), "store": os.environ.get("POSEWATCH_STORE", "")}
    given = typed(name, pipeline(name).component_spec.inputs or {}, items or [], more)
    if "://" not in given.get("source", "s3://"):
        raise InputError(
            f"source={given['source']} is a folder of this machine: a cluster reads s3:// URIs (copy it there)"
        )
    return given


def main(argv: list[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    return run_app(app, "posewatch pipeline", argv)


if __name__ == "__main__":
    sys.exit(main())
