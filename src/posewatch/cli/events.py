"""The command line of event metrics on files: score whole videos in windows, and measure alarms against annotations."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from posewatch.digests import canonical
from posewatch.errors import InputError
from posewatch.recognition.events.alarms import Hysteresis
from posewatch.recognition.events.files import read_intervals, read_windows, write_windows
from posewatch.recognition.events.report import choose_hysteresis, report
from posewatch.recognition.events.timeline import Window, sliding


def options(parser: argparse.ArgumentParser) -> None:
    """Options of ``posewatch events``."""
    default = Hysteresis()
    parser.add_argument(
        "--intervals", type=Path, required=True, metavar="CSV", help="what happens when: video, start_s, end_s, label"
    )
    group = parser.add_argument_group("what the model says")
    group.add_argument(
        "--windows", type=Path, metavar="FILE", help="scored windows (.jsonl, .csv): video, start_s, end_s, p"
    )
    group.add_argument("--checkpoint", type=Path, help="or a checkpoint that scores --skeletons")
    group.add_argument(
        "--skeletons", type=Path, metavar="FILE", help="whole videos' skeletons in pyskl's format (.pkl)"
    )
    group.add_argument("--fps", type=float, default=0.0, help="frame rate of --skeletons (default: the file's)")
    group.add_argument(
        "--window-s", type=float, default=0.0, help="seconds of a window; with --windows: of rows without end_s"
    )
    group.add_argument("--stride-s", type=float, default=0.0, help="seconds between windows (default: a third of one)")
    group.add_argument("--label", default="", help="the class that raises alarms (default: the checkpoint's)")
    group = parser.add_argument_group("alarms")
    group.add_argument("--on", type=float, default=default.on, help="probability at which an alarm begins")
    group.add_argument("--off", type=float, help="probability below which it ends (default: 0.8 of --on)")
    group.add_argument("--min-s", type=float, default=default.min_s, help="shortest alarm in seconds")
    group.add_argument("--merge-s", type=float, default=default.merge_s, help="alarms closer than this are one")
    group.add_argument("--step-s", type=float, default=0.1, help="time grid in seconds")
    group.add_argument("--tune-intervals", type=Path, metavar="CSV", help="validation videos to choose all of these on")
    group.add_argument("--tune-windows", type=Path, metavar="FILE", help="what the model says of the validation videos")
    parser.add_argument("--out", type=Path, required=True, help="folder for events.json and events.png")


def events_files(args: argparse.Namespace) -> str:
    """Write ``events.json``, ``events.png`` and, where a checkpoint scored the videos, ``windows.jsonl`` to ``--out``.

    Returns a table for people. Raises InputError, LabelError or ConfigError.
    """
    from posewatch.files import write_atomically
    from posewatch.recognition.events.plot import plot

    if (args.windows is None) == (args.checkpoint is None):
        raise InputError("say what the model says: --windows FILE, or --checkpoint FILE.pt with --skeletons FILE.pkl")
    if (args.tune_intervals is None) != (args.tune_windows is None):
        raise InputError("to choose on validation videos give both --tune-intervals and --tune-windows")
    label, windows = args.label, []
    hysteresis = Hysteresis(args.on, 0.8 * args.on if args.off is None else args.off, args.min_s, args.merge_s)
    if args.windows is not None:
        windows = read_windows(args.windows, label, args.window_s)
    else:
        label, windows = _score(args)
    if args.tune_intervals is not None:
        hysteresis = choose_hysteresis(
            read_intervals(args.tune_intervals),
            read_windows(args.tune_windows, label, args.window_s),
            label=label,
            step_s=args.step_s,
            start=hysteresis,
        )
    found = report(read_intervals(args.intervals), windows, hysteresis, label=label, step_s=args.step_s)
    args.out.mkdir(parents=True, exist_ok=True)
    if args.checkpoint is not None:
        write_windows(args.out / "windows.jsonl", windows)
    plot(found, windows, args.out / "events.png")
    write_atomically(args.out / "events.json", (canonical(found) + "\n").encode())
    return table(found) + f"\n{args.out / 'events.json'}"


def _score(args: argparse.Namespace) -> tuple[str, list[Window]]:
    from posewatch.datasets.pyskl import read_pyskl
    from posewatch.progress import Progress
    from posewatch.recognition.recogniser import load_checkpoint

    if args.skeletons is None or args.window_s <= 0:
        raise InputError("a checkpoint scores skeletons in windows: give --skeletons FILE.pkl and --window-s SECONDS")
    recogniser = load_checkpoint(args.checkpoint)
    label = args.label or recogniser.positive
    clips, _ = read_pyskl(args.skeletons, classes=recogniser.labels)
    windows: list[Window] = []
    with Progress("score", len(clips)) as progress:
        for name, keypoints in zip(clips.ids, clips.keypoints, strict=True):
            windows += sliding(
                recogniser, keypoints, args.fps or clips.fps, args.window_s, args.stride_s or args.window_s / 3,
                video=name, label=label,
            )  # fmt: skip
            progress.advance()
    return label, windows


def table(found: dict[str, Any]) -> str:
    """What a person wants to see first of a report of ``events.report``."""
    rows = [f"{'':<14}{'precision':>10}{'recall':>10}{'F1':>10}{'AP':>10}"]
    for least in (0.2, 0.5):
        at = found[f"iou_{least}"]
        figures = (at["precision"], at["recall"], at["f1"], at["average_precision"])
        rows.append(f"{f'IoU {least}':<14}" + "".join(f"{value:>10.3f}" for value in figures))
    delay = found["delay_s"]["median"]
    rows += [
        f"{found['found']} of {found['events']} events found"
        + ("" if delay is None else f", {delay:.1f} s after their start (median)"),
        f"{found['false_alarms']} false alarms in {found['camera_hours']:.2f} camera-hours "
        f"({found['false_alarms_per_hour']:.2f} per hour), {found['repeated_alarms']} repeated",
        "alarms: " + ", ".join(f"{k} {v:g}" for k, v in found["hysteresis"].items()),
    ]
    return "\n".join(rows)
