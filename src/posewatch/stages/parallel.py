"""One job per video over worker processes: finished ones are skipped, failed ones are named at the end."""

from __future__ import annotations

import ctypes
import functools
import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from posewatch.artifact import Artifact, Job, find, produce
from posewatch.errors import InputError, PosewatchError
from posewatch.progress import Progress
from posewatch.store import ObjectStore


def workers() -> int:
    """Worker processes: POSEWATCH_WORKERS, else one per core that this process may use."""
    asked = os.environ.get("POSEWATCH_WORKERS", "")
    if not asked:
        return len(os.sched_getaffinity(0))
    if not asked.isdigit() or int(asked) < 1:
        raise InputError(f"POSEWATCH_WORKERS must be a number from 1, not {asked!r}")
    return int(asked)


def _start() -> None:
    # a worker must not outlive a parent that was killed: it would wait for work for ever
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _work(store: ObjectStore, job: Job, config: Any, make: Callable[..., None]) -> str:
    return produce(store, job, lambda folder: make(job, config, folder)).prefix


def each(
    store: ObjectStore,
    stage: str,
    jobs: Sequence[Job],
    names: Sequence[str],
    config: Any,
    make: Callable[..., None],
    *,
    share: bool = False,
) -> list[Artifact]:
    """Produce the artifact of every job, in the order of ``jobs``; ``names`` is what people call them.

    ``make`` writes the files of a job as ``make(job, config, folder)``; it must be a module-level function. With
    ``share`` it also gets ``workers=``, the processes that it may use itself when there are fewer jobs than processes.

    Raises the first failure, with the number of others, after all the rest have been finished and stored.
    """
    done: dict[int, Artifact] = {}
    failures: list[tuple[int, Exception]] = []
    with Progress(stage, len(jobs)) as progress:
        for i, job in enumerate(jobs):
            found = find(store, job.where)
            if found is not None:
                done[i] = found
        if done:
            progress.advance(len(done), f"{len(done)} were done before")
        todo = [i for i in range(len(jobs)) if i not in done]
        count = min(workers(), len(todo))
        if share and todo:
            make = functools.partial(make, workers=max(1, workers() // len(todo)))
        if count <= 1 or not store.shared:
            for i in todo:
                try:
                    done[i] = produce(store, jobs[i], lambda folder, i=i: make(jobs[i], config, folder))  # type: ignore[misc]
                except PosewatchError as error:
                    failures.append((i, error))
                progress.advance()
        else:
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(count, mp_context=context, initializer=_start) as pool:
                running: dict[Future[str], int] = {pool.submit(_work, store, jobs[i], config, make): i for i in todo}
                try:
                    while running:
                        for future in wait(running, return_when=FIRST_COMPLETED).done:
                            i = running.pop(future)
                            try:
                                prefix = future.result()
                                done[i] = find(store, prefix)  # type: ignore[assignment]
                            except (PosewatchError, BrokenProcessPool) as error:
                                failures.append((i, error))
                            progress.advance()
                except BaseException:
                    for process in list(pool._processes.values()):
                        process.kill()
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise
    if failures:
        i, worst = min(failures, key=lambda f: f[0])
        if isinstance(worst, BrokenProcessPool):
            worst = PosewatchError("a worker process was killed (out of memory? set POSEWATCH_WORKERS lower)")
        more = f"; {len(failures) - 1} more failed" if len(failures) > 1 else ""
        kept = f"; the other {len(jobs) - len(failures)} are stored, run again to go on" if len(jobs) > 1 else ""
        raise type(worst)(f"{stage} of {names[i]}: {worst}{more}{kept}") from worst
    return [done[i] for i in range(len(jobs))]
