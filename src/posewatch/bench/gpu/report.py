"""gpu.json → tables and plots."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from posewatch.errors import InputError, first_line
from posewatch.files import write_atomically
from posewatch.progress import say
from posewatch.recognition.evaluation.plots import BLUE, GREY, ORANGE, styled, write_figure

_COLOURS = (GREY, BLUE, ORANGE, "#0f766e", "#7c3aed", "#be123c", "#4d7c0f")


def write(result: dict[str, Any], out: Path) -> str:
    """Write gpu.md, throughput.png and served.png to ``out``; returns the Markdown.

    Without matplotlib there are no plots: draw them from gpu.json on another machine.
    """
    text = markdown(result)
    write_atomically(out / "gpu.md", text)
    if not importlib.util.find_spec("matplotlib"):
        say(
            "posewatch: note: no plots without matplotlib: `posewatch bench gpu --report gpu.json` draws them elsewhere"
        )
        return text
    if result.get("serving", {}).get("rows"):
        _throughput(result["serving"]["rows"], title(result), out / "throughput.png")
    if result.get("served", {}).get("rows"):
        _served(result["served"], title(result), out / "served.png")
    return text


def redraw(source: Path, out: Path) -> str:
    """The report of a gpu.json that another machine wrote. Raises InputError for another file."""
    try:
        result = json.loads(source.read_text(encoding="utf-8"))
        return write(result, out)
    except OSError as error:
        raise InputError(f"{source} cannot be read: {first_line(error)}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{source} is not the gpu.json of `posewatch bench gpu`") from None


def title(result: dict[str, Any]) -> str:
    """The card's name, or that this was a dry run."""
    return "dry run on a CPU at tiny sizes" if result["dry_run"] else str(result["about"].get("name", "GPU"))


def markdown(result: dict[str, Any]) -> str:
    """All tables."""
    about = ", ".join(f"{k} {v}" for k, v in result["about"].items())
    lines = [f"# {title(result)}", "", about + ".", ""]
    if result["dry_run"]:
        lines += ["**A dry run: everything was called, and no figure here says anything about a GPU.**", ""]
    for part, build in (
        ("serving", _serving),
        ("served", _whole),
        ("training", _training),
        ("perception", _perception),
    ):
        if part in result:
            lines += [*build(result[part]), ""]
            if result[part]["left_out"]:
                lines += ["Left out:", "", *(f"- {line}" for line in result[part]["left_out"]), ""]
    if result["failed"]:
        lines += ["## Failed", "", *(f"- {line}" for line in result["failed"]), ""]
    return "\n".join(lines)


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """A table of Markdown; None is a dash."""
    cells = [["-" if cell is None else str(cell) for cell in row] for row in rows]
    return [_row(head), _row(["---", *["--:"] * (len(head) - 1)]), *map(_row, cells)]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _serving(part: dict[str, Any]) -> list[str]:
    peaks = ", ".join(f"{name} {value:g} TFLOP/s" for name, value in part["peaks_tflops"].items())
    lines = ["## In one process", "", f"Peak of a large product of matrices, measured here: {peaks}.", ""]
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in part["rows"]:
        groups.setdefault((row["layout"], row["people"], row["form"], row["precision"]), []).append(row)
    rows = []
    for (layout, people, form, precision), own in groups.items():
        best, one = max(own, key=lambda r: r["clips_per_s"]), own[0]
        share = None if best["share_of_peak"] is None else f"{best['share_of_peak']:.1%}"
        rows.append(
            (layout, people, form, precision, f"{one['clips_per_s']:,.0f}", one["p50_ms"], one["p95_ms"],
             f"{best['clips_per_s']:,.0f}", best["batch"], share)
        )  # fmt: skip
    head = (
        "layout",
        "persons",
        "form",
        "precision",
        "clips/s, 1",
        "p50 ms",
        "p95 ms",
        "clips/s, best",
        "at batch",
        "of the peak",
    )
    return lines + table(head, rows)


def _whole(part: dict[str, Any]) -> list[str]:
    eager = part["eager"]
    lines = [
        "## The whole server", "",
        f"{part['server']}, {part['layout']}, {part['people']} persons, {part['precision']}, over gRPC here.",
        f"PyTorch, eager, published order, one clip at a time: {eager['clips_per_s']:,.1f} clips/s, p50"
        f" {eager['p50_ms']} ms. Best served: {part['times_eager']:g} times that.", "",
    ]  # fmt: skip
    rows = [
        (r["server"], r["loop"], r["clients"], f"{r['requests_per_s']:,.0f}", r["p50_ms"], r["p95_ms"],
         r.get("mean_batch"), r["errors"])
        for r in part["rows"]
    ]  # fmt: skip
    return lines + table(("server", "loop", "clients", "clips/s", "p50 ms", "p95 ms", "mean batch", "errors"), rows)


