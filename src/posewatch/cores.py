"""How many processors this process may use.

A container's CPU limit is a quota of its control group: all processors of the machine are seen, and whoever starts a
process or a thread for each of them waits for most of the time, and runs out of memory.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

_THREADS = "OMP_NUM_THREADS"
_ours: int | None = None
"""The number in OMP_NUM_THREADS; None: it is not ours, or there is none."""


def usable(root: Path = Path("/")) -> int:
    """The processors that this process may run on, and no more than the quotas of its control groups (1 at least).

    ``root`` is where /proc and /sys are.
    """
    cores = len(os.sched_getaffinity(0))
    return max(1, int(min([cores, *_quotas(root)])))


def limit_threads() -> None:
    """Let the libraries that are loaded from here on (OpenMP, OpenBLAS) start no more threads than there is quota for;
    a number that the user gave is left alone."""
    if _THREADS not in os.environ and (cores := usable()) < len(os.sched_getaffinity(0)):
        take(cores)


def part(processes: int) -> int | None:
    """The threads that each of so many processes side by side may ``take``; None: the user gave a number."""
    if _ours is None and _THREADS in os.environ:
        return None
    return max(1, (_ours or usable()) // processes)


def take(threads: int | None) -> None:
    """Let PyTorch, and what is loaded from here on, start so many threads in this process; None changes nothing.

    By itself PyTorch starts one for every processor, in each of the processes that share them.
    """
    global _ours
    if threads is None:
        return
    _ours = threads
    os.environ[_THREADS] = str(threads)
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(threads)


def share_cores() -> None:
    """Let PyTorch's threads sleep while they wait, in a process that has not loaded it yet.

    By itself they spin: a step of training, or a clip that a watcher asks about, then takes several times the processor
    time as soon as anything else runs.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _quotas(root: Path) -> Iterator[float]:
    """Processors that each control group of this process may use at a time, of those with a quota."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
        parts = [part for part in path.split("/") if part]
        # in a container the path may be that on the host: then only the mount, the container's own group, exists
        for folder in (mount.joinpath(*parts[:n]) for n in range(len(parts) + 1)):
            quota = _quota(folder) if controllers else _quota_2(folder)
            if quota is not None:
                yield quota


def _quota(folder: Path) -> float | None:
    """Of version 1; None: there is none."""
    try:
        quota, period = (int((folder / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
    except (OSError, ValueError):
        return None
    return quota / period if quota > 0 and period > 0 else None


def _quota_2(folder: Path) -> float | None:
    """Of version 2; None: there is none."""
    try:
        quota, period = (int(word) for word in (folder / "cpu.max").read_text().split())
    except (OSError, ValueError):  # "max 100000" is none
        return None
    return quota / period if period > 0 else None
