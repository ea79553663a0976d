"""``posewatch bench NAME``: every benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from posewatch.cli.bench_perception import OUT
from posewatch.cli.bench_perception import app as of_perception
from posewatch.cli.context import Context, Writes, topic, verb
from posewatch.cores import share_cores, usable
from posewatch.errors import InputError, did_you_mean
from posewatch.rules import Range

app = topic()
bench = topic(help="Benchmarks: serving, perception, training, ...")
app.add_typer(bench, name="bench")
bench.add_typer(of_perception)

Model = Annotated[Path | None, Option(metavar="ONNX", help="An exported model (default: ProtoGCN, untrained).")]
Endpoint = Annotated[
    str | None, Option(metavar="URL", help="Measure this served model: grpc://host:port/model or http://...")
]


def _numbers(option: str, text: str, kind: type[int] | type[float], rule: Range) -> list[Any]:
    try:
        numbers = [kind(part.replace("_", "")) for part in text.split(",") if part.strip()]
    except ValueError:
        raise InputError(f"{option} {text!r} must be numbers separated by commas") from None
    for number in numbers:
        if not rule.holds(number):
            raise InputError(f"{option}: each number must be {rule.words}, not {number}")
    return numbers


@dataclass(frozen=True)
class ModelFiles:
    """A model and clips in files, and the loads to measure it under."""

    PANEL = "A model in files"

    model: Model = None
    people: Annotated[int | None, Option(help="People a clip of the default model (2)."), Range(1, 16)] = None
    checkpoint: Annotated[
        Path | None, Option(metavar="FILE", help="Its checkpoint, for PyTorch (default: one built alike).")
    ] = None
    annotations: Annotated[
        Path | None, Option(metavar="FILE", help="Clips to send, .pkl or .npy (default: random walks).")
    ] = None
    out: Annotated[
        Path | None,
        Option(metavar="DIR", help="Folder for bench.json, bench.md and plots."),
        Writes("bench.json", "bench.md", "throughput.png", "latency.png", "open.png"),
    ] = None
    concurrency: Annotated[str, Option(metavar="LIST", help="Numbers of clients of the closed loop.")] = (
        "1,2,4,8,16,32,64"
    )
    open_loop: Annotated[
        str, Option(metavar="LIST", help="Rates as fractions of the peak throughput; '' for none.")
    ] = "0.5,0.8,1.1"
    seconds: Annotated[float, Option(help="Length of each load, after its warm-up."), Range(0, 86_400, above=True)] = (
        4.0
    )
    max_batch: Annotated[int, Option(help="Largest batch of Triton."), Range(1, 1024)] = 16
    queue_delay_us: Annotated[
        int, Option(help="Microseconds that Triton waits for a batch to fill."), Range(0, 10_000_000)
    ] = 2000
    instances: Annotated[int | None, Option(help="Instances of the model (default: the cores)."), Range(1, 256)] = None
    tuned: Annotated[
        Path | None, Option(metavar="YAML", help="Also serve with serving.yaml of `posewatch tune serving`.")
    ] = None
    endpoint: Endpoint = None
    no_mechanism: Annotated[bool, Option("--no-mechanism", help="Leave out the model of fixed cost per execution.")] = (
        False
    )
    perf_analyzer: Annotated[
        str | None, Option(metavar="[PATH]", help="Cross-check with Triton's own load generator.")
    ] = None


@verb(bench, "serving")
def serving(
    files: ModelFiles,
    context: Context,
    onnx: Annotated[
        str | None, Argument(help="URI of an export, with its checkpoint and dataset; or see --model.")
    ] = None,
    checkpoint_uri: Annotated[str | None, Argument(metavar="checkpoint", help="URI of its checkpoint.")] = None,
    dataset: Annotated[str | None, Argument(help="URI of the dataset whose clips are sent.")] = None,
) -> str:
    """PyTorch, ONNX Runtime, Triton, and Triton with batching, in one run."""
    if onnx and checkpoint_uri and dataset:
        from posewatch.stages.benchmark import benchmark

        artifacts = (context.artifact(onnx), context.artifact(checkpoint_uri), context.artifact(dataset))
        return benchmark(context.objects, *artifacts, context.experiment.serving).uri
    from posewatch.bench.serving import bench_serving

    if files.out is None:
        raise InputError("give a folder for bench.json and the plots: --out DIR")
    given = {
        **vars(files),
        "concurrency": _numbers("--concurrency", files.concurrency, int, Range(1, 10_000)),
        "open_loop": _numbers("--open-loop", files.open_loop, float, Range(0, 100, above=True)),
        "instances": files.instances or usable(),
    }
    page = bench_serving(mechanism=not given.pop("no_mechanism"), **given)
    return page.read_text(encoding="utf-8") + f"\n{files.out / 'bench.json'}"


@verb(bench, "paper")
def paper(
    source: Annotated[
        Path, Argument(help="train/, val/, test/ of clips of single persons with label.csv, or skeletons (.pkl).")
    ],
    out: Annotated[
        Path, Option(metavar="DIR", help="Folder for both tables."), Writes("paper.json", "paper.md", "skeletons.pkl")
    ],
    context: Context,
    seeds: Annotated[int, Option(help="Seeds of splits and training."), Range(1, 100)] = 3,
    share: Annotated[float, Option(help="Share of the test part."), Range(0.05, 0.8)] = 0.2,
    labels: Annotated[Path | None, Option(metavar="CSV", help="label.csv of a dataset_*.pkl.")] = None,
    positive: Annotated[str | None, Option(metavar="CLASS", help="Class that F1 is of (default: abnormal).")] = None,
    serving_s: Annotated[float, Option(help="Length of each load of Table 3; 0: none."), Range(0, 3600)] = 2.0,
) -> str:
    """The paper's two tables, with the leak of its split measured."""
    from posewatch.bench.paper import bench_paper

    return bench_paper(
        source, out, context.experiment, seeds=seeds, share=share, labels=labels, positive=positive, serving_s=serving_s
    )