def _training(part: dict[str, Any]) -> list[str]:
    lines = ["## Training", ""]
    base = {row["batch"]: row["clips_per_s"] for row in reversed(part["steps"]) if row["form"] == "published order"}
    rows = [
        (r["form"], r["precision"], r["batch"], f"{r['clips_per_s']:,.1f}", r["step_ms"],
         f"{r['clips_per_s'] / base[r['batch']]:.2f}x" if r["batch"] in base else None,
         _share(r["busy"]), r["memory_gib"])
        for r in part["steps"]
    ]  # fmt: skip
    head = ("form", "precision", "batch", "clips/s", "step ms", "to published, fp32", "GPU busy", "GiB")
    lines += [*table(head, rows), ""]
    lines += [*table(("making batches", "batch", "clips/s"), [tuple(r.values()) for r in part["loader"]]), ""]
    if "epochs" in part:
        real = part["epochs"]
        lines += [
            f"Real epochs ({real['precision']}, batch {real['batch']}, loader and augmentation included): "
            f"{real['clips_per_s']:,.0f} clips/s; {_share(real['share_besides_steps']) or '-'} of the time goes to what"
            f" is not a step. The trained network on {real['test_clips']} test clips:", "",
            *table(("precision", "accuracy", "same answers as fp32", "largest difference"),
                   [tuple(r.values()) for r in real["accuracy"]]),
        ]  # fmt: skip
    return lines


def _perception(part: dict[str, Any]) -> list[str]:
    height, width = part["picture"]
    lines = ["## Perception", "", f"Pictures of {width}x{height}, {part['persons']} persons, random weights.", ""]
    rows = [
        (r["part"], r["network"], r["batch"], f"{r['frames_per_s']:,.1f}", _share(r["busy"]), r["memory_gib"])
        for r in part["rows"]
    ]
    lines += table(("part", "network", "batch", "frames/s", "GPU busy", "GiB"), rows)
    if "chain" in part:
        chain = part["chain"]
        quickest = f"The quickest of {', '.join(chain['parts'])} one after the other"
        lines += ["", f"{quickest}: {chain['frames_per_s']:,.1f} frames/s, "
                  f"{chain['cameras_at_10_fps']} cameras at 10 frames per second."]  # fmt: skip
    return lines


def _share(value: float | None) -> str | None:
    return None if value is None else f"{value:.0%}"


def _throughput(rows: list[dict[str, Any]], name: str, path: Path) -> None:
    layout, people = rows[0]["layout"], max(row["people"] for row in rows)
    with styled() as plt:
        figure, axes = plt.subplots(figsize=(7.5, 4.5))
        lines: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            if (row["layout"], row["people"]) == (layout, people):
                lines.setdefault(f"{row['form']}, {row['precision']}", []).append(row)
        for i, (label, own) in enumerate(lines.items()):
            axes.plot([r["batch"] for r in own], [r["clips_per_s"] for r in own], marker="o", label=label,
                      color=_COLOURS[i % len(_COLOURS)], linestyle="-" if i < len(_COLOURS) else "--")  # fmt: skip
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(sorted({row["batch"] for row in rows}))
        _plain(axes.xaxis)
        _plain(axes.yaxis)
        axes.set_xlabel("clips in a batch")
        axes.set_ylabel("clips per second")
        axes.set_title(f"ProtoGCN, {layout}, {people} persons: {name}")
        axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
        figure.tight_layout()
        write_figure(plt, figure, path)


def _plain(axis: Any) -> None:
    """Numbers as people write them on a logarithmic axis."""
    for which in ("major", "minor"):
        getattr(axis, f"set_{which}_formatter")(lambda value, _: f"{value:,.3g}" if value < 1000 else f"{value:,.0f}")
    axis.set_tick_params(which="minor", labelsize=7)


def _served(part: dict[str, Any], name: str, path: Path) -> None:
    with styled() as plt:
        figure, axes = plt.subplots(figsize=(6.5, 4))
        for server, colour in zip(
            dict.fromkeys(row["server"] for row in part["rows"]), (GREY, BLUE, ORANGE), strict=False
        ):
            own = [row for row in part["rows"] if row["server"] == server and row["clients"]]
            axes.plot(
                [r["requests_per_s"] for r in own], [r["p95_ms"] for r in own], marker="o", label=server, color=colour
            )
            for row in own:
                axes.annotate(str(row["clients"]), (row["requests_per_s"], row["p95_ms"]), textcoords="offset points",
                              xytext=(4, 4), fontsize=8)  # fmt: skip
        axes.axvline(part["eager"]["clips_per_s"], color=GREY, linestyle=":", label="PyTorch, eager, one by one")
        axes.set_xscale("log")
        axes.set_yscale("log")
        _plain(axes.xaxis)
        _plain(axes.yaxis)
        axes.set_xlabel("clips per second (numbers: clients)")
        axes.set_ylabel("95th percentile of latency, ms")
        axes.set_title(f"Served: {name}")
        axes.legend(frameon=False, fontsize=8)
        figure.tight_layout()
        write_figure(plt, figure, path)
