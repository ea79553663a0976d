"""The report of a benchmark: a Markdown table, plots, caveats, and the machine that it was measured on."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from posewatch.cores import usable
from posewatch.files import write_atomically
from posewatch.recognition.evaluation.plots import styled, write_figure

COLORS = {"pytorch": "#9467bd", "onnxruntime": "#7f7f7f", "triton": "#1f77b4", "triton+batching": "#d62728"}
COLORS |= {"pytorch-published": "#c5b0d5", "openvino": "#bcbd22", "triton+tuned": "#2ca02c"}
COLORS |= {"onnxruntime+tuned": "#bcbd22"}
MARKS = {"pytorch": "D", "onnxruntime": "s", "triton": "o", "triton+batching": "^"}
MARKS |= {"pytorch-published": "d", "openvino": "P", "onnxruntime+tuned": "P", "triton+tuned": "v"}


def environment(triton: str, torch_threads: int = 0, torch_device: str = "cpu") -> dict[str, Any]:
    """Versions and hardware; ``triton`` is the server's own version."""
    versions = {"python": platform.python_version(), "triton": triton}
    for name in ("numpy", "torch", "onnxruntime", "tritonclient"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = ""
    machine = {"versions": versions, "cpu": _cpu(), "cores": usable(), "gpu": _gpu()}
    torch = {"torch_threads": torch_threads, "torch_device": torch_device}
    return {**machine, "memory_gb": _memory(), "system": platform.system(), **torch}


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _gpu() -> str:
    names = []
    for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        lines = path.read_text(encoding="utf-8").splitlines()
        names += [line.partition(":")[2].strip() for line in lines if line.startswith("Model")]
    return ", ".join(names)


def _memory() -> float:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)


def caveats(result: dict[str, Any]) -> list[str]:
    """What a reader must know before quoting a figure."""
    rows, seconds = result["rows"], result["settings"]["seconds"]
    notes = []
    if any(row["cpu_ms_per_inference"] is None for row in rows):
        notes.append(
            "The server runs elsewhere: its processor time is not known, and the network is part of the latency."
        )
    else:
        notes.append("Clients and servers share this machine's cores.")
    costs = [row["client_cpu_ms"] for row in rows if row["client_cpu_ms"]]
    if costs:
        busy = max(row["client_cpu_ms"] * row["throughput_ips"] / 10 for row in rows if row["client_cpu_ms"])
        notes.append(
            f"The load generator spent {min(costs):.2f} to {max(costs):.2f} ms of processor"
            f" time per request and was busy for {busy:.0f} % of one core at most"
            + ("." if busy < 70 else ": it may be the bottleneck there.")
        )
    notes.append(
        "Closed loop: latency at a high concurrency is mostly time in the queue. Systems other than Triton"
        " run in this process, without a server, a network or a queue."
    )
    if any(row["load"] == "open" for row in rows):
        notes.append(
            "Open loop: requests come at random moments whatever the server does; a latency counts from the moment at"
            " which its request was due. Above the peak, the queue grows without end."
        )
    if not result["environment"]["gpu"]:
        notes.append(
            "No GPU here: dynamic batching pays where one execution leaves the processor idle; on a CPU a model that"
            " fills its cores alone gains nothing from it."
        )
    notes.append(f"Windows of {seconds:g} s: read +-15 %.")
    if any(row["system"] == "pytorch-published" for row in rows):
        notes.append(
            "pytorch is the network as it is trained here; pytorch-published is the same with its operations in the"
            " published order, which gives the same answers."
        )
    tuned = result["settings"].get("tuned")
    if tuned:
        notes.append(f"triton+tuned: {', '.join(f'{key} {value}' for key, value in tuned.items() if value != '')}.")
    machine = result["environment"]
    if machine["torch_threads"]:
        notes.append(f"pytorch: eager, batch 1, {machine['torch_threads']} threads (the faster choice).")
    if machine["torch_device"] != "cpu":
        notes.append("pytorch: eager, batch 1, on this machine's GPU; onnxruntime on its CPU.")
    elif any(row["cpu_ms_per_inference"] is None for row in rows):
        notes.append(
            "Systems other than Triton ran on this machine's CPU: if the server has a GPU, its ratio to them compares"
            " devices, not ways to serve. Run the benchmark on a machine with a GPU like the server's."
        )
    return notes