@verb(bench, "soak")
def soak(
    out: Annotated[
        Path, Option(metavar="DIR", help="Folder for soak.json and soak.png."), Writes("soak.json", "soak.png")
    ],
    context: Context,
    model: Model = None,
    annotations: Annotated[Path | None, Option(metavar="FILE", help="Clips to send (default: random walks).")] = None,
    minutes: Annotated[float, Option(help="Length of the test."), Range(0, 100_000, above=True)] = 30.0,
    share: Annotated[float, Option(help="Load, as a fraction of the peak throughput."), Range(0, 10, above=True)] = 0.8,
    every: Annotated[
        float, Option(metavar="SECONDS", help="Length of a stretch."), Range(0, 86_400, above=True)
    ] = 20.0,
    deadline: Annotated[float, Option(metavar="SECONDS", help="Of a request."), Range(0, 86_400, above=True)] = 30.0,
    max_queue: Annotated[int, Option(help="Limit of the private server's queue; 0: none."), Range(0, 1_000_000)] = 0,
    endpoint: Endpoint = None,
) -> str:
    """Hours under a steady load: memory, errors, latencies."""
    from posewatch.bench.serving import bench_soak

    return bench_soak(
        out, model=model, annotations=annotations, endpoint=endpoint,
        minutes=minutes, share=share, every_s=every, deadline_s=deadline, max_queue=max_queue,
    )  # fmt: skip


@verb(bench, "absent")
def absent(
    out: Annotated[Path, OUT, Writes("absent.json", "absent.md", "everybody.onnx", "protogcn.onnx", "protogcn.pt")],
    rounds: Annotated[int, Option(help="Turns of each way, of which the median counts."), Range(1, 10_000)] = 5,
) -> str:
    """Clips of one and two persons, computing everybody or only who is there."""
    from posewatch.bench.absent import bench_absent

    return bench_absent(out, rounds=rounds).rstrip("\n")


