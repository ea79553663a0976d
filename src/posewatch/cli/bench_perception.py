"""``posewatch bench NAME`` for what is seen: speed, masks and skeletons, people found, the unit of one person."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from posewatch.cli.context import Context, Writes, topic, verb
from posewatch.rules import Range

app = topic()

OUT = Option(metavar="DIR", help="Folder for figures and plots.")


@verb(app, "perception")
def perception(
    out: Annotated[Path, OUT, Writes("speed.json", "looped.mp4")],
    context: Context,
    video: Annotated[Path | None, Argument(help="Video to measure on (default: a real sample).")] = None,
    loops: Annotated[int, Option(help="Times that the video is shown to one and two workers."), Range(0, 10_000)] = 4,
    rounds: Annotated[int, Option(help="Repetitions, of which the fastest counts."), Range(1, 1000)] = 1,
) -> str:
    """Speed of decoding, networks and encoding."""
    from posewatch.bench.perception.speed import bench_speed

    return json.dumps(bench_speed(out, context.experiment, video, loops=loops, rounds=rounds), indent=1)


@verb(app, "quality")
def quality(
    out: Annotated[Path, OUT, Writes("quality.json", "quality.png", "quality.html", "sheet.jpg", "footage/labels.csv")],
    context: Context,
    videos: Annotated[int, Option(help="Rendered videos."), Range(1, 100_000)] = 22,
    seconds: Annotated[float, Option(help="Length of each."), Range(2, 86_400)] = 5.0,
    seed: Annotated[int, Option(help="Seed of the scenes."), Range(0, 2**32 - 1)] = 3,
    real: Annotated[
        Path | None, Option(metavar="DIR", help="Folder with videos of one person each, such as GMDCSA24.")
    ] = None,
) -> str:
    """Masks, skeletons and detections against exact truth."""
    from posewatch.bench.perception.quality import bench_quality

    clips = real if real and real.is_dir() else None
    report = bench_quality(out, context.experiment, videos=videos, seconds=seconds, seed=seed, clips=clips)
    lines = [
        f"{name} {json.dumps({k: v for k, v in report[name].items() if k != 'videos'})}"
        for name in ("figures", "masked_skeletons", "real", "goals")
        if name in report
    ]
    return "\n".join([*lines, str(out / "quality.html")])


@verb(app, "cctv")
def cctv(
    videos: Annotated[Path, Option(metavar="DIR", help="Folder of CCTV clips.")],
    counts: Annotated[
        Path, Option(metavar="FILE", help="Counts by eye: a csv file with the columns file and visible (yyn...).")
    ],
    out: Annotated[Path, OUT, Writes("cctv.json")],
    context: Context,
) -> str:
    """How often people are found in CCTV clips, against counts by eye."""
    from posewatch.bench.perception.cctv import bench_cctv

    report = bench_cctv(out, context.experiment, videos, counts)
    return json.dumps({k: v for k, v in report.items() if k != "each"}, indent=1)


@verb(app, "joint-errors")
def joint_errors(
    footage: Annotated[Path, Argument(help="A folder of `posewatch footage`, with its ground truth.")],
    context: Context,
    out: Annotated[Path, OUT, Writes("joint_errors.json")] = Path("build/joint-errors"),
) -> dict[str, Any]:
    """The pose estimator's errors, from which rendered skeletons are drawn."""
    from posewatch.bench.perception.joint_errors import bench_joint_errors

    return bench_joint_errors(footage, out, context.experiment.pose)


@verb(app, "persons")
def persons(
    out: Annotated[Path, OUT, Writes("persons.json", "footage/labels.csv")],
    context: Context,
    videos: Annotated[int, Option(help="Rendered videos of three people each."), Range(6, 100_000)] = 32,
    seconds: Annotated[float, Option(help="Length of each."), Range(2, 86_400)] = 6.0,
    seed: Annotated[int, Option(help="Seed of the scenes."), Range(0, 2**32 - 1)] = 11,
    seeds: Annotated[
        int, Option(help="Trainings of each unit, each with another test part; 0: none."), Range(0, 1000)
    ] = 3,
    real: Annotated[Path | None, Option(metavar="DIR", help="Folder with real videos.")] = None,
    clips: Annotated[
        Path | None,
        Option(metavar="DIR", help="Also write the persons' clips here, for `bench paper`."),
        Writes("train/label.csv", "val/label.csv", "test/label.csv"),
    ] = None,
) -> str:
    """Scenes with bystanders: one model for the scene against one for each person."""
    from posewatch.bench.persons import bench_persons

    report = bench_persons(
        out, context.experiment, videos=videos, seconds=seconds, seed=seed, seeds=seeds, real=real, clips=clips
    )
    shown = {**report["footage"], **{f"F1 {name}": f1 for name, f1 in report["f1_mean"].items()}}
    shown |= {f"real: {name}": value for name, value in report.get("real", {}).items() if name != "videos"}
    return "\n".join(
        [*(f"{name.replace('_', ' ')}: {value}" for name, value in shown.items()), str(out / "persons.json")]
    )
