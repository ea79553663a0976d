"""Triton over gRPC with clips in shared memory, for a server on this machine (its system shared memory extension)."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import numpy as np

from posewatch.errors import ServingError
from posewatch.inference.predictor import Arrays
from posewatch.inference.triton_grpc import GrpcConnection
from posewatch.inference.wire import Deadline, NoAnswer

LEAST = 1 << 18
"""Bytes of the smallest region: six clips."""
UNKNOWN = "Unable to find shared memory region"
"""What a Triton answers that was started anew, and has lost all registrations."""
END_S = 2.0
_LOG = logging.getLogger(__name__)


class SharedConnection(GrpcConnection):
    """See ``Connection``. Each call under way has a region of its own, registered with the server, that later calls use
    again; a region is gone when this process ends, however it does.

    A server that cannot read this machine's memory gets the clips by gRPC; one line says so.
    """

    def __init__(self, url: str, timeout_s: float, retries: int) -> None:
        super().__init__(url, timeout_s, retries)
        self._lock, self._free = threading.Lock(), list[SharedMemory]()
        self._refused = False

    def infer(self, model: str, inputs: Arrays, deadline: Deadline | None = None) -> Arrays:
        until = deadline or Deadline(self._timeout_s)
        if self._refused:
            return super().infer(model, inputs, until)
        region = self._take(sum(array.nbytes for array in inputs.values()), until)
        if region is None:
            answer = super().infer(model, inputs, until)
            self._refused = True
            _LOG.warning("Triton at %s and this process share no memory: clips go by gRPC", self.url)
            return answer
        try:
            answer = self._infer(model, _written(region, inputs), until)
        except BaseException as error:
            self._give_up(region)  # the server may still read it
            if not isinstance(error, ServingError) or UNKNOWN not in str(error):
                raise
            self._forget()
            return super().infer(model, inputs, until)
        with self._lock:
            self._free.append(region)
        return answer

    def _take(self, size: int, until: Deadline) -> SharedMemory | None:
        """A region of at least ``size`` bytes that no other call uses; None when the server refuses it.

        Raises ServingError when there is no server: one that is started again shares memory as before.
        """
        with self._lock:
            for i, region in enumerate(self._free):
                if region.size >= size:
                    return self._free.pop(i)
        try:
            region = SharedMemory(create=True, size=max(LEAST, 1 << (size - 1).bit_length()))
        except OSError:  # no room, or no such memory here
            return None

        def register(left_s: float) -> None:
            self._client.register_system_shared_memory(
                region.name, f"/{region.name}", region.size, client_timeout=left_s
            )

        try:
            self._call("shared memory", register, until)
        except BaseException as error:
            _destroy(region)
            if isinstance(error, ServingError) and not isinstance(error, NoAnswer):
                return None
            raise
        return region

    def _give_up(self, region: SharedMemory) -> None:
        with suppress(Exception):
            self._client.unregister_system_shared_memory(region.name, client_timeout=END_S)
        _destroy(region)

    def _forget(self) -> None:
        """Give up all regions that no call uses."""
        with self._lock:
            free, self._free = self._free, []
        for region in free:
            self._give_up(region)

    def close(self) -> None:
        self._forget()
        super().close()


def _written(region: SharedMemory, inputs: Arrays) -> list[Any]:
    """The arrays, copied into the region, as ``tritonclient`` names them in a request."""
    from tritonclient.grpc import InferInput
    from tritonclient.utils import np_to_triton_dtype

    tensors, offset = [], 0
    for name, array in inputs.items():
        np.ndarray(array.shape, array.dtype, buffer=region.buf, offset=offset)[...] = array
        tensor = InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        tensor.set_shared_memory(region.name, array.nbytes, offset)
        tensors.append(tensor)
        offset += array.nbytes
    return tensors


def _destroy(region: SharedMemory) -> None:
    region.close()
    region.unlink()
