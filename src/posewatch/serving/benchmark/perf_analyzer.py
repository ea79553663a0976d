"""Runs Triton's own load generator, if it is installed, as a cross-check of our figures."""

from __future__ import annotations

import csv
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from posewatch.errors import ServingError, first_line


def find(given: str) -> Path:
    """Its path: ``given``, or for ``auto`` the one on PATH. Raises ServingError if it does not exist."""
    path = shutil.which("perf_analyzer" if given == "auto" else given)
    if not path:
        raise ServingError(f"no perf_analyzer at {given!r}: install Triton's client tools, or leave the option out")
    return Path(path)


def run(binary: Path, url: str, model: str, concurrency: int, seconds: float) -> dict[str, Any]:
    """One closed loop over gRPC with random clips: ``concurrency``, ``throughput_ips``, ``p50_ms``, ``p95_ms``.

    Raises ServingError with the last line of the tool's output if it fails.
    """
    with tempfile.TemporaryDirectory(prefix="posewatch-bench-") as temp:
        table = Path(temp) / "table.csv"
        window = str(max(500, int(seconds * 1000)))
        command = [str(binary), "-m", model, "-i", "grpc", "-u", url, "-b", "1", "-f", str(table), "--async"]
        command += ["--concurrency-range", str(concurrency), "--measurement-interval", window, "-s", "50", "-r", "4"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60 + 8 * seconds, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ServingError(f"{binary} does not work: {first_line(error)}") from None
        if done.returncode or not table.is_file():
            words = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
            raise ServingError(f"{binary} failed: {(words or ['it wrote nothing'])[-1][:200]}")
        with table.open(newline="", encoding="utf-8") as file:
            row = next(csv.DictReader(file))
    return {
        "concurrency": int(row["Concurrency"]),
        "throughput_ips": float(row["Inferences/Second"]),
        "p50_ms": float(row["p50 latency"]) / 1000,
        "p95_ms": float(row["p95 latency"]) / 1000,
    }
