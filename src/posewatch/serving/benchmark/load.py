"""Loads for the benchmark: closed loop (a number of clients, each waits for its answer) and open loop (none waits).

An open loop sends at random moments with a fixed mean rate (Poisson) whatever the server does, and a latency counts
from the moment at which its request was due: a server that stalls cannot hide that by keeping clients waiting.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from posewatch.errors import PosewatchError, ServingError

Clips = NDArray[np.float32]
MAX_WARMUP_S = 30.0
"""How long a load waits for its first answers, before it measures and after its time."""
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Measured:
    """The result of a load: latencies in ms, ``answers`` within ``wall_s`` seconds, ``errors`` refused or late.

    ``client_cpu_s`` is this process's own processor time meanwhile.
    """

    latencies_ms: list[float] = field(default_factory=list)
    answers: int = 0
    errors: int = 0
    wall_s: float = 0.0
    client_cpu_s: float = 0.0


class Meter(Protocol):
    """Called when the measured time begins and when it ends, to read the server's counts."""

    def begin(self) -> None: ...
    def end(self) -> None: ...


class NoMeter:
    """Reads nothing."""

    def begin(self) -> None: ...
    def end(self) -> None: ...


def in_process(predict: Callable[[Clips], Any], clips: Clips, workers: int, seconds: float) -> Measured:
    """``workers`` threads that each send one clip after the other to a model in this process.

    If no answer comes within ``seconds``, the measured time goes on until one does. Raises what the model raises.
    """
    measured, lock = Measured(), threading.Lock()
    start, end = threading.Event(), threading.Event()
    warm = threading.Barrier(workers + 1)
    crashes: list[BaseException] = []

    def work(number: int) -> None:
        at = number
        try:
            predict(clips[at % len(clips)][None])
            warm.wait()
            start.wait()
            while not end.is_set():
                began = time.perf_counter()
                predict(clips[at % len(clips)][None])
                lasted = (time.perf_counter() - began) * 1000
                at += workers
                with lock:
                    if not end.is_set():
                        measured.answers += 1
                    measured.latencies_ms.append(lasted)
        except BaseException as error:
            crashes.append(error)
            warm.abort()

    threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(workers)]
    with _running(threads, end, start):
        try:
            warm.wait()
        except threading.BrokenBarrierError:
            raise (crashes or [ServingError("the model stopped")])[0] from None
        began, cpu = time.perf_counter(), time.process_time()
        start.set()
        time.sleep(seconds)
        while not (measured.answers or crashes) and _within(began, seconds):
            time.sleep(0.02)
        end.set()
        measured.wall_s, measured.client_cpu_s = time.perf_counter() - began, time.process_time() - cpu
    if crashes:
        raise crashes[0]
    return measured


def _within(began: float, seconds: float) -> bool:
    """Whether a load without any answer still waits for one (a slow model, or a busy machine)."""
    return time.perf_counter() - began < seconds + MAX_WARMUP_S


@contextmanager
def _running(threads: list[threading.Thread], end: threading.Event, start: threading.Event) -> Iterator[None]:
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        end.set()
        start.set()
        for thread in threads:
            thread.join()


