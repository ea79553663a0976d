"""The object store: what one video becomes, by a real run of the stages, and what sets of many videos cost."""

from __future__ import annotations

import resource
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posewatch import artifact
from posewatch.artifact import LINEAGE, MANIFEST, MEMBERS, Job, collect, produce, walk
from posewatch.config import Experiment
from posewatch.store import MemoryStore

STAGES = ("raw", "masked", "clips", "poses", "skeletons", "previews")
PER_STAGE = {"raw": (4, 0), "masked": (5, 0), "clips": (3, 1), "poses": (3, 0), "skeletons": (4, 0), "previews": (2, 2)}
"""Objects of a stage for a video, and for each of its clips; a test holds it against what the stages really write."""


EMBEDDING = 256
"""Numbers of a clip's embedding, by ProtoGCN at its published size."""


@dataclass(frozen=True)
class SetCost:
    """A set of ``videos``: bytes of its list and of its lineage, requests and seconds in memory to read it through."""

    videos: int
    list_bytes: int
    lineage_bytes: int
    requests: int
    seconds: float


def per_video(clips: float) -> float:
    """Objects that a video of ``clips`` clips becomes, sets not counted."""
    return sum(fixed + each * clips for fixed, each in PER_STAGE.values())


def real_run(videos: int = 2, seconds: float = 6.0) -> dict[str, Any]:
    """Take rendered videos through the real stages in a folder; objects and bytes by stage, and processor time.

    ``cpu_per_s`` is seconds of one core for a second of video, by stage. Needs the packages of the offline default.
    """
    from posewatch.footage import make_footage
    from posewatch.stages.ingest import ingest
    from posewatch.stages.mask import mask
    from posewatch.stages.pose import pose
    from posewatch.stages.preview import preview
    from posewatch.stages.split import split
    from posewatch.store import FolderStore

    config = Experiment()
    with tempfile.TemporaryDirectory(prefix="posewatch-scale-") as temp:
        source, store = Path(temp) / "footage", FolderStore(Path(temp) / "store")
        make_footage(source, videos=videos, seconds=seconds)
        made, cpu = {}, {}
        for name in ("ingest", "mask", "split", "pose", "preview"):
            before = _cpu()
            if name == "ingest":
                made[name] = ingest(store, str(source))
            elif name == "mask":
                made[name] = mask(store, made["ingest"], config.mask)
            elif name == "split":
                made[name] = split(store, made["mask"], config.split)
            elif name == "pose":
                made[name] = pose(store, made["split"], config.pose)
            else:
                made[name] = preview(store, made["split"], made["pose"])
            cpu[name] = round((_cpu() - before) / (videos * seconds), 3)
        clips = sum(1 for item in store.list("clips/") if item.key.endswith(".mp4"))
        stages = {}
        for stage in STAGES:
            found = store.list(f"{stage}/")
            stages[stage] = {"objects": len(found), "bytes": sum(item.size for item in found)}
        return {"videos": videos, "seconds": seconds, "clips": clips, "stages": stages, "cpu_per_s": cpu}


def _cpu() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def memory(count: int = 2_000) -> dict[str, float]:
    """Bytes in memory of what steps hold one of per video or per clip: measured on ``count`` of each."""
    import tracemalloc

    import numpy as np

    store = MemoryStore(f"scale-memory-{time.monotonic_ns()}")
    files = {f"c-{i:016x}.mp4": f"{i:064x}" for i in range(20)}
    row = {"video_id": "", "label": "normal", "source": "human", "who": "labeler 1", "model_version": None}

    def member(i: int) -> Any:
        kept = {f"{name}{i}": f"{sha}{i}" for name, sha in files.items()}  # strings of their own, as if read
        return {"video": f"v-{i:016x}", "names": [f"{i}.mp4"]}, artifact.Artifact(store, f"clips/{i:029x}", "", kept)

    makers: dict[str, Any] = {
        "member of a set": member,
        "clip id in the gate": lambda i: f"c-{i:016x}",
        "row of a snapshot": lambda i: {"clip_id": f"c-{i:016x}", **row, "video_id": f"v-{i:016x}"},
        "skeleton in a dataset": lambda i: (f"c-{i:016x}", np.zeros((2, 30, 17, 3), np.float32)),
        # its embedding as it came, joined with the others, without the random share, in float64, and standardised
        "clip in a refresh": lambda i: (
            f"c-{i:016x}",
            {"rank": i, "probabilities": {"a": i / 7, "b": i / 9}},
            np.zeros(3 * EMBEDDING, np.float32),
            np.zeros(2 * EMBEDDING),
        ),
    }
    out = {}
    for name, make in makers.items():
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            held = [make(i) for i in range(count)]
            out[name] = round((tracemalloc.get_traced_memory()[0] - before) / len(held), 1)
        finally:
            tracemalloc.stop()
    return out


class _Counting(MemoryStore):
    """A store in memory that counts the objects that are read."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.reads = 0

    def get(self, key: str) -> bytes:
        self.reads += 1
        return super().get(key)


def sets(sizes: tuple[int, ...] = (200, 1_000, 5_000), clips: int = 20) -> list[SetCost]:
    """Freeze sets of many videos of ``clips`` clips with the real functions, and read them through."""
    out = []
    for size in sizes:
        store = _Counting(f"scale-{size}-{time.monotonic_ns()}")
        try:
            out.append(_one(store, size, clips))
        finally:
            store._objects.clear()
    return out


def _one(store: _Counting, size: int, clips: int) -> SetCost:
    sample = {f"c-{i:016x}.mp4": b"" for i in range(clips)}

    def make(folder: Path) -> None:
        for name, data in sample.items():
            (folder / name).write_bytes(data)

    # one real artifact, and its like under other names: making each with files would measure the disk
    first = produce(store, Job("clips", f"v-{0:016x}", {"length_s": 3.0}), make)
    manifest, lineage = store.get(f"{first.prefix}/{MANIFEST}"), store.get(f"{first.prefix}/{LINEAGE}")
    members = []
    for i in range(size):
        prefix = f"clips/v-{i:016x}/{first.prefix.rpartition('/')[2]}"
        store.put(f"{prefix}/{MANIFEST}", manifest)
        store.put(f"{prefix}/{LINEAGE}", lineage)
        members.append(artifact.Artifact(store, prefix, first.digest, first.files))
    rows = [{"video": f"v-{i:016x}", "names": [f"camera {i % 1000}/{i:08}.mp4"]} for i in range(size)]
    made = collect(store, "split", rows, members)
    store.reads = 0
    began = time.perf_counter()
    count = sum(1 for _ in walk(made))
    took = time.perf_counter() - began
    assert count == size
    reads = store.reads
    lengths = {name: len(store.get(f"{made.prefix}/{name}")) for name in (MEMBERS, LINEAGE)}
    return SetCost(size, lengths[MEMBERS], lengths[LINEAGE], reads, took)
