"""What the page is made of, once per process: the label store, the experiment, how people are told apart.

Read from the environment: POSEWATCH_LABELS_URL, POSEWATCH_CONFIG, POSEWATCH_AUTH and its companions
(``posewatch.labels.team.identity``), and what the object store needs.
"""

from __future__ import annotations

import os
import threading
from functools import cache
from pathlib import Path

import sqlalchemy as sa

from posewatch.config import LabelConfig, load
from posewatch.labels.db import tables
from posewatch.labels.db.schema import default_url
from posewatch.labels.entries import UNSURE
from posewatch.labels.store import LabelStore
from posewatch.labels.team.identity import IdentityConfig

_stores: dict[str, LabelStore] = {}
_lock = threading.Lock()


def label_store() -> LabelStore:
    """The label store that the environment names, opened once; a database that is away is tried again next time."""
    url = os.environ.get("POSEWATCH_LABELS_URL") or default_url()
    with _lock:
        if url not in _stores:
            _stores[url] = LabelStore(url)
        return _stores[url]


@cache
def _config(source: str, changed: float) -> LabelConfig:
    return load(source).labels


def label_config() -> LabelConfig:
    """The labels section of the experiment; a file that changes counts from the next act on."""
    source = os.environ.get("POSEWATCH_CONFIG") or "default"
    path = Path(source)
    return _config(source, path.stat().st_mtime if source.endswith((".yaml", ".yml")) and path.is_file() else 0.0)


@cache
def identity_config() -> IdentityConfig:
    return IdentityConfig.from_env()


def ping() -> None:
    """Raises LabelError when the database does not answer."""
    label_store().database.read(lambda connection: connection.execute(sa.text("SELECT 1")).scalar())


def totals() -> tuple[int, int, int]:
    """(clips, labelled clips, disagreements)."""
    clips, status = tables.clips, tables.status
    done = sa.and_(status.c.source != "model", status.c.label != UNSURE)

    def work(connection: sa.Connection) -> tuple[int, int, int]:
        count = sa.select(sa.func.count())
        numbers = [
            connection.execute(query).scalar() or 0
            for query in (
                count.select_from(clips),
                count.select_from(status).where(done),
                count.select_from(status).where(status.c.differ),
            )
        ]
        return numbers[0], numbers[1], numbers[2]

    store = label_store()
    return store.slow.get("totals", lambda: store.database.read(work))  # asked for with every scrape
