"""Artifacts: what a stage writes to the object store, complete or absent, with its lineage beside it.

An artifact is a prefix that holds some files, ``lineage.json`` and, written last, ``manifest.jsonl`` (one line per
file: key, bytes, sha256, parent). Without its manifest it does not exist. The prefix is derived from the inputs, so a
stage that finds its artifact has nothing left to do, and two configurations never overwrite each other:

    raw/<video>/                        masked/<video>/<fingerprint>/        clips/<video>/<fingerprint>/
    poses/<video>/<fingerprint>/        skeletons/<video>/<fingerprint>/     previews/<video>/<fingerprint>/
    snapshots/<fingerprint>/            datasets/<fingerprint>/              checkpoints/<fingerprint>/
    evaluations/<fingerprint>/          onnx/<fingerprint>/                  models/<name>/<fingerprint>/
    smoke/<fingerprint>/                scores/<fingerprint>/                benchmarks/<fingerprint>/
    reports/<fingerprint>/              captures/<camera>/<time>.json        pretrained/<fingerprint>/
    comparisons/<fingerprint>/
    alarms/<camera>/<day>/<id>/         a record of an alarm, see ``alarms``
    sets/<stage>/<digest>/              a frozen list of artifacts, one line each
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from posewatch import __version__
from posewatch.digests import canonical, digest
from posewatch.errors import NoBucket, NotFound, StoreError
from posewatch.fingerprints import fingerprinted
from posewatch.names import path_of
from posewatch.progress import say
from posewatch.records import Lineage, Parent
from posewatch.store import FolderStore, ObjectStore

MANIFEST = "manifest.jsonl"
LINEAGE = "lineage.json"
MEMBERS = "members.jsonl"
READ_AHEAD = 8
"""Members of a set that are looked up at the same time: an object store answers many requests as fast as one."""


@dataclass(frozen=True)
class Artifact:
    """A complete output of a stage. ``digest`` is the sha256 of its manifest; ``files`` maps a name to its sha256."""

    store: ObjectStore
    prefix: str
    digest: str
    files: dict[str, str] = field(repr=False)

    @property
    def uri(self) -> str:
        return f"{self.store.uri}/{self.prefix}"

    @property
    def content(self) -> str:
        """Digest of the files without the lineage, the same for every version of the code; fingerprints use it."""
        return digest({name: sha for name, sha in self.files.items() if name != LINEAGE})

    @property
    def parent(self) -> Parent:
        return Parent(self.prefix, self.digest)

    def read(self, name: str) -> bytes:
        """The bytes of one file, checked against the manifest. Raises NotFound or StoreError."""
        data = self.store.get(self._key(name))
        self._check(name, hashlib.sha256(data).hexdigest())
        return data

    def json(self, name: str) -> Any:
        return json.loads(self.read(name))

    def lines(self, name: str) -> list[Any]:
        """The rows of a JSON-lines file."""
        return [json.loads(line) for line in self.read(name).splitlines() if line.strip()]

    def fetch(self, name: str, folder: Path) -> Path:
        """Copy one file into ``folder`` (with its sub-folders), checked against the manifest; returns its path."""
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        self.store.fetch(self._key(name), path)
        self._check(name, sha256_file(path))
        return path

    def fetch_all(self, folder: Path) -> Path:
        for name in self.files:
            self.fetch(name, folder)
        return folder

    def lineage(self) -> Lineage:
        return Lineage.from_dict(self.json(LINEAGE))

    def describe(self, output: Any, **metadata: Any) -> str:
        """Point a pipeline engine's typed output (with ``path`` and ``metadata``) at the artifact; returns its URI."""
        about = {"uri": self.uri, "digest": self.digest}
        output.metadata.update({**about, **metadata})
        path = Path(output.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(canonical(about) + "\n", encoding="utf-8")
        return self.uri

    def _key(self, name: str) -> str:
        if name not in self.files:
            raise NotFound(f"{self.uri} holds no {name!r} (it has: {', '.join(sorted(self.files))[:200]})")
        return f"{self.prefix}/{name}"

    def _check(self, name: str, sha256: str) -> None:
        if sha256 != self.files[name]:
            recorded = self.files[name][:12]
            raise StoreError(f"{self.uri}/{name} is damaged: sha256 {sha256[:12]}…, its manifest says {recorded}…")


@dataclass(frozen=True)
class Job:
    """The inputs of an artifact: enough to name it before it exists.

    ``unit`` is the video or the model that the artifact belongs to, empty for stages with one artifact per run.
    ``revision`` is raised when the code of a stage changes its output; ``weights`` as in ``Lineage``.
    ``fixed_prefix`` is for artifacts that are named by their content.
    """

    stage: str
    unit: str
    config: dict[str, Any]
    parents: tuple[Artifact, ...] = ()
    weights: dict[str, dict[str, str]] = field(default_factory=dict)
    revision: int = 1
    source: str = ""
    fixed_prefix: str = ""

    @property
    def fingerprint(self) -> str:
        """12 hex digits of stage, revision, configuration, weights and parents."""
        return digest(
            {
                "stage": self.stage,
                "revision": self.revision,
                "config": fingerprinted(self.config),
                "weights": {k: v["sha256"] for k, v in self.weights.items()},
                "parents": [p.content for p in self.parents],
            }
        )[:12]

    @property
    def prefix(self) -> str:
        """Where the artifact is in the store."""
        return self.fixed_prefix or f"{self.stage}/{self.unit}/{self.fingerprint}".replace("//", "/")


def sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def git(file: str, *arguments: str) -> str:
    """What git says in the folder of ``file``; empty where that is no checkout, or there is no git."""
    command = ["git", "-C", str(Path(file).resolve().parent), *arguments]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""


@cache
def code_version() -> str:
    """The package's version, with the git commit when it runs from a checkout or an image that names it."""
    commit = os.environ.get("POSEWATCH_GIT_SHA", "") or git(__file__, "rev-parse", "--short=12", "HEAD")
    return f"{__version__}+{commit[:12]}" if commit else __version__


def find(store: ObjectStore, prefix: str) -> Artifact | None:
    """The artifact at ``prefix``, or None where there is no complete one. Raises NoBucket."""
    prefix = prefix.strip("/")
    try:
        manifest = store.get(f"{prefix}/{MANIFEST}")
    except NoBucket:
        raise
    except NotFound:
        return None
    try:
        rows = [json.loads(line) for line in manifest.splitlines()]
        files = {row["key"]: row["sha256"] for row in rows}
        cut = not files and isinstance(store, FolderStore)  # a disk may keep the name of a file and lose its content
    except (ValueError, TypeError, KeyError):
        cut = True
    if cut:
        say(f"posewatch: note: {store.uri}/{prefix} is damaged (cut by a power loss?): it counts as absent")
        return None
    return Artifact(store, prefix, hashlib.sha256(manifest).hexdigest(), files)


def get(store: ObjectStore, reference: str) -> Artifact:
    """The artifact that a URI or a prefix names. Raises NotFound."""
    prefix = _prefix(store, reference)
    if "://" in prefix:
        raise NotFound(f"{reference} is not in the store {store.uri} (give the matching --store)")
    if prefix in ("", "."):
        raise NotFound(f"{reference} is the store, not an artifact in it: give {store.uri}/STAGE/.../FINGERPRINT")
    artifact = find(store, prefix)
    if artifact is None:
        raise _absent(store, prefix)
    return artifact


def _absent(store: ObjectStore, prefix: str) -> NotFound:
    return NotFound(f"no such artifact: {store.uri}/{prefix} (it has no {MANIFEST}: never written, or not finished)")


def _prefix(store: ObjectStore, reference: str) -> str:
    """The prefix that a URI or a prefix names; for a folder also one that was typed as a path, or not encoded."""
    if isinstance(store, FolderStore):
        path = path_of(reference)
        if path.is_absolute() and path.resolve().is_relative_to(store.root):
            return path.resolve().relative_to(store.root).as_posix()
    return reference.removeprefix(f"{store.uri}/").strip("/")


def produce(
    store: ObjectStore,
    job: Job,
    write: Callable[[Path], object],
    work: Path | None = None,
    check: Callable[[], None] | None = None,
) -> Artifact:
    """Return the artifact of ``job``; when there is none yet, let ``write(folder)`` write its files and publish them.

    ``work`` is a folder that outlives a crash, for stages that can resume; it is removed after publishing. ``check`` as
    in ``publish``.
    """
    existing = find(store, job.prefix)
    if existing is not None:
        return existing
    with tempfile.TemporaryDirectory(prefix="posewatch-") as temp:
        folder = work or Path(temp)
        folder.mkdir(parents=True, exist_ok=True)
        write(folder)
        artifact = publish(store, job, folder, check)
    if work is not None:
        shutil.rmtree(work, ignore_errors=True)
    return artifact


def publish(store: ObjectStore, job: Job, folder: Path, check: Callable[[], None] | None = None) -> Artifact:
    """Upload every file of ``folder`` and the lineage, then the manifest that makes them visible.

    ``check`` is called before the manifest: where it raises, the artifact stays absent.
    """
    lineage = Lineage(
        stage=job.stage,
        unit=job.unit,
        config=job.config,
        parents=tuple(p.parent for p in job.parents),
        code_version=code_version(),
        weights=job.weights,
        source=job.source,
    )
    (folder / LINEAGE).write_text(canonical(lineage.to_dict()) + "\n", encoding="utf-8")
    rows = []
    parent = digest([p.digest for p in job.parents])[:12] if job.parents else ""
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".")):
        name = path.relative_to(folder).as_posix()
        store.upload(f"{job.prefix}/{name}", path)
        rows.append({"key": name, "bytes": path.stat().st_size, "sha256": sha256_file(path), "parent": parent})
    if check is not None:
        check()
    store.put(f"{job.prefix}/{MANIFEST}", "".join(canonical(row) + "\n" for row in rows).encode())
    return get(store, job.prefix)


