"""The life of a server under load: a new version, a signal, a sudden end, a server that hangs."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from support import stop_and_wait
from tiny_models import tiny_model

from posewatch.bench.fixed_cost import write_fixed_cost
from posewatch.config import ServingConfig
from posewatch.deploy.runtime import serving_runtime
from posewatch.errors import ServingError
from posewatch.inference import triton_admin, triton_grpc
from posewatch.inference import triton_admin as control
from posewatch.inference.onnx_runtime import OnnxPredictor
from posewatch.inference.triton import TritonPredictor
from posewatch.serving.benchmark import soak
from posewatch.serving.repository import write_repository
from posewatch.stack import TritonServer, triton
from posewatch.stack.process import wait_until

PROTOCOLS = ("grpc", "http")


def _url(server: TritonServer, protocol: str) -> str:
    return server.grpc if protocol == "grpc" else server.http


@pytest.fixture
def private(tmp_path: Path, tiny: Path) -> Iterator[TritonServer]:
    """A Triton of one test's own, with the model ``tiny``."""
    write_repository(tiny, tmp_path / "models", name="tiny")
    with TritonServer.start(tmp_path / "models", log=tmp_path / "triton.log") as running:
        triton_admin.load_model(running.grpc, "tiny")
        yield running


@contextmanager
def _asking(url: str, protocol: str, clips: np.ndarray, clients: int = 4) -> Iterator[list[np.ndarray]]:
    """So many clients that ask for the first clip again and again within the block; the answers. Raises their error."""
    answers: list[np.ndarray] = []
    end = threading.Event()

    def ask() -> None:
        with TritonPredictor(url, "renewed", protocol) as predictor:
            while not end.is_set():
                answers.append(predictor.predict(clips[:1]).probabilities[0])

    with ThreadPoolExecutor(clients) as pool:
        asked = [pool.submit(ask) for _ in range(clients)]
        try:
            yield answers
        finally:
            end.set()
        for one in asked:
            one.result(60)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_new_version_is_published_while_clients_run(
    server: TritonServer, tiny: Path, clips, tmp_path: Path, protocol: str
) -> None:
    files = [tiny, tiny_model(tmp_path / "b.onnx", seed=5), tiny_model(tmp_path / "c.onnx", seed=6)]
    known = [OnnxPredictor(path).predict(clips[:1]).probabilities[0] for path in files]
    write_repository(files[0], server.repository, name="renewed")
    triton_admin.load_model(server.grpc, "renewed")
    seen = []
    with _asking(_url(server, protocol), protocol, clips) as answers:
        for path in files[1:]:
            had = len(answers)
            assert wait_until(lambda had=had: len(answers) >= had + 20, 60)
            write_repository(path, server.repository, name="renewed")
            triton_admin.load_model(server.grpc, "renewed")
            seen.append(len(answers))
        assert wait_until(lambda: len(answers) >= seen[-1] + 20, 60)
    versions = np.array([[np.allclose(a, k, atol=1e-6) for k in known] for a in answers])
    assert (versions.sum(1) == 1).all()  # each answer is one version's, none is lost, none is mixed
    assert versions.any(0).all()
    assert versions[-4:, 2].all()
    triton_admin.unload_model(server.grpc, "renewed")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_was_asked_before_sigterm_is_answered(private: TritonServer, protocol: str) -> None:
    write_fixed_cost(private.repository, "slow", cost_s=2.0, batching=True, max_batch=8)
    triton_admin.load_model(private.grpc, "slow")
    clip = np.zeros((1, 1, 1, 1, 3), np.float32)
    with ThreadPoolExecutor(4) as pool:
        predictors = [TritonPredictor(_url(private, protocol), "slow", protocol, retries=0) for _ in range(4)]
        asked = [pool.submit(predictor.predict, clip) for predictor in predictors]
        time.sleep(1.0)  # they are all with the server, which needs 2 s, or 4
        os.kill(private.process.pid, signal.SIGTERM)
        assert [len(one.result(30).probabilities) for one in asked] == [1] * 4
        for predictor in predictors:
            predictor.close()
    assert wait_until(lambda: not private.process.alive, 20)
    with pytest.raises(ServingError, match="no answer"):
        TritonPredictor(_url(private, protocol), "slow", protocol, retries=0)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_client_outlives_its_server(private: TritonServer, clips, protocol: str) -> None:
    with TritonPredictor(_url(private, protocol), "tiny", protocol, timeout_s=60, retries=8) as predictor:
        wanted = predictor.predict(clips[:2]).probabilities
        private.process.stop(signal.SIGKILL, 5)
        with pytest.raises(ServingError, match="no answer"):
            TritonPredictor(_url(private, protocol), "tiny", protocol, retries=0)
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(predictor.predict, clips[:2])  # asks while nobody is there
            with TritonServer.start(private.repository, ports=private.ports, log=private.log) as again:
                triton_admin.load_model(again.grpc, "tiny")
                try:
                    got = asked.result(60)
                except ServingError:  # it asked between the start and the load, and was told that there is no model
                    got = predictor.predict(clips[:2])
        np.testing.assert_allclose(got.probabilities, wanted, atol=1e-6)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_server_that_hangs_costs_a_deadline_and_no_more(private: TritonServer, clips, protocol: str) -> None:
    with TritonPredictor(_url(private, protocol), "tiny", protocol, timeout_s=4) as predictor:
        predictor.predict(clips[:2])
        try:
            stop_and_wait(private.process.pid)
            with pytest.raises(ServingError, match=r"did not answer within 4 s"):
                predictor.predict(clips[:2])
        finally:
            os.kill(private.process.pid, signal.SIGCONT)
        assert len(predictor.predict(clips[:2]).probabilities) == 2


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_server_that_ends_with_requests_under_way_is_left(
    private: TritonServer, clips, tiny: Path, tmp_path: Path, protocol: str
) -> None:
    """While it computes them it refuses all others, on the connections that clients hold to it."""
    write_fixed_cost(private.repository, "slow", cost_s=3.0, batching=True, max_batch=8)
    triton_admin.load_model(private.grpc, "slow")
    write_repository(tiny, tmp_path / "other", name="tiny")
    with ExitStack() as stack:
        other = stack.enter_context(TritonServer.start(tmp_path / "other", log=tmp_path / "other.log"))
        triton_admin.load_model(other.grpc, "tiny")
        ports = [server.ports[protocol == "grpc"] for server in (private, other)]
        way = stack.enter_context(closing(Way(*ports)))
        predictor = stack.enter_context(TritonPredictor(way.url, "tiny", protocol))
        slow = stack.enter_context(TritonPredictor(_url(private, protocol), "slow", protocol, retries=0))
        pool = stack.enter_context(ThreadPoolExecutor(1))
        known = predictor.predict(clips[:2]).probabilities
        asked = pool.submit(slow.predict, np.zeros((1, 1, 1, 1, 3), np.float32))
        time.sleep(0.5)  # it is with the server, which needs 3 s
        os.kill(private.process.pid, signal.SIGTERM)
        end = time.monotonic() + 1
        while time.monotonic() < end:
            assert (predictor.predict(clips[:2]).probabilities == known).all()
        assert len(asked.result(30).probabilities) == 1


