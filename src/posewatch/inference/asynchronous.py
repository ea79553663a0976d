"""Predictors for asyncio: calls that wait in threads, so that the event loop goes on."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from posewatch.inference.open import open_predictor
from posewatch.inference.predictor import Predictor
from posewatch.records import Prediction

THREADS = 256
"""Calls that are under way at a time; a thread is started when it is needed."""


class AsyncPredictor:
    """A ``predictor`` of which many calls may be awaited at once in one event loop; closed when done."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor, self._pool = predictor, ThreadPoolExecutor(THREADS)

    async def predict(self, keypoints: NDArray[np.float32]) -> Prediction:
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._predictor.predict, keypoints)

    async def __aenter__(self) -> AsyncPredictor:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._predictor.close()


async def open_async(reference: str, *, timeout_s: float = 30.0, retries: int = 3) -> AsyncPredictor:
    """The async predictor of an endpoint, an ONNX file or a checkpoint; errors as of ``open_predictor``."""
    return AsyncPredictor(await asyncio.to_thread(open_predictor, reference, timeout_s=timeout_s, retries=retries))