@verb(bench, "novelty")
def novelty(
    checkpoints: Annotated[list[Path], Argument(help="Checkpoints trained on the split `train` of the file.")],
    annotations: Annotated[Path, Option(metavar="FILE", help="Labelled skeletons with splits train and test (.pkl).")],
    out: Annotated[Path, OUT, Writes("novelty.json", "novelty.md")],
    strange: Annotated[
        list[Path] | None, Option(metavar="FILE...", help="Other sets of the same classes (.pkl).")
    ] = None,
) -> str:
    """Ways to tell strange clips, ranked on other people, cameras and sets."""
    from posewatch.bench.novelty import bench_novelty
    from posewatch.datasets.pyskl import read_pyskl

    clips, splits = read_pyskl(annotations)
    if not {"train", "test"} <= splits.keys():
        raise InputError(f"{annotations} has no splits train and test, but {', '.join(splits) or 'none'}")
    others = {path.stem: read_pyskl(path, clips.classes)[0] for path in strange or ()}
    return bench_novelty(checkpoints, clips, splits, others, out).rstrip("\n")


@verb(bench, "wire")
def wire(
    out: Annotated[Path, OUT, Writes("wire.json", "wire.md")],
    clips: Annotated[int, Option(help="Clips that each way sends in a round."), Range(32, 10_000_000)] = 2000,
    rounds: Annotated[int, Option(help="Turns of each way, of which the median counts."), Range(1, 1000)] = 3,
) -> str:
    """What sending a clip costs: bytes, and processor time of client and server."""
    from posewatch.bench.wire import bench_wire

    return bench_wire(out, clips=clips, rounds=rounds).rstrip("\n")


@verb(bench, "rollout")
def rollout(
    grpc: Annotated[str, Option(metavar="URL", help="The stable address, grpc://host:port/model.")],
    http: Annotated[str, Option(metavar="URL", help="The same, http://host:port/model.")],
    out: Annotated[Path, OUT, Writes("rollout.json", "rollout.png")],
    minutes: Annotated[float, Option(help="How long to ask."), Range(0, 100_000, above=True)] = 10.0,
    every_s: Annotated[float, Option(help="Seconds between two requests."), Range(0, 3600, above=True)] = 0.5,
) -> str:
    """Which version answers when, during a rollout."""
    from posewatch.bench.rollout import run

    return run(grpc, http, minutes, out, every_s)


@verb(bench, "scale")
def scale(
    out: Annotated[
        Path,
        Option(metavar="DIR", help="Folder for scale.json, scale.md and the plot."),
        Writes("scale.json", "scale.md", "labels.png"),
    ],
    clips: Annotated[str, Option(metavar="LIST", help="Sizes of the label store.")] = "10000,100000,1000000",
    people: Annotated[int, Option(help="Labelers at work at once."), Range(1, 100_000)] = 200,
    seconds: Annotated[float, Option(help="How long they work, twice."), Range(0, 86_400, above=True)] = 10.0,
    database: Annotated[
        str,
        Option(
            metavar="KIND",
            help="postgresql (Debian's package, started here), sqlite, or an empty database's URL; auto: the first "
            "that is installed.",
        ),
    ] = "auto",
    no_video: Annotated[bool, Option("--no-video", help="Take no video through the stages.")] = False,
) -> str:
    """The label store, object store and fan-out at growing sizes."""
    from posewatch.bench.scale.run import bench_scale

    return bench_scale(
        out,
        clips=_numbers("--clips", clips, int, Range(1, 100_000_000)),
        people=people,
        seconds=seconds,
        database=database,
        video=not no_video,
    )


