"""The predictors of ``client`` for asyncio: Triton over one shared connection, models in this process in a thread."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from posewatch.inference import triton_client_async as triton_async
from posewatch.inference.model_info import Served, check_clips, not_served, parts_of, prediction, served
from posewatch.inference.predictors import Predictor, open_predictor, parse_endpoint
from posewatch.inference.wire import Arrays, Deadline
from posewatch.records import Prediction


class AsyncPredictor(Protocol):
    """As ``client.Predictor``; many calls may be awaited at once in one event loop."""

    @property
    def labels(self) -> tuple[str, ...]: ...

    async def predict(self, keypoints: NDArray[np.float32]) -> Prediction: ...

    async def close(self) -> None: ...


class AsyncLocal:
    """A predictor of this process, run in a thread so that the event loop goes on; one clip set at a time."""

    def __init__(self, predictor: Predictor) -> None:
        self.labels, self.metadata = predictor.labels, predictor.metadata
        self._predictor, self._lock = predictor, asyncio.Lock()

    async def predict(self, keypoints: NDArray[np.float32]) -> Prediction:
        async with self._lock:
            return await asyncio.to_thread(self._predictor.predict, keypoints)

    async def close(self) -> None:
        self._predictor.close()


class AsyncTritonPredictor:
    """A model served by Triton; made by ``await AsyncTritonPredictor.connect(...)``, closed by ``await close()``.

    Errors, deadlines and retries are those of ``client.TritonPredictor``. The parts of a large clip set are asked
    for at once, ``parts_at_once`` at most.
    """

    def __init__(
        self,
        connection: triton_async.AsyncConnection,
        told: Served,
        what: str,
        timeout_s: float,
        parts_at_once: int = 4,
    ) -> None:
        self.told, self.labels, self.shape, self.metadata = told, told.labels, told.shape, told.metadata
        self.max_batch, self.batching = told.max_batch, told.batching
        self.people, self.frames = told.shape[:2]
        self._connection, self._what, self._timeout, self._most = connection, what, timeout_s, parts_at_once

    @classmethod
    async def connect(
        cls, url: str, model: str, protocol: str = "grpc", *, timeout_s: float = 30.0, retries: int = 3
    ) -> AsyncTritonPredictor:
        """Raises ServingError when the server is away, the model unknown, not loaded or not one of ours."""
        what = f"model {model!r} at {url}"
        connection = triton_async.connect(url, protocol, timeout_s, retries)
        try:
            if not await connection.ready(model):
                raise not_served(url, model, await connection.index())
            return cls(connection, served(await connection.config(model), what), what, timeout_s)
        except BaseException:
            await connection.close()
            raise

    async def predict(self, keypoints: NDArray[np.float32], timeout_s: float | None = None) -> Prediction:
        check_clips(keypoints, self.shape, self._what)
        deadline = Deadline(self._timeout if timeout_s is None else timeout_s)
        gate = asyncio.Semaphore(self._most)

        async def one(part: NDArray[np.float32]) -> Arrays:
            async with gate:
                return await self._connection.infer(self.told.name, {"keypoints": part}, deadline)

        tasks = [asyncio.ensure_future(one(part)) for part in parts_of(keypoints, self.max_batch)]
        try:
            parts = await asyncio.gather(*tasks)
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise
        return prediction(parts, len(keypoints), self.labels, self._what)

    async def close(self) -> None:
        await self._connection.close()

    async def __aenter__(self) -> AsyncTritonPredictor:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


async def open_async(reference: str, *, timeout_s: float = 30.0, retries: int = 3) -> Any:
    """As ``client.open_predictor``, for asyncio."""
    if "://" in reference:
        protocol, url, model = parse_endpoint(reference)
        return await AsyncTritonPredictor.connect(url, model, protocol, timeout_s=timeout_s, retries=retries)
    return AsyncLocal(await asyncio.to_thread(open_predictor, reference))
