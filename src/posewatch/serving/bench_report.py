"""What a benchmark leaves behind for people: a Markdown table, two plots, and where it was measured."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

COLORS = {"pytorch": "#9467bd", "onnxruntime": "#7f7f7f", "triton": "#1f77b4", "triton+batching": "#d62728"}


def environment(triton: str) -> dict[str, Any]:
    """Versions and processor; ``triton`` is the server's own version."""
    versions = {"python": platform.python_version(), "triton": triton}
    for name in ("numpy", "torch", "onnxruntime", "tritonclient"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = ""
    return {"versions": versions, "cpu": _cpu(), "cores": len(os.sched_getaffinity(0)), "system": platform.system()}


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def write_markdown(result: dict[str, Any], path: Path) -> None:
    """The rows as a Markdown table with the environment and the caveats under it."""
    lines = [
        "| system | concurrency | clips/s | p50 ms | p95 ms | p99 ms | mean batch | errors |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {r['system']} | {r['concurrency']} | {r['throughput_ips']:.1f} | {r['p50_ms']:.1f} | {r['p95_ms']:.1f}"
        f" | {r['p99_ms']:.1f} | {r['mean_batch']:.2f} | {r['errors']} |"
        for r in result["rows"]
    ]
    found = result["environment"]
    versions = ", ".join(f"{k} {v}" for k, v in found["versions"].items() if v)
    lines += ["", f"{found['cpu']}, {found['cores']} cores; {versions}.", "", *(f"- {c}" for c in result["caveats"])]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_plots(rows: Sequence[dict[str, Any]], out: Path) -> None:
    """``throughput.png`` (clips per second) and ``latency.png`` (p50 and p95) over the concurrency."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    systems = list(dict.fromkeys(row["system"] for row in rows))
    loads = sorted({row["concurrency"] for row in rows})
    for file, label, keys in (
        ("throughput.png", "clips per second", ("throughput_ips",)),
        ("latency.png", "latency in ms: p50, and the line up to p95", ("p50_ms", "p95_ms")),
    ):
        figure = Figure(figsize=(7, 4), dpi=110, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        width = 0.8 / len(systems)
        for i, system in enumerate(systems):
            mine = [row for row in rows if row["system"] == system]
            at = [loads.index(row["concurrency"]) + (i - (len(systems) - 1) / 2) * width for row in mine]
            height = [row[keys[0]] for row in mine]
            bars = axes.bar(at, height, width * 0.92, label=system, color=COLORS.get(system))
            if len(keys) == 1:
                axes.bar_label(bars, fmt="%.0f", fontsize=8)
            else:
                upper = [row[keys[1]] - row[keys[0]] for row in mine]
                axes.errorbar(at, height, yerr=[[0] * len(mine), upper], fmt="none", ecolor="black", capsize=3, lw=1)
        axes.set_xticks(range(len(loads)), [str(n) for n in loads])
        axes.set_xlabel("clients at a time")
        axes.set_ylabel(label)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
        figure.savefig(out / file, metadata={"Software": None})
