"""The object store: objects per video, from a real run of the stages, and the cost of sets of many videos."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posewatch.artifact import LINEAGE, MANIFEST, MEMBERS, Artifact, Job, collect, produce, walk
from posewatch.config import Experiment
from posewatch.store import MemoryStore

STAGES = ("raw", "masked", "clips", "poses", "skeletons", "previews")
PER_STAGE = {"raw": (4, 0), "masked": (5, 0), "clips": (3, 1), "poses": (3, 0), "skeletons": (5, 0), "previews": (2, 2)}
"""Objects that a stage writes per video, and per clip; a test compares it with what the stages really write."""
EMBEDDING = 256
"""Length of a clip's embedding, from ProtoGCN at its published size."""


@dataclass(frozen=True)
class SetCost:
    """A set of ``videos``: bytes of its list and lineage; requests and seconds (store in memory) to read it through."""

    videos: int
    list_bytes: int
    lineage_bytes: int
    requests: int
    seconds: float


def real_run(videos: int = 2, seconds: float = 6.0) -> dict[str, Any]:
    """Take rendered videos through the real stages in a temporary folder.

    Returns objects and bytes by stage, and in ``cpu_per_s`` seconds of one core per second of video by step. Needs the
    packages of the offline default.
    """
    from posewatch.footage import make_footage
    from posewatch.stages.ingest import ingest
    from posewatch.stages.mask import mask
    from posewatch.stages.pose import pose
    from posewatch.stages.queue_clips import previews
    from posewatch.stages.split import split
    from posewatch.store import FolderStore

    config = Experiment()
    with tempfile.TemporaryDirectory(prefix="posewatch-scale-") as temp:
        source, store = Path(temp) / "footage", FolderStore(Path(temp) / "store")
        make_footage(source, videos=videos, seconds=seconds)
        outputs: dict[str, Artifact] = {}
        steps: dict[str, Callable[[], Artifact]] = {
            "ingest": lambda: ingest(store, str(source)),
            "mask": lambda: mask(store, outputs["ingest"], config.mask),
            "split": lambda: split(store, outputs["mask"], config.split),
            "pose": lambda: pose(store, outputs["split"], config.pose),
            "preview": lambda: previews(store, outputs["split"], outputs["pose"]),
        }
        cpu = {}
        for name, step in steps.items():
            before = sum(os.times()[:4])  # of this process and its children
            outputs[name] = step()
            cpu[name] = round((sum(os.times()[:4]) - before) / (videos * seconds), 3)
        clips = sum(1 for item in store.list("clips/") if item.key.endswith(".mp4"))
        stages = {}
        for stage in STAGES:
            items = store.list(f"{stage}/")
            stages[stage] = {"objects": len(items), "bytes": sum(item.size for item in items)}
        return {"videos": videos, "seconds": seconds, "clips": clips, "stages": stages, "cpu_per_s": cpu}


def memory(count: int = 2_000) -> dict[str, float]:
    """Bytes in memory of what a step holds per video or per clip, measured on ``count`` of each."""
    import tracemalloc

    import numpy as np

    store = MemoryStore(f"scale-memory-{time.monotonic_ns()}")
    files = {f"c-{i:016x}.mp4": f"{i:064x}" for i in range(20)}
    row = {"video_id": "", "label": "normal", "source": "human", "who": "labeler 1", "model_version": None}

    def member(i: int) -> Any:
        own = {f"{name}{i}": f"{sha}{i}" for name, sha in files.items()}  # strings of its own, as if read
        return {"video": f"v-{i:016x}", "names": [f"{i}.mp4"]}, Artifact(store, f"clips/{i:029x}", "", own)

    makers: dict[str, Any] = {
        "member of a set": member,
        "clip id in the gate": lambda i: f"c-{i:016x}",
        "row of a snapshot": lambda i: {"clip_id": f"c-{i:016x}", **row, "video_id": f"v-{i:016x}"},
        "skeleton in a dataset": lambda i: (f"c-{i:016x}", np.zeros((2, 30, 17, 3), np.float32)),
        # its embedding in float32 (as read, joined, without the random share) and in float64 (plain, standardised)
        "clip in a refresh": lambda i: (
            f"c-{i:016x}",
            {"rank": i, "probabilities": {"a": i / 7, "b": i / 9}},
            np.zeros(3 * EMBEDDING, np.float32),
            np.zeros(2 * EMBEDDING),
        ),
    }
    sizes = {}
    for name, make in makers.items():
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            held = [make(i) for i in range(count)]
            sizes[name] = round((tracemalloc.get_traced_memory()[0] - before) / len(held), 1)
        finally:
            tracemalloc.stop()
    return sizes


class _Counting(MemoryStore):
    """A store in memory that counts reads."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.reads = 0

    def get(self, key: str) -> bytes:
        self.reads += 1
        return super().get(key)


def sets(sizes: tuple[int, ...] = (200, 1_000, 5_000), clips: int = 20) -> list[SetCost]:
    """Freeze sets of many videos of ``clips`` clips with the real functions, and read them through."""
    return [_set_cost(_Counting(f"scale-{size}-{time.monotonic_ns()}"), size, clips) for size in sizes]


def _set_cost(store: _Counting, size: int, clips: int) -> SetCost:
    sample = {f"c-{i:016x}.mp4": b"" for i in range(clips)}

    def make(folder: Path) -> None:
        for name, data in sample.items():
            (folder / name).write_bytes(data)

    # one real artifact, copied to other names: writing each from files would measure the disk
    first = produce(store, Job("clips", f"v-{0:016x}", {"length_s": 3.0}), make)
    manifest, lineage = store.get(f"{first.prefix}/{MANIFEST}"), store.get(f"{first.prefix}/{LINEAGE}")
    members = []
    for i in range(size):
        prefix = f"clips/v-{i:016x}/{first.prefix.rpartition('/')[2]}"
        store.put(f"{prefix}/{MANIFEST}", manifest)
        store.put(f"{prefix}/{LINEAGE}", lineage)
        members.append(Artifact(store, prefix, first.digest, first.files))
    rows = [{"video": f"v-{i:016x}", "names": [f"camera {i % 1000}/{i:08}.mp4"]} for i in range(size)]
    whole = collect(store, "split", rows, members)
    store.reads = 0
    began = time.perf_counter()
    count = sum(1 for _ in walk(whole))
    seconds = time.perf_counter() - began
    assert count == size
    reads = store.reads
    lengths = {name: len(store.get(f"{whole.prefix}/{name}")) for name in (MEMBERS, LINEAGE)}
    return SetCost(size, lengths[MEMBERS], lengths[LINEAGE], reads, seconds)
