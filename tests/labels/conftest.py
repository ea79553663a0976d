"""Label stores on the databases that users have: SQLite, and a real PostgreSQL where Debian's package is installed."""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from posewatch.labels.store import ClipEntry, LabelStore
from posewatch.records import Clip, clip_id, video_id

Make = Callable[..., list[ClipEntry]]


@pytest.fixture
def make_clips() -> Make:
    def make(name: str = "a.mp4", count: int = 4, length: float = 3.0, names: tuple[str, ...] = ()) -> list[ClipEntry]:
        video = video_id(hashlib.sha256(name.encode()).hexdigest())
        out = []
        for start in (i * length for i in range(count)):
            clip = Clip(clip_id(video, start, length), video, start, length, 10.0, round(length * 10), 64, 48, 1.0)
            out.append(ClipEntry(clip, names or (name,), f"clips/{video}/{clip.id}.mp4", "memory://labels"))
        return out

    return make


class PostgresServer:
    """A PostgreSQL server of Debian's package on a free port, that can be killed and started again."""

    def __init__(self) -> None:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        if not found:
            pytest.skip("no PostgreSQL server here (apt-get install postgresql)")
        pytest.importorskip("psycopg", reason="psycopg is not installed")
        user = "postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name  # it refuses to run as root
        try:
            pwd.getpwnam(user)
        except KeyError:
            pytest.skip("PostgreSQL does not run as root, and there is no user 'postgres'")
        self.folder = Path(tempfile.mkdtemp(prefix="posewatch-pg-"))
        as_user: dict[str, str] = {}
        if os.getuid() == 0:
            shutil.chown(self.folder, user)
            as_user = {"user": user}
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._bin = found[-1].parent
        self._how = {"stdout": subprocess.DEVNULL, "cwd": self.folder, **as_user}
        init = [self._bin / "initdb", "-D", self.folder / "data", "-A", "trust", "-U", "posewatch", "-N", "-E", "UTF8"]
        subprocess.run([*init, "--no-locale"], check=True, **self._how)
        self.url = f"postgresql://posewatch@127.0.0.1:{self.port}"

    def start(self) -> None:
        options = f"-h 127.0.0.1 -p {self.port} -k {self.folder}"
        self._control("-o", options, "-l", self.folder / "log", "-w", "start")

    def kill(self) -> None:
        """As a crash does: nothing is written out, connections break."""
        self._control("-m", "immediate", "stop")

    def database(self, name: str) -> str:
        import psycopg

        with psycopg.connect(f"{self.url}/postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return f"{self.url}/{name}"

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _control(self, *words: str | Path) -> None:
        subprocess.run([self._bin / "pg_ctl", "-D", self.folder / "data", *words], check=True, **self._how)


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
