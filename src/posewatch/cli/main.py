"""The ``posewatch`` command. A verb's topic is imported when the verb is asked for; all of them for ``--help``."""

from __future__ import annotations

import importlib
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from posewatch import boundary
from posewatch.redact import redact

TOPICS = (
    ("Data", "data", "ingest mask split pose prepare footage"),
    ("Labels", "labels", "labels"),
    ("Labels", "services", "label"),
    ("Recognition", "pretrain", "pretrain"),
    ("Recognition", "train", "dataset train evaluate robustness threshold ensemble"),
    ("Recognition", "experiment", "experiment"),
    ("Recognition", "imports", "import-clips import-poses import-checkpoint"),
    ("Recognition", "events", "events"),
    ("Serving", "export", "export onnx publish"),
    ("Serving", "deploy", "deploy smoke-test promote rollback history"),
    ("Serving", "predict", "predict score"),
    ("Watch", "watch", "watch watch-service"),
    ("Watch", "alarms", "alarms"),
    ("Runs", "services", "pipeline"),
    ("Runs", "report", "report lineage"),
    ("Speed", "bench", "bench"),
    ("Speed", "tune", "tune"),
    ("Machine", "stack", "up down status install"),
    ("Machine", "weights", "weights"),
)
"""Section of the help, file in this folder, its verbs: in the order of a clip's way."""


class Verbs(TyperGroup):
    """The verbs of ``TOPICS``, each loaded when it is needed."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._topic = {name: topic for _, topic, names in TOPICS for name in names.split()}
        self.commands = dict.fromkeys(self._topic, self)  # the names, for suggestions; get_command gives the verbs

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self._topic:
            return None
        app = importlib.import_module(f"posewatch.cli.{self._topic[cmd_name]}").app
        return typer.main.get_group(app).commands[cmd_name]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """One line for each verb, beside the name of its section: all of them fit on a screen."""
        from rich.console import Console
        from rich.table import Table

        table = Table.grid(padding=(0, 1))
        before = ""
        for section, _, names in TOPICS:
            for name in names.split():
                text = str(self.get_command(ctx, name).help).partition("\n\n")[0].replace("\n", " ")
                table.add_row(f"[bold]{section if section != before else ''}", f"[bold cyan]{name}", text)
                before = section
        options = ", ".join(max(option.opts, key=len) for option in self.get_params(ctx))
        console = Console(highlight=False)
        console.print(f"Usage: posewatch VERB ...    {self.help}\n", table, sep="\n")
        console.print(f"\nOptions of a verb: posewatch VERB --help. Others: {options}")


app = typer.Typer(
    cls=Verbs, rich_markup_mode="rich", context_settings={"help_option_names": ["--help", "-h"]}, add_completion=True
)


def _version(asked: bool) -> None:
    if asked:
        from posewatch import __version__

        print(f"posewatch {__version__}")
        raise typer.Exit


@app.callback()
def posewatch(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """From raw CCTV video to a served recogniser."""


def main(argv: list[str] | None = None) -> int:
    """Run one verb; returns the exit code (see ``posewatch.errors``)."""
    return run_app(app, "posewatch", argv)


def run_app(app: typer.Typer, name: str, argv: list[str] | None = None) -> int:
    """Run one verb of an ``app`` that is called ``name`` in its help; returns the exit code."""
    words = sys.argv[1:] if argv is None else argv
    return boundary.guarded("posewatch", lambda: _run(app, name, words), *words)


def _run(app: typer.Typer, name: str, words: list[str]) -> int:
    try:
        return typer.main.get_command(app).main(args=words, prog_name=name, standalone_mode=False) or 0
    except TyperException as error:
        message = error.format_message().replace("Value error, ", "")
        if possible := getattr(error, "possibilities", None):
            message = f"{error.message}. Did you mean {' or '.join(possible)}?"
        at = getattr(error, "ctx", None)
        command = at.command_path if at else name
        boundary.tell(redact(f"posewatch: {' '.join(message.split())} ({command} --help)"))
        return error.exit_code
    except typer.Abort:
        raise KeyboardInterrupt from None


if __name__ == "__main__":
    sys.exit(main())
