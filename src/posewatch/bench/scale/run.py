"""The command line of ``posewatch bench scale``: measure at sizes that fit here, say what follows."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from posewatch.artifact import code_version
from posewatch.bench.scale import model
from posewatch.bench.scale.assumptions import Assumptions, assume
from posewatch.digests import canonical, digest
from posewatch.errors import InputError, StackError

SIZES = (10_000, 100_000, 1_000_000)
SHARE = 0.5
"""Of the clips that are labelled when calls are timed: a queue half of which is done."""
LOOP_S = 10.0


def options(parser: argparse.ArgumentParser) -> None:
    """Options of ``posewatch bench scale``."""
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for scale.json, scale.md and the plots")
    parser.add_argument("--clips", type=_sizes, default=SIZES, metavar="N,N,...", help="sizes of the label store")
    parser.add_argument("--people", type=int, help="labelers at work at once (default: labelers of the assumptions)")
    parser.add_argument("--seconds", type=float, default=LOOP_S, help="that they work, twice (default 10)")
    parser.add_argument(
        "--database", default="auto", metavar="KIND",
        help="postgresql (Debian's package, started here), sqlite, or an empty database's URL (default: what there is)",
    )  # fmt: skip
    parser.add_argument(
        "--serving", type=Path, metavar="BENCH.JSON", help="measured inferences per second, for cpu_ips"
    )
    parser.add_argument("--serving-gpu", type=Path, metavar="BENCH.JSON", help="the same, for gpu_ips")
    parser.add_argument("--watch", type=Path, metavar="WATCH.JSON", help="of `make bench-watch`: cores of a camera")
    parser.add_argument("--no-video", action="store_true", help="take no video through the stages")
    parser.add_argument(
        "--assume", action="append", default=[], metavar="name=value", help="cameras=500, vcpu_hour=0.03, ..."
    )


def _sizes(told: str) -> tuple[int, ...]:
    try:
        sizes = tuple(sorted({int(part.replace("_", "")) for part in told.split(",") if part.strip()}))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{told!r} must be numbers of clips, as in 10000,100000") from None
    if len(sizes) < 2 or sizes[0] < 500:
        raise argparse.ArgumentTypeError(f"{told!r} must name two sizes or more, of 500 clips or more")
    return sizes


def bench_scale(args: argparse.Namespace) -> str:
    """Measure and write; returns the page. What this code has measured in ``--out`` is not measured again."""
    from posewatch.bench.scale import report
    from posewatch.progress import Progress

    a = assume(
        args.assume,
        cpu_ips=_ips(args.serving), gpu_ips=_ips(args.serving_gpu), watch_cores=_figure(args.watch, "cpu_per_second"),
    )  # fmt: skip
    people = a.labelers if args.people is None else args.people
    if people < 1 or args.seconds <= 0:
        raise InputError("give --people of 1 or more, who work for more than 0 --seconds")
    args.out.mkdir(parents=True, exist_ok=True)
    parts: dict[str, tuple[Any, Callable[[], Any]]] = {
        "labels": (
            [args.clips, people, args.seconds, a.label_s, args.database],
            lambda: _labels(args.database, args.clips, people, args.seconds, a.label_s),
        ),
        "objects": ([args.no_video], lambda: _objects(not args.no_video)),
        "fanout": ([], _fanout),
    }
    measured: dict[str, Any] = {}
    with Progress("scale", len(parts), "part") as progress:
        for name, (settings, make) in parts.items():
            measured[name] = _kept(args.out / f".{name}-{digest([code_version(), settings])[:12]}.json", make)
            progress.advance()
    measured["serving"] = _serving(a)
    measured["environment"] = {**_environment(), "database": measured["labels"]["database"]}
    found = model.limits(a, measured)
    result = {
        "assumptions": dataclasses.asdict(a),
        "counts": model.counts(a),
        "serving_counts": model.serving(a),
        "costs": model.costs(a, report.clip_bytes(measured), model.database_gb(a, measured["labels"])),
        "once": model.once(a, measured["objects"].get("run")),
        "limits": [{**dataclasses.asdict(x), "headroom": x.headroom} for x in found],
        **measured,
    }
    page = report.text(a, measured, found)
    report.plots(a, measured, found, args.out)
    _write(args.out / "scale.json", json.dumps(result, indent=1, sort_keys=True) + "\n")
    _write(args.out / "scale.md", page)
    return f"{page}\n{args.out / 'scale.md'}"


def _write(path: Path, told: str) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_text(told, encoding="utf-8")
    part.replace(path)


def _kept(path: Path, make: Callable[[], Any]) -> Any:
    if not path.is_file():
        _write(path, canonical(make()) + "\n")
    return json.loads(path.read_text(encoding="utf-8"))


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise InputError(f"{path} is not a benchmark's JSON file")
    return found


def _ips(path: Path | None) -> float | None:
    """The most inferences per second of Triton that a file of `posewatch bench serving` holds."""
    if path is None:
        return None
    rows = _read(path).get("rows") or []
    speeds = [row["throughput_ips"] for row in rows if str(row.get("system", "")).startswith("triton")]
    if not speeds:
        raise InputError(f"{path} has no rows of Triton: give bench.json of `posewatch bench serving`")
    return float(max(speeds))


def _figure(path: Path | None, name: str) -> float | None:
    if path is None:
        return None
    found = _read(path).get(name)
    if not isinstance(found, (int, float)):
        raise InputError(f"{path} has no {name}: give watch.json of `make bench-watch`")
    return float(found)


@contextlib.contextmanager
def _database(kind: str) -> Iterator[str]:
    """The URL of an empty database of that kind, which is gone afterwards unless it was given."""
    from posewatch.bench.scale import postgres

    if "://" in kind:
        yield kind
        return
    if kind not in ("auto", "postgresql", "sqlite"):
        raise InputError(f"--database {kind!r} must be postgresql, sqlite or a URL")
    if kind != "sqlite":
        try:
            with postgres.served() as server:
                yield server.database("scale")
                return
        except StackError:
            if kind == "postgresql":
                raise
    with tempfile.TemporaryDirectory(prefix="posewatch-scale-") as temp:
        yield f"sqlite:///{temp}/labels.db"


def _labels(kind: str, clips: tuple[int, ...], people: int, seconds: float, think_s: float) -> dict[str, Any]:
    import sqlalchemy as sa

    from posewatch.bench.scale import filling, labels
    from posewatch.labels.store import LabelStore

    with _database(kind) as url:
        store = LabelStore(url)
        try:
            if store.size():
                raise InputError(f"the database given with --database holds {store.size()} clips: give an empty one")
            sizes, first = [], 0
            for count in clips:
                filling.fill(store, first, count)
                first = count
                labelled = filling.label_share(store, SHARE)
                tables = {name: dataclasses.asdict(of) for name, of in labels.sizes(store).items()}
                sizes.append(
                    {"clips": count, "labelled": labelled, "share": SHARE, "tables": tables,
                     "calls": labels.calls(store), "plan": labels.plan(store)}
                )  # fmt: skip
            loops = [dataclasses.asdict(labels.loop(store, people, seconds, t)) for t in (think_s, 0.0)]
            name = "SQLite"
            if store.engine.dialect.name == "postgresql":
                asked = sa.text("SHOW server_version")
                version = store.database.read(lambda connection: str(connection.execute(asked).scalar()))
                name = f"PostgreSQL {version.split()[0]} with its default settings"
            return {"database": name, "sizes": sizes, "loops": loops}
        finally:
            store.close()


def _objects(video: bool) -> dict[str, Any]:
    from posewatch.bench.scale import objects

    return {
        "run": objects.real_run() if video else None,
        "sets": [dataclasses.asdict(cost) for cost in objects.sets()],
        "memory": objects.memory(),
    }


def _fanout() -> dict[str, Any]:
    from posewatch.bench.scale import fanout

    return fanout.measure()


def _serving(a: Assumptions) -> list[dict[str, Any]]:
    """Replicas of either kind, and what a request waits at one of them at the average load."""
    from posewatch.bench.scale.queueing import simulate

    need = model.serving(a)
    out = []
    cores = max(1, round(a.cpu_cores))
    fixed = min(a.gpu_batch_ms / 1000, 0.9 * 16 / a.gpu_ips)
    for kind, ips, instances, fixed_s, each_s in (
        ("cpu", a.cpu_ips, cores, 0.0, cores / a.cpu_ips),
        ("gpu", a.gpu_ips, 1, fixed, 1 / a.gpu_ips - fixed / 16),
    ):
        replicas = int(need[f"{kind}_replicas"])
        waited = simulate(need["inferences_per_s"] / replicas, instances, fixed_s, each_s)
        out.append(
            {"kind": kind, "ips": ips, "replicas": replicas, "replicas_peak": int(need[f"{kind}_replicas_peak"]),
             **dataclasses.asdict(waited)}
        )  # fmt: skip
    return out


def _environment() -> dict[str, Any]:
    from posewatch.serving.benchmark.report import environment

    found = environment("")
    return {"cpu": found["cpu"], "cores": found["cores"], "memory_gb": found["memory_gb"], "load": os.getloadavg()[2]}
