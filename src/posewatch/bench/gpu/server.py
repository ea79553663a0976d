"""A small gRPC server of the v2 protocol with dynamic batching, for machines where no Triton can be had.

It is no product: it answers ModelInfer of one model, and shows what the card gives through a server. An event loop
takes requests; a thread takes all that wait, up to the largest batch, pads them to the next size that is prepared, and
runs them at once. So there is a batch in the making while one runs.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import asdict
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from posewatch.bench.gpu.card import Card, arithmetic
from posewatch.bench.gpu.forms import Answer, Graph, arranged, eager, recogniser
from posewatch.bench.gpu.scale import Scale
from posewatch.errors import ServingError, first_line
from posewatch.progress import say

Clips = NDArray[np.float32]
MODEL = "protogcn"
_START_S = 120.0


class Batcher:
    """Collects clips and answers them together; ``close`` ends its thread."""

    def __init__(self, run: Callable[[Clips], Clips], max_batch: int, delay_s: float) -> None:
        self._run, self._max, self._delay_s = run, max_batch, delay_s
        self._waiting: queue.SimpleQueue[tuple[Clips, Future[Any]] | None] = queue.SimpleQueue()
        self.executions = self.clips = 0
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def submit(self, clips: Clips) -> Future[Any]:
        """Clips (n, M, T, V, 3) → their probabilities (n, K), later."""
        answer: Future[Any] = Future()
        self._waiting.put((clips, answer))
        return answer

    def close(self) -> None:
        self._waiting.put(None)
        self._thread.join()

    def _take(self) -> list[tuple[Clips, Future[Any]]] | None:
        """All that wait, up to the largest batch; alone in the queue, a request waits ``delay_s`` for others."""
        first = self._waiting.get()
        if first is None:
            return None
        taken, count, end = [first], len(first[0]), time.monotonic() + self._delay_s
        while count < self._max:
            try:
                more = (
                    self._waiting.get(timeout=max(0.0, end - time.monotonic()))
                    if end > time.monotonic()
                    else (self._waiting.get_nowait())
                )
            except queue.Empty:
                break
            if more is None:
                self._waiting.put(None)
                break
            taken.append(more)
            count += len(more[0])
        return taken

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            try:
                found = self._run(np.concatenate([clips for clips, _ in taken]))
            except Exception as error:
                for _, answer in taken:
                    answer.set_exception(error)
                continue
            self.executions += 1
            self.clips += len(found)
            at = 0
            for clips, answer in taken:
                answer.set_result(found[at : at + len(clips)])
                at += len(clips)


def runner(card: Card, scale: Scale, layout: str, people: int, precision: str) -> Callable[[Any], Any]:
    """Clips (n, M, T, V, 3) → probabilities (n, K), by CUDA graphs of a few sizes where there is a GPU."""
    source = recogniser(layout, people, scale.frames, scale.width)
    module = arranged(source, card.device, precision)
    shape = (people, scale.frames, source.layout.columns, 3)
    pool = torch.cuda.graph_pool_handle() if card.cuda else None
    most = 2 * scale.max_batch  # a batch may end with a request of several clips
    sizes = [size for size in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024) if size < most] + [most]

    def build(size: int) -> Answer:
        return Graph(module, torch.zeros(size, *shape, device=card.device), pool) if card.cuda else eager(module)

    graphs = prepared(sizes, build, card)
    buffers = {size: torch.zeros(size, *shape, pin_memory=card.cuda) for size in graphs}

    def one(clips: Clips) -> Clips:
        size = min(size for size in graphs if size >= len(clips))
        buffers[size][: len(clips)] = torch.from_numpy(clips)
        given = buffers[size].to(card.device, non_blocking=True)
        return np.asarray(graphs[size](given)[0][: len(clips)].float().cpu().numpy())

    def run(clips: Clips) -> Clips:
        step = max(graphs)
        return np.concatenate([one(clips[first : first + step]) for first in range(0, len(clips), step)])

    return run


def prepared(sizes: Sequence[int], build: Callable[[int], Answer], card: Card) -> dict[int, Answer]:
    """What answers each size of a batch: those of ``sizes`` that fit into the card's memory. Raises ServingError if
    none can be built."""
    made: dict[int, Answer] = {}
    why = ""
    for size in sorted(sizes, reverse=True):  # the largest first: the others fit into its memory
        try:
            made[size] = build(size)
        except RuntimeError as error:  # also what the end of a capture makes of too little memory
            why = first_line(error)[:160]
            say(f"served: no batches of {size}: {why}")
        card.release()
    if not made:
        raise ServingError(f"not even one clip can be answered: {why}")
    return made


def _serve(
    device: str, scale: dict[str, Any], layout: str, people: int, precision: str, batch: int, pipe: Connection
) -> None:
    sizes = Scale(**scale)
    if device == "cpu":
        torch.set_num_threads(1)
    with arithmetic(precision):
        run = runner(Card(device), sizes, layout, people, precision)
        batcher = Batcher(run, batch, sizes.queue_delay_us / 1e6 if batch > 1 else 0.0)
        asyncio.run(_answer(batcher, pipe))
    batcher.close()


async def _answer(batcher: Batcher, pipe: Connection) -> None:
    import grpc
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    class Service(service_pb2_grpc.GRPCInferenceServiceServicer):
        async def ModelInfer(self, request: Any, context: Any) -> Any:
            clips = np.frombuffer(request.raw_input_contents[0], np.float32).reshape(list(request.inputs[0].shape))
            found = np.ascontiguousarray(await asyncio.wrap_future(batcher.submit(clips)), np.float32)
            answer = service_pb2.ModelInferResponse(model_name=MODEL, model_version="1")
            answer.outputs.add(name="probabilities", datatype="FP32", shape=found.shape)
            answer.raw_output_contents.append(found.tobytes())
            return answer

    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    pipe.send(port)
    loop = asyncio.get_running_loop()
    while (asked := await loop.run_in_executor(None, pipe.recv)) != "end":
        pipe.send((batcher.executions, batcher.clips))
        del asked
    await server.stop(0)


class Server:
    """The server in a process of its own, for one model; a context manager. ``batch`` 1: no batching."""

    def __init__(self, device: str, scale: Scale, layout: str, people: int, precision: str, batch: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        arguments = (device, asdict(scale), layout, people, precision, batch, theirs)
        self._process = context.Process(target=_serve, args=arguments, daemon=True)

    def __enter__(self) -> Server:
        self._process.start()
        if not self._pipe.poll(_START_S):
            self._process.kill()
            raise ServingError(f"the small server did not start within {_START_S:g} s")
        try:
            self.address = f"127.0.0.1:{self._pipe.recv()}"
        except EOFError:
            raise ServingError("the small server ended before it was ready: its reason stands above") from None
        return self

    def counts(self) -> tuple[int, int]:
        """Executions and clips so far."""
        self._pipe.send("counts")
        executions, clips = self._pipe.recv()
        return int(executions), int(clips)

    def __exit__(self, *_: object) -> None:
        try:
            self._pipe.send("end")
            self._process.join(10)
        finally:
            self._process.kill()
