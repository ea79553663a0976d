"""The label store, the experiment and the identity settings of the page, opened once per process.

Read from the environment: POSEWATCH_LABELS_URL, POSEWATCH_CONFIG, POSEWATCH_STORE (the alarm records), POSEWATCH_AUTH
and its companions (``posewatch.labels.team.identity``).
"""

from __future__ import annotations

import os
import threading
from functools import cache
from pathlib import Path

import sqlalchemy as sa

from posewatch.config import Experiment, LabelConfig, load
from posewatch.errors import InputError, PosewatchError, Unreachable, first_line
from posewatch.labels.alarm_index import AlarmIndex
from posewatch.labels.db import tables
from posewatch.labels.db.schema import default_url
from posewatch.labels.entries import UNSURE
from posewatch.labels.judging import Judged
from posewatch.labels.store import LabelStore
from posewatch.labels.team.identity import IdentityConfig
from posewatch.store import FolderStore, ObjectStore, S3Store, open_store

_stores: dict[str, LabelStore] = {}
_lock = threading.Lock()
_indexes: dict[str, AlarmIndex] = {}
_judged: dict[str, Judged] = {}


def label_store() -> LabelStore:
    """The configured label store, opened once; after an error the next call opens it again."""
    url = os.environ.get("POSEWATCH_LABELS_URL") or default_url()
    with _lock:
        if url not in _stores:
            _stores[url] = LabelStore(url)
        return _stores[url]


def alarm_index() -> AlarmIndex:
    """The records of alarms in POSEWATCH_STORE, for all viewers of this process. Raises InputError without a store, and
    Unreachable while the folder that it is is away."""
    uri = os.environ.get("POSEWATCH_STORE", "")
    if not uri:
        raise InputError("there is no store of alarms: set POSEWATCH_STORE to where the watchers keep their records")
    with _lock:
        if uri not in _indexes:
            store = open_store(uri)
            if isinstance(store, S3Store):
                store.attempts = 1  # the page asks again by itself, and nobody may wait for it
            _indexes[uri] = AlarmIndex(store)
    index = _indexes[uri]
    if isinstance(index.store, FolderStore) and not index.store.root.is_dir():
        raise Unreachable(f"no such folder: {index.store.root}")
    return index


def alarm_store() -> ObjectStore:
    """The store of the alarm records. Raises as `alarm_index` does."""
    return alarm_index().store


def judged() -> Judged:
    """The verdicts in the configured label store, for all viewers of this process."""
    store = label_store()
    with _lock:
        if store.url not in _judged:
            _judged[store.url] = Judged(store)
        return _judged[store.url]


@cache
def _config(source: str, changed: float) -> Experiment:
    return load(source)


_good: dict[str, Experiment] = {}
_broken: dict[str, str] = {}


def label_config() -> LabelConfig:
    """The labels section of the experiment."""
    return _experiment().labels


def unit() -> str:
    """What the experiment labels: "scene" or "person"."""
    return _experiment().mask.unit


def _experiment() -> Experiment:
    """The experiment; a changed file takes effect with the next act.

    A file that is broken or away changes nothing: the last good one stays in force (`config_problem` says why).
    """
    source = os.environ.get("POSEWATCH_CONFIG") or "default"
    path = Path(source)
    try:
        changed = path.stat().st_mtime if source.endswith((".yaml", ".yml")) and path.is_file() else 0.0
        _good[source] = _config(source, changed)
    except (PosewatchError, OSError) as error:
        if source not in _good:
            raise
        _broken[source] = first_line(error)
    else:
        _broken.pop(source, None)
    return _good[source]


def config_problem() -> str:
    """Why the experiment's file cannot be used now; "" when it can."""
    label_config()
    return _broken.get(os.environ.get("POSEWATCH_CONFIG") or "default", "")


@cache
def identity_config() -> IdentityConfig:
    return IdentityConfig.from_env()


def media_secret() -> str:
    """The configured secret of signed addresses, "" without one."""
    return os.environ.get("POSEWATCH_MEDIA_SECRET", "")


def ping() -> None:
    """Raises LabelError when the database does not answer."""
    label_store().database.rows(sa.select(sa.literal(1)))


def totals() -> dict[str, int]:
    """The numbers of clips, of labelled clips and of disagreements; slow counts are cached."""
    count, status = sa.select(sa.func.count()), tables.status
    labelled = sa.and_(status.c.source != "model", status.c.label != UNSURE)
    queries = {
        "all": count.select_from(tables.clips),
        "labelled": count.select_from(status).where(labelled),
        "disagreement": count.select_from(status).where(status.c.differ),
    }
    store = label_store()
    rows = store.slow_counts.get("totals", lambda: store.database.rows(*queries.values()))
    return {state: number for state, (number,) in zip(queries, rows, strict=True)}
