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


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL server without databases of ours, started for this run."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("no PostgreSQL server here (apt-get install postgresql)")
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    user = "postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name  # it refuses to run as root
    try:
        pwd.getpwnam(user)
    except KeyError:
        pytest.skip("PostgreSQL does not run as root, and there is no user 'postgres'")
    folder = Path(tempfile.mkdtemp(prefix="posewatch-pg-"))
    as_user: dict[str, str] = {}
    if os.getuid() == 0:
        shutil.chown(folder, user)
        as_user = {"user": user}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    bin_ = found[-1].parent
    quiet = {"stdout": subprocess.DEVNULL, "cwd": folder, **as_user}
    try:
        init = [bin_ / "initdb", "-D", folder / "data", "-A", "trust", "-U", "posewatch", "-N", "-E", "UTF8"]
        subprocess.run([*init, "--no-locale"], check=True, **quiet)
        options = f"-h 127.0.0.1 -p {port} -k {folder}"
        start = [bin_ / "pg_ctl", "-D", folder / "data", "-o", options, "-l", folder / "log", "-w", "start"]
        subprocess.run(start, check=True, **quiet)
        try:
            yield f"postgresql://posewatch@127.0.0.1:{port}"
        finally:
            subprocess.run([bin_ / "pg_ctl", "-D", folder / "data", "-m", "immediate", "stop"], check=True, **quiet)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'labels.db'}"
    server = request.getfixturevalue("postgres")
    import psycopg

    name = "t" + hashlib.sha256(str(tmp_path).encode()).hexdigest()[:16]
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"{server}/{name}"


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
