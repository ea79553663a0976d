"""The clips' files for other tools: copies in a folder, or addresses that the tool can open."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from urllib.parse import quote

from posewatch.errors import LabelError, NotFound
from posewatch.files import atomic
from posewatch.labels.entries import ClipEntry
from posewatch.outputs import RESULT, mark
from posewatch.store import FolderStore, ObjectStore, open_store

ADDRESS_S = 7 * 24 * 3600
"""How long the addresses of an export work: the longest that S3 allows."""


@cache
def object_store(uri: str) -> ObjectStore:
    """The object store at ``uri``, opened once."""
    return open_store(uri)


def copy(entry: ClipEntry, target: Path) -> None:
    """Fetch a clip's file, whole or not at all; one that is there stays. Raises LabelError for a deleted clip."""
    if target.exists():
        return
    try:
        with atomic(target) as partial:
            object_store(entry.store).fetch(entry.key, partial)
        mark(target, RESULT)
    except NotFound:
        raise LabelError(f"clip {entry.clip.id} is not in {entry.store} any more: it cannot be exported") from None


def address(entry: ClipEntry) -> str:
    """Where a browser finds a clip for `ADDRESS_S`: a presigned URL; of a store that is a folder, the address under
    which Label Studio serves this folder (LOCAL_FILES_DOCUMENT_ROOT)."""
    store = object_store(entry.store)
    if isinstance(store, FolderStore):
        return f"/data/local-files/?d={quote(entry.key)}"
    return store.url(entry.key, ADDRESS_S)
