"""The table and the plot of a grid of experiments, with the baselines on the same clips."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from posewatch.recognition.evaluation.plots import BLUE, GREY, INK, styled, write_figure

METRICS = (("accuracy", "accuracy"), ("f1", "F1"), ("auc", "AUC"))
BASELINES = (("forest", "random forest"), ("logistic", "logistic"))


def markdown(report: dict[str, Any]) -> str:
    """The file: the table, how to read it, and the command of each row."""
    rows = report["rows"]
    same = [f"{key} {value}" for key, value in rows[0]["settings"].items() if value and key not in _varied(rows)]
    lines = [
        "# Experiment",
        "",
        table(report),
        "",
        *([f"All rows: {', '.join(same)}.", ""] if same else []),
        "Mean and standard deviation over the cells of a row (its seeds and splits). CPU ms: processor time for one"
        " clip, alone, on one thread. The baselines are fitted on the same clips.",
        "",
        "Each row by itself, in the order of the table (another `--out` trains it anew, this one reads it):",
        "",
        "```",
        *(row["command"] for row in rows),
        "```",
    ]
    failed = [cell for row in rows for cell in row["cells"] if "error" in cell]
    if failed:
        lines += ["", "Failed, to be tried again by the next run:", ""]
        lines += [f"- `{cell['folder']}`: {cell['error']}" for cell in failed]
    return "\n".join(lines) + "\n"


def table(report: dict[str, Any]) -> str:
    """A line for each row of the grid and each baseline, its columns padded to read well as text, too."""
    rows = report["rows"]
    keys = _varied(rows)
    cells = [["", *keys, *(title for _, title in METRICS), "parameters", "CPU ms", "cells"]]
    for i, row in enumerate(rows, 1):
        costs = [f"{row['parameters']:,}", f"{row['cpu_ms']:.1f}"] if "n" in row else ["–", "–"]
        count = f"{row.get('n', 0)} of {len(row['cells'])}"
        settings = [row["settings"][key] or "–" for key in keys]
        cells.append([str(i), *settings, *_figures(row, ""), *costs, count])
    for title, where, row, prefix in _baselines(rows):
        cells.append([where, title, *[""] * (len(keys) - 1), *_figures(row, prefix), "", "", ""])
    cells = [[cell.replace("|", "\\|") for cell in line] for line in cells]
    widths = [max(3, *(len(line[k]) for line in cells)) for k in range(len(cells[0]))]
    texts = len(keys) + 1
    rule = ["-" * w if k < texts else "-" * (w - 1) + ":" for k, w in enumerate(widths)]
    padded = [
        [c.ljust(w) if k < texts else c.rjust(w) for k, (c, w) in enumerate(zip(line, widths, strict=True))]
        for line in cells
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in [padded[0], rule, *padded[1:]])


def _varied(rows: list[dict[str, Any]]) -> list[str]:
    """The settings that tell the rows apart, and the model."""
    return [key for key in rows[0]["settings"] if key == "model" or len({row["settings"][key] for row in rows}) > 1]


def _figures(row: dict[str, Any], prefix: str) -> list[str]:
    """Mean and deviation of each metric."""
    metrics = row.get("metrics", {})
    found = []
    for key, _ in METRICS:
        mean, spread = metrics.get(f"{prefix}{key}"), metrics.get(f"{prefix}{key}_std")
        found.append("–" if mean is None else f"{mean:.3f}" + (f" ± {spread:.3f}" if row["n"] > 1 else ""))
    return found


def _baselines(rows: list[dict[str, Any]]) -> Iterator[tuple[str, str, dict[str, Any], str]]:
    """(title, numbers of the rows, one of the rows, prefix of the metrics) of each baseline: one where it is alike
    for all rows, else (other frames, people or joints) one for each kind."""
    known = [(i, row) for i, row in enumerate(rows, 1) if "n" in row]
    for name, title in BASELINES:
        alike: dict[tuple[str, ...], list[tuple[int, dict[str, Any]]]] = {}
        for i, row in known:
            alike.setdefault(tuple(_figures(row, f"baseline_{name}_")), []).append((i, row))
        for figures, group in alike.items():
            if any(figure != "–" for figure in figures):
                where = "" if len(alike) == 1 else ", ".join(str(i) for i, _ in group)
                yield title, where, group[0][1], f"baseline_{name}_"


def plot(report: dict[str, Any], path: Path) -> None:
    """F1 of each row: its mean, its deviation and every cell; baselines as lines across."""
    rows = report["rows"]
    varied = _varied(rows)
    with styled() as plt:
        figure, axis = plt.subplots(figsize=(7, 1.6 + 0.42 * len(rows)), layout="constrained")
        for y, row in enumerate(rows):
            if "n" not in row:
                continue
            axis.barh(y, row["metrics"]["f1"], xerr=row["metrics"]["f1_std"], color=BLUE, alpha=0.75, ecolor=INK)
            values = [cell["metrics"]["f1"] for cell in row["cells"] if "metrics" in cell]
            axis.plot(values, [y] * len(values), "o", color=INK, ms=3)
        for (title, where, row, prefix), style in zip(_baselines(rows), ("--", ":") * len(rows), strict=False):
            label = f"{title} ({where})" if where else title
            axis.axvline(row["metrics"][f"{prefix}f1"], color=GREY, ls=style, label=label)
        axis.set_yticks(range(len(rows)), [_label(row, varied) for row in rows])
        axis.invert_yaxis()
        axis.set_xlim(0, 1)
        axis.set_xlabel("F1, mean and deviation over seeds and splits")
        if axis.get_legend_handles_labels()[0]:
            figure.legend(loc="outside upper right", frameon=False, ncols=2)
        write_figure(plt, figure, path)


def _label(row: dict[str, Any], keys: list[str]) -> str:
    text = ", ".join(row["settings"][key] or f"no {key}" for key in keys)
    return text if len(text) <= 44 else f"...{text[-41:]}"
