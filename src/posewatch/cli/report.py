"""A run in one page, and the lineage of an artifact."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from posewatch.cli.context import Context, Writes, topic, verb

app = topic()


@verb(app, "report")
def report(
    evaluation: Annotated[str, Argument(help="URI of the evaluation.")],
    bench: Annotated[str, Argument(help="URI of the benchmark.")],
    scores: Annotated[str, Argument(help="URI of the scores.")],
    smoke: Annotated[str, Argument(help="URI of the smoke test.")],
    context: Context,
    about: Annotated[str, Option(metavar="TEXT", help="A remark to print, e.g. on the source of the videos.")] = "",
    out: Annotated[Path | None, Option(metavar="FILE", help="Also write the page to this file."), Writes()] = None,
) -> str:
    """Write the HTML page of a run."""
    from posewatch.files import write_atomically
    from posewatch.stages.report import report

    parts = [context.artifact(uri) for uri in (evaluation, bench, scores, smoke)]
    page = report(context.objects, *parts, about=about)
    if out:
        write_atomically(out, page.read("report.html"))
        return str(out)
    return page.uri


@verb(app, "lineage")
def lineage(
    uri: Annotated[str, Argument(help="URI of an artifact.")],
    context: Context,
    as_json: Annotated[bool, Option("--json", help="One row per artifact as JSON.")] = False,
) -> Any:
    """Trace an artifact back to its raw videos."""
    from posewatch import lineage

    artifact = context.artifact(uri)
    return lineage.rows(artifact) if as_json else lineage.text(artifact)
