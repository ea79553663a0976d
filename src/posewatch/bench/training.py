"""Time and memory of ProtoGCN's training: the published order of operations, and the fused form used here.

Each arrangement runs in a process of its own, one after the other, so that its peak of memory is its own.
"""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from posewatch.bench.protogcn_published import publish
from posewatch.datasets.layouts import get as get_layout
from posewatch.errors import InputError
from posewatch.files import write_atomically
from posewatch.progress import say
from posewatch.recognition.models.protogcn.fused import FusedProtoGCN
from posewatch.recognition.models.protogcn.network import ProtoGCN
from posewatch.recognition.training.trainer import place_gradients

ARRANGEMENTS = ("published", "ours")


@dataclass(frozen=True)
class Size:
    """What is measured: a network on batches of ``batch`` clips of ``people`` persons and ``frames`` frames."""

    layout: str = "coco17"
    width: int = 96
    batch: int = 16
    frames: int = 100
    people: int = 2
    classes: int = 60
    prototypes: int = 400
    steps: int = 3


def bench_training(out: Path, size: Size, threads: Sequence[int] = (1,)) -> str:
    """Measure, and write bench_train.json and bench_train.md to ``out``; returns the Markdown. Raises InputError."""
    get_layout(size.layout)
    rows = []
    for count in threads:
        for arrangement in ARRANGEMENTS:
            say(f"{arrangement}, threads {count}")
            rows.append(measure_apart(arrangement, size, count))
        published = rows[-len(ARRANGEMENTS)]
        for row in rows[-len(ARRANGEMENTS) :]:
            row["ratios"] = {
                "step": round(published["step"]["cpu_seconds"] / row["step"]["cpu_seconds"], 3),
                "step_wall": round(published["step"]["seconds"] / row["step"]["seconds"], 3),
                "forward": round(published["forward"]["cpu_seconds"] / row["forward"]["cpu_seconds"], 3),
                "forward_wall": round(published["forward"]["seconds"] / row["forward"]["seconds"], 3),
                "peak": round(published["peak"] / row["peak"], 3),
            }
    result = {"size": asdict(size), "torch": torch.__version__, "rows": rows}
    write_atomically(out / "bench_train.json", (json.dumps(result, indent=2) + "\n").encode())
    table = markdown(result)
    write_atomically(out / "bench_train.md", table.encode())
    return table


def build(arrangement: str, size: Size) -> ProtoGCN:
    """The network of one of ``ARRANGEMENTS``; with equal seeds they have equal weights."""
    network = FusedProtoGCN(len(get_layout(size.layout).joints), size.classes, size.width, size.prototypes)
    return publish(network) if arrangement == "published" else network


def measure_apart(arrangement: str, size: Size, threads: int) -> dict[str, Any]:
    """``measure`` in a process of its own. Raises InputError."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(measure, arrangement, size, threads).result()
        except Exception as error:
            raise InputError(f"measuring {arrangement!r} failed: {error} (try a smaller --width or --batch)") from None


def measure(arrangement: str, size: Size, threads: int) -> dict[str, Any]:
    """Least seconds and CPU seconds of ``size.steps`` training steps and forward passes, and peak memory (bytes)."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    joints = len(get_layout(size.layout).joints)
    network = build(arrangement, size)
    x = torch.randn(size.batch, size.people, size.frames, joints, 3)
    labels = torch.arange(size.batch) % size.classes
    before = _peak()
    place_gradients(network)

    def step() -> Tensor:
        network.zero_grad(set_to_none=False)
        out = network(x)
        loss = F.cross_entropy(out.logits, labels) + 0.2 * network.auxiliary_loss(out, labels)
        loss.backward()
        return loss.detach()

    def forward() -> Tensor:
        with torch.no_grad():
            return cast(Tensor, network(x).logits)

    first_loss, train = _timed(step, size.steps)
    peak = _peak()
    network.eval()
    _, infer = _timed(forward, size.steps)
    return {
        "arrangement": arrangement,
        "threads": threads,
        "step": train,
        "forward": infer,
        "peak": peak,
        "peak_of_step": peak - before,
        "loss": float(first_loss),
    }


def _timed(call: Callable[[], Tensor], times: int) -> tuple[Tensor, dict[str, float]]:
    first, wall, cpu = call(), [], []  # the first call is not counted
    for _ in range(times):
        start, busy = time.perf_counter(), time.process_time()
        call()
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - busy)
    return first, {"seconds": min(wall), "cpu_seconds": min(cpu)}


def _peak() -> int:
    """The most memory that this process has held so far, in bytes."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    raise InputError("peak memory is read from /proc/self/status, which this system has not: run it on Linux")


def markdown(result: dict[str, Any]) -> str:
    """The table for people."""
    about = ", ".join(f"{k} {v}" for k, v in result["size"].items())
    lines = [
        f"{about}; torch {result['torch']}. Seconds are CPU seconds, the least of the steps; ratios are to published.",
        "",
        "| arrangement | threads | training step | ratio | forward | ratio | peak memory | ratio |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in result["rows"]:
        ratio = row["ratios"]
        lines.append(
            f"| {row['arrangement']} | {row['threads']} | {row['step']['cpu_seconds']:.3f} s | {ratio['step']:.2f}x |"
            f" {row['forward']['cpu_seconds']:.3f} s | {ratio['forward']:.2f}x | {row['peak'] / 2**20:.0f} MiB |"
            f" {ratio['peak']:.2f}x |"
        )
    return "\n".join(lines) + "\n"
