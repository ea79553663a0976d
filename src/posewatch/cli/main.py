"""The ``posewatch`` command: one verb per stage, the embedded stack, labels, lineage. Errors are one line."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from posewatch import __version__
from posewatch.cli import deploy as kube_verbs
from posewatch.cli import events as event_verbs
from posewatch.cli import export as onnx_verbs
from posewatch.cli import labels as label_verbs
from posewatch.cli import train as verbs_of
from posewatch.cli.bench_scale import options as scale_options
from posewatch.cli.bench_serving import options as bench_options
from posewatch.cli.bench_serving import soak_options
from posewatch.cli.tune import options as tune_options
from posewatch.cli.watch import options as watch_options
from posewatch.config import load
from posewatch.errors import InputError, PosewatchError
from posewatch.inference.files import options as predict_options

if TYPE_CHECKING:
    from posewatch.artifact import Artifact
    from posewatch.config import Experiment
    from posewatch.store import ObjectStore

Act = Callable[[argparse.Namespace], Any]


class Told:
    """What the common options say: the store, the experiment, and artifacts by URI."""

    def __init__(self, args: argparse.Namespace) -> None:
        from posewatch.store import open_store

        self.config: Experiment = load(args.config, args.set)
        self.store: ObjectStore = open_store(args.store)

    def __call__(self, reference: str) -> Artifact:
        from posewatch.artifact import get

        return get(self.store, reference)


def _ingest(args: argparse.Namespace) -> str:
    return _raw(Told(args), args).uri


def _raw(told: Told, args: argparse.Namespace) -> Artifact:
    """Raw videos from files, or recorded from a camera."""
    from posewatch.stages.capture import capture
    from posewatch.stages.ingest import ingest
    from posewatch.video.capture import is_stream, without_secrets

    if not is_stream(args.source):
        return ingest(told.store, args.source, allow_truncated=args.allow_truncated)
    if not args.duration:
        raise InputError(f"say for how long to record {without_secrets(args.source)}: --duration SECONDS")
    return capture(told.store, args.source, duration_s=args.duration, segment_s=args.segment, name=args.camera)


def _mask(args: argparse.Namespace) -> str:
    from posewatch.stages.mask import mask

    told = Told(args)
    return mask(told.store, told(args.raw), told.config.mask).uri


def _split(args: argparse.Namespace) -> str:
    from posewatch.stages.split import split

    told = Told(args)
    return split(told.store, told(args.masked), told.config.split).uri


def _pose(args: argparse.Namespace) -> str:
    from posewatch.stages.pose import pose

    told = Told(args)
    return pose(told.store, told(args.clips), told.config.pose).uri


def _prepare(args: argparse.Namespace) -> dict[str, str]:
    from posewatch.labels.store import LabelStore
    from posewatch.stages import queue_clips
    from posewatch.stages.mask import mask
    from posewatch.stages.pose import pose
    from posewatch.stages.preview import preview
    from posewatch.stages.split import split

    told = Told(args)
    raw = _raw(told, args)
    masked = mask(told.store, raw, told.config.mask)
    clips = split(told.store, masked, told.config.split)
    skeletons = pose(told.store, clips, told.config.pose)
    queue_clips.queue(clips, LabelStore(args.labels_url), preview(told.store, clips, skeletons))
    empty = sum(1 for e in queue_clips.entries(clips) if e.clip.people == 0)
    if empty:
        print(f"posewatch: nobody was seen in {empty} clips; they stay on the queue", file=sys.stderr)
    return {"clips": clips.uri, "skeletons": skeletons.uri}


def _labels(args: argparse.Namespace) -> Any:
    from posewatch.labels.store import LabelStore
    from posewatch.stages import label_gate, label_import, queue_clips, snapshot

    told, labels = Told(args), LabelStore(args.labels_url)
    config = told.config.labels
    if args.act == "import":
        return label_import.bring(told(args.clips), args.source, labels, config)
    if args.act == "wait":
        return label_gate.wait(told(args.clips), labels, config)
    if args.act == "snapshot":
        return snapshot.freeze(told.store, told(args.clips), labels, config, args.allow_disagreement).uri
    if args.act == "set":
        event = labels.set_label(args.clip, args.label, args.who, "human", classes=config.classes)
        return "unchanged" if event is None else f"{event.clip_id}: {event.old} -> {event.new}"
    previews = None
    if args.skeletons:
        from posewatch.stages.preview import preview

        previews = preview(told.store, told(args.clips), told(args.skeletons))
    return {"queued": queue_clips.queue(told(args.clips), labels, previews)}


def _dataset(args: argparse.Namespace) -> str:
    from posewatch.stages.dataset import dataset

    told = Told(args)
    config = told.config
    return dataset(told.store, told(args.snapshot), told(args.skeletons), config.dataset, config.labels).uri


def _train(args: argparse.Namespace) -> str:
    from posewatch.stages.train import train

    if args.annotations is not None:
        if args.dataset is not None:
            raise InputError(f"give a dataset ({args.dataset}) or --annotations, not both")
        return verbs_of.train_files(args, load(args.config, args.set))
    if args.dataset is None:
        raise InputError("say what to train on: a dataset's URI, or --annotations FILE.pkl")
    told = Told(args)
    made = train(told.store, told(args.dataset), verbs_of.config_of(args, told.config), told.config.trainer)
    return made.uri if os.environ.get("RANK", "0") == "0" else ""  # one of torchrun's processes speaks for all


def _evaluate(args: argparse.Namespace) -> str:
    from posewatch.stages.evaluate import evaluate

    if args.annotations is not None:
        return verbs_of.evaluate_files(args)
    if args.dataset is None:
        raise InputError("say what to measure on: a dataset's URI, or --annotations FILE.pkl")
    told = Told(args)
    return evaluate(told.store, told(args.dataset), told(args.checkpoint), told.config.robustness).uri


def _export(args: argparse.Namespace) -> Any:
    if args.out:
        return onnx_verbs.export_file(args, load(args.config, args.set).serving.opset)
    if args.precision != "fp32":
        raise InputError("another precision is for files: say where to write it with --out FILE")
    from posewatch.stages.export import export

    told = Told(args)
    return export(told.store, told(args.checkpoint), told.config.serving).uri


def _publish(args: argparse.Namespace) -> str:
    from posewatch.stages.publish import publish

    told = Told(args)
    return publish(told.store, told(args.onnx), told.config.serving).uri


def _deploy(args: argparse.Namespace) -> str:
    from posewatch.stages.deploy import deploy

    told = Told(args)
    evaluation = told(args.evaluation) if args.evaluation else None
    return deploy(
        told(args.model),
        evaluation,
        told.config.serving,
        robustness=told.config.robustness,
        **kube_verbs.deploy_options_of(args),
    )


def _smoke(args: argparse.Namespace) -> str:
    from posewatch.stages.smoke_test import smoke_test

    told = Told(args)
    return smoke_test(told.store, args.endpoint, told(args.dataset), told(args.onnx), told(args.model)).uri


def _watch(args: argparse.Namespace) -> None:
    from posewatch.cli.watch import watch_sources

    print(watch_sources(args, load(args.config, args.set)), file=sys.stderr)  # stdout holds the alarms


def _soak(args: argparse.Namespace) -> str:
    from posewatch.cli.bench_serving import soak_files

    return soak_files(args)


def _scale(args: argparse.Namespace) -> str:
    from posewatch.cli.bench_scale import scale

    return scale(args)


def _bench(args: argparse.Namespace) -> str:
    if args.onnx is None or args.checkpoint_uri is None or args.dataset is None:
        from posewatch.cli.bench_serving import bench_files

        return bench_files(args)
    from posewatch.stages.benchmark import benchmark

    told = Told(args)
    artifacts = (told(args.onnx), told(args.checkpoint_uri), told(args.dataset))
    return benchmark(told.store, *artifacts, told.config.serving).uri


def _score(args: argparse.Namespace) -> str:
    from posewatch.stages.score import score

    told = Told(args)
    artifacts = (told(args.clips), told(args.skeletons), told(args.snapshot), told(args.model))
    return score(told.store, args.endpoint, *artifacts).uri


def _report(args: argparse.Namespace) -> str:
    from posewatch.stages.report import report

    told = Told(args)
    made = report(
        told.store, told(args.evaluation), told(args.bench), told(args.scores), told(args.smoke), about=args.about
    )
    if args.out:
        args.out.write_bytes(made.read("report.html"))
        return str(args.out)
    return made.uri


def _tune(args: argparse.Namespace) -> str:
    from posewatch.cli.tune import tune_files

    return tune_files(args)


def _predict(args: argparse.Namespace) -> str:
    from posewatch.inference.files import predict_files

    return predict_files(args, load(args.config, args.set))


def _lineage(args: argparse.Namespace) -> Any:
    from posewatch import lineage

    artifact = Told(args)(args.uri)
    return lineage.rows(artifact) if args.json else lineage.text(artifact)


def _up(args: argparse.Namespace) -> str:
    from posewatch import stack

    info = stack.up(args.home, s3_port=args.s3_port)
    lines = [f"{k}={v}" for k, v in stack.env(info).items() if "SECRET" not in k]
    return "\n".join([*lines, "# the secret key is in credentials.json; posewatch commands find it by themselves"])


def _down(args: argparse.Namespace) -> str:
    from posewatch import stack

    stack.down(args.home)
    return "down"


def _status(args: argparse.Namespace) -> str:
    from posewatch import stack

    return str(stack.status(args.home))


def _footage(args: argparse.Namespace) -> str:
    from posewatch.footage import make_footage
    from posewatch.progress import Progress

    with Progress("footage", args.videos) as progress:
        made = make_footage(
            args.out, videos=args.videos, seconds=args.seconds, fps=args.fps, seed=args.seed, progress=progress.advance
        )
    return f"{len(made)} videos, labels.csv and exact ground truth in {args.out}"


def _weights(args: argparse.Namespace) -> Any:
    from posewatch.cli import weights as verbs

    return verbs.run(args.act, args.name, args.store)


def _label(args: argparse.Namespace) -> int:
    import subprocess

    app = args.app or Path("labeling-service/app.py")
    if not app.is_file():
        raise InputError(f"no labeling page at {app}: run this in a checkout, or give --app")
    command = [sys.executable, "-m", "streamlit", "run", str(app), "--server.address", args.address]
    command += ["--server.port", str(args.port), "--server.headless", "true", "--browser.gatherUsageStats", "false"]
    if args.config:
        os.environ["POSEWATCH_CONFIG"] = args.config
    print(f"labeling page: http://{args.address}:{args.port} (Ctrl-C ends it)", file=sys.stderr)
    try:
        return subprocess.run(command, check=False).returncode
    except KeyboardInterrupt:
        return 0


def _pipeline(args: argparse.Namespace) -> int:
    import subprocess

    if not Path("pipelines/__main__.py").is_file():
        raise InputError("no pipelines here: run this at the root of a checkout")
    try:
        return subprocess.run([sys.executable, "-m", "pipelines", *args.words], check=False).returncode
    except KeyboardInterrupt:
        return 130


def build_parser() -> argparse.ArgumentParser:
    """All verbs with their options."""
    parser = argparse.ArgumentParser(prog="posewatch", description="From raw CCTV video to a served recogniser.")
    parser.add_argument("--version", action="version", version=f"posewatch {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("-v", "--verbose", action="store_true", help="show the whole trace of an error")
    store = argparse.ArgumentParser(add_help=False, parents=[common])
    store.add_argument(
        "--store", help="s3://bucket[/prefix] or a folder (default: POSEWATCH_STORE, the embedded stack)"
    )
    store.add_argument("--config", default="default", help="experiment: a shipped name, a YAML file or JSON")
    store.add_argument("--set", action="append", default=[], metavar="section.key=value", help="override one value")

    def verb(
        name: str, act: Act, text: str, *positional: str, parent: argparse.ArgumentParser = store, **of: Any
    ) -> Any:
        made = (of.get("into") or verbs).add_parser(name, help=text, description=text, parents=[parent])
        for argument in positional:
            made.add_argument(argument)
        made.set_defaults(run=act)
        return made

    for made in (
        verb(
            "ingest",
            _ingest,
            "bring raw videos into the store: files, s3://, a camera (rtsp://)",
            "source",
        ),
        verb("prepare", _prepare, "ingest, mask, split, pose and queue in one go", "source"),
    ):
        made.add_argument("--allow-truncated", action="store_true", help="use videos that break off, up to the break")
        made.add_argument("--duration", type=float, default=0.0, help="seconds to record from a camera (rtsp://...)")
        made.add_argument("--segment", type=float, default=60.0, help="seconds per recorded video")
        made.add_argument("--camera", default="", help="name of the camera; the same name goes on with its recording")
    verbs.choices["prepare"].add_argument("--labels-url", help="label store (default: POSEWATCH_LABELS_URL, SQLite)")
    verb("mask", _mask, "keep the people, make everything else black", "raw")
    verb("split", _split, "cut masked videos into clips of a fixed length", "masked")
    verb("pose", _pose, "estimate the skeletons of every clip", "clips")
    labels = verbs.add_parser(
        "labels", help="labels: queue, import, wait, snapshot, set, role, audit, ..."
    ).add_subparsers(dest="act", required=True)
    for made in (
        verb("queue", _labels, "put the clips of a set on the labelers' queue", "clips", into=labels),
        verb("import", _labels, "import label files as events", "clips", "source", into=labels),
        verb("wait", _labels, "wait until every class has enough labels", "clips", into=labels),
        verb("snapshot", _labels, "freeze the current labels", "clips", into=labels),
        verb("set", _labels, "label one clip by hand", "clip", "label", into=labels),
    ):
        made.add_argument("--labels-url", help="label store (default: POSEWATCH_LABELS_URL, SQLite)")
    labels.choices["set"].add_argument("--who", default=os.environ.get("USER", "me"))
    labels.choices["queue"].add_argument("--skeletons", help="the clips' skeletons: makes previews to be drawn over")
    labels.choices["snapshot"].add_argument(
        "--allow-disagreement", action="store_true", help="freeze what most people say where they disagree"
    )
    label_verbs.add(lambda name, act, text, *positional: verb(name, act, text, *positional, into=labels))
    verb("dataset", _dataset, "freeze labels and skeletons, split by video", "snapshot", "skeletons")
    made = verb("train", _train, "train the recogniser on a dataset's URI, or on a file of skeletons")
    made.add_argument("dataset", nargs="?", help="a dataset in the store")
    verbs_of.train_options(made)
    made = verb("evaluate", _evaluate, "measure a checkpoint on a dataset's held-out videos, or on a file of skeletons")
    made.add_argument("checkpoint", help="a checkpoint in the store, or a file with --annotations")
    made.add_argument("dataset", nargs="?", help="a dataset in the store")
    verbs_of.judge_options(made)
    made = verb(
        "robustness", verbs_of.robustness_files, "F1 against what a camera or a pose estimator loses", parent=common
    )
    made.add_argument("checkpoint", type=Path)
    verbs_of.judge_options(made)
    made.add_argument("--draws", type=int, default=3, help="random draws of each disturbance")
    made.add_argument("--draw-seed", type=int, default=0)
    made = verb("events", event_verbs.events_files, "alarms on whole videos against what happened", parent=common)
    event_verbs.options(made)
    made = verb("ensemble", verbs_of.ensemble_files, "several checkpoints as one, averaged", parent=common)
    made.add_argument("checkpoints", type=Path, nargs="+")
    made.add_argument("--weights", type=float, nargs="+", help="one for each checkpoint (default: equal)")
    made.add_argument("--out", type=Path, required=True, help="the checkpoint to write")
    made = verb("export", _export, "checkpoint to ONNX, checked equal", "checkpoint")
    onnx_verbs.export_options(made)
    onnx = verbs.add_parser("onnx", help="exported files: inspect").add_subparsers(dest="act", required=True)
    onnx_verbs.inspect_options(
        verb("inspect", onnx_verbs.inspect, "what is in an exported file", parent=common, into=onnx)
    )
    made = verb(
        "pipeline", _pipeline, "Kubeflow: compile, run, submit, runs, logs, upload-version, schedule", parent=common
    )
    made.add_argument("words", nargs=argparse.REMAINDER, metavar="...", help="the verb with its options; --help lists")
    verb("publish", _publish, "write an immutable version of the model repository", "onnx")
    made = verb("deploy", _deploy, "serve a published version", "model")
    kube_verbs.deploy_options(made)
    kube_verbs.add(verb)
    verb("smoke-test", _smoke, "compare what is served with the export", "endpoint", "dataset", "onnx", "model")
    verb(
        "score",
        _score,
        "ask the served model about unlabelled clips",
        "endpoint",
        "clips",
        "skeletons",
        "snapshot",
        "model",
    )
    predict_options(verb("predict", _predict, "what a model says of videos, skeleton files, or folders"))
    watch_options(verb("watch", _watch, "watch videos or a camera with a model: alarms, annotated videos"))
    bench = verbs.add_parser("bench", help="benchmarks: serving, soak, scale").add_subparsers(dest="act", required=True)
    made = verb("serving", _bench, "PyTorch, ONNX Runtime, Triton, Triton + batching, in one run", into=bench)
    made.add_argument("onnx", nargs="?", help="an export in the store, with its checkpoint and dataset; or see --model")
    made.add_argument("checkpoint_uri", nargs="?", metavar="checkpoint", help="its checkpoint in the store")
    made.add_argument("dataset", nargs="?", help="the dataset whose clips are sent")
    bench_options(made)
    soak_options(verb("soak", _soak, "hours under a steady load: memory, errors, latencies", into=bench))
    scale_options(
        verb("scale", _scale, "many cameras, clips and labelers: what breaks first", parent=common, into=bench)
    )
    tune = verbs.add_parser("tune", help="what is fastest on this machine: serving").add_subparsers(
        dest="act", required=True
    )
    tune_options(verb("serving", _tune, "try ways to serve a model, keep the fastest that is right", into=tune))
    made = verb("report", _report, "one HTML page of a run", "evaluation", "bench", "scores", "smoke")
    made.add_argument("--about", default="", help="a remark to print, on where the videos come from")
    made.add_argument("--out", type=Path, help="also write the page to this file")
    verb("lineage", _lineage, "the chain from an artifact back to its raw videos", "uri").add_argument(
        "--json", action="store_true", help="one row per artifact as JSON"
    )

    for name, act, text in (
        ("up", _up, "start the embedded S3 server and Triton"),
        ("down", _down, "stop them"),
        ("status", _status, "say what runs where"),
    ):
        made = verb(name, act, text, parent=common)
        made.add_argument("--home", type=Path, help="state folder (default: POSEWATCH_HOME, ./.posewatch)")
    verbs.choices["up"].add_argument("--s3-port", type=int, help="port of the S3 server (default: a free one)")
    made = verb("footage", _footage, "make labelled CCTV-like clips with exact ground truth", parent=common)
    made.add_argument("--out", type=Path, required=True)
    made.add_argument("--videos", type=int, default=24)
    made.add_argument("--seconds", type=float, default=9.0)
    made.add_argument("--fps", type=float, default=10.0)
    made.add_argument("--seed", type=int, default=0)
    made = verb("weights", _weights, "list, fetch, verify, find or mirror model weights", parent=common)
    made.add_argument("act", choices=["list", "fetch", "verify", "where", "mirror"])
    made.add_argument("name", nargs="*", help="names of `weights list` (default: those of the offline default)")
    made.add_argument("--store", help="mirror: the store to copy into (default: POSEWATCH_STORE)")
    made = verb("label", _label, "open the labeling page", parent=common)
    made.add_argument("--port", type=int, default=8501)
    made.add_argument("--address", default="127.0.0.1")
    made.add_argument("--config", help="the experiment whose classes are offered: a shipped name or a YAML file")
    made.add_argument("--app", type=Path, help="the page's app.py (default: labeling-service/app.py)")
    return parser


def use_stack() -> None:
    """Let an embedded stack that is up be the default for whatever the environment leaves open."""
    from posewatch import stack

    info = stack.current()
    if info is not None:
        for key, value in stack.env(info).items():
            os.environ.setdefault(key, value)


def main(argv: list[str] | None = None) -> int:
    """Run one verb; returns the exit code (see ``posewatch.errors``)."""
    args = build_parser().parse_args(argv)
    try:
        if args.verb not in ("up", "down", "status", "weights", "footage"):
            use_stack()
        result = args.run(args)
        if isinstance(result, int):
            return result
        if result not in ("", None):  # "": what another process of the same training says
            print(result if isinstance(result, str) else json.dumps(result, indent=2, ensure_ascii=False))
        return 0
    except KeyboardInterrupt:
        print("posewatch: stopped; what was finished is kept", file=sys.stderr)
        return 130
    except PosewatchError as error:
        if args.verbose:
            raise
        print(f"posewatch: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    except ModuleNotFoundError as error:
        if args.verbose or (error.name or "").startswith("posewatch"):
            raise
        print(
            f"posewatch: {error.name} is not installed: pip install 'posewatch[dev]', or the extra of this stage",
            file=sys.stderr,
        )
        return 1


if __name__ == "__main__":
    sys.exit(main())