def write_markdown(result: dict[str, Any], path: Path) -> None:
    """The rows as a Markdown table with ratios, the environment and the caveats under it."""
    rows = result["rows"]
    lines = [
        "| system | load | concurrency | offered/s | clips/s | p50 ms | p95 ms | p99 ms | mean batch | in queue"
        " | in model | CPU ms/clip | errors |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for r in rows:
        cells = [r["system"], r["load"], str(r["concurrency"]), _number(r["offered_ips"])]
        cells += [f"{r[k]:.1f}" for k in ("throughput_ips", "p50_ms", "p95_ms", "p99_ms")] + [f"{r['mean_batch']:.2f}"]
        cells += [_share(r["queue_share"]), _share(r["compute_share"]), _number(r["cpu_ms_per_inference"], 2)]
        lines.append(f"| {' | '.join([*cells, str(r['errors'])])} |")
    lines += ["", *_ratios(rows)]
    for row in result.get("perf_analyzer", []):
        lines.append(
            f"- perf_analyzer, {row['system']}, {row['concurrency']} at a time: {row['throughput_ips']:.1f} clips/s,"
            f" p50 {row['p50_ms']:.1f} ms, p95 {row['p95_ms']:.1f} ms."
        )
    machine = result["environment"]
    versions = ", ".join(f"{k} {v}" for k, v in machine["versions"].items() if v)
    gpu = machine["gpu"] or "no GPU"
    lines += ["", f"{machine['cpu']}, {machine['cores']} cores, {gpu}; {result['precision']}; {versions}.", ""]
    write_atomically(path, "\n".join([*lines, *(f"- {c}" for c in result["caveats"])]) + "\n")


def _number(value: float | None, digits: int = 1) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def _ratios(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Each system's best closed-loop rate relative to PyTorch's (else the first one's), Triton's to its runtime's."""
    best: dict[str, float] = {}
    for row in rows:
        if row["load"] == "closed":
            best[row["system"]] = max(best.get(row["system"], 0.0), row["throughput_ips"])
    bases = [system for system in best if system.startswith("pytorch")] or list(best)[:1]
    notes = []
    for system, speed in best.items():
        against = [f"{speed / best[base]:.2f} times {base}" for base in bases if base != system]
        notes.append(f"- {system}: {', '.join(against)}.")
    for served, runtime in runtimes(rows).items():
        share = best[served] / best[runtime]
        notes.append(f"- {served} reaches {share:.0%} of the rate of {runtime} in this process.")
    notes += [
        f"- At {pair['peak_share']:.0%} of its own peak {pair['system']} has a p95 of {pair['p95_ms']:.0f} ms,"
        f" {pair['times']:.2f} times that of {pair['runtime']} in this process at {pair['peak_share']:.0%} of its"
        f" own ({pair['runtime_p95_ms']:.0f} ms)."
        for pair in p95_beside(rows)
    ]
    return notes


def runtimes(rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Each served system with its runtime, where that was measured in this process."""
    systems = {row["system"] for row in rows if row["load"] == "closed"}
    tuned = next((own for own in ("openvino", "onnxruntime+tuned") if own in systems), "onnxruntime")
    pairs = {"triton": "onnxruntime", "triton+batching": "onnxruntime", "triton+tuned": tuned}
    return {served: runtime for served, runtime in pairs.items() if {served, runtime} <= systems}


def p95_beside(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """p95 of each served system in an open loop beside its runtime's, each at the same share of its own peak."""
    opened = {(row["system"], row["peak_share"]): row["p95_ms"] for row in rows if row["load"] == "open"}
    beside, pairs = runtimes(rows), []
    for (system, share), p95 in opened.items():
        runtime = beside.get(system, "")
        if own := opened.get((runtime, share)):
            pairs.append({"system": system, "runtime": runtime, "peak_share": share, "p95_ms": p95,
                          "runtime_p95_ms": own, "times": round(p95 / own, 3)})  # fmt: skip
    return pairs


def write_plots(rows: Sequence[dict[str, Any]], out: Path) -> None:
    """``throughput.png`` and ``latency.png`` (p50, band up to p95) over the concurrency; ``open.png``, if an open loop
    was measured: latency over the requests sent per second.
    """
    closed = [row for row in rows if row["load"] == "closed"]
    loads = sorted({row["concurrency"] for row in closed})
    with styled() as plt:
        for file, label, keys in (
            ("throughput.png", "clips per second", ("throughput_ips",)),
            ("latency.png", "latency in ms: p50, band up to p95", ("p50_ms", "p95_ms")),
        ):
            axes = _axes(plt)
            for system, points in _by_system(closed, "concurrency"):
                at, height = [r["concurrency"] for r in points], [r[keys[0]] for r in points]
                color = COLORS.get(system)
                axes.plot(at, height, color=color, marker=MARKS.get(system), label=system)
                if len(keys) > 1:
                    axes.fill_between(at, height, [r[keys[1]] for r in points], color=color, alpha=0.15, lw=0)
                if len(points) == 1:
                    axes.axhline(height[0], color=color, lw=1, ls=":")
            axes.set_xscale("log", base=2)
            axes.set_xticks(loads, [str(n) for n in loads])
            if len(keys) > 1:
                _log(axes)
            else:
                axes.set_ylim(bottom=0)
            _finish(plt, axes, "clients at a time (closed loop)", label, out / file)
        opened = [row for row in rows if row["load"] == "open"]
        if opened:
            axes = _axes(plt)
            for system, points in _by_system(opened, "offered_ips"):
                for key, look in (("p50_ms", {"marker": MARKS.get(system)}), ("p95_ms", {"ls": "--", "lw": 1})):
                    at, height = [r["offered_ips"] for r in points], [r[key] for r in points]
                    axes.plot(at, height, color=COLORS.get(system), label=f"{system} {key[:3]}", **look)
            _log(axes)
            _finish(plt, axes, "requests per second sent (open loop, Poisson)", "latency in ms", out / "open.png")


def _by_system(rows: Sequence[dict[str, Any]], key: str) -> list[tuple[str, list[dict[str, Any]]]]:
    systems = dict.fromkeys(row["system"] for row in rows)
    return [(s, sorted((r for r in rows if r["system"] == s), key=lambda r: r[key])) for s in systems]


def _axes(plt: Any) -> Any:
    return plt.subplots(figsize=(8.2, 4), layout="constrained")[1]


def _log(axes: Any) -> None:
    from matplotlib.ticker import FormatStrFormatter

    axes.set_yscale("log")
    for which in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        which(FormatStrFormatter("%g"))
    axes.tick_params(axis="y", which="minor", labelsize=7)


def _finish(plt: Any, axes: Any, x: str, y: str, path: Path) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(axis="y", color="#dddddd", lw=0.6)
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    write_figure(plt, axes.figure, path)