async def closed(predictor: Any, clips: Clips, clients: int, seconds: float, meter: Meter | None = None) -> Measured:
    """``clients`` at a time. The warm-up lasts until every client has an answer. An answer counts if it comes within
    the measured time, whenever its request was sent. If none comes, the measured time goes on until one does.
    """
    measured, meter = Measured(), meter or NoMeter()
    measuring, end = False, False
    warm = 0
    all_warm = asyncio.Event()

    async def work(number: int) -> None:
        nonlocal warm
        at, first = number, True
        while not end:
            began = time.perf_counter()
            try:
                await predictor.predict(clips[at % len(clips)][None])
            except PosewatchError:
                measured.errors += measuring
                await asyncio.sleep(0.005)  # a refusal comes at once: do not send without pause
            else:
                if measuring:
                    measured.answers += 1
                    measured.latencies_ms.append((time.perf_counter() - began) * 1000)
            at += clients
            warm += first
            first = False
            if warm >= clients:
                all_warm.set()

    tasks = [asyncio.create_task(work(i)) for i in range(clients)]
    try:
        warming = asyncio.create_task(all_warm.wait())
        await asyncio.wait([warming, *tasks], timeout=MAX_WARMUP_S, return_when="FIRST_COMPLETED")
        warming.cancel()
        await asyncio.sleep(min(1.0, max(0.1, seconds / 4)))
        await asyncio.to_thread(meter.begin)
        began, cpu = time.perf_counter(), time.process_time()
        measuring = True
        await asyncio.sleep(seconds)
        while not (measured.answers or measured.errors or any(t.done() for t in tasks)) and _within(began, seconds):
            await asyncio.sleep(0.02)
        measuring = False
        measured.wall_s, measured.client_cpu_s = time.perf_counter() - began, time.process_time() - cpu
        await asyncio.to_thread(meter.end)
    finally:
        end = True
        await _finish(tasks)
    return measured


async def opened(
    predictor: Any, clips: Clips, rate: float, seconds: float, meter: Meter | None = None, *, seed: int = 0
) -> Measured:
    """``rate`` requests a second at random moments, the same in every run for one ``seed``.

    A quarter of the time more (at most two seconds) goes first, as a warm-up. A request without an answer a few seconds
    after the last one is due counts as an error.
    """
    measured, meter = Measured(), meter or NoMeter()
    warm_s = min(2.0, seconds / 4)
    rng = np.random.default_rng(seed)
    count = max(1, int((warm_s + seconds) * rate * 2) + 10)
    due = np.cumsum(rng.exponential(1 / rate, count))
    due = due[due < warm_s + seconds]
    tasks: list[asyncio.Task[None]] = []
    origin = time.perf_counter()
    until = origin + warm_s + seconds

    async def one(number: int, at: float) -> None:
        counted = at >= warm_s
        try:
            await predictor.predict(clips[number % len(clips)][None])
        except PosewatchError:
            measured.errors += counted
            return
        now = time.perf_counter()
        measured.answers += origin + warm_s <= now < until
        if counted:
            measured.latencies_ms.append((now - origin - at) * 1000)

    cpu, begun = 0.0, False
    for number, at in enumerate(due.tolist()):
        if at >= warm_s and not begun:
            begun, cpu = True, time.process_time()
            tasks.append(asyncio.create_task(asyncio.to_thread(meter.begin)))
        wait = origin + at - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        elif number % 16 == 0:
            await asyncio.sleep(0)  # behind schedule: let the answers be processed as well
        tasks.append(asyncio.create_task(one(number, at)))
    await asyncio.sleep(max(0.0, until - time.perf_counter()))
    measured.wall_s, measured.client_cpu_s = seconds, time.process_time() - cpu
    await asyncio.to_thread(meter.end)
    _, late = await asyncio.wait(tasks, timeout=max(2.0, seconds)) if tasks else (set(), set())
    measured.errors += len(late)
    for task in late:
        task.cancel()
    await _finish(tasks)
    return measured


async def _finish(tasks: list[asyncio.Task[None]]) -> None:
    """Wait for all tasks; raise the first error that is not a cancellation."""
    for ended in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(ended, Exception):
            raise ended


def cpu_seconds(pid: int) -> dict[int, float]:
    """Processor time so far, in seconds, of a process and each of its descendants, by their ids."""
    parents: dict[int, int] = {}
    used: dict[int, float] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        own = int(stat.parent.name)
        parents[own], used[own] = int(fields[1]), (int(fields[11]) + int(fields[12])) / _TICKS
    result: dict[int, float] = {}
    wanted = [pid]
    while wanted:
        own = wanted.pop()
        result[own] = used.get(own, 0.0)
        wanted += [child for child, parent in parents.items() if parent == own]
    return result