@verb(bench, "training")
def training(
    out: Annotated[
        Path,
        Option(metavar="DIR", help="Folder for bench_train.json and bench_train.md."),
        Writes("bench_train.json", "bench_train.md"),
    ],
    width: Annotated[int, Option(help="Channels of the first block (published: 96)."), Range(8, 10_000)] = 96,
    batch: Annotated[int, Option(help="Clips of a batch."), Range(1, 65_536)] = 16,
    frames: Annotated[int, Option(help="Frames of a clip."), Range(1, 10_000)] = 100,
    people: Annotated[int, Option(help="Persons of a clip."), Range(1, 100_000)] = 2,
    layout: Annotated[str, Option(help="Joint layout.")] = "coco17",
    steps: Annotated[int, Option(help="Training steps, of which the fastest counts."), Range(1, 10_000)] = 3,
    threads: Annotated[
        list[int] | None,
        Option(metavar="N...", help="Numbers of threads to measure with (default: 1)."),
        Range(1, 1024),
    ] = None,
) -> str:
    """ProtoGCN's training against its published arrangement."""
    from posewatch.bench.training import Size, bench_training

    size = Size(layout, width, batch, frames, people, steps=steps)
    return bench_training(out, size, threads or (1,)).rstrip("\n")


@verb(bench, "gpu")
def gpu(
    out: Annotated[Path, OUT, Writes("gpu.json", "gpu.md", "throughput.png", "served.png")] = Path("build/bench-gpu"),
    dry_run: Annotated[bool, Option("--dry-run", help="Everything on the CPU at tiny sizes.")] = False,
    only: Annotated[str, Option(metavar="PARTS", help="Of serving,served,training,perception.")] = "",
    annotations: Annotated[
        Path | None, Option(metavar="FILE", help="Labelled clips, .pkl with train and test (default: made up).")
    ] = None,
    endpoint: Annotated[
        str, Option(metavar="URL", help="A Triton, grpc://host:port/model (default: a small server).")
    ] = "",
    rtmo: Annotated[Path | None, Option(metavar="ONNX", help="RTMO's file, to measure skeletons, too.")] = None,
    report: Annotated[Path | None, Option(metavar="JSON", help="Measure nothing: draw this gpu.json.")] = None,
    minutes: Annotated[float | None, Option(help="Time of the whole run (default: 7.5)."), Range(0.1, 600)] = None,
) -> str:
    """One GPU in minutes: serving, the whole server, training and perception."""
    if report is not None:
        from posewatch.bench.gpu.report import redraw

        return redraw(report, out).rstrip("\n")
    from posewatch.bench.gpu.run import PARTS, bench_gpu

    parts = [part.strip() for part in only.split(",") if part.strip()] or PARTS
    for part in parts:
        if part not in PARTS:
            raise InputError(f"--only {part!r}: {did_you_mean(part, PARTS)}")
    return bench_gpu(
        out, dry=dry_run, parts=parts, annotations=annotations, endpoint=endpoint, rtmo=rtmo, minutes=minutes
    ).rstrip("\n")


@verb(bench, "active-learning")
def active_learning(
    annotations: Annotated[Path, Option(metavar="FILE", help="Labelled skeletons in pyskl's format (.pkl).")],
    out: Annotated[Path, OUT, Writes("bench.json", "bench.png")] = Path("build/bench-labeling"),
    seeds: Annotated[int, Option(help="Repetitions with other splits."), Range(1, 1000)] = 5,
) -> int:
    """Labels that the uncertain-first queue saves; exit code 1 if it needs more than half."""
    from posewatch.bench.active_learning import bench_active_learning, table

    result = bench_active_learning(annotations, out, seeds)
    print(table(result), f"written to {out}/bench.json and bench.png", sep="\n")
    needed = result["uncertain"]["share_needed"]
    return 0 if needed is not None and needed <= 0.5 else 1


