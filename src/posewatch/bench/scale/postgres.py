"""A temporary PostgreSQL server from Debian's package, on a free port of this machine."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from posewatch.errors import StackError

PLACES = Path("/usr/lib/postgresql")


class Postgres:
    """A server in a folder of its own, with PostgreSQL's default settings: a commit waits for the disk.

    Raises StackError when no server is installed, or it cannot be started.
    """

    def __init__(self) -> None:
        installed = sorted(PLACES.glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
        if not installed:
            raise StackError("no PostgreSQL server here: apt-get install postgresql, or give --database sqlite")
        user = "postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name  # it refuses to run as root
        try:
            pwd.getpwnam(user)
        except KeyError:
            raise StackError("PostgreSQL does not run as root, and there is no user 'postgres': create it") from None
        self.folder = Path(tempfile.mkdtemp(prefix="posewatch-pg-"))
        as_user: dict[str, Any] = {}
        if os.getuid() == 0:
            shutil.chown(self.folder, user)
            as_user = {"user": user}
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._bin = installed[-1].parent
        self._popen = {"stdout": subprocess.DEVNULL, "cwd": self.folder, **as_user}
        init = ("-A", "trust", "-U", "posewatch", "-N", "-E", "UTF8", "--no-locale")
        self._run([self._bin / "initdb", "-D", self.folder / "data", *init])
        self.url = f"postgresql://posewatch@127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the server and wait until it answers."""
        options = f"-h 127.0.0.1 -p {self.port} -k {self.folder}"
        self._control("-o", options, "-l", self.folder / "log", "-w", "start")

    def kill(self) -> None:
        """Stop the server as a crash does: nothing is flushed, connections break."""
        self._control("-m", "immediate", "stop")

    def database(self, name: str) -> str:
        """The URL of a new, empty database."""
        import psycopg

        with psycopg.connect(f"{self.url}/postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")  # type: ignore[call-overload]
        return f"{self.url}/{name}"

    def remove(self) -> None:
        """Delete the server's files."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _control(self, *words: str | Path) -> None:
        self._run([self._bin / "pg_ctl", "-D", self.folder / "data", *words])

    def _run(self, command: list[str | Path]) -> None:
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False, **self._popen)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise StackError(f"PostgreSQL does not start: {reason} (log: {self.folder / 'log'})")


@contextmanager
def served() -> Iterator[Postgres]:
    """A server that runs inside the ``with`` block; nothing of it is left afterwards."""
    server = Postgres()
    try:
        server.start()
        try:
            yield server
        finally:
            server.kill()
    finally:
        server.remove()
