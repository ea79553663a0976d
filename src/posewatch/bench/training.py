"""How much faster and smaller ProtoGCN's training is here than in its published arrangement.

Each arrangement runs in a process of its own, one after the other, so that its peak of memory is its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from posewatch.bench.protogcn_published import Published
from posewatch.datasets.layouts import get as get_layout
from posewatch.errors import InputError
from posewatch.files import write_atomically
from posewatch.progress import say
from posewatch.recognition.models.protogcn.activation_cache import place_gradients
from posewatch.recognition.models.protogcn.network import ProtoGCN

ARRANGEMENTS = ("published", "ours", "ours, recomputing")


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


def build(arrangement: str, size: Size) -> ProtoGCN:
    """The network of one of ``ARRANGEMENTS``: with equal seeds, they have equal weights."""
    joints = len(get_layout(size.layout).joints)
    made = Published if arrangement == "published" else ProtoGCN
    network = made(joints, size.classes, size.width, size.prototypes)
    network.recompute = arrangement == "ours, recomputing"
    return network


def measure(arrangement: str, size: Size, threads: int) -> dict[str, Any]:
    """Least seconds and CPU seconds of ``size.steps`` training steps and forward passes, and peak memory (bytes).

    To be called in a process that did nothing else.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    network = build(arrangement, size)
    joints = len(get_layout(size.layout).joints)
    x = torch.randn(size.batch, size.people, size.frames, joints, 3)
    labels = torch.arange(size.batch) % size.classes
    before = _peak()

    published = arrangement == "published"
    if not published:
        place_gradients(network)

    def step() -> Tensor:
        network.zero_grad(set_to_none=published)
        out = network(x)
        loss = F.cross_entropy(out.logits, labels) + 0.2 * network.auxiliary_loss(out, labels)
        loss.backward()
        return loss.detach()

    def forward() -> Tensor:
        with torch.no_grad():
            return cast(Tensor, network(x).logits)

    losses, train = _timed(step, size.steps)
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
        "loss": float(losses[0]),
    }


def _timed(call: Callable[[], Tensor], times: int) -> tuple[list[Tensor], dict[str, float]]:
    made, wall, cpu = [call()], [], []  # the first one is not counted
    for _ in range(times):
        start, busy = time.perf_counter(), time.process_time()
        made.append(call())
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - busy)
    return made, {"seconds": min(wall), "cpu_seconds": min(cpu)}


def _peak() -> int:
    """The most memory this process has held so far, in bytes."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    raise InputError("peak memory is read from /proc/self/status, which this system has not: run it on Linux")


def compare(size: Size, threads: Sequence[int], note: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Measure all arrangements, each in its own process; ratios are published / ours. Raises InputError."""
    rows = []
    for count in threads:
        for arrangement in ARRANGEMENTS:
            note(f"{arrangement}, threads {count}")
            rows.append(_in_process(arrangement, size, count))
    for row in rows:
        base = next(r for r in rows if r["threads"] == row["threads"] and r["arrangement"] == "published")
        row["ratios"] = {
            "step": round(base["step"]["cpu_seconds"] / row["step"]["cpu_seconds"], 3),
            "step_wall": round(base["step"]["seconds"] / row["step"]["seconds"], 3),
            "forward": round(base["forward"]["cpu_seconds"] / row["forward"]["cpu_seconds"], 3),
            "forward_wall": round(base["forward"]["seconds"] / row["forward"]["seconds"], 3),
            "peak": round(base["peak"] / row["peak"], 3),
        }
    return {"size": asdict(size), "torch": torch.__version__, "rows": rows}


_MEASURE = """
import json, sys
from posewatch.bench.training import Size, measure
task = json.loads(sys.argv[1])
sys.stdout.write(json.dumps(measure(task["arrangement"], Size(**task["size"]), task["threads"])))
"""


def _in_process(arrangement: str, size: Size, threads: int) -> dict[str, Any]:
    task = json.dumps({"arrangement": arrangement, "size": asdict(size), "threads": threads})
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, task],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["killed, as when memory runs out"])[-1]
        raise InputError(f"measuring {arrangement!r} failed: {last} (try a smaller --width or --batch)")
    return cast("dict[str, Any]", json.loads(done.stdout.splitlines()[-1]))


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


def write(result: dict[str, Any], folder: Path) -> None:
    """``bench_train.json`` and ``bench_train.md`` in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "bench_train.json", (json.dumps(result, indent=2) + "\n").encode())
    write_atomically(folder / "bench_train.md", markdown(result).encode())


def bench_training(out: Path, size: Size, threads: Sequence[int] = (1,)) -> str:
    """Measure, and write bench_train.json and bench_train.md to ``out``; returns the Markdown. Raises InputError."""
    numbers = [size.width, size.batch, size.frames, size.people, size.steps, *threads]
    if min(numbers) < 1 or size.width < 8:
        raise InputError("--width must be at least 8, all other numbers at least 1")
    get_layout(size.layout)
    result = compare(size, threads, say)
    write(result, out)
    return markdown(result)
