"""``make demo-loop``: cameras, alarms, verdicts, a refresh, a canary, a promotion, and fewer false alarms; all here."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from typer import Option

from pipelines.demo import Bars
from posewatch import files, stack
from posewatch.bench import loop_cameras as cameras
from posewatch.bench import loop_operator as operator
from posewatch.bench.loop_cameras import Learned, Recordings, Round
from posewatch.bench.loop_figures import compared, plot, said
from posewatch.cli.context import topic, verb
from posewatch.cli.main import run_app
from posewatch.config import Experiment, load
from posewatch.deploy.target import Release
from posewatch.digests import digest
from posewatch.errors import ServingError
from posewatch.inference.open import open_predictor
from posewatch.labels.db.schema import sqlite_url
from posewatch.labels.store import LabelStore
from posewatch.labels.verdicts import current
from posewatch.rules import Range
from posewatch.stages.deploy import deploy, smoke_release
from posewatch.store import ObjectStore, open_store
from posewatch.watch.config import WatchConfig

app = topic()
SECONDS = 9.0
RECORDED = ("--record", "--near-misses", "120", "--samples", "60")
"""Options of the watcher whose alarms are judged; per hour of video, of which there are minutes here."""
NO_BROWSER = """\
  No browser here: the verdicts were given by the calls that the page makes, without the page
  (apt-get install chromium, or playwright install chromium)."""
STANDS_IN = """\
  What stands in for a cluster: the canary was a second Triton beside the live one, and each version watched all later
  cameras; a cluster's watchers ask the canary in their share of ten-minute slots."""


@dataclass(frozen=True)
class Size:
    """How many cameras the first model learns from, are watched, and are watched later."""

    first: int
    watched: int
    later: int


class Demo:
    """The steps, each of which finds its finished work again. ``folder`` holds what is no artifact."""

    def __init__(self, folder: Path, store: ObjectStore, experiment: Experiment, size: Size, seed: int) -> None:
        self.folder, self.store, self.experiment, self.size, self.seed = folder, store, experiment, size, seed
        self.labels = LabelStore(sqlite_url(folder / "labels.db"))
        self.live = ""
        """The endpoint of the embedded Triton."""

    def footage(self) -> tuple[Recordings, Recordings, Recordings]:
        """Three sets of rendered cameras, none of which shares a person, a view or a seed with another."""
        fps, sets = self.experiment.mask.fps, []
        plan = (("known", cameras.FIRST, self.size.first), ("camera", cameras.ACTS, self.size.watched),
                ("later", cameras.ACTS, self.size.later))  # fmt: skip
        for i, (name, kinds, count) in enumerate(plan):
            sets.append(cameras.render(self.folder, name, kinds, count, SECONDS, fps, 3 * self.seed + i))
        return sets[0], sets[1], sets[2]

    def serve(self, version: Learned) -> str:
        """Let the embedded Triton serve a version that passes its gates."""
        return deploy(version.model, version.evaluation, self.experiment.serving)

    def promote(self, version: Learned) -> None:
        """Serve a version at the address that watchers ask. Raises ServingError when another one answers there."""
        with open_predictor(self.serve(version)) as predictor:
            if predictor.version != version.release:
                raise ServingError(f"{self.live} answers as {predictor.version}, not as {version.release}")

    def watched(self, recordings: Recordings, version: Learned, endpoint: str, *words: str) -> Path:
        """Watch recordings with the version at ``endpoint``; returns the folder of what it said."""
        out = self.folder / f"{recordings.paths[0].parent.name}-{version.release[:12]}"
        cameras.watch(recordings.paths, endpoint, out, self.experiment, "--store", self.store.uri, *words)
        return out

    def judge(self, recordings: Recordings, browser: Path | None) -> int:
        """The operator's turn: all records without a verdict."""
        least = self.experiment.labels.min_overlap_s

        def truth(record: Any) -> bool:
            return cameras.is_true(record.about, recordings.truth, least)

        return operator.judge(self.store, self.labels, truth, self.folder, browser, self.folder / "alarms.png")

    def verdicts(self) -> dict[str, int]:
        """How many verdicts of each kind there are."""
        return dict(Counter(str(one.verdict) for one in current(self.labels).values()))

    def learn(self, served: Learned) -> Round:
        return cameras.refreshed(self.store, self.labels, served, self.experiment)

    def canary(self, recordings: Recordings, old: Learned, new: Learned) -> dict[str, Any]:
        """Watch unseen cameras with both versions, the new one on a Triton of its own; returns the figures."""
        serving = self.experiment.serving
        with cameras.beside(new.model, serving.name, self.folder / "canary") as endpoint:
            smoke_release(self.store, endpoint, Release.of(new.model), serving.smoke_clips)
            outs = [self.watched(recordings, old, self.live), self.watched(recordings, new, endpoint)]
        thresholds = [cameras.threshold_of(one.model, self.folder / "canary") for one in (old, new)]
        config = WatchConfig(self.experiment.mask.fps, self.experiment.split.length_s)
        before, after = (cameras.windows_in(out) for out in outs)
        return compared(before, after, recordings.truth, (thresholds[0], thresholds[1]), config)


@contextmanager
def phase(title: str, rows: Path) -> Iterator[None]:
    """A headline, and below it a bar for each stage that works inside the block."""
    print(f"\n  {title}", flush=True)
    rows.write_text("")
    os.environ["POSEWATCH_PROGRESS"] = str(rows)
    over = threading.Event()
    follower = threading.Thread(target=_follow, args=(rows, over), daemon=True)
    follower.start()
    try:
        yield
    finally:
        over.set()
        follower.join()


