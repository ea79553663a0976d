"""Loads for the benchmark: closed loop (a number of clients, each waits for its answer) and open loop (none waits).

An open loop sends at random moments with a fixed mean rate (Poisson) whatever the server does, and a latency counts
from the moment at which its request was due: a server that stalls cannot hide that by keeping clients waiting.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from posewatch.errors import ServingError
from posewatch.stack.process import wait_until

Clips = NDArray[np.float32]
Predict = Callable[[Clips], Any]
MAX_WARMUP_S = 30.0
"""How long a load waits for its first answers, before it measures and after its time."""
MAX_IN_FLIGHT = 1024
"""Requests of an open loop that are under way at most; those beyond it wait here, and that counts in their latency."""
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


def closed(predict: Predict, clips: Clips, clients: int, seconds: float, meter: Meter | None = None) -> Measured:
    """``clients`` threads that each send one clip after the other.

    The warm-up lasts until every client has an answer. An answer counts if it comes within the measured time, whenever
    its request was sent. If none comes, the measured time goes on until one does. A ServingError counts as a refusal;
    any other error ends the load and is raised.
    """
    measured, lock = Measured(), threading.Lock()
    measuring, end = threading.Event(), threading.Event()
    warm: set[int] = set()
    crashes: list[BaseException] = []

    def work(number: int) -> None:
        at = number
        try:
            while not end.is_set():
                began, refused = time.perf_counter(), 0
                try:
                    predict(clips[at % len(clips)][None])
                except ServingError:
                    refused = 1
                with lock:
                    warm.add(number)
                    if measuring.is_set():
                        measured.errors += refused
                        measured.answers += 1 - refused
                        measured.latencies_ms += [] if refused else [(time.perf_counter() - began) * 1000]
                at += clients
                time.sleep(0.005 * refused)  # a refusal comes at once: do not send without pause
        except BaseException as error:
            crashes.append(error)

    threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(clients)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: len(warm) == clients or bool(crashes), MAX_WARMUP_S, 0.002)
        if clients > 1:  # until they are out of step
            time.sleep(min(1.0, max(0.1, seconds / 4)))
        if meter:
            meter.begin()
        began, cpu = time.perf_counter(), time.process_time()
        measuring.set()
        wait_until(lambda: bool(crashes), seconds)
        wait_until(lambda: bool(measured.answers or measured.errors or crashes), MAX_WARMUP_S, 0.02)
        measuring.clear()
        measured.wall_s, measured.client_cpu_s = time.perf_counter() - began, time.process_time() - cpu
        if meter:
            meter.end()
    finally:
        end.set()
        for thread in threads:
            thread.join()
    if crashes:
        raise crashes[0]
    return measured


def opened(
    predict: Predict, clips: Clips, rate: float, seconds: float, meter: Meter | None = None, *,
    seed: int = 0, workers: int | None = None,
) -> Measured:  # fmt: skip
    """``rate`` requests a second at random moments, the same in every run for one ``seed``.

    A quarter of the time more (at most two seconds) goes first, as a warm-up. A request without an answer a few seconds
    after the last one is due counts as an error. Errors of the model are treated as in ``closed``. ``workers``: for a
    model in this process, how many requests it computes at a time; the others wait in a queue before it.
    """
    measured, lock, over = Measured(), threading.Lock(), threading.Event()
    pool = ThreadPoolExecutor(workers or MAX_IN_FLIGHT)
    if workers:
        _first_answers(pool, workers, lambda: predict(clips[:1]))
    warm_s = min(2.0, seconds / 4)
    rng = np.random.default_rng(seed)
    count = max(1, int((warm_s + seconds) * rate * 2) + 10)
    due = np.cumsum(rng.exponential(1 / rate, count))
    origin = time.perf_counter()
    until = origin + warm_s + seconds

    def one(number: int, at: float) -> None:
        answered = True
        try:
            predict(clips[number % len(clips)][None])
        except ServingError:
            answered = False
        now = time.perf_counter()
        with lock:
            if over.is_set():
                return
            measured.answers += answered and origin + warm_s <= now < until
            if at >= warm_s:
                measured.errors += not answered
                measured.latencies_ms += [(now - origin - at) * 1000] if answered else []

    cpu, begun = 0.0, False
    calls: list[Future[None]] = []
    try:
        for number, at in enumerate(due[due < warm_s + seconds].tolist()):
            if at >= warm_s and not begun:
                begun, cpu = True, time.process_time()
                calls += [pool.submit(meter.begin)] if meter else []
            time.sleep(max(0.0, origin + at - time.perf_counter()))
            calls.append(pool.submit(one, number, at))
        time.sleep(max(0.0, until - time.perf_counter()))
        measured.wall_s, measured.client_cpu_s = seconds, time.process_time() - cpu
        if meter:
            meter.end()
        done, late = wait(calls, timeout=max(2.0, seconds))
        with lock:
            over.set()
            measured.errors += len(late)
        for call in done:
            call.result()
    finally:
        pool.shutdown(wait=workers is not None, cancel_futures=True)
    return measured


def _first_answers(pool: ThreadPoolExecutor, workers: int, ask: Callable[[], Any]) -> None:
    """Have each thread of the pool answer once: some runtimes load the model once for each thread."""
    together = threading.Barrier(workers)

    def first() -> None:
        try:
            ask()
        finally:
            together.wait()

    for call in [pool.submit(first) for _ in range(workers)]:
        call.result()


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
