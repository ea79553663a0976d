"""What `posewatch bench scale` leaves behind: a page of Markdown, and two plots."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from posewatch.artifact import AHEAD
from posewatch.bench.scale import model
from posewatch.bench.scale.assumptions import Assumptions

COLOURS = {"breaks": "#d62728", "near": "#ff7f0e", "holds": "#2ca02c"}
NEAR = 3.0
"""Headroom below which a limit is drawn as near."""


def number(value: float) -> str:
    """Three digits, thousands apart."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else "∞"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    line = "|" + "|".join("---" if i == 0 else "--:" for i in range(len(head))) + "|"
    return [f"| {' | '.join(head)} |", line, *(f"| {' | '.join(row)} |" for row in rows), ""]


def _ms(seconds: float) -> str:
    return f"{number(seconds * 1000)} ms" if seconds < 1 else f"{number(seconds)} s"


def text(a: Assumptions, m: Mapping[str, Any], found: Sequence[model.Limit]) -> str:
    """The page. ``m`` is what was measured, ``found`` the limits, what breaks first at the top."""
    n = model.counts(a)
    out = [
        "# Scale",
        "",
        f"{a.cameras:,} cameras, {a.clips:,} clips, {a.labelers:,} labelers: what was measured here at smaller sizes,"
        " what follows by arithmetic, and what is only assumed. An extrapolated figure is one that nobody has seen.",
        "",
        "## What breaks first",
        "",
        "Headroom is how many times the assumed size fits; below 1 it does not.",
        "",
    ]
    out += _table(
        ("", "here", "limit", "headroom", "holds up to", "known by", "then", "what to do"),
        [
            (x.name, f"{number(x.value)} {x.unit}", f"{number(x.limit)} {x.unit}", f"{number(x.headroom)}x",
             _holds(x, a), x.basis, x.breaks, x.remedy) for x in found
        ],
    )  # fmt: skip
    out += _labels(a, m["labels"], n)
    out += _objects(a, m["objects"], n)
    out += _runs(m["fanout"], n)
    out += _serving(a, m["serving"])
    out += _costs(a, m, n)
    out += ["## Assumptions", "", "Each can be given: `--assume name=value`.", ""]
    out += _table(("name", "value"), [(f"`{k}`", number(float(v))) for k, v in vars(a).items()])
    where = m["environment"]
    out.append(
        f"Measured on {where['cpu']}, {where['cores']} cores, load {where['load']:.1f} before: {where['database']}."
    )
    return "\n".join(out) + "\n"


def _holds(x: model.Limit, a: Assumptions) -> str:
    held = x.holds(a)
    if held is None:
        return ""
    digits = 10 ** max(0, int(math.log10(held)) - 1)  # two of them: it is no more exact than that
    return f"{held // digits * digits:,.0f} {'labelled clips' if x.grows_with == 'labelled' else x.grows_with}"


def _labels(a: Assumptions, m: Mapping[str, Any], n: Mapping[str, float]) -> list[str]:
    sizes = m["sizes"]
    clips = [row["clips"] for row in sizes]
    rows = []
    for call in sizes[-1]["calls"]:
        values = [row["calls"][call] for row in sizes]
        law = model.growth(clips, values)
        rows.append((call, *map(_ms, values), f"{law.law} ({law.exponent:+.2f})", _ms(law.extrapolate(a.clips))))
    out = [
        "## The label store",
        "",
        f"One person, {sizes[-1]['share']:.0%} of the clips labelled. Median by the clock.",
        "",
    ]
    out += _table(("", *(f"{c:,} clips" for c in clips), "grows", f"{a.clips:,} clips, extrapolated"), rows)
    last = sizes[-1]["plan"]
    walked = "" if last["rows_walked"] is None else f" and touches {last['rows_walked']} rows for a page of 24"
    out += [f"The queue walks `{last['index'] or 'no index'}`{walked}, at every size.", ""]
    loops = [
        (f"{x['people']}, {x['think_s']:g} s", f"{x['acts'] / x['seconds']:.0f}", _ms(x["act_p50_s"]),
         _ms(x["act_p95_s"]), _ms(x["claim_p95_s"]), str(x["lost"]), str(x["twice"])) for x in m["loops"]
    ]  # fmt: skip
    if loops:
        out += [f"Everybody at once, in one process, over {clips[-1]:,} clips; all of them would make"
                f" {n['acts_per_s']:.0f} labels a second:", ""]  # fmt: skip
        head = ("people, seconds of thought", "labels/s", "label p50", "label p95", "page p95", "lost", "given twice")
        out += _table(head, loops)
    tables = sizes[-1]["tables"]
    rows = []
    for name, of in tables.items():
        if of["table"] is not None and of["rows"] and name != "claims":
            each, index = of["table"] / of["rows"], of["indexes"] / of["rows"]
            share = a.label_share if name in ("events", "status", "votes") else 1.0
            rows.append(
                (
                    name,
                    f"{each:.0f}",
                    f"{index:.0f}",
                    number(a.clips * share),
                    number((each + index) * a.clips * share / 1e9),
                )
            )
    if rows:
        out += _table(("table", "bytes a row", "of indexes", "rows", "GB, extrapolated"), rows)
    return out


