"""Run a stage that has one job per video, over worker processes: finished jobs are skipped, failed ones are named."""

from __future__ import annotations

import ctypes
import functools
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from posewatch.artifact import Artifact, Job, collect, find, get, produce
from posewatch.cores import part, take, usable
from posewatch.errors import InputError, PosewatchError
from posewatch.progress import Progress
from posewatch.stages.contents import VideoArtifact
from posewatch.store import ObjectStore


def workers() -> int:
    """Worker processes: POSEWATCH_WORKERS, else one per core that this process may use, within a container's limit."""
    given = os.environ.get("POSEWATCH_WORKERS", "")
    if not given:
        return usable()
    if not given.isdigit() or int(given) < 1:
        raise InputError(f"POSEWATCH_WORKERS must be a number from 1, not {given!r}")
    return int(given)


def run(
    store: ObjectStore,
    stage: str,
    videos: Sequence[VideoArtifact],
    jobs: Sequence[Job],
    config: Any,
    write: Callable[..., None],
    *,
    share: bool = False,
) -> Artifact:
    """Produce the artifact of every job and return their set; ``jobs[i]`` belongs to ``videos[i]``.

    ``write(job, config, folder)`` writes the files of a job; it must be a module-level function. With ``share`` it also
    gets ``workers=``, the number of processes that it may use itself when there are fewer jobs than processes.

    Raises the first failure, with the number of others, after all other jobs have been finished and stored.
    """
    done: dict[int, Artifact] = {}
    failures: list[tuple[int, Exception]] = []
    with Progress(stage, len(jobs)) as progress:
        for i, job in enumerate(jobs):
            existing = find(store, job.prefix)
            if existing is not None:
                done[i] = existing
        if done:
            progress.advance(len(done), f"{len(done)} were done before", before=True)
        todo = [i for i in range(len(jobs)) if i not in done]
        count = min(workers(), len(todo))
        if share and todo:
            write = functools.partial(write, workers=max(1, workers() // len(todo)))
        if count <= 1 or not store.shared:
            for i in todo:
                try:
                    done[i] = get(store, _produce(store, jobs[i], config, write))
                except PosewatchError as error:
                    failures.append((i, error))
                progress.advance()
        else:
            context = multiprocessing.get_context("spawn")
            with (
                # the workers' own, which they cannot remove where they are killed
                tempfile.TemporaryDirectory(prefix="posewatch-work-", ignore_cleanup_errors=True) as temp,
                ProcessPoolExecutor(
                    count, mp_context=context, initializer=_start_worker, initargs=(temp, part(count))
                ) as pool,
            ):
                running: dict[Future[str], int] = {
                    pool.submit(_produce, store, jobs[i], config, write): i for i in todo
                }
                try:
                    while running:
                        for future in wait(running, return_when=FIRST_COMPLETED).done:
                            i = running.pop(future)
                            try:
                                done[i] = get(store, future.result())
                            except (PosewatchError, BrokenProcessPool) as error:
                                failures.append((i, error))
                            progress.advance()
                except BaseException:
                    workers_left = list(pool._processes.values())
                    for process in workers_left:
                        process.kill()
                    for process in workers_left:
                        process.join()
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise
    if failures:
        i, worst = min(failures, key=lambda f: f[0])
        if isinstance(worst, BrokenProcessPool):
            worst = PosewatchError("a worker process was killed (out of memory? set POSEWATCH_WORKERS lower)")
        more = f"; {len(failures) - 1} more failed" if len(failures) > 1 else ""
        rest = f"; the other {len(jobs) - len(failures)} are stored, run again to go on" if len(jobs) > 1 else ""
        raise type(worst)(f"{stage} of {videos[i].names[0]}: {worst}{more}{rest}") from worst
    return collect(store, stage, [video.row for video in videos], [done[i] for i in range(len(jobs))])


def _start_worker(temp: str, threads: int | None) -> None:
    take(threads)
    tempfile.tempdir = temp
    # a worker must not outlive a parent that was killed: it would wait for work for ever
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _produce(store: ObjectStore, job: Job, config: Any, write: Callable[..., None]) -> str:
    return produce(store, job, lambda folder: write(job, config, folder)).prefix