def collect(store: ObjectStore, stage: str, rows: Iterable[dict[str, Any]], artifacts: Iterable[Artifact]) -> Artifact:
    """Freeze a list of artifacts as a set: one row per artifact, with its prefix and digest added."""
    members = [{**row, "prefix": a.prefix, "digest": a.digest} for row, a in zip(rows, artifacts, strict=True)]
    text = "".join(canonical(row) + "\n" for row in members)
    name = hashlib.sha256(text.encode()).hexdigest()[:12]
    parents = tuple(Artifact(store, m["prefix"], m["digest"], {}) for m in members)
    job = Job("sets", stage, {"members": len(members)}, parents, fixed_prefix=f"sets/{stage}/{name}")
    return produce(store, job, lambda folder: (folder / MEMBERS).write_text(text, encoding="utf-8"))


def members(collection: Artifact) -> list[tuple[dict[str, Any], Artifact]]:
    """The rows of a set with their artifacts, in order. Raises NotFound or StoreError for a deleted or changed one."""
    return list(walk(collection))


def walk(collection: Artifact) -> Iterator[tuple[dict[str, Any], Artifact]]:
    """Like `members`, one by one with a few read ahead: a set of many videos is never held as a whole."""

    def look_up(row: dict[str, Any]) -> Artifact:
        store, prefix = collection.store, row["prefix"]
        artifact = find(store, prefix)
        if artifact is None and not store.exists(f"{prefix}/{MANIFEST}"):
            raise _absent(store, prefix)
        if artifact is None or artifact.digest != row["digest"]:
            raise StoreError(f"{store.uri}/{prefix} is not the one that {collection.uri} was frozen with")
        return artifact

    with ThreadPoolExecutor(READ_AHEAD) as pool:
        pending: deque[tuple[dict[str, Any], Future[Artifact]]] = deque()
        try:
            for row in collection.lines(MEMBERS):
                pending.append((row, pool.submit(look_up, row)))
                if len(pending) > 2 * READ_AHEAD:
                    first, artifact = pending.popleft()
                    yield first, artifact.result()
            while pending:
                first, artifact = pending.popleft()
                yield first, artifact.result()
        finally:
            for _, future in pending:
                future.cancel()
