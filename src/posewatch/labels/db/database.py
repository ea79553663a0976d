"""Transactions on the label store's database that outlive a restart of the database server."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import TypeVar

from posewatch.labels.db import schema  # first, because it says which extra is missing

# isort: split
import sqlalchemy as sa

from posewatch.errors import LabelError

T = TypeVar("T")
PATIENCE_S = 30.0
"""How long a database server that went away is waited for."""
_PERMANENT = ("28", "3D", "42")
"""SQLSTATE classes that no second try mends: wrong credentials, no such database, wrong statement."""


class Database:
    """Runs whole transactions, again when the server went away in between.

    Whether a transaction was committed is not always known then: what is run must do nothing the second time. Every
    method raises LabelError, in one line, when the database refuses or stays away.
    """

    def __init__(self, url: str | None = None) -> None:
        self.url = url or schema.default_url()
        self.engine = schema.connect(self.url)
        # SQLite lets one write at a time, and its waiters poll: threads of one process rather queue up here
        self._turn = threading.Lock() if self.engine.dialect.name == "sqlite" else None

    def close(self) -> None:
        """Give the connections back; the database can be used again afterwards."""
        self.engine.dispose()

    def read(self, work: Callable[[sa.Connection], T]) -> T:
        """What ``work(connection)`` returns, in one reading transaction."""
        return self._run(work, False)

    def write(self, work: Callable[[sa.Connection], T]) -> T:
        """What ``work(connection)`` returns, in one transaction that is durable when this returns."""
        return self._run(work, True)

    def _run(self, work: Callable[[sa.Connection], T], write: bool) -> T:
        deadline = time.monotonic() + PATIENCE_S
        pause = 0.05
        while True:
            turn = self._turn if write and self._turn is not None else nullcontext()
            try:
                with turn, self.engine.connect().execution_options(write=write) as connection, connection.begin():
                    return work(connection)
            except sa.exc.DBAPIError as error:
                if not self._passes(error) or time.monotonic() + pause > deadline:
                    name = self.engine.url.render_as_string(hide_password=True)
                    raise LabelError(f"the label store at {name} failed: {schema.reason(error)}") from error
                time.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(1.0, pause * 2)

    def _passes(self, error: sa.exc.DBAPIError) -> bool:
        if self.engine.dialect.name == "sqlite":
            return False  # a lock was already waited for
        state = getattr(error.orig, "sqlstate", None) or ""
        if state.startswith(_PERMANENT):
            return False
        # 40: a deadlock or a serialisation failure; 23505: two tries of one act met
        return error.connection_invalidated or isinstance(error, sa.exc.OperationalError) or state[:2] == "40"
