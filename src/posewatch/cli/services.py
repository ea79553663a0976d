"""Programs beside the package: the labeling page, and the pipelines of a checkout."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from posewatch.boundary import Terminated
from posewatch.cli.context import INTERRUPTED, say, topic, verb
from posewatch.errors import InputError
from posewatch.rules import Range

app = topic()


@verb(app, "label")
def label(
    port: Annotated[int, Option(help="Port of the page."), Range(0, 65_535)] = 8501,
    address: Annotated[str, Option(help="Address to listen on.")] = "127.0.0.1",
    config: Annotated[
        str | None, Option(help="Experiment whose classes are offered: a shipped name or a YAML file.")
    ] = None,
    app: Annotated[
        Path | None, Option(metavar="FILE", help="The page's app.py (default: labeling-service/app.py).")
    ] = None,
) -> int:
    """Open the labeling page."""
    page = app or Path("labeling-service/app.py")
    if not page.is_file():
        raise InputError(f"no labeling page at {page}: run this in a checkout, or give --app")
    if importlib.util.find_spec("streamlit") is None:
        raise ModuleNotFoundError(name="streamlit")
    command = [sys.executable, "-m", "streamlit", "run", str(page), "--server.address", address]
    command += ["--server.port", str(port), "--server.headless", "true", "--browser.gatherUsageStats", "false"]
    if config:
        os.environ["POSEWATCH_CONFIG"] = config
    say(f"labeling page: http://{address}:{port} (Ctrl-C ends it)")
    try:
        return _foreground(command)
    except KeyboardInterrupt:
        return 0


# What follows the verb is for the pipelines' own command line, options such as --help included.
_PASS_ON: dict[str, Any] = {"ignore_unknown_options": True, "allow_interspersed_args": False}


@verb(app, "pipeline", context_settings=_PASS_ON)
def pipeline(
    words: Annotated[
        list[str] | None, Argument(metavar="WORDS", help="A verb of the pipelines and its options; --help lists them.")
    ] = None,
) -> int:
    """Kubeflow: compile, run, submit, logs, schedule, ..."""
    if not Path("pipelines/__main__.py").is_file():
        raise InputError("no pipelines here: run this at the root of a checkout")
    try:
        return _foreground([sys.executable, "-m", "pipelines", *(words or ())])
    except KeyboardInterrupt:
        return INTERRUPTED


def _foreground(command: list[str]) -> int:
    """The exit code of a program that runs in our place. It gets SIGTERM, too, and is waited for: in a pod we are the
    process that is told to end, and nobody else is."""
    with subprocess.Popen(command) as program:
        try:
            return program.wait()
        except KeyboardInterrupt:  # the terminal has told it as well
            program.wait()
            raise
        except Terminated:
            program.terminate()
            raise
