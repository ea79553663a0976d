"""Transactions on the label store's database, repeated while the database server restarts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any, TypeVar

from posewatch.labels.db import schema  # first, because its error names the missing extra

# isort: split
import sqlalchemy as sa

from posewatch.errors import LabelError, LabelStoreDown
from posewatch.redact import redact
from posewatch.retry import retry

T = TypeVar("T")
TIMEOUT_S = 30.0
"""How long a transaction is repeated while the database server is unavailable."""
CHUNK = 500
"""Ids per statement: below every database's limit on parameters."""
_PERMANENT = ("28", "3D", "42")
"""SQLSTATE classes that a retry does not resolve: wrong credentials, no such database, invalid statement."""


def select_ids(query: sa.Select[Any], column: sa.ColumnElement[Any], ids: Iterable[str] | None) -> list[sa.Select[Any]]:
    """``query`` restricted to rows whose ``column`` is one of ``ids``, as statements of at most ``CHUNK`` ids each.

    None selects all rows, with one statement.
    """
    return [query] if ids is None else [query.where(column.in_(chunk)) for chunk in chunks(ids)]


def chunks(ids: Iterable[str]) -> list[list[str]]:
    """The distinct ``ids`` in alphabetical order, in lists of at most ``CHUNK``."""
    ordered = sorted(set(ids))
    return [ordered[start : start + CHUNK] for start in range(0, len(ordered), CHUNK)]


class Database:
    """Runs whole transactions, and repeats them when the connection to the server was lost.

    After a lost connection it is not always known whether the transaction was committed, so a transaction that runs
    twice must have the effect of one. Every method raises LabelError, in one line, when the database refuses, and its
    kind LabelStoreDown when the database stays unavailable.
    """

    def __init__(self, url: str | None = None) -> None:
        self.url = url or schema.default_url()
        self.engine = schema.connect(self.url)
        # SQLite allows one writer at a time and its waiters poll: threads of one process queue up here instead
        self._writer = threading.Lock() if self.engine.dialect.name == "sqlite" else nullcontext()

    def close(self) -> None:
        """Close the connections; the database can be used again afterwards."""
        self.engine.dispose()

    def rows(self, *queries: sa.Select[Any]) -> list[Any]:
        """The rows of all ``queries`` (tuples with columns as attributes), in one reading transaction."""
        return self.read(lambda connection: [row for query in queries for row in connection.execute(query)])

    def read(self, work: Callable[[sa.Connection], T]) -> T:
        """What ``work(connection)`` returns, in one reading transaction."""
        return self._run(work, False)

    def write(self, work: Callable[[sa.Connection], T]) -> T:
        """What ``work(connection)`` returns, in one transaction that is durable when this returns."""
        return self._run(work, True)

    def execute(self, statement: sa.Executable, *parameters: Any) -> None:
        """Run one writing statement in a transaction of its own."""
        self.write(lambda connection: connection.execute(statement, *parameters) and None)

    def _run(self, work: Callable[[sa.Connection], T], write: bool) -> T:
        def transaction() -> T:
            options = {"write": write}
            with (
                self._writer if write else nullcontext(),
                self.engine.connect().execution_options(**options) as connection,
                connection.begin(),
            ):
                return work(connection)

        try:
            return retry(transaction, self._is_transient, timeout_s=TIMEOUT_S, first_s=0.05, max_s=1.0)
        except sa.exc.DBAPIError as error:
            name = redact(self.engine.url.render_as_string(hide_password=True))
            down = error.connection_invalidated or isinstance(error, sa.exc.OperationalError)
            kind = LabelStoreDown if down else LabelError
            raise kind(f"the label store at {name} failed: {schema.reason(error)}") from error
        except UnicodeEncodeError as error:
            raise LabelError(f"no database takes half of a character ({error.object[:40]!r}): write it again") from None
        except sa.exc.TimeoutError:
            name = redact(self.engine.url.render_as_string(hide_password=True))
            raise LabelStoreDown(f"the label store at {name} failed: all connections wait for an answer") from None

    def _is_transient(self, error: BaseException) -> bool:
        if self.engine.dialect.name == "sqlite" or not isinstance(error, sa.exc.DBAPIError):
            return False  # SQLite has already waited for a lock, see schema.BUSY_S
        state = getattr(error.orig, "sqlstate", None) or ""
        if state.startswith(_PERMANENT):
            return False
        # class 40: a deadlock or a serialisation failure
        return error.connection_invalidated or isinstance(error, sa.exc.OperationalError) or state.startswith("40")