def _objects(a: Assumptions, m: Mapping[str, Any], n: Mapping[str, float]) -> list[str]:
    out = [
        "## The object store",
        "",
        f"{n['videos']:,.0f} videos of {a.video_s:g} s become {n['objects']:,.0f} objects:",
        "",
    ]
    run = m.get("run")
    rows = []
    for stage in ("raw", "masked", "clips", "poses", "skeletons", "previews"):
        size = ""
        if run is not None:
            size = number(run["stages"][stage]["bytes"] / (run["videos"] * run["seconds"]) * a.clips * a.clip_s / 1e12)
        rows.append((stage, number(n[f"objects {stage}"]), size))
    out += _table(("stage", "objects", "TB, by the bytes of rendered video"), rows)
    last = m["sets"][-1]
    each = (last["list_bytes"] + last["lineage_bytes"]) / last["videos"]
    reading = number(n["videos"] * a.request_ms / 1000 / AHEAD)
    out += [
        f"No manifest grows with the number of clips except the lists of sets: {each:.0f} bytes a video (measured up to"
        f" {last['videos']:,} videos, in proportion), {number(each * n['videos'] / 1e6)} MB for all. To read a set"
        f" through is a request per video: {reading} s at {a.request_ms:g} ms and {AHEAD} at a time. Nothing lists the"
        f" whole bucket; that would be {number(n['objects'] / 1000)} requests.", "",
    ]  # fmt: skip
    return out


def _runs(m: Mapping[str, Any], n: Mapping[str, float]) -> list[str]:
    out = ["## A run of `prepare`", "", f"{n['shards']:.0f} shards of {n['videos_per_shard']:,.0f} videos.", ""]
    rows = [
        (
            str(x["shards"]),
            str(x["pods"]),
            str(x["nodes"]),
            number(x["plain"] / 1e3),
            number(x["packed"] / 1e3),
            number(x["argument"] / 1e3),
        )
        for x in m["runs"]
    ]
    out += _table(("shards", "pods", "nodes", "record, kB", "packed, kB", "list of shards, kB"), rows)
    out += [
        f"A workflow's record must fit in 1,049 kB, packed if need be: about {m['fits']} shards do, the design stops at"
        f" {m['most']}. The record was built from the compiled pipeline; no engine was at hand.", "",
    ]  # fmt: skip
    return out


def _serving(a: Assumptions, m: Sequence[Mapping[str, Any]]) -> list[str]:
    s = model.serving(a)
    out = [
        "## Serving and watching", "",
        f"{a.cameras:,} cameras ask {s['inferences_per_s']:,.0f} times a second on average,"
        f" {s['peak_inferences_per_s']:,.0f} when somebody is in every picture.", "",
    ]  # fmt: skip
    rows = [
        (x["kind"], number(x["ips"]), str(x["replicas"]), str(x["replicas_peak"]), f"{x['utilisation']:.0%}",
         f"{x['mean_batch']:.1f}", _ms(x["p50_s"]), _ms(x["p95_s"])) for x in m
    ]  # fmt: skip
    head = ("replica", "inferences/s", "replicas", "at the peak", "busy", "batch", "p50", "p95")
    out += _table(head, rows)
    out += ["Latencies by a simulation of dynamic batching under random arrivals, at the average load.", ""]
    return out