class Way:
    """A way to ports of this machine, of which each connection gets the next one and stays there, as with a Service.

    On connections from before ``lose`` nothing comes through any more, and nothing says so, as when a node loses its
    power.
    """

    def __init__(self, *ports: int) -> None:
        self._ports, self._age, self._ends = itertools.cycle(ports), 0, list[socket.socket]()
        self._entry = socket.create_server(("127.0.0.1", 0))
        self.url = f"127.0.0.1:{self._entry.getsockname()[1]}"
        threading.Thread(target=self._run, daemon=True).start()

    def lose(self) -> None:
        self._age += 1

    def _run(self) -> None:
        with suppress(OSError):
            while True:
                ends = self._entry.accept()[0], socket.create_connection(("127.0.0.1", next(self._ports)))
                self._ends += ends
                for here, there in (ends, ends[::-1]):
                    threading.Thread(target=self._carry, args=(here, there, self._age), daemon=True).start()

    def _carry(self, here: socket.socket, there: socket.socket, age: int) -> None:
        with suppress(OSError):
            while data := here.recv(1 << 16):
                if age == self._age:
                    there.sendall(data)
            there.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for end in (self._entry, *self._ends):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@pytest.mark.parametrize("protocol", [*PROTOCOLS, "grpc+shm"])
