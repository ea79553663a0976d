"""The tables of the label store, and how a database is opened: SQLite on one machine, PostgreSQL in a cluster.

Label events are append-only, and the database itself refuses to change or delete one.
"""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path
from typing import Any

from posewatch.errors import LabelError

try:
    import sqlalchemy as sa
except ImportError:
    raise LabelError("labels need SQLAlchemy: pip install 'posewatch[labeling]'") from None

VERSION = 1
BUSY_S = 30.0
"""How long a writer waits for another one before it gives up."""

metadata = sa.MetaData()

version = sa.Table("schema_version", metadata, sa.Column("version", sa.Integer, primary_key=True))

clips = sa.Table(
    "clips",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("video_id", sa.String(32), nullable=False, index=True),
    sa.Column("names", sa.JSON, nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("store", sa.Text, nullable=False),
    sa.Column("start_s", sa.Double, nullable=False),
    sa.Column("length_s", sa.Double, nullable=False),
    sa.Column("fps", sa.Double, nullable=False),
    sa.Column("frames", sa.Integer, nullable=False),
    sa.Column("width", sa.Integer, nullable=False),
    sa.Column("height", sa.Integer, nullable=False),
    sa.Column("people", sa.Double, nullable=False),
)

events = sa.Table(
    "events",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("clip_id", sa.String(32), sa.ForeignKey("clips.id"), nullable=False, index=True),
    sa.Column("old", sa.Text),
    sa.Column("new", sa.Text),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("when", sa.String(40), nullable=False),
    sa.Column("source", sa.String(16), nullable=False),
    sa.Column("model_version", sa.Text),
    sqlite_autoincrement=True,
)


def _append_only() -> None:
    message = "label events are append-only"
    for act in ("UPDATE", "DELETE"):
        trigger = sa.DDL(
            f"CREATE TRIGGER events_no_{act.lower()} BEFORE {act} ON events BEGIN SELECT RAISE(ABORT, '{message}'); END"
        )
        sa.event.listen(events, "after_create", trigger.execute_if(dialect="sqlite"))
    statements = (
        "CREATE OR REPLACE FUNCTION posewatch_append_only() RETURNS trigger AS "
        f"$$ BEGIN RAISE EXCEPTION '{message}'; END $$ LANGUAGE plpgsql",
        "CREATE TRIGGER events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON events "
        "FOR EACH STATEMENT EXECUTE FUNCTION posewatch_append_only()",
    )
    for statement in statements:
        sa.event.listen(events, "after_create", sa.DDL(statement).execute_if(dialect="postgresql"))


_append_only()


def default_url() -> str:
    """Where labels live when nobody says: POSEWATCH_LABELS_URL, else SQLite in POSEWATCH_HOME or ./.posewatch."""
    home = Path(os.environ.get("POSEWATCH_HOME") or ".posewatch")
    return os.environ.get("POSEWATCH_LABELS_URL") or f"sqlite:///{(home / 'labels.db').absolute()}"


def reason(error: BaseException) -> str:
    """The first line of what the database driver said, without SQLAlchemy's decoration."""
    text = str(getattr(error, "orig", None) or error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def connect(url: str) -> sa.Engine:
    """Open the database at ``url`` and create the tables if there are none.

    Raises LabelError when the URL is malformed, its driver is missing, the database cannot be reached, is not a
    label store, or was written by another version of the schema.
    """
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError:
        raise LabelError("the label store's URL must look like sqlite:///labels.db or postgresql://...") from None
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    name = parsed.render_as_string(hide_password=True)
    backend = parsed.get_backend_name()
    if backend not in ("sqlite", "postgresql"):
        raise LabelError(f"labels are kept in SQLite or PostgreSQL, not {backend!r}: {name}")
    try:
        if backend == "sqlite":
            if not parsed.database or parsed.database == ":memory:":
                raise LabelError("the label store needs a file, such as sqlite:///labels.db: memory keeps no labels")
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
            engine = sa.create_engine(parsed, connect_args={"timeout": BUSY_S})
            sa.event.listen(engine, "connect", _pragmas)
            sa.event.listen(engine, "begin", _begin)
        else:
            engine = sa.create_engine(parsed, pool_pre_ping=True)
        _create(engine, name)
    except ModuleNotFoundError as error:
        raise LabelError(f"labels at {name} need {error.name}: pip install 'posewatch[labeling]'") from None
    except (sa.exc.DBAPIError, OSError) as error:
        raise LabelError(f"cannot open the label store at {name}: {reason(error)}") from None
    return engine


def _pragmas(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves, see _begin
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA synchronous = FULL")  # an acknowledged label survives a power cut
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")  # readers never wait for the writer
            break
        except sqlite3.OperationalError as error:
            # SQLite does not apply its busy timeout to this switch, so two first openers may collide
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
    cursor.close()


def _begin(connection: sa.Connection) -> None:
    # IMMEDIATE takes the write lock at once: two writers queue up instead of failing half-way with "locked"
    write = connection.get_execution_options().get("write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _create(engine: sa.Engine, name: str) -> None:
    with engine.connect() as connection, connection.begin():
        if _found(connection, name):
            return
    with engine.connect().execution_options(write=True) as connection, connection.begin():
        if engine.dialect.name == "postgresql":
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(hashtext('posewatch labels'))"))
        if not _found(connection, name):  # another process may have been faster
            metadata.create_all(connection)
            connection.execute(version.insert().values(version=VERSION))


def _found(connection: sa.Connection, name: str) -> bool:
    tables = set(sa.inspect(connection).get_table_names())
    if version.name not in tables:
        if tables & set(metadata.tables):
            raise LabelError(f"{name} holds tables of something else, not a label store: give another database")
        return False
    found = connection.execute(sa.select(version.c.version)).scalar()
    if found != VERSION:
        raise LabelError(
            f"the label store at {name} has schema {found}, this posewatch writes schema {VERSION}: "
            "use the posewatch that made it, or another database"
        )
    return True
