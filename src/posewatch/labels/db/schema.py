"""Opens and migrates the label store's database: SQLite on one machine, PostgreSQL in a cluster."""

from __future__ import annotations

import logging
import os
import sqlite3
from pathlib import Path
from typing import Any

from posewatch.errors import LabelError, LabelStoreDown, first_line

try:
    import sqlalchemy as sa
except ImportError:
    raise LabelError("labels need SQLAlchemy: pip install 'posewatch[labeling]'") from None

from posewatch.files import home
from posewatch.labels.db import tables
from posewatch.names import path_of, uri_of
from posewatch.redact import redact
from posewatch.retry import retry

HEAD = "9"
"""The revision of the tables that this posewatch reads and writes."""
BUSY_S = 30.0
"""How long SQLite waits for another writer."""
WAITS = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
"""libpq's limits, in seconds and (the last) milliseconds. A machine that is lost closes no connection: without them the
kernel waits a quarter of an hour for an answer, and two hours before it asks."""
READ_ONLY = "25006"
"""SQLSTATE of a write on a server that takes none."""
VERSIONS = "alembic_version"
_FIRST = "schema_version"  # the version table of the first version of the store, which did not use alembic


def default_url() -> str:
    """The default label store: POSEWATCH_LABELS_URL, else SQLite in POSEWATCH_HOME or ./.posewatch."""
    return os.environ.get("POSEWATCH_LABELS_URL") or sqlite_url(home() / "labels.db")


def sqlite_url(path: Path) -> str:
    """The label store's URL for a file."""
    return uri_of(path.absolute(), "sqlite:///")


def reason(error: BaseException) -> str:
    """The first line of the database driver's error message, without SQLAlchemy's decoration."""
    return first_line(getattr(error, "orig", None) or error)


def connect(url: str) -> sa.Engine:
    """Open the database at ``url``; create the tables if they are missing, migrate them if they are older.

    Raises LabelError when the URL is malformed, its driver is missing, the database cannot be reached, is not a
    label store, or was written by a newer posewatch.
    """
    url = url.strip()  # files and Secrets end in a line's end
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):  # ValueError: a port that is no number
        raise LabelError(
            "the label store's URL must look like sqlite:///labels.db or postgresql://..., its port a number"
        ) from None
    if parsed.drivername in ("postgresql", "postgres"):  # libpq takes both
        parsed = parsed.set(drivername="postgresql+psycopg")
    name = redact(parsed.render_as_string(hide_password=True))  # a password can also be in the query
    backend = parsed.get_backend_name()
    if backend not in ("sqlite", "postgresql"):
        raise LabelError(f"labels are stored in SQLite or PostgreSQL, not {backend!r}: {name}")
    try:
        if backend == "sqlite":
            if not parsed.database or parsed.database == ":memory:":
                raise LabelError("the label store needs a file, such as sqlite:///labels.db: memory is lost at exit")
            file = path_of(url.partition("?")[0])  # SQLAlchemy 2.0 does not decode it, 2.1 not every byte
            file.parent.mkdir(parents=True, exist_ok=True)
            parsed = parsed.set(database=str(file))
            engine = sa.create_engine(parsed, connect_args={"timeout": BUSY_S}, pool_size=20)
            sa.event.listen(engine, "connect", _pragmas)
            sa.event.listen(engine, "begin", _begin)
        else:
            waits = {name: value for name, value in WAITS.items() if name not in parsed.query}
            # statements that are prepared by name fail behind a pooler that gives each transaction another connection
            arguments = {"prepare_threshold": None, **waits}
            engine = sa.create_engine(parsed, connect_args=arguments, pool_pre_ping=True, pool_size=5, max_overflow=20)
            sa.event.listen(engine, "handle_error", _not_writable)
        _migrate(engine, name)
    except ModuleNotFoundError as error:
        raise LabelError(
            f"labels at {name} need {error.name}: pip install 'posewatch[labeling]', and write postgresql://"
        ) from None
    except (sa.exc.DBAPIError, OSError) as error:
        raise LabelStoreDown(f"cannot open the label store at {name}: {reason(error)}") from None
    return engine


def _pragmas(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # _begin starts transactions
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = FULL")  # an acknowledged label survives a power cut
    # Readers never wait for the writer in WAL mode. SQLite does not apply its busy timeout to this switch, so two
    # processes that open a new database at the same time may collide.
    retry(
        lambda: connection.execute("PRAGMA journal_mode = WAL"), _is_locked, timeout_s=BUSY_S, first_s=0.02, max_s=0.2
    )


def _is_locked(error: BaseException) -> bool:
    codes = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    return isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode & 0xFF in codes


def _not_writable(context: sa.engine.ExceptionContext) -> None:
    # the primary has become a standby, or its disk is full: such a server keeps its connections, so only a new one can
    # lead to the server that writes
    if getattr(context.original_exception, "sqlstate", None) == READ_ONLY:
        context.is_disconnect = True


def _begin(connection: sa.Connection) -> None:
    # IMMEDIATE takes the write lock at once: a second writer waits instead of failing half-way
    write = connection.get_execution_options().get("write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _migrate(engine: sa.Engine, name: str) -> None:
    with engine.connect() as connection, connection.begin():
        if _revision(connection, name) == HEAD:
            return
    with engine.connect().execution_options(write=True) as connection, connection.begin():
        if engine.dialect.name == "postgresql":
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(hashtext('posewatch labels'))"))
        found = _revision(connection, name)
        if found == HEAD:  # another process was faster
            return
        _upgrade(connection, found)


def _upgrade(connection: sa.Connection, found: str | None) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    log = logging.getLogger("alembic")
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        if found is not None and not sa.inspect(connection).has_table(VERSIONS):
            command.stamp(config, found)
            connection.execute(sa.text(f"DROP TABLE {_FIRST}"))
        command.upgrade(config, "head")
    finally:
        log.setLevel(level)


def _revision(connection: sa.Connection, name: str) -> str | None:
    """The revision of the database's tables, None for an empty database."""
    found = set(sa.inspect(connection).get_table_names())
    table = VERSIONS if VERSIONS in found else _FIRST if _FIRST in found else None
    if table is None or not {"clips", "events"} <= found:
        if found & set(tables.metadata.tables):
            raise LabelError(f"{name} holds tables of another application, not a label store: give another database")
        return None
    column = "version_num" if table == VERSIONS else "version"
    revision = str(connection.execute(sa.text(f"SELECT {column} FROM {table}")).scalar())
    if revision not in map(str, range(1, int(HEAD) + 1)):
        raise LabelError(
            f"the label store at {name} has schema {revision}, this posewatch writes schema {HEAD}: "
            "use the posewatch version that wrote it, or another database"
        )
    return revision
