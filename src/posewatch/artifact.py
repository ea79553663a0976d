"""Artifacts: what a stage writes to the object store, complete or absent, with its lineage beside it.

An artifact is a prefix that holds some files, ``lineage.json`` and, written last, ``manifest.jsonl`` (one line per
file: key, bytes, sha256, parent). Without its manifest it does not exist. The prefix is derived from what the artifact
was made of, so a stage that finds it has nothing left to do, and two configurations never overwrite each other:

    raw/<video>/                        masked/<video>/<recipe>/        clips/<video>/<recipe>/
    poses/<video>/<recipe>/             skeletons/<video>/<recipe>/     captures/<camera>/<time>.json
    snapshots/<recipe>/                 datasets/<recipe>/
    checkpoints/<recipe>/               evaluations/<recipe>/           onnx/<recipe>/
    models/<name>/<version>/            benchmarks/<recipe>/            reports/<recipe>/
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
from posewatch.config import fingerprinted
from posewatch.digests import canonical, digest
from posewatch.errors import NotFound, StoreError
from posewatch.records import Lineage, Parent
from posewatch.store import ObjectStore

MANIFEST = "manifest.jsonl"
LINEAGE = "lineage.json"
MEMBERS = "members.jsonl"
AHEAD = 8
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
        """Digest of what the files hold, whatever version of the code wrote them: recipes are built from it."""
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
        """Copy one file into ``folder`` (keeping its sub-folders), checked; returns its path."""
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

    def _key(self, name: str) -> str:
        if name not in self.files:
            raise NotFound(f"{self.uri} holds no {name!r} (it has: {', '.join(sorted(self.files))[:200]})")
        return f"{self.prefix}/{name}"

    def _check(self, name: str, found: str) -> None:
        if found != self.files[name]:
            raise StoreError(
                f"{self.uri}/{name} is damaged: sha256 {found[:12]}…, its manifest says {self.files[name][:12]}…"
            )


@dataclass(frozen=True)
class Job:
    """What an artifact is made from: enough to name it before it exists.

    ``revision`` is raised by a stage whose code changes what it writes; ``weights`` as in ``Lineage``.
    """

    stage: str
    unit: str
    config: dict[str, Any]
    parents: tuple[Artifact, ...] = ()
    weights: dict[str, dict[str, str]] = field(default_factory=dict)
    revision: int = 1
    source: str = ""
    prefix: str = ""

    @property
    def recipe(self) -> str:
        """12 hex digits that stand for stage, revision, configuration, weights and parents."""
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
    def where(self) -> str:
        return self.prefix or f"{self.stage}/{self.unit}/{self.recipe}".replace("//", "/")


def sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def code_version() -> str:
    """The package's version, with the git commit when it runs from a checkout or an image that names it."""
    commit = os.environ.get("POSEWATCH_GIT_SHA", "")
    if not commit:
        here = Path(__file__).resolve().parent
        try:
            asked = subprocess.run(
                ["git", "-C", str(here), "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, timeout=10
            )
            commit = asked.stdout.strip() if asked.returncode == 0 else ""
        except (OSError, subprocess.TimeoutExpired):
            commit = ""
    return f"{__version__}+{commit[:12]}" if commit else __version__


def find(store: ObjectStore, prefix: str) -> Artifact | None:
    """The artifact at ``prefix``, or None where there is no complete one."""
    prefix = prefix.strip("/")
    try:
        manifest = store.get(f"{prefix}/{MANIFEST}")
    except NotFound as error:
        if "no such bucket" in str(error):
            raise
        return None
    files = {}
    for line in manifest.splitlines():
        row = json.loads(line)
        files[row["key"]] = row["sha256"]
    return Artifact(store, prefix, hashlib.sha256(manifest).hexdigest(), files)


def get(store: ObjectStore, reference: str) -> Artifact:
    """The artifact that a URI or a prefix names. Raises NotFound."""
    prefix = reference.removeprefix(store.uri).strip("/")
    if "://" in prefix:
        raise NotFound(f"{reference} does not lie in the store {store.uri} (give the matching --store)")
    found = find(store, prefix)
    if found is None:
        raise NotFound(f"no such artifact: {store.uri}/{prefix} (it has no {MANIFEST}: never made, or not finished)")
    return found


def produce(store: ObjectStore, job: Job, make: Callable[[Path], None], work: Path | None = None) -> Artifact:
    """Return the artifact of ``job``; when there is none yet, let ``make(folder)`` write its files and publish them.

    ``work`` is a folder that outlives a crash, for stages that can resume; it is removed once the artifact is there.
    """
    found = find(store, job.where)
    if found is not None:
        return found
    with tempfile.TemporaryDirectory(prefix="posewatch-") as temp:
        folder = work or Path(temp)
        folder.mkdir(parents=True, exist_ok=True)
        make(folder)
        artifact = publish(store, job, folder)
    if work is not None:
        shutil.rmtree(work, ignore_errors=True)
    return artifact


def publish(store: ObjectStore, job: Job, folder: Path) -> Artifact:
    """Upload every file of ``folder`` and the lineage, then the manifest that makes them visible."""
    prefix = job.where
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
        store.upload(f"{prefix}/{name}", path)
        rows.append({"key": name, "bytes": path.stat().st_size, "sha256": sha256_file(path), "parent": parent})
    store.put(f"{prefix}/{MANIFEST}", "".join(canonical(row) + "\n" for row in rows).encode())
    return get(store, prefix)


def collect(store: ObjectStore, stage: str, rows: Iterable[dict[str, Any]], artifacts: Iterable[Artifact]) -> Artifact:
    """Freeze a list of artifacts as one: ``rows`` (one dict each, kept) gain the prefix and digest of theirs."""
    members = [{**row, "prefix": a.prefix, "digest": a.digest} for row, a in zip(rows, artifacts, strict=True)]
    text = "".join(canonical(row) + "\n" for row in members)
    name = hashlib.sha256(text.encode()).hexdigest()[:12]
    parents = tuple(Artifact(store, m["prefix"], m["digest"], {}) for m in members)
    job = Job("sets", stage, {"members": len(members)}, parents, prefix=f"sets/{stage}/{name}")
    return produce(store, job, lambda folder: void((folder / MEMBERS).write_text(text, encoding="utf-8")))


def members(collection: Artifact) -> list[tuple[dict[str, Any], Artifact]]:
    """The rows of a set with their artifacts, in order. Raises NotFound when a member has gone, or has changed."""
    return list(walk(collection))


def walk(collection: Artifact) -> Iterator[tuple[dict[str, Any], Artifact]]:
    """What `members` gives, one by one: a set of many videos is read a few ahead, and never held as a whole."""

    def find_member(row: dict[str, Any]) -> Artifact:
        artifact = get(collection.store, row["prefix"])
        if artifact.digest != row["digest"]:
            raise StoreError(f"{artifact.uri} is not the one that {collection.uri} was frozen with")
        return artifact

    with ThreadPoolExecutor(AHEAD) as pool:
        asked: deque[tuple[dict[str, Any], Future[Artifact]]] = deque()
        try:
            for row in collection.lines(MEMBERS):
                asked.append((row, pool.submit(find_member, row)))
                if len(asked) > 2 * AHEAD:
                    first, artifact = asked.popleft()
                    yield first, artifact.result()
            while asked:
                first, artifact = asked.popleft()
                yield first, artifact.result()
        finally:
            for _, left in asked:
                left.cancel()


def describe(artifact: Artifact, output: Any, **metadata: Any) -> str:
    """Point a pipeline engine's typed output (it has ``path`` and ``metadata``) at the artifact; returns its URI."""
    output.metadata.update({"uri": artifact.uri, "digest": artifact.digest, **metadata})
    path = Path(output.path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(canonical({"uri": artifact.uri, "digest": artifact.digest}) + "\n", encoding="utf-8")
    return artifact.uri


def void(_: object) -> None:
    """Make a statement of an expression."""