def _follow(rows: Path, over: threading.Event) -> None:
    with rows.open(encoding="utf-8") as lines, Bars() as bars:
        last = False
        while not last:
            last = over.wait(0.2)
            while line := lines.readline():
                bars.row(json.loads(line))


def loop(demo: Demo, browser: Path | None) -> dict[str, Any]:
    """The whole loop; returns what it came to."""
    rows = demo.folder / "progress.jsonl"
    with phase("Rendered cameras: people fall, and sit, lie down, crouch and crawl", rows):
        known, watched, later = demo.footage()
    with phase("A first model, from few labels: it has seen falls, and people who walk and stand", rows):
        first = cameras.first_model(demo.store, demo.labels, known.paths[0].parent, demo.experiment)
        demo.live = demo.serve(first)
    with phase(f"It watches {len(watched.paths)} cameras; alarms become records", rows):
        demo.watched(watched, first, demo.live, *RECORDED)
    with phase(f"An operator judges the alarms {'on the page Alarms' if browser else '(no browser here)'}", rows):
        demo.judge(watched, browser)
    with phase("Verdicts become labels, and a new version learns from them", rows):
        found = demo.learn(first)
    print(f"  gate: {'better' if found.better else 'not deployed'}: {found.told}", flush=True)
    result: dict[str, Any] = {"gate": found.told, "better": found.better, "promoted": False, "model": first.model.uri}
    if found.learned is None:
        return result
    title = "A canary" if found.better else "Not deployed; measured all the same"
    with phase(f"{title}: {len(later.paths)} unseen cameras with other people, watched by both versions", rows):
        result |= {"figures": demo.canary(later, first, found.learned)}
        if found.better and result["figures"]["better"]:
            demo.promote(found.learned)
            result |= {"promoted": True, "model": found.learned.model.uri}
    return result


def told(result: dict[str, Any], folder: Path, browser: Path | None) -> str:
    """One screen of text."""
    lines = [""]
    if figures := result.get("figures"):
        lines += [f"  {line}" for line in said(figures)] + [""]
    lines.append(f"  gate     {'better' if result['better'] else 'not deployed'}: {result['gate']}")
    if result["promoted"]:
        lines.append("  canary   better on unseen cameras, too: promoted, the new version serves")
    elif result["better"]:
        lines.append("  canary   not better on unseen cameras: withdrawn, the first version goes on serving")
    words = ", ".join(f"{n} {word}" for word, n in sorted(result["verdicts"].items()))
    lines.append(f"  verdicts {words}")
    if "figures" in result:
        lines.append(f"  plot     {folder / 'loop.png'}")
    if (folder / "alarms.png").exists():
        lines.append(f"  page     {folder / 'alarms.png'}")
    lines += [f"  figures  {folder / 'loop.json'}", f"  lineage  posewatch up && posewatch lineage {result['model']}"]
    lines += ["", *([STANDS_IN] if result["better"] else []), *([NO_BROWSER] if browser is None else [])]
    return "\n".join(lines)


@verb(app, "demo-loop", stack=False)
def demo_loop(
    config: Annotated[str, Option(help="Experiment: a shipped name, a YAML file, or JSON.")] = "demo",
    set: Annotated[list[str] | None, Option(metavar="SECTION.KEY=VALUE", help="Override one value.")] = None,
    first: Annotated[int, Option(help="Cameras that the first model learns from."), Range(10, 1000)] = 30,
    watched: Annotated[int, Option(help="Cameras whose alarms are judged."), Range(1, 1000)] = 45,
    later: Annotated[int, Option(help="Unseen cameras on which both versions are measured."), Range(1, 1000)] = 30,
    seed: Annotated[int, Option(help="Seed of the rendered scenes."), Range(0, 1_000_000)] = 0,
    browser: Annotated[bool, Option(help="Give the verdicts on the page, in a real browser.")] = True,
) -> int:
    """From cameras to fewer false alarms: alarms, verdicts, a new version, a canary."""
    began, home = time.monotonic(), files.home().resolve()
    os.environ["POSEWATCH_HOME"] = str(home)
    experiment, size = load(config, [*cameras.SETTINGS, *(set or [])]), Size(first, watched, later)
    key = digest([experiment.to_json(), dataclasses.asdict(size), seed])[:12]
    folder = home / "demo-loop" / key
    folder.mkdir(parents=True, exist_ok=True)
    chromium = operator.chromium() if browser else None
    path = folder / "loop.json"
    try:
        if not path.exists():
            with stack.running(home) as info:
                os.environ.update(stack.env(info))
                print(f"  stack: S3 at {info.s3_endpoint}, Triton at {info.triton_grpc}", flush=True)
                store = open_store(f"{stack.env(info)['POSEWATCH_STORE']}/demo-loop-{key}")
                demo = Demo(folder, store, experiment, size, seed)
                result = loop(demo, chromium)
                result["verdicts"] = demo.verdicts()
                if "figures" in result:
                    plot(result["figures"], folder / "loop.png")
                files.write_atomically(path, json.dumps(result, indent=1) + "\n")
        print(told(json.loads(path.read_text(encoding="utf-8")), folder, chromium))
        print(f"\n  done in {time.monotonic() - began:.0f} s; the servers are down again", flush=True)
    except KeyboardInterrupt:
        print("\ndemo-loop: stopped; finished steps are stored, run it again to go on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(run_app(app, "make demo-loop"))
