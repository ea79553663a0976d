"""Measures scale at sizes that fit on this machine; docs/scale.md computes from it what large installations need."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from posewatch.errors import InputError, StackError
from posewatch.files import write_atomically

SIZES = (10_000, 100_000, 1_000_000)
PEOPLE = 200
SECONDS = 10.0
THINK_S = 2.0
"""Seconds that a person takes for a label."""
LABELLED = 0.5
"""Share of the clips that are labelled when calls are timed."""


def bench_scale(
    out: Path,
    *,
    clips: Sequence[int] = SIZES,
    people: int = PEOPLE,
    seconds: float = SECONDS,
    database: str = "auto",
    video: bool = True,
) -> str:
    """Measure; write ``scale.json``, ``scale.md`` and ``labels.png`` to ``out``; return the page.

    The label store is filled up to each size of ``clips``; then ``people`` label at once for ``seconds``, with and
    without time to think. ``database`` is ``postgresql``, ``sqlite``, ``auto`` (what is installed) or the URL of an
    empty database. ``video`` takes rendered video through the stages. Raises InputError, or StackError.
    """
    from posewatch.bench.scale import fanout, objects, report
    from posewatch.progress import Progress

    sizes = tuple(sorted(set(clips)))
    if len(sizes) < 2 or sizes[0] < 500:
        raise InputError(f"--clips {','.join(map(str, clips))} must name two sizes or more, of 500 clips or more")
    with Progress("scale", 3, "part") as progress:
        result: dict[str, Any] = {"environment": _environment(), "labels": _labels(database, sizes, people, seconds)}
        progress.advance()
        result["objects"] = {
            "run": objects.real_run() if video else None,
            "sets": [dataclasses.asdict(cost) for cost in objects.sets()],
            "memory": objects.memory(),
        }
        progress.advance()
        result["fanout"] = fanout.measure()
        progress.advance()
    page = report.page(result)
    report.plot(result["labels"]["sizes"], out / "labels.png")
    write_atomically(out / "scale.json", json.dumps(result, indent=1, sort_keys=True) + "\n")
    write_atomically(out / "scale.md", page)
    return f"{page}\n{out / 'scale.md'}"


@contextlib.contextmanager
def _database(kind: str) -> Iterator[str]:
    """The URL of an empty database of that kind; deleted afterwards unless it was given as a URL."""
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
        from posewatch.labels.db.schema import sqlite_url

        yield sqlite_url(Path(temp) / "labels.db")


def _labels(kind: str, clips: Sequence[int], people: int, seconds: float) -> dict[str, Any]:
    """The label store at every size, then everybody at work at the largest one."""
    import sqlalchemy as sa

    from posewatch.bench.scale import filling, labels
    from posewatch.labels.store import LabelStore

    with _database(kind) as url, contextlib.closing(LabelStore(url)) as store:
        if store.size():
            raise InputError(f"the database given with --database holds {store.size()} clips: give an empty one")
        sizes, filled = [], 0
        for count in clips:
            filling.fill(store, filled, count)
            filled = count
            labelled = filling.label_share(store, LABELLED)
            tables = {name: dataclasses.asdict(size) for name, size in labels.sizes(store).items()}
            sizes.append(
                {
                    "clips": count, "labelled": labelled, "tables": tables,
                    "calls": labels.calls(store), "plan": labels.plan(store),
                }
            )  # fmt: skip
        loops = [dataclasses.asdict(labels.loop(store, people, seconds, think_s)) for think_s in (THINK_S, 0.0)]
        name = "SQLite"
        if store.engine.dialect.name == "postgresql":
            query = sa.text("SHOW server_version")
            version = store.database.read(lambda connection: str(connection.execute(query).scalar()))
            name = f"PostgreSQL {version.split()[0]} with its default settings"
        return {"database": name, "sizes": sizes, "loops": loops}


def _environment() -> dict[str, Any]:
    from posewatch.serving.benchmark.report import environment

    known = environment("")
    return {"cpu": known["cpu"], "cores": known["cores"], "load": os.getloadavg()[2]}
