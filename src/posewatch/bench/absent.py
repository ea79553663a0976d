"""What clips of one, two and no persons cost a model of two: computing everybody, and only those who are there."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch.bench.serving import full_size
from posewatch.errors import ServingError
from posewatch.files import write_atomically
from posewatch.progress import Progress

TOLERANCE, ROUNDED = 1e-4, 0.05
"""How far a probability may be from the one of ONNX Runtime computing everybody, in fp32 and in bf16."""
WHO = {"two persons": (0, 1), "one person": (0,), "nobody": ()}
Answer = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def bench_absent(out: Path, *, batches: Sequence[int] = (1, 4), rounds: int = 5) -> str:
    """Write ``absent.json`` and ``absent.md`` to ``out``; returns the table.

    ProtoGCN at full size on one thread, with both files exported to ``out`` unless they are there. All ways take turns
    ``rounds`` times on the same clips, and medians of the processor time count, so that other work on the machine does
    little to them. Raises ServingError where two answers differ.
    """
    from posewatch.export.onnx import synthetic_clips

    ways = _ways(out)
    shape = (2, 100, 17, 3)
    full = synthetic_clips(max(batches) + 3, shape)[2:-1]
    rows: list[dict[str, Any]] = []
    with Progress("clips", len(batches) * len(WHO), "load") as progress:
        for batch in batches:
            for who, there in WHO.items():
                clips = np.zeros_like(full[:batch])
                clips[:, list(there)] = full[:batch, list(there)]
                took = _in_turns(ways, clips, rounds)
                for runtime, (everybody, present) in took.items():
                    rows.append({
                        "runtime": runtime, "batch": batch, "clips": who, "everybody_ips": round(batch / everybody, 2),
                        "present_ips": round(batch / present, 2), "times": round(everybody / present, 2),
                    })  # fmt: skip
                progress.advance(1, f"{batch} at a time, {who}")
    write_atomically(out / "absent.json", json.dumps({"rounds": rounds, "rows": rows}, indent=1) + "\n")
    table = _table(rows)
    write_atomically(out / "absent.md", table)
    return table


def _ways(out: Path) -> dict[str, tuple[Answer, Answer]]:
    """Runtime → how it answers computing everybody, and those who are there."""
    import torch

    from posewatch.export.onnx import export
    from posewatch.inference.onnx_runtime import OnnxPredictor
    from posewatch.inference.openvino import OpenVinoPredictor
    from posewatch.inference.pytorch import TorchPredictor
    from posewatch.stack.triton_install import openvino_folder

    torch.set_num_threads(1)
    skipping, whole = full_size(out), out / "everybody.onnx"
    if not whole.is_file():
        export(out / "protogcn.pt", whole, skip_absent=False)
    plain = TorchPredictor.from_checkpoint(out / "protogcn.pt")
    for network in plain.module.networks:
        network.skip_absent = False
    ways: dict[str, tuple[Any, Any]] = {
        "ONNX Runtime": (OnnxPredictor(whole), OnnxPredictor(skipping)),
        "PyTorch": (plain, TorchPredictor.from_checkpoint(out / "protogcn.pt")),
    }
    if (folder := openvino_folder()).is_dir():
        for precision in ("fp32", "bf16"):
            both = (OpenVinoPredictor(whole, folder, precision), OpenVinoPredictor(skipping, folder, precision))
            ways[f"OpenVINO, {precision}"] = both
    return {name: (_answer(before), _answer(after)) for name, (before, after) in ways.items()}


def _answer(predictor: Any) -> Answer:
    return lambda clips: predictor.predict(clips).probabilities  # type: ignore[no-any-return]


def _in_turns(
    ways: dict[str, tuple[Answer, Answer]], clips: NDArray[np.float32], rounds: int
) -> dict[str, tuple[float, float]]:
    """Median processor seconds of each way, after one answer that is compared and not counted."""
    want = ways["ONNX Runtime"][0](clips)
    for name, both in ways.items():
        for answer in both:
            difference = float(np.abs(answer(clips) - want).max())
            if difference > (ROUNDED if "bf16" in name else TOLERANCE):
                raise ServingError(f"{name} answers otherwise: a probability differs by {difference:.2g}")
    took: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in ways}
    for _ in range(rounds):
        for name, both in ways.items():
            for answer, seconds in zip(both, took[name], strict=True):
                begin = time.process_time()
                answer(clips)
                seconds.append(time.process_time() - begin)
    return {name: (float(np.median(a)), float(np.median(b))) for name, (a, b) in took.items()}


def _table(rows: Sequence[dict[str, Any]]) -> str:
    lines = [
        "| runtime | at a time | clips of | clips per CPU second, everybody computed | only who is there | times |",
        "|---|--:|---|--:|--:|--:|",
    ]
    lines += [
        f"| {r['runtime']} | {r['batch']} | {r['clips']} | {r['everybody_ips']:g} | {r['present_ips']:g} "
        f"| {r['times']:.2f} |"
        for r in rows
    ]
    return "\n".join(lines) + "\n"