@verb(bench, "fewshot")
def fewshot(
    annotations: Annotated[
        list[Path], Option(metavar="FILE...", help="Labelled skeletons in pyskl's format (.pkl), one or several files.")
    ],
    context: Context,
    out: Annotated[Path, OUT, Writes("fewshot.json", "fewshot.md", "fewshot.png")] = Path("build/bench-fewshot"),
    labels: Annotated[str, Option(metavar="LIST", help="Numbers of labelled clips.")] = "10,30,100,300",
    seeds: Annotated[int, Option(help="Draws of the labelled clips."), Range(1, 1000)] = 5,
    ways: Annotated[
        str, Option(metavar="LIST", help="Of statistics, scratch, motion, acts, small, quick (docs/training.md).")
    ] = "statistics,scratch,motion,acts,small,quick",
) -> str:
    """F1 by the number of labels: from scratch, pretrained, and baselines."""
    share_cores()
    from posewatch.bench.fewshot import WAYS, bench_fewshot

    chosen = [way.strip() for way in ways.split(",") if way.strip()]
    for way in chosen:
        if way not in WAYS:
            raise InputError(f"--ways {way!r}: {did_you_mean(way, WAYS)}")
    numbers = _numbers("--labels", labels, int, Range(2, 1_000_000))
    return bench_fewshot(annotations, out, context.experiment, numbers=numbers, seeds=seeds, ways=chosen).rstrip("\n")


@verb(bench, "falls")
def falls(
    context: Context,
    out: Annotated[Path, OUT, Writes("falls.json", "falls.md")] = Path("build/bench-falls"),
    clips: Annotated[int, Option(help="Rendered clips to train on."), Range(30, 1_000_000)] = 1200,
    seconds: Annotated[float, Option(help="Length of each."), Range(1, 60)] = 3.0,
    seeds: Annotated[int, Option(help="Trainings of each way."), Range(1, 1000)] = 3,
    recall: Annotated[float, Option(help="Share of the falls that both find."), Range(0.05, 1)] = 0.9,
    skeletons: Annotated[
        str | None, Option(metavar="URI", help="Also test on real videos: the skeletons of `prepare`.")
    ] = None,
    intervals: Annotated[
        Path | None, Option(metavar="PATH", help="What is done in them: a folder of GMDCSA-24, or a labels.csv.")
    ] = None,
    others: Annotated[
        list[Path] | None, Option(metavar="FILE...", help="Real people who do not fall; classes are acts (.pkl).")
    ] = None,
) -> str:
    """False alarms of a fall recogniser by kind of act, trained without everyday acts and with them."""
    share_cores()
    from posewatch.bench.falls import bench_falls
    from posewatch.datasets.gmdcsa24 import read_gmdcsa24
    from posewatch.datasets.intervals import read_labels_csv

    if (skeletons is None) != (intervals is None):
        raise InputError("real videos need both their skeletons and what is done in them: --skeletons and --intervals")
    told = []
    if intervals is not None:
        labels = context.experiment.labels
        told = read_gmdcsa24(intervals, labels) if intervals.is_dir() else read_labels_csv(intervals)
    return bench_falls(
        out, context.experiment, clips=clips, seeds=seeds, recall=recall, seconds=seconds,
        skeletons=None if skeletons is None else context.artifact(skeletons), intervals=told, files=others or (),
    ).rstrip("\n")  # fmt: skip


@verb(bench, "loop")
def loop(
    annotations: Annotated[
        Path, Option(metavar="FILE", help="Labelled skeletons in pyskl's format (.pkl); each group is a camera.")
    ],
    context: Context,
    out: Annotated[Path, OUT, Writes("loop.json", "loop.png")] = Path("build/bench-loop"),
    positive: Annotated[str | None, Option(metavar="CLASS", help="Class that raises alarms.")] = None,
    subject_pattern: Annotated[
        str | None, Option(metavar="REGEX", help="Finds the subjects in a clip's name (default: guessed).")
    ] = None,
    starts: Annotated[str, Option(metavar="LIST", help="Labels that the first model has.")] = "40",
    verdicts: Annotated[str, Option(metavar="LIST", help="Numbers of verdicts after which a model is trained.")] = (
        "0,25,50,100"
    ),
    seeds: Annotated[int, Option(help="Draws of cameras, clips and weights."), Range(1, 1000)] = 3,
) -> str:
    """Verdicts on a simulated camera's alarms against labels of random windows: false alarms at equal recall."""
    share_cores()
    from posewatch.bench.loop import bench_loop
    from posewatch.bench.loop_report import table

    result = bench_loop(
        annotations, out, context.set or (), config=context.config, positive=positive, pattern=subject_pattern,
        starts=_numbers("--starts", starts, int, Range(4, 100_000)), seeds=seeds,
        counts=sorted({0, *_numbers("--verdicts", verdicts, int, Range(0, 100_000))}),
    )  # fmt: skip
    return f"{table(result)}\n{out / 'loop.json'}, loop.png"


