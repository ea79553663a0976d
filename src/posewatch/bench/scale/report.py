"""The page and the plot of ``posewatch bench scale``: measured figures only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from posewatch.recognition.evaluation.plots import styled, write_figure


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    line = "|" + "|".join("---" if i == 0 else "--:" for i in range(len(head))) + "|"
    return "\n".join([f"| {' | '.join(head)} |", line, *(f"| {' | '.join(row)} |" for row in rows), ""])


def _time(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def page(result: Mapping[str, Any]) -> str:
    """The page as Markdown; ``result`` is the content of ``scale.json``."""
    machine = result["environment"]
    return "\n".join(
        [
            "# Scale: measured here\n",
            "docs/scale.md computes from these figures what breaks first in a large installation.\n",
            *_labels(result["labels"]),
            *_objects(result["objects"]),
            *_fanout(result["fanout"]),
            f"Measured on {machine['cpu']}, {machine['cores']} cores, load {machine['load']:.1f} before:"
            f" {result['labels']['database']}.\n",
        ]
    )


def _labels(labels: Mapping[str, Any]) -> Iterator[str]:
    sizes = labels["sizes"]
    last, plan = sizes[-1], sizes[-1]["plan"]
    yield "## The label store\n"
    yield f"Median of one person's calls, {last['labelled'] / last['clips']:.0%} of the clips labelled.\n"
    calls = [(call, *(_time(size["calls"][call]) for size in sizes)) for call in last["calls"]]
    yield _table(("", *(f"{size['clips']:,} clips" for size in sizes)), calls)
    rows_read = "" if plan["rows_walked"] is None else f" and reads {plan['rows_walked']} rows for a page of 24"
    yield f"The queue uses the index `{plan['index'] or 'none'}`{rows_read}.\n"
    yield f"Everybody at once, in one process, on {last['clips']:,} clips:\n"
    head = ("people, time to think", "labels/s", "label p50", "label p95", "page p95", "lost", "given twice")
    loops = [
        (f"{x['people']}, {x['think_s']:g} s", f"{x['acts'] / x['seconds']:.0f}", _time(x["act_p50_s"]),
         _time(x["act_p95_s"]), _time(x["claim_p95_s"]), str(x["lost"]), str(x["twice"])) for x in labels["loops"]
    ]  # fmt: skip
    yield _table(head, loops)
    tables = [(name, t) for name, t in last["tables"].items() if t["table"] is not None and t["rows"]]
    if tables:
        per_row = [(n, f"{t['table'] / t['rows']:.0f}", f"{t['indexes'] / t['rows']:.0f}") for n, t in tables]
        yield _table(("table", "bytes per row", "of its indexes"), per_row)


def _objects(objects: Mapping[str, Any]) -> Iterator[str]:
    yield "## The object store\n"
    run, last = objects["run"], objects["sets"][-1]
    if run is not None:
        seconds = run["videos"] * run["seconds"]
        yield f"{run['videos']} rendered videos of {run['seconds']:g} s, {run['clips']} clips, through the stages:\n"
        stages = [(s, f"{x['objects']}", f"{x['bytes'] / seconds / 1e3:.3g}") for s, x in run["stages"].items()]
        yield _table(("stage", "objects", "kB per second of video"), stages)
        steps = [(step, f"{cpu:.3g}") for step, cpu in run["cpu_per_s"].items()]
        yield _table(("step", "core seconds per second of video"), steps)
    each = (last["list_bytes"] + last["lineage_bytes"]) / last["videos"]
    yield f"The list of a set takes {each:.0f} bytes per video; reading a set through takes a request per video.\n"
    yield _table(("in memory", "bytes"), [(name, f"{size:,.0f}") for name, size in objects["memory"].items()])


def _fanout(fanout: Mapping[str, Any] | None) -> Iterator[str]:
    if fanout is None:  # outside a checkout there is no pipeline to compile
        return
    yield "## A run of `prepare`\n"
    counts, sizes = ("shards", "pods", "nodes"), ("plain", "packed", "argument")
    rows = [[f"{run[k]:,}" for k in counts] + [f"{run[k] / 1e3:,.1f}" for k in sizes] for run in fanout["runs"]]
    yield _table((*counts, "record, kB", "packed, kB", "list of shards, kB"), rows)
    yield (
        f"The workflow's record must fit in 1,049 kB, packed if need be: about {fanout['fits']} shards do, and a run"
        f" has at most {fanout['most']}. The record was built from the compiled pipeline, without a server.\n"
    )


def plot(sizes: Sequence[Mapping[str, Any]], path: Path) -> None:
    """The calls of the label store by its number of clips."""
    with styled() as plt:
        figure, axes = plt.subplots(figsize=(9, 5), layout="constrained")
        clips = [size["clips"] for size in sizes]
        for call in sizes[-1]["calls"]:
            axes.plot(clips, [size["calls"][call] for size in sizes], "o-", label=call)
        axes.set(xscale="log", yscale="log", xlabel="clips", ylabel="seconds")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, frameon=False)
        write_figure(plt, figure, path)
