"""Clients of a served model, in processes of their own: one Python process cannot ask as fast as a GPU answers.

In the closed loop each client waits for its answer; in the open loop requests come at random moments at a given mean
rate, and a latency counts from the moment at which the request was due.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from posewatch.export.onnx import synthetic_clips

_WARM_S = 0.5


@dataclass(frozen=True)
class Load:
    """What the clients of one load saw: ``latencies_ms`` of those answers that came in ``seconds``."""

    latencies_ms: tuple[float, ...]
    seconds: float
    errors: int

    def row(self) -> dict[str, Any]:
        """Rate, percentiles and errors, for the report."""
        found = np.array(self.latencies_ms or (np.nan,))
        return {
            "requests_per_s": round(len(self.latencies_ms) / self.seconds, 1),
            "p50_ms": round(float(np.percentile(found, 50)), 2),
            "p95_ms": round(float(np.percentile(found, 95)), 2),
            "errors": self.errors,
        }


def closed(
    address: str, model: str, shape: tuple[int, ...], clients: int, processes: int, seconds: float, lead_s: float
) -> Load:
    """``clients`` clients, shared by at most ``processes`` processes, that send clips of ``shape`` (M, T, V, 3)."""
    count = min(processes, clients)
    shares = [clients // count + (i < clients % count) for i in range(count)]
    parts = [(address, model, shape, share, 0.0, seconds, i) for i, share in enumerate(shares)]
    return _spread(parts, seconds, lead_s)


def opened(
    address: str, model: str, shape: tuple[int, ...], rate: float, processes: int, seconds: float, lead_s: float
) -> Load:
    """``rate`` requests per second in all."""
    return _spread(
        [(address, model, shape, 0, rate / processes, seconds, i) for i in range(processes)], seconds, lead_s
    )


def _spread(parts: list[tuple[Any, ...]], seconds: float, lead_s: float) -> Load:
    """``lead_s``: the processes have started by then, and measure the same seconds."""
    context = multiprocessing.get_context("spawn")
    begin = time.time() + lead_s
    with ProcessPoolExecutor(len(parts), context) as pool:
        found = list(pool.map(_client, [(*part, begin) for part in parts]))
    return Load(tuple(ms for latencies, _ in found for ms in latencies), seconds, sum(errors for _, errors in found))


def _client(part: tuple[Any, ...]) -> tuple[list[float], int]:
    return asyncio.run(_ask(*part))


async def _ask(
    address: str, model: str, shape: tuple[int, ...], clients: int, rate: float, seconds: float, seed: int, begin: float
) -> tuple[list[float], int]:
    import grpc
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    bodies = []
    for clip in synthetic_clips(8, shape):
        request = service_pb2.ModelInferRequest(model_name=model)
        request.inputs.add(name="keypoints", datatype="FP32", shape=[1, *shape])
        request.outputs.add(name="probabilities")
        request.raw_input_contents.append(clip.tobytes())
        bodies.append(request)
    latencies: list[float] = []
    errors = 0
    async with grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        measured_from = max(begin, time.time()) + _WARM_S
        end = measured_from + seconds

        async def once(number: int, due: Callable[[], float]) -> None:
            nonlocal errors
            asked = due()
            try:
                await stub.ModelInfer(bodies[number % len(bodies)])
            except grpc.aio.AioRpcError:
                errors += 1
                await asyncio.sleep(0.005)
                return
            now = time.time()
            if measured_from <= now < end:
                latencies.append((now - asked) * 1000)

        async def loop(number: int) -> None:
            while time.time() < end:
                await once(number, time.time)
                number += clients

        if clients:
            await asyncio.gather(*(loop(i) for i in range(clients)))
        else:
            rng = np.random.default_rng(seed)
            dues = max(begin, time.time()) + np.cumsum(
                rng.exponential(1 / rate, int((seconds + _WARM_S) * rate * 1.5) + 9)
            )
            calls = []
            for number, at in enumerate(dues[dues < end].tolist()):
                await asyncio.sleep(max(0.0, at - time.time()))
                calls.append(asyncio.ensure_future(once(number, lambda at=at: at)))  # type: ignore[misc]
            await asyncio.wait(calls, timeout=5.0) if calls else None
            errors += sum(not call.done() for call in calls)
    return latencies, errors