@verb(bench, "watch")
def watch(
    videos: Annotated[
        Path, Option(metavar="DIR", help="GMDCSA-24 videos with their csv files; with --cameras or --skipping any.")
    ],
    out: Annotated[
        Path,
        OUT,
        Writes(
            *("watch.json", "watch.md", "footage/labels.csv", "videos", "windows", "rooms"),
            *("cameras.json", "cameras.md", "skipping.json", "skipping.md"),
        ),
    ],
    rendered: Annotated[int, Option(help="Rendered videos of 9 s in the training set."), Range(0, 100_000)] = 40,
    seed: Annotated[int, Option(help="Seed of the rendered scenes."), Range(0, 2**32 - 1)] = 0,
    model: Annotated[
        str,
        Option(
            help="Trained for each person: statistics (seconds), quick (a minute) or protogcn (ten). With --cameras or "
            "--skipping: grpc://host:port/model, or a .onnx or .pt file (default: one that does nothing)."
        ),
    ] = "",
    room: Annotated[
        Path | None, Option(metavar="VIDEO", help="A still camera's: what its room costs, as it is and empty.")
    ] = None,
    cameras: Annotated[
        str, Option(metavar="LIST", help="Instead: memory and cores of so many cameras, such as 1,2,4,8.")
    ] = "",
    skipping: Annotated[
        bool, Option("--skipping", help="Instead: what looking at less and decoding fewer pictures brings.")
    ] = False,
    seconds: Annotated[float, Option(help="How long each number of cameras is measured."), Range(1, 86_400)] = 20.0,
) -> str:
    """Alarms on people who are not in the training set (a run that was ended goes on); or what watching costs."""
    share_cores()
    if cameras or skipping:
        from posewatch.bench.watch_cameras import bench_cameras
        from posewatch.bench.watch_skipping import bench_skipping
        from posewatch.video.files import find_videos

        numbers = _numbers("--cameras", cameras, int, Range(1, 1000))
        files = find_videos(videos, without=[out])
        pages = [bench_skipping(files, out, model=model)] if skipping else []
        if numbers:
            pages.append(bench_cameras([path for _, path in files], out, counts=numbers, seconds=seconds, model=model))
        return "\n".join(pages).rstrip("\n")
    from posewatch.bench.watch import MODELS, bench_watch

    model = model or "statistics"
    if model not in MODELS:
        raise InputError(f"no model {model!r} ({did_you_mean(model, MODELS)})")
    bench_watch(videos, out, rendered=rendered, seed=seed, model=model, room=room)
    return (out / "watch.md").read_text(encoding="utf-8")


@verb(bench, "model-sizes")
def model_sizes() -> str:
    """Parameters and multiply-accumulates of each network."""
    from posewatch.bench.model_sizes import table

    return "\n".join(table())


@verb(bench, "labeling-ui")
def labeling_ui(
    out: Annotated[Path, OUT, Writes("bench.json")] = Path("build/bench-labeling-ui"),
    clips: Annotated[int, Option(help="Clips of the larger store."), Range(1, 10_000_000)] = 10_000,
    chromium: Annotated[Path, Option(metavar="FILE", help="The browser.")] = Path("/usr/bin/chromium"),
) -> int:
    """The labeling page with many clips and five people, in a browser; exit code 1 if it is too slow."""
    from posewatch.bench.labeling_ui import bench_labeling_ui

    table, met = bench_labeling_ui(out, clips, chromium)
    print(table)
    return 0 if met else 1
