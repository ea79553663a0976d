"""The page and the plot of ``posewatch bench scale``: measured figures only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    line = "|" + "|".join("---" if i == 0 else "--:" for i in range(len(head))) + "|"
    return "\n".join([f"| {' | '.join(head)} |", line, *(f"| {' | '.join(row)} |" for row in rows), ""])


def _time(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def page(result: Mapping[str, Any]) -> str:
    """The page as Markdown; ``result`` is the content of ``scale.json``."""
    labels, objects, fanout, machine = (result[name] for name in ("labels", "objects", "fanout", "environment"))
    return "\n".join(
        [
            "# Scale: measured here\n",
            "docs/scale.md computes from these figures what breaks first in a large installation.\n",
            _labels(labels),
            _objects(objects),
            _fanout(fanout),
            f"Measured on {machine['cpu']}, {machine['cores']} cores, load {machine['load']:.1f} before:"
            f" {labels['database']}.\n",
        ]
    )


def _labels(labels: Mapping[str, Any]) -> str:
    sizes = labels["sizes"]
    last = sizes[-1]
    walked = last["plan"]["rows_walked"]
    calls = [(call, *(_time(size["calls"][call]) for size in sizes)) for call in last["calls"]]
    loops = [
        (f"{x['people']}, {x['think_s']:g} s", f"{x['acts'] / x['seconds']:.0f}", _time(x["act_p50_s"]),
         _time(x["act_p95_s"]), _time(x["claim_p95_s"]), str(x["lost"]), str(x["twice"])) for x in labels["loops"]
    ]  # fmt: skip
    bytes_of = [
        (name, f"{size['table'] / size['rows']:.0f}", f"{size['indexes'] / size['rows']:.0f}")
        for name, size in last["tables"].items()
        if size["table"] is not None and size["rows"] and name != "claims"
    ]
    return "\n".join(
        [
            "## The label store\n",
            f"Median of one person's calls, {last['labelled'] / last['clips']:.0%} of the clips labelled.\n",
            _table(("", *(f"{size['clips']:,} clips" for size in sizes)), calls),
            f"The queue uses the index `{last['plan']['index'] or 'none'}`"
            + ("" if walked is None else f" and reads {walked} rows for a page of 24")
            + ".\n",
            f"Everybody at once, in one process, on {last['clips']:,} clips:\n",
            _table(
                ("people, time to think", "labels/s", "label p50", "label p95", "page p95", "lost", "given twice"),
                loops,
            ),
            *([_table(("table", "bytes per row", "of its indexes"), bytes_of)] if bytes_of else []),
        ]
    )


def _objects(objects: Mapping[str, Any]) -> str:
    run, last = objects["run"], objects["sets"][-1]
    parts = ["## The object store\n"]
    if run is not None:
        parts += [
            f"{run['videos']} rendered videos of {run['seconds']:g} s, {run['clips']} clips, through the stages:\n",
            _table(
                ("stage", "objects", "kB per second of video"),
                [
                    (stage, str(found["objects"]), f"{found['bytes'] / run['videos'] / run['seconds'] / 1e3:.3g}")
                    for stage, found in run["stages"].items()
                ],
            ),
            _table(
                ("step", "core seconds per second of video"), [(s, f"{cpu:.3g}") for s, cpu in run["cpu_per_s"].items()]
            ),
        ]
    each = (last["list_bytes"] + last["lineage_bytes"]) / last["videos"]
    parts += [
        f"The list of a set takes {each:.0f} bytes per video. Reading a set of {last['videos']:,} videos through took"
        f" {last['requests']:,} requests.\n",
        _table(("in memory", "bytes"), [(name, f"{size:,.0f}") for name, size in objects["memory"].items()]),
    ]
    return "\n".join(parts)


def _fanout(fanout: Mapping[str, Any]) -> str:
    rows = [
        [f"{run[k]:,}" for k in ("shards", "pods", "nodes")]
        + [f"{run[k] / 1e3:,.1f}" for k in ("plain", "packed", "argument")]
        for run in fanout["runs"]
    ]
    return "\n".join(
        [
            "## A run of `prepare`\n",
            _table(("shards", "pods", "nodes", "record, kB", "packed, kB", "list of shards, kB"), rows),
            "The workflow's record must fit in 1,049 kB, packed if need be:"
            f" about {fanout['fits']} shards do, and a run has at most {fanout['most']}."
            " The record was built from the compiled pipeline, without a server.\n",
        ]
    )


def plot(sizes: Sequence[Mapping[str, Any]], path: Path) -> None:
    """The calls of the label store by its number of clips."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 5))
    clips = [size["clips"] for size in sizes]
    for call in sizes[-1]["calls"]:
        axes.plot(clips, [size["calls"][call] for size in sizes], "o-", label=call)
    axes.set(xscale="log", yscale="log", xlabel="clips", ylabel="seconds")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)
