"""Triton over gRPC with clips in shared memory, for a server on this machine (its system shared memory extension)."""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
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
IN_USE = "currently in use"
"""What it answers when it is to forget a region that a request reads, such as one whose caller has gone."""
END_S = 2.0
FOLDER, PREFIX = Path("/dev/shm"), "posewatch-"
"""Where the memory lies as files, and how the names of ours begin."""
YOUNG_S = 60.0
"""A region may be so old, in seconds, before its owner has locked it."""
_LOG = logging.getLogger(__name__)


class SharedConnection(GrpcConnection):
    """See ``Connection``. Each call under way has a region of its own, registered with the server, that later calls use
    again; a region is gone when this process ends. Where it was killed, another client gives up what it left: the
    memory, and its registration, which would keep it in the server.

    A server that cannot read this machine's memory gets the clips by gRPC; one line says so.
    """

    def __init__(self, url: str, timeout_s: float, retries: int) -> None:
        super().__init__(url, timeout_s, retries)
        self._lock, self._free = threading.Lock(), list[SharedMemory]()
        self._locks: dict[SharedMemory, int] = {}
        self._registered = list[str]()
        """Names of regions that are gone here, but not in the server: it forgets none that a request still reads."""
        self._refused = self._tidied = False

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
            self._give_up([region])  # the server may still read it
            if not isinstance(error, ServingError) or UNKNOWN not in str(error):
                raise
            self._forget()
            return super().infer(model, inputs, until)
        with self._lock:
            self._free.append(region)
        self._unregister()
        return answer

    def _take(self, size: int, until: Deadline) -> SharedMemory | None:
        """A region of at least ``size`` bytes that no other call uses; None when the server refuses it.

        Raises ServingError when there is no server: one that is started again shares memory as before.
        """
        with self._lock:
            for i, region in enumerate(self._free):
                if region.size >= size:
                    return self._free.pop(i)
        name = PREFIX + secrets.token_hex(8)
        try:
            region = SharedMemory(name=name, create=True, size=max(LEAST, 1 << (size - 1).bit_length()))
        except OSError:  # no room, or no such memory here
            return None
        self._locks[region] = _locked(FOLDER / name)

        def register(left_s: float) -> None:
            self._client.register_system_shared_memory(
                region.name, f"/{region.name}", region.size, client_timeout=left_s
            )

        try:
            self._call("shared memory", register, until)
        except BaseException as error:
            self._destroy(region)
            if isinstance(error, ServingError) and not isinstance(error, NoAnswer):
                return None
            raise
        self._tidy()
        return region

    def _tidy(self) -> None:
        """Give up, once, what clients left that were killed. The server reads our memory, so its files are ours."""
        if self._tidied:
            return
        self._tidied = True
        with suppress(Exception):  # nothing depends on it, and the next client tries it again
            for path in FOLDER.glob(f"{PREFIX}*"):
                if _abandoned(path):
                    path.unlink(missing_ok=True)
            told = self._client.get_system_shared_memory_status(as_json=True, client_timeout=END_S)
            for name in told.get("regions", {}):
                if name.startswith(PREFIX) and not (FOLDER / name).exists():
                    self._client.unregister_system_shared_memory(name, client_timeout=END_S)

    def _give_up(self, regions: Sequence[SharedMemory]) -> None:
        for region in regions:
            self._destroy(region)
        with self._lock:
            self._registered += [region.name for region in regions]
        self._unregister()

    def _unregister(self) -> None:
        """Have the server forget the regions that are gone; those that it cannot forget yet it is told of later."""
        with self._lock:
            names, self._registered = self._registered, []
        kept = []
        for i, name in enumerate(names):
            try:
                self._client.unregister_system_shared_memory(name, client_timeout=END_S)
            except Exception as error:
                if IN_USE not in str(error):  # no server, or a slow one
                    kept += names[i:]
                    break
                kept.append(name)
        with self._lock:
            self._registered += kept

    def _destroy(self, region: SharedMemory) -> None:
        region.close()
        region.unlink()
        os.close(self._locks.pop(region))

    def _forget(self) -> None:
        """Give up all regions that no call uses."""
        with self._lock:
            free, self._free = self._free, []
        self._give_up(free)

    def close(self) -> None:
        self._forget()
        ends = time.monotonic() + END_S
        while self._registered and time.monotonic() < ends:
            time.sleep(0.02)
            self._unregister()
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


def _locked(path: Path) -> int:
    """A file descriptor that locks a region's file until it is closed, or this process ends, however it does."""
    lock = os.open(path, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def _abandoned(path: Path) -> bool:
    """Whether the process that made a region's file is gone. Raises nothing: one that cannot be read is somebody's."""
    try:
        lock = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        if time.time() - os.fstat(lock).st_mtime < YOUNG_S:
            return False
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(lock)
    return True
