"""``make demo``: real and rendered video (or your own, ``--data``) through ``end_to_end``, here, to a report."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

from tqdm import tqdm
from typer import Option

from posewatch import files, stack, weights
from posewatch.artifact import Artifact, get
from posewatch.cli.context import topic, verb
from posewatch.cli.main import run_app
from posewatch.config import Experiment, load
from posewatch.errors import PosewatchError
from posewatch.lineage import ancestor, parent
from posewatch.stages.contents import BENCH, metrics_of
from posewatch.store import open_store

app = topic()
ABOUT = (
    "Two kinds of video. Files named synthetic_* were rendered: a modelled figure driven by motion capture, with falls "
    "from physics; all abnormal clips are of this kind, so the figures below say that the pipeline works, not how well "
    "it recognises real people. Files named real_* are recordings of real people ({licences}); they are the normal "
    "class, and the ones without a label are the final unseen test."
)
REAL, UNSEEN, TWO = ("pose2sim_one_cam1", "pose2sim_two_cam1"), "sports2d_walk", "pose2sim_two_cam1"
"""Recordings that packages ship: two for the normal class, and one from elsewhere that stays without a label; the one
of two people is shown person by person, too."""
OWN = "The videos and labels of {folder}."


def demo_videos(folder: Path, videos: int, seed: int, fps: float) -> str:
    """Rendered and packaged real videos with their ``labels.csv`` in ``folder``; returns the remark on them.

    They are rendered at ``fps``, that of masking, because no other frame would be looked at; at 10 at most.
    """
    from posewatch.footage import make_footage

    footage = folder.parent / f"footage-{videos}-{seed}"
    with Bars() as bars:
        bars.row({"stage": "footage", "done": 0, "total": videos, "unit": "video", "note": ""})
        finished = 0

        def advance() -> None:
            nonlocal finished
            finished += 1
            bars.row({"stage": "footage", "done": finished, "total": videos, "unit": "video", "note": ""})

        make_footage(footage, videos=videos, fps=min(10.0, fps), seed=seed, progress=advance)
        bars.row({"stage": "footage", "done": videos, "total": videos, "unit": "video", "note": "finished"})
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    with (footage / "labels.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            name = f"synthetic_{row['file']}"
            shutil.copyfile(footage / row["file"], folder / name)
            rows.append([name, row["start_s"], row["end_s"], row["label"]])
    licences = set()
    for sample in (*REAL, UNSEEN):
        info = weights.info(sample)
        licences.add(f"{sample}: {info.licence}")
        path = weights.path(sample)
        name = f"real_{sample}{path.suffix}"
        shutil.copyfile(path, folder / name)
        if sample != UNSEEN:
            rows.append([name, "0", "1e9", "normal"])
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([["file", "start_s", "end_s", "label"], *rows])
    return ABOUT.format(licences=", ".join(sorted(licences)))


def persons_of_one(source: Path, experiment: Experiment, store: str) -> str:
    """URI of the recording of two people, masked person by person: what the other unit looks like."""
    from posewatch.stages.ingest import ingest
    from posewatch.stages.mask import mask

    os.environ["POSEWATCH_PROGRESS"] = str(files.home() / "progress.jsonl")  # one video needs no lines of its own
    objects = open_store(store)
    (file,) = source.glob(f"real_{TWO}.*")
    return mask(objects, ingest(objects, str(file)), dataclasses.replace(experiment.mask, unit="person")).uri


class Bars:
    """One bar per stage, drawn from progress rows; a plain line per finished stage where there is no terminal."""

    def __init__(self) -> None:
        self.terminal = sys.stdout.isatty()
        self.bars: dict[str, Any] = {}
        self.started: dict[str, float] = {}

    def __enter__(self) -> Bars:
        return self

    def __exit__(self, *_: object) -> None:
        for bar in self.bars.values():
            bar.close()

    def row(self, row: dict[str, Any]) -> None:
        stage = row["stage"]
        if "message" in row:
            tqdm.write(f"  {stage}: {row['message']}")
            return
        if stage not in self.started:
            self.started[stage] = time.monotonic()
            if self.terminal:
                form = "  {desc:<11}{bar:30} {n_fmt:>4}/{total_fmt} {unit}  {elapsed} {postfix}"
                self.bars[stage] = tqdm(
                    total=row["total"], desc=stage, unit=row["unit"], bar_format=form, file=sys.stdout
                )
        seconds = time.monotonic() - self.started[stage]
        if self.terminal:
            bar = self.bars[stage]
            bar.n = row["done"]
            bar.set_postfix_str("" if row["note"] == "finished" else row["note"], refresh=False)
            bar.refresh()
            if row["note"] == "finished":
                self.bars.pop(stage).close()
        elif row["note"] == "finished":
            print(f"  {stage:<11}{'█' * 30} {row['done']:>4}/{row['total']} {row['unit']}  {seconds:.0f} s", flush=True)
        if row["note"] == "finished":  # the same stage may begin again
            del self.started[stage]


def run_pipeline(arguments: list[str], home: Path) -> dict[str, str]:
    """Run ``python -m pipelines run end_to_end`` with bars; returns its outputs. Raises PosewatchError."""
    progress, log = home / "progress.jsonl", home / "demo.log"
    progress.unlink(missing_ok=True)
    progress.touch()
    environment = {**os.environ, "POSEWATCH_PROGRESS": str(progress), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "pipelines", "run", "end_to_end", *arguments]
    with log.open("wb") as out, progress.open(encoding="utf-8") as rows, Bars() as bars:
        run = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment, start_new_session=True)
        try:
            while True:
                running = run.poll() is None
                while line := rows.readline():
                    bars.row(json.loads(line))
                if not running:
                    break
                time.sleep(0.2)
        finally:
            if run.poll() is None:
                os.killpg(run.pid, 9)
                run.wait()
    text = log.read_text(encoding="utf-8", errors="replace")
    if run.returncode:
        errors = re.findall(r"^(?:pipelines|posewatch): (.+)", text, re.M)
        raise PosewatchError(f"{errors[-1] if errors else 'the pipeline failed'} (whole log: {log})")
    return dict(re.findall(r"^(model|endpoint|report): (\S+)$", text, re.MULTILINE))


def table(page: Artifact) -> str:
    """The final table of a run: recognition and serving."""
    metrics, bench = metrics_of(parent(page, "evaluations")), parent(page, "benchmarks").json(BENCH)
    scores = ["accuracy", "precision", "recall", "f1", "auc"]
    lines = [
        "",
        "  " + "".join(f"{name:>11}" for name in scores) + "   test clips",
        "  "
        + "".join(f"{'–' if metrics[n] is None else format(metrics[n], '.3f'):>11}" for n in scores)
        + f"{metrics['n']:>13}",
        "",
        f"  {'serving':<34}{'inferences/s':>13}{'p50 ms':>9}{'p95 ms':>9}{'concurrency':>13}",
    ]
    for system, title in (
        ("pytorch", "PyTorch"),
        ("triton", "Triton + ONNX"),
        ("triton+batching", "Triton + ONNX + dynamic batching"),
    ):
        best = max((r for r in bench["rows"] if r["system"] == system), key=lambda r: r["throughput_ips"])
        speed = f"{best['throughput_ips']:>13.1f}{best['p50_ms']:>9.1f}{best['p95_ms']:>9.1f}"
        lines.append(f"  {title:<34}{speed}{best['concurrency']:>13}")
    return "\n".join(lines)


@verb(app, "demo", stack=False)
def demo(
    data: Annotated[
        Path | None, Option(help="Your own videos with labels.csv (file,start_s,end_s,label) or class folders.")
    ] = None,
    config: Annotated[str, Option(help="Experiment: a shipped name, a YAML file, or JSON.")] = "demo",
    set: Annotated[list[str] | None, Option(metavar="SECTION.KEY=VALUE", help="Override one value.")] = None,
    videos: Annotated[int, Option(help="How many videos to render.")] = 30,
    seed: Annotated[int, Option(help="Seed of the rendered scenes.")] = 0,
) -> int:
    """Real and rendered video, or your own, through the whole pipeline, here, to a report."""
    overrides = set or []
    home = files.home().resolve()
    os.environ["POSEWATCH_HOME"] = str(home)
    began = time.monotonic()
    try:
        experiment = load(config, overrides)
        home.mkdir(parents=True, exist_ok=True)
        if data:
            source, about = data.resolve(), OWN.format(folder=data.name)
        else:
            source = home / "demo" / f"videos-{videos}-{seed}"
            about = demo_videos(source, videos, seed, experiment.mask.fps)
        with stack.running(home) as info:
            os.environ.update(stack.env(info))
            print(f"  stack: S3 at {info.s3_endpoint}, Triton at {info.triton_grpc}", flush=True)
            arguments = [f"source={source}", f"labels={source}", f"about={about}", "--config", config]
            if not data:
                arguments.insert(3, f"persons={persons_of_one(source, experiment, stack.env(info)['POSEWATCH_STORE'])}")
            outputs = run_pipeline([*arguments, *(x for item in overrides for x in ("--set", item))], home)
            page = get(open_store(stack.env(info)["POSEWATCH_STORE"]), outputs["report"])
            for name in ("report.html", "cover.jpg"):
                page.fetch(name, home)
            print(table(page))
            model = ancestor(page, "models")
        print(f"\n  model    {model.uri}")
        print(f"  lineage  posewatch up && posewatch lineage {model.uri}")
        print(f"  report   {home / 'report.html'}")
        print(
            f"\n  done in {time.monotonic() - began:.0f} s; the servers are down again, `posewatch up` starts them",
            flush=True,
        )
    except KeyboardInterrupt:
        print("\ndemo: stopped; finished steps are stored, run it again to go on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(run_app(app, "make demo"))
