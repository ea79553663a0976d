"""Predictors for asyncio: Triton over one shared gRPC connection; every other predictor in threads."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from posewatch.inference import wire
from posewatch.inference.open import open_predictor
from posewatch.inference.predictor import Arrays, Predictor, batches, check_clips, prediction
from posewatch.inference.triton import TritonPredictor
from posewatch.inference.triton_grpc import CHANNEL, grpc_error, grpc_outputs
from posewatch.inference.wire import Deadline
from posewatch.records import Prediction

THREADS = 64
"""Calls of a blocking predictor that run at a time."""


class AsyncPredictor(Protocol):
    """As ``Predictor``; many calls may be awaited at once in one event loop."""

    async def predict(self, keypoints: NDArray[np.float32]) -> Prediction: ...

    async def __aenter__(self) -> AsyncPredictor: ...

    async def __aexit__(self, *_: object) -> None: ...


async def open_async(reference: str, *, timeout_s: float = 30.0, retries: int = 3) -> AsyncPredictor:
    """The async predictor of an endpoint, an ONNX file or a checkpoint; errors as of ``open_predictor``."""
    predictor = await asyncio.to_thread(open_predictor, reference, timeout_s=timeout_s, retries=retries)
    if reference.startswith("grpc://"):
        assert isinstance(predictor, TritonPredictor)
        return AsyncTritonPredictor(predictor, retries)
    return ThreadedPredictor(predictor)


class ThreadedPredictor:
    """A blocking ``predictor``, called in threads so that the event loop goes on."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor, self._pool = predictor, ThreadPoolExecutor(THREADS)

    async def predict(self, keypoints: NDArray[np.float32]) -> Prediction:
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._predictor.predict, keypoints)

    async def __aenter__(self) -> ThreadedPredictor:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._predictor.close()


class AsyncTritonPredictor:
    """A model served by Triton over gRPC; ``model`` is its blocking predictor, which is closed here.

    Errors, deadlines and retries are those of ``TritonPredictor``.
    """

    def __init__(self, model: TritonPredictor, retries: int) -> None:
        import tritonclient.grpc.aio as aio

        model.close()
        self._model, self._retries = model, retries
        self._client = aio.InferenceServerClient(model.url, channel_args=CHANNEL)

    async def predict(self, keypoints: NDArray[np.float32]) -> Prediction:
        model = self._model
        check_clips(keypoints, model.shape, model.name)
        deadline = Deadline(model.timeout_s)
        outputs = [await self._infer(batch, deadline) for batch in batches(keypoints, model.max_batch)]
        return prediction(outputs, len(keypoints), model.labels, model.name)

    async def _infer(self, batch: NDArray[np.float32], deadline: Deadline) -> Arrays:
        from tritonclient.grpc import InferInput
        from tritonclient.utils import InferenceServerException

        url, model = self._model.url, self._model.model
        inputs = wire.infer_inputs(InferInput, {"keypoints": batch})

        async def call(left_s: float) -> Any:
            try:
                return await self._client.infer(model, inputs, client_timeout=left_s, timeout=wire.microseconds(left_s))
            except InferenceServerException as error:
                raise grpc_error(url, model, error, deadline) from None

        return grpc_outputs(await wire.call_async(call, url, model, self._retries, deadline))

    async def __aenter__(self) -> AsyncTritonPredictor:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()