def _costs(a: Assumptions, m: Mapping[str, Any], n: Mapping[str, float]) -> list[str]:
    priced = model.costs(a, clip_bytes(m), model.database_gb(a, m["labels"]))
    names = list(priced["cpu"])
    out = ["## Cost of a camera in a month", "", "By assumed prices.", ""]
    out += _table(
        ("", *names), [(kind.upper(), *(f"{row[name]:.2f}" for name in names)) for kind, row in priced.items()]
    )
    one = model.once(a, m["objects"].get("run"))
    more = ""
    if "core_hours" in one:
        more = (
            f" Preparing all clips once takes {one['core_hours']:,.0f} core hours ({one['cost']:,.0f}),"
            f" {one['days_at_defaults']:.1f} days with {a.parallelism} pods of {a.shard_cores} cores."
        )
    out += [
        f"Cameras bring {one['gbit_per_s']:.1f} Gbit/s.{more} Writing the objects costs"
        f" {one['requests_cost']:,.0f} in requests. {a.labelers} people label {n['labelled']:,.0f} clips in"
        f" {n['days_of_labeling']:.1f} working days ({n['labelled'] * a.label_s / 3600:,.0f} hours).", "",
    ]  # fmt: skip
    return out


def clip_bytes(m: Mapping[str, Any]) -> float | None:
    """Bytes of all stages for a clip, as rendered video makes them; None when no video was taken through."""
    run = m["objects"].get("run")
    return None if run is None else sum(s["bytes"] for s in run["stages"].values()) / max(1, run["clips"])


def plots(a: Assumptions, m: Mapping[str, Any], found: Sequence[model.Limit], out: Path) -> list[Path]:
    """``headroom.png``, what breaks first, and ``labels.png``, how the label store's calls grow."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 0.36 * len(found) + 1.4))
    shown = list(reversed(found))
    heads = [min(max(x.headroom, 1e-2), 1e4) for x in shown]
    colours = [COLOURS["breaks" if x.headroom < 1 else "near" if x.headroom < NEAR else "holds"] for x in shown]
    wide = [max(h, 1) - min(h, 1) for h in heads]
    axes.barh([x.name for x in shown], wide, left=[min(h, 1) for h in heads], color=colours, height=0.65)
    axes.set_xscale("log")
    axes.set_xlim(5e-3, 1e4)
    axes.axvline(1, color="black", linewidth=1)
    for i, x in enumerate(shown):
        side = "left" if heads[i] >= 1 else "right"
        axes.annotate(f" {number(x.headroom)}x ", (heads[i], i), va="center", ha=side, fontsize=8)
    axes.set_xlabel(
        f"how many times {a.clips:,} clips, {a.labelers} labelers and {a.cameras:,} cameras fit (left of the line: not)"
    )
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    paths = [out / "headroom.png", out / "labels.png"]
    figure.savefig(paths[0], dpi=110, metadata={"Software": None})
    plt.close(figure)

    figure, axes = plt.subplots(figsize=(9, 5))
    sizes = m["labels"]["sizes"]
    clips = [row["clips"] for row in sizes]
    for i, call in enumerate(sizes[-1]["calls"]):
        values = [row["calls"][call] for row in sizes]
        (line,) = axes.plot(clips, values, "o-", color=f"C{i}", label=call)
        law = model.growth(clips, values)
        if a.clips > clips[-1]:
            ends = [clips[-1], a.clips]
            axes.plot(ends, [law.extrapolate(c) for c in ends], "--", color=line.get_color(), alpha=0.6)
    axes.axhline(a.wait_s, color="black", linewidth=0.8, linestyle=":")
    axes.annotate(" what people wait for", (clips[0], a.wait_s), va="bottom", fontsize=8)
    axes.set(xscale="log", yscale="log", xlabel="clips (dashed: extrapolated)", ylabel="seconds")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(paths[1], dpi=110, metadata={"Software": None})
    plt.close(figure)
    return paths
