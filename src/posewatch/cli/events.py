"""``posewatch events``: score whole videos in windows, and compare the alarms with annotated events."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from posewatch.cli.context import Writes, notes, topic, verb
from posewatch.errors import InputError
from posewatch.rules import Range

if TYPE_CHECKING:
    from posewatch.events.timeline import Window

app = topic()


@dataclass(frozen=True)
class Predictions:
    """Where the scores of the videos' windows come from: a file, or a checkpoint and skeletons."""

    PANEL = "Predictions"

    windows: Annotated[
        Path | None, Option(metavar="FILE", help="Scored windows (.jsonl, .csv): video, start_s, end_s, p.")
    ] = None
    checkpoint: Annotated[Path | None, Option(metavar="FILE", help="Or a checkpoint that scores --skeletons.")] = None
    skeletons: Annotated[
        Path | None, Option(metavar="FILE", help="Whole videos' skeletons in pyskl's format (.pkl).")
    ] = None
    fps: Annotated[
        float | None, Option(help="Frame rate of --skeletons (default: the file's)."), Range(0, 240, above=True)
    ] = None
    window_s: Annotated[
        float, Option(help="Seconds of a window; with --windows: of rows without end_s."), Range(0, 3600)
    ] = 0.0
    stride_s: Annotated[
        float | None, Option(help="Seconds between windows (default: a third of one)."), Range(0, 3600, above=True)
    ] = None
    label: Annotated[str, Option(metavar="CLASS", help="Class that raises alarms (default: the checkpoint's).")] = ""

    def read(self) -> tuple[str, list[Window]]:
        """The class that raises alarms, and the scored windows. Raises InputError or LabelError."""
        from posewatch.datasets.layouts import require_alike
        from posewatch.datasets.pyskl import read_pyskl
        from posewatch.events.files import read_windows
        from posewatch.events.timeline import sliding
        from posewatch.progress import Progress
        from posewatch.recognition.recogniser import load_checkpoint

        if self.windows is not None:
            return self.label, read_windows(self.windows, self.label, self.window_s)
        if self.checkpoint is None or self.skeletons is None or self.window_s <= 0:
            raise InputError(
                "a checkpoint scores skeletons in windows: give --skeletons FILE.pkl and --window-s SECONDS"
            )
        recogniser = load_checkpoint(self.checkpoint)
        label = self.label or recogniser.positive
        clips, _ = read_pyskl(self.skeletons, for_model=True)
        clips.require_pixels(recogniser.config.features)
        require_alike(clips.layout, recogniser.layout, "the model's")
        clips = clips.with_flow(recogniser.flow)
        notes(clips.notes)
        windows: list[Window] = []
        with Progress("score", len(clips)) as progress:
            for name, keypoints in zip(clips.ids, clips.keypoints, strict=True):
                windows += sliding(
                    recogniser, keypoints, self.fps or clips.fps, self.window_s, self.stride_s or self.window_s / 3,
                    video=name, label=label,
                )  # fmt: skip
                progress.advance()
        return label, windows


@dataclass(frozen=True)
class Alarms:
    """When scored windows are an alarm."""

    PANEL = "Alarms"

    on: Annotated[float, Option(help="Probability at which an alarm begins."), Range(0, 1, above=True)] = 0.5
    off: Annotated[
        float | None, Option(help="Probability below which it ends (default: 0.8 of --on)."), Range(0, 1, above=True)
    ] = None
    min_s: Annotated[float, Option(help="Shortest alarm in seconds."), Range(0, 86_400)] = 0.0
    merge_s: Annotated[float, Option(help="Alarms closer than this many seconds are one."), Range(0, 86_400)] = 0.0
    step_s: Annotated[float, Option(help="Time grid in seconds."), Range(0, 60, above=True)] = 0.1
    tune_intervals: Annotated[
        Path | None, Option(metavar="CSV", help="Validation videos to choose the alarm options on.")
    ] = None
    tune_windows: Annotated[Path | None, Option(metavar="FILE", help="Scored windows of the validation videos.")] = None


def _written(values: dict[str, Any]) -> list[Path]:
    scored = ["windows.jsonl"] if values["checkpoint"] else []
    return [values["out"] / name for name in ("events.json", "events.png", *scored)]


@verb(app, "events")
def events(
    intervals: Annotated[Path, Option(metavar="CSV", help="Annotated events: video, start_s, end_s, label.")],
    out: Annotated[Path, Option(metavar="DIR", help="Folder for events.json and events.png."), Writes(paths=_written)],
    predictions: Predictions,
    alarms: Alarms,
) -> str:
    """Compare alarms on videos with annotated events."""
    from posewatch.digests import canonical
    from posewatch.events.alarms import Hysteresis
    from posewatch.events.files import read_intervals, read_windows, write_windows
    from posewatch.events.plot import plot
    from posewatch.events.report import choose_hysteresis, report
    from posewatch.files import write_atomically

    if (predictions.windows is None) == (predictions.checkpoint is None):
        raise InputError("choose where the scores come from: --windows FILE, or --checkpoint FILE.pt --skeletons FILE")
    if (alarms.tune_intervals is None) != (alarms.tune_windows is None):
        raise InputError("to choose on validation videos give both --tune-intervals and --tune-windows")
    hysteresis = Hysteresis(
        alarms.on, 0.8 * alarms.on if alarms.off is None else alarms.off, alarms.min_s, alarms.merge_s
    )
    label, windows = predictions.read()
    if alarms.tune_intervals is not None and alarms.tune_windows is not None:
        hysteresis = choose_hysteresis(
            read_intervals(alarms.tune_intervals),
            read_windows(alarms.tune_windows, label, predictions.window_s),
            label=label,
            step_s=alarms.step_s,
            start=hysteresis,
        )
    result = report(read_intervals(intervals), windows, hysteresis, label=label, step_s=alarms.step_s)
    if predictions.checkpoint is not None:
        write_windows(out / "windows.jsonl", windows)
    plot(result, windows, out / "events.png")
    write_atomically(out / "events.json", (canonical(result) + "\n").encode())
    return _table(result) + f"\n{out / 'events.json'}"


def _table(result: dict[str, Any]) -> str:
    """The figures of ``events.report`` for people."""
    rows = [f"{'':<14}{'precision':>10}{'recall':>10}{'F1':>10}{'AP':>10}"]
    for least in (0.2, 0.5):
        at = result[f"iou_{least}"]
        figures = (at["precision"], at["recall"], at["f1"], at["average_precision"])
        rows.append(f"{f'IoU {least}':<14}" + "".join(f"{value:>10.3f}" for value in figures))
    delay = result["delay_s"]["median"]
    rows += [
        f"{result['found']} of {result['events']} events found"
        + ("" if delay is None else f", {delay:.1f} s after their start (median)"),
        f"{result['false_alarms']} false alarms in {result['camera_hours']:.2f} camera-hours "
        f"({result['false_alarms_per_hour']:.2f} per hour), {result['repeated_alarms']} repeated",
        "alarms: " + ", ".join(f"{k} {v:g}" for k, v in result["hysteresis"].items()),
    ]
    acts = sorted(result["false_alarms_by_act"].items(), key=lambda item: (-item[1]["alarms"], item[0]))
    told = [f"{act} {row['alarms']}" for act, row in acts if row["alarms"]]
    rows += [f"false alarms by act: {', '.join(told)}"] if told else []
    return "\n".join(rows)
