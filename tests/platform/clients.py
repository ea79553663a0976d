"""A client that asks the stable address over and over, by HTTP and gRPC, and notes which version answered when."""

from __future__ import annotations

import threading
import time
from itertools import groupby
from types import TracebackType
from typing import Any

import numpy as np
from published import SHAPE

from posewatch.errors import PosewatchError
from posewatch.inference.triton import TritonPredictor
from posewatch.inference.triton_client import connect

from .network import Network

MODEL = "abnormal"


class Client:
    """Asks every ``every_s`` seconds: by one long-lived gRPC connection (as a watcher), and by a new HTTP connection.

    ``rows`` are (seconds since the start, protocol, version); ``failures`` are requests that had no answer.
    """

    def __init__(self, network: Network, every_s: float = 0.1) -> None:
        self.network, self.every_s = network, every_s
        self.rows: list[tuple[float, str, str]] = []
        self.failures: list[str] = []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(p,), daemon=True) for p in ("http", "grpc")]

    def __enter__(self) -> Client:
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        time.sleep(2 * self.every_s)
        self._over.set()
        for thread in self._threads:
            thread.join(30)

    def order(self, protocol: str = "http") -> list[str]:
        """The versions in the order in which they answered; each change counts."""
        return [version for version, _ in groupby(v for _, p, v in self.rows if p == protocol)]

    def fresh_http(self) -> str:
        return self._version("http")

    def fresh_grpc(self) -> str:
        return self._version("grpc")

    def _url(self, protocol: str) -> str:
        http, grpc = self.network.addresses(MODEL, "posewatch")
        return (http if protocol == "http" else grpc).partition("://")[2]

    def _version(self, protocol: str) -> str:
        connection = connect(self._url(protocol), protocol, 5.0, 0)
        try:
            return _release(connection.config(MODEL))
        finally:
            connection.close()

    def _ask(self, protocol: str) -> None:
        held = TritonPredictor(self._url("grpc"), MODEL, timeout_s=10) if protocol == "grpc" else None
        clips = np.zeros((1, *SHAPE), np.float32)
        while not self._over.wait(self.every_s):
            try:
                if held is not None:
                    held.predict(clips)
                    version = _release(held._connection.config(MODEL))
                else:
                    with TritonPredictor(self._url("http"), MODEL, "http", timeout_s=10, retries=0) as fresh:
                        fresh.predict(clips)
                        version = _release(fresh._connection.config(MODEL))
                self.rows.append((time.monotonic() - self._began, protocol, version))
            except PosewatchError as error:
                self.failures.append(f"{time.monotonic() - self._began:.2f} s, {protocol}: {error}")
        if held is not None:
            held.close()


def _release(config: dict[str, Any]) -> str:
    return str(config["parameters"]["release"]["string_value"])
