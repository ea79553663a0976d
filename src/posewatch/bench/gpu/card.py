"""The device that is measured: its name, its clock, and the peak that it really reaches."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Timing:
    """Seconds of each call, the device waited for after each."""

    seconds: tuple[float, ...]

    def rate(self, units: int) -> float:
        """Units per second, of ``units`` in each call."""
        return units * len(self.seconds) / sum(self.seconds)

    def ms(self, percentile: float) -> float:
        return float(np.percentile(self.seconds, percentile) * 1000)


class Card:
    """A GPU, or the CPU in a dry run. ``peak_side`` is the side of the matrices whose product gives the peak."""

    def __init__(self, device: str, peak_side: int = 8192) -> None:
        self.device = torch.device(device)
        self.cuda = self.device.type == "cuda"
        self.precisions = tuple(DTYPES) if self.cuda else ("fp32",)
        self._side = peak_side

    @cached_property
    def about(self) -> dict[str, Any]:
        """Name, memory and versions, for the report."""
        about: dict[str, Any] = {"device": self.device.type, "torch": torch.__version__}
        if self.cuda:
            properties = torch.cuda.get_device_properties(self.device)
            about |= {
                "name": properties.name,
                "memory_gib": round(properties.total_memory / 2**30, 1),
                "processors": properties.multi_processor_count,
                "cuda": torch.version.cuda,
                "cudnn": torch.backends.cudnn.version(),
            }
        return about

    def wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize(self.device)

    def timed(self, call: Callable[[], Any], seconds: float, least: int = 3) -> Timing:
        """Call for about ``seconds``, at least ``least`` times, after three calls that are not counted."""
        for _ in range(3):
            call()
        self.wait()
        spent: list[float] = []
        end = time.perf_counter() + seconds
        while len(spent) < least or time.perf_counter() < end:
            begin = time.perf_counter()
            call()
            self.wait()
            spent.append(time.perf_counter() - begin)
        return Timing(tuple(spent))

    def peak(self, precision: str) -> float:
        """FLOP/s of a product of two large matrices: what the card gives here and today, not its data sheet."""
        a = torch.randn(self._side, self._side, device=self.device, dtype=DTYPES[precision])
        with arithmetic(precision):
            timing = self.timed(lambda: a @ a, 0.3)
        return float(2 * self._side**3 / np.min(timing.seconds))

    def busy(self, call: Callable[[], Any], times: int = 5) -> float | None:
        """Share of the wall time in which a kernel or a copy runs on the GPU; None without one."""
        if not self.cuda:
            return None
        from torch.profiler import ProfilerActivity, profile

        call()
        self.wait()
        with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as seen:
            begin = time.perf_counter()
            for _ in range(times):
                call()
            self.wait()
            wall = time.perf_counter() - begin
        spans = sorted(
            (event.time_range.start, event.time_range.end)
            for event in seen.events() or ()
            if str(event.device_type).endswith("CUDA")
        )
        return min(1.0, _covered(spans) / 1e6 / wall)

    def release(self) -> None:
        """Give memory back that nothing holds any more, after something did not fit."""
        if self.cuda:
            gc.collect()
            torch.cuda.empty_cache()

    def peak_memory(self) -> float | None:
        """GiB of the most that was allocated since the last call; None without a GPU."""
        if not self.cuda:
            return None
        most = torch.cuda.max_memory_allocated(self.device) / 2**30
        torch.cuda.reset_peak_memory_stats(self.device)
        return round(most, 2)


def _covered(spans: list[tuple[float, float]]) -> float:
    """The length of the union of intervals that are sorted by their begin."""
    total, reached = 0.0, float("-inf")
    for begin, end in spans:
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total


@contextlib.contextmanager
def arithmetic(precision: str) -> Iterator[None]:
    """Inside, fp32 products and convolutions are exact, or on tensor cores with ``tf32``."""
    fast = precision == "tf32"
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = fast
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