def test_a_connection_that_is_lost_without_a_word_costs_a_deadline(
    private: TritonServer, clips, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triton_grpc, "SILENT_S", 0.5)
    with (
        closing(Way(private.ports[protocol != "http"])) as way,
        TritonPredictor(way.url, "tiny", protocol, timeout_s=2) as predictor,
    ):
        known = predictor.predict(clips[:2]).probabilities
        way.lose()
        with pytest.raises(ServingError, match="did not answer within 2 s"):
            predictor.predict(clips[:2])
        assert (predictor.predict(clips[:2], timeout_s=30).probabilities == known).all()


def test_clients_come_to_a_replica_that_started_after_them(
    clips, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    option = "--grpc-max-connection-age="
    (container,) = serving_runtime(ServingConfig())["spec"]["containers"]
    assert sum(given.startswith(option) for given in container["args"]) == 1
    spawn = triton.spawn
    monkeypatch.setattr(triton, "spawn", lambda command, *rest, **how: spawn([*command, option + "500"], *rest, **how))
    with ExitStack() as stack:
        servers = []
        for name in ("old", "new"):
            write_repository(tiny, tmp_path / name, name="tiny", model_warmup="none")
            log = tmp_path / f"{name}.log"
            servers.append(stack.enter_context(TritonServer.start(tmp_path / name, log=log)))
            triton_admin.load_model(servers[-1].grpc, "tiny")
        way = stack.enter_context(closing(Way(*(server.ports[1] for server in servers))))
        predictor = stack.enter_context(TritonPredictor(way.url, "tiny", "grpc", retries=0))

        def both_answered() -> bool:
            predictor.predict(clips[:1])
            return all(triton_admin.statistics(server.grpc, "tiny")["requests"] > 0 for server in servers)

        assert wait_until(both_answered, 30)


def test_a_client_that_is_killed_leaves_the_server_to_the_others(private: TritonServer, clips) -> None:
    program = (
        "import sys, numpy as np\n"
        "from posewatch.inference.triton import TritonPredictor\n"
        f"p = TritonPredictor(sys.argv[1], 'tiny'); c = np.zeros({clips[:4].shape}, np.float32)\n"
        "p.predict(c); print('up', flush=True)\n"
        "while True: p.predict(c)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, private.grpc], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "up\n"
        other.kill()
    with TritonPredictor(private.grpc, "tiny") as predictor:
        assert len(predictor.predict(clips[:2]).probabilities) == 2
    assert control.statistics(private.grpc, "tiny")["failed"] <= 1


def test_a_soak_watches_memory_and_errors(tiny: Path, clips, tmp_path: Path) -> None:
    found = soak.soak(tiny, clips, tmp_path, minutes=0.07, share=0.3, every_s=1)
    kept = json.loads((tmp_path / "soak.json").read_text())
    assert kept == found
    assert len(found["stretches"]) >= 2
    assert all(row["server_mb"] > 10 and row["client_mb"] > 10 for row in found["stretches"])
    assert (tmp_path / "soak.png").stat().st_size > 10_000
    lines = soak.summary(found)
    assert "memory of the server" in lines
    leaking = {**found, "stretches": [{**found["stretches"][0], "server_mb": 100.0 + 10 * i} for i in range(20)]}
    assert "GROWS" in soak.summary(leaking)


def test_a_soak_with_a_deadline_and_a_limit(tiny: Path, clips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    configs = []

    def look(*_: object) -> None:
        configs.extend(path.read_text() for path in tmp_path.glob("posewatch-soak-*/models/soak/config.pbtxt"))

    found = soak.soak(
        tiny, clips, tmp_path, minutes=0.01, share=0.3, every_s=1, deadline_s=0.001, max_queue=3, progress=look
    )
    assert configs
    assert all("max_queue_size: 3" in text for text in configs)
    assert sum(row["errors"] for row in found["stretches"]) > 0  # no answer comes in a millisecond
