"""Label stores on the databases that users have: SQLite, and a real PostgreSQL where Debian's package is installed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from posewatch.bench.scale.postgres import Postgres
from posewatch.errors import StackError
from posewatch.labels.entries import ClipEntry
from posewatch.labels.store import LabelStore
from posewatch.records import Clip, clip_id, video_id

Make = Callable[..., list[ClipEntry]]


@pytest.fixture
def make_clips() -> Make:
    def make(
        name: str = "a.mp4",
        count: int = 4,
        length: float = 3.0,
        names: tuple[str, ...] = (),
        person: int | None = None,
    ) -> list[ClipEntry]:
        video = video_id(hashlib.sha256(name.encode()).hexdigest())
        out = []
        for start in (i * length for i in range(count)):
            clip = Clip(
                clip_id(video, start, length, person),
                video,
                start,
                length,
                10.0,
                round(length * 10),
                64,
                48,
                1.0,
                person,
            )
            out.append(ClipEntry(clip, names or (name,), f"clips/{video}/{clip.id}.mp4", "memory://labels"))
        return out

    return make


class PostgresServer(Postgres):
    """A PostgreSQL server of Debian's package on a free port, that can be killed and started again."""

    def __init__(self) -> None:
        pytest.importorskip("psycopg", reason="psycopg is not installed")
        try:
            super().__init__()
        except StackError as error:
            pytest.skip(str(error))


def _served() -> Iterator[PostgresServer]:
    server = PostgresServer()
    try:
        server.start()
        try:
            yield server
        finally:
            server.kill()
    finally:
        server.remove()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server, started for this run."""
    yield from _served()


@pytest.fixture
def postgres_to_kill() -> Iterator[PostgresServer]:
    """A PostgreSQL server of one test's own."""
    yield from _served()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'labels.db'}"
    server = request.getfixturevalue("postgres")
    return server.database("t" + hashlib.sha256(str(tmp_path).encode()).hexdigest()[:16])


@pytest.fixture
def store(url: str) -> Iterator[LabelStore]:
    opened = LabelStore(url)
    yield opened
    opened.close()


@pytest.fixture
def sqlite_store(tmp_path: Path) -> Iterator[LabelStore]:
    opened = LabelStore(f"sqlite:///{tmp_path / 'labels.db'}")
    yield opened
    opened.close()
