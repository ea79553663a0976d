"""Services of the stand-in cluster as kube-proxy carries them out: a new connection goes to a ready, selected pod."""

from __future__ import annotations

import itertools
import select
import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from .pods import Pod


class Network(threading.Thread):
    """Listens on loopback for each port of each Service; ``listen`` gives the place. ``lag_s`` is how late a change of
    a selector or of a pod's readiness is known. An open connection stays with its pod until one of them closes it."""

    def __init__(self, services: Callable[[], Iterable[dict[str, Any]]], pods: Callable[[], Iterable[Pod]]) -> None:
        super().__init__(daemon=True)
        self._services, self._pods = services, pods
        self.lag_s = 0.0
        self.over = threading.Event()
        self._listeners: dict[tuple[str, int], socket.socket] = {}
        self._targets: dict[tuple[str, int], list[int]] = {}
        self._late: list[tuple[float, dict[tuple[str, int], list[int]]]] = []
        self._turn = itertools.count()
        self._lock = threading.Lock()

    def run(self) -> None:
        while not self.over.wait(0.03):
            self._update()
        for listener in self._listeners.values():
            listener.close()

    def _update(self) -> None:
        pods = [pod for pod in self._pods() if pod.ready and pod.server]
        targets: dict[tuple[str, int], list[int]] = {}
        for service in self._services():
            selector = service["spec"].get("selector") or {}
            chosen = [pod for pod in pods if selector.items() <= pod.labels.items()]
            for port in service["spec"]["ports"]:
                key = (service["metadata"]["name"], port["port"])
                targets[key] = [pod.server.ports[port["targetPort"]] for pod in chosen if pod.server]
                self.listen(*key)
        self._late.append((time.monotonic() + self.lag_s, targets))
        while self._late and self._late[0][0] <= time.monotonic():
            with self._lock:
                self._targets = self._late.pop(0)[1]

    def listen(self, service: str, port: int) -> int:
        """The loopback port of a Service's port."""
        with self._lock:
            if (service, port) not in self._listeners:
                listener = socket.create_server(("127.0.0.1", 0))
                self._listeners[service, port] = listener
                threading.Thread(target=self._accept, args=(listener, (service, port)), daemon=True).start()
            return int(self._listeners[service, port].getsockname()[1])

    def addresses(self, service: str, namespace: str) -> tuple[str, ...]:
        """In place of ``posewatch.deploy.proof.addresses``: the names that only a cluster's DNS knows."""
        return f"http://127.0.0.1:{self.listen(service, 80)}", f"grpc://127.0.0.1:{self.listen(service, 9000)}"

    def _accept(self, listener: socket.socket, key: tuple[str, int]) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            with self._lock:
                ports = self._targets.get(key) or []
            try:
                if not ports:
                    raise OSError  # no endpoint: refused
                far = socket.create_connection(("127.0.0.1", ports[next(self._turn) % len(ports)]), 5)
            except OSError:
                near.close()
                continue
            threading.Thread(target=_relay, args=(near, far), daemon=True).start()


def _relay(near: socket.socket, far: socket.socket) -> None:
    other = {near: far, far: near}
    try:
        while True:
            for one in select.select(list(other), [], [])[0]:
                data = one.recv(1 << 16)
                if not data:
                    return
                other[one].sendall(data)
    except OSError:
        pass
    finally:
        near.close()
        far.close()
