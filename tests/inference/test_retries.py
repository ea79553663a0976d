"""Deadlines and retries against a small HTTP server that answers as it is told; asyncio against a real Triton."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import counted
from tiny_models import LABELS

from posewatch.errors import InputError, PosewatchError, ServingError
from posewatch.inference import triton_admin
from posewatch.inference import triton_client as triton
from posewatch.inference.asynchronous import open_async
from posewatch.inference.onnx_runtime import OnnxPredictor
from posewatch.inference.open import open_predictor
from posewatch.inference.predictor import Arrays
from posewatch.inference.triton import TritonPredictor
from posewatch.inference.wire import Deadline
from posewatch.serving.repository import write_repository
from posewatch.stack import TritonServer

PROTOCOLS = ["grpc", "http"]
ANSWER = {"outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [0.25, 0.75]}]}


class Scripted(ThreadingHTTPServer):
    """Answers the n-th request with the n-th status of ``script`` (None: not at all, for 3 s), then with 200."""

    def __init__(self) -> None:
        self.script: list[int | None] = []
        self.seen: list[float] = []
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        server: Any = self.server
        server.seen.append(time.monotonic())
        status = server.script.pop(0) if server.script else 200
        if status is None:
            time.sleep(3.0)
            status = 200
        body = json.dumps(ANSWER if status == 200 else {"error": f"status {status}"}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    server = Scripted()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def _ask(server: Scripted, **options: Any) -> Arrays:
    connection = triton.connect(server.url, "http", **options)
    try:
        return connection.infer("m", {"x": np.zeros((1, 2), np.float32)})
    finally:
        connection.close()


class Odd(BaseHTTPRequestHandler):
    """Answers each path with what ``server.bodies`` has for its end, with status 200."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        server: Any = self.server
        body = next((body for end, body in server.bodies.items() if self.path.endswith(end)), b"<html>hello</html>")
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST

    def log_message(self, *_: Any) -> None:
        pass


def _output(name: str, *shape: int, values: int | None = None) -> dict[str, Any]:
    count = int(np.prod(shape)) if values is None else values
    return {"name": name, "datatype": "FP32", "shape": list(shape), "data": [0.5] * count}


CONFIG = {
    "input": [{"name": "keypoints", "data_type": "TYPE_FP32", "dims": [1, 4, 17, 3]}],
    "output": [{"name": "probabilities", "dims": [2]}],
    "parameters": {"labels": {"string_value": '["normal", "abnormal"]'}},
}
ODD: list[tuple[dict[str, Any], str]] = [
    ({}, r"answers, but not as Triton does \(health\)"),
    ({"/v2": {}}, r"not as Triton does \(health\)"),
    ({"/v2": [1]}, r"not as Triton does \(health\)"),
    ({"/config": [1]}, r"not as Triton does \(m\)"),
    ({"/config": {**CONFIG, "parameters": [1]}}, r"not as Triton does \(m\)"),
    ({"/config": {**CONFIG, "input": [{}]}}, r"not as Triton does \(m\)"),
    ({"/infer": b"\xff\xfe"}, r"not as Triton does \(m\)"),
    ({"/infer": {"outputs": [_output("probabilities", 1, 2, values=1)]}}, r"not as Triton does \(m\)"),
    ({"/infer": {"outputs": [_output("else", 1, 2)]}}, "answered without probabilities, only else"),
    ({"/infer": {"outputs": []}}, "answered without probabilities, only nothing"),
    ({"/infer": {"outputs": [_output("probabilities", 1, 3)]}}, r"with the shape \(1, 3\), not \(1, 2\)"),
    ({"/infer": {"outputs": [_output("probabilities", 1, 2), _output("novelty", 3)]}}, r"novelty of the shape \(3,\)"),
    ({"/infer": {"outputs": [_output("probabilities", 1, 2), _output("novelty", 1, 2)]}}, "novelty of the shape"),
    ({"/infer": {"outputs": [_output("probabilities", 1, 2), _output("embedding", 3, 8)]}}, "embedding of the shape"),
]


@pytest.mark.parametrize(("answers", "says"), ODD)
def test_what_answers_is_no_triton_or_not_ours(answers: dict[str, Any], says: str) -> None:
    given = {"/v2": {"version": "2.5"}, "/ready": b"", "/config": CONFIG, **answers} if answers else {}
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Odd)
    server.bodies = {end: body if isinstance(body, bytes) else json.dumps(body).encode() for end, body in given.items()}
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        with (
            pytest.raises(ServingError, match=says),
            open_predictor(f"http://127.0.0.1:{server.server_address[1]}/m", timeout_s=5) as predictor,
        ):
            predictor.predict(np.ones((1, 1, 4, 17, 3), np.float32))
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("status", [429, 502, 503])
def test_what_is_tried_again(scripted: Scripted, status: int) -> None:
    scripted.script = [status, status]
    assert _ask(scripted)["y"].tolist() == [[0.25, 0.75]]
    assert len(scripted.seen) == 3


@pytest.mark.parametrize("status", [400, 404, 500, 501, 504])
def test_what_is_not(scripted: Scripted, status: int) -> None:
    scripted.script = [status] * 3
    with pytest.raises(ServingError, match=f"m: status {status}"):
        _ask(scripted)
    assert len(scripted.seen) == 1


def test_retries_are_bounded(scripted: Scripted) -> None:
    scripted.script = [503] * 9
    with pytest.raises(ServingError, match=r"no answer .* after 3 tries"):
        _ask(scripted, retries=2)
    assert len(scripted.seen) == 3


def test_the_deadline_covers_all_tries(scripted: Scripted) -> None:
    scripted.script = [503] * 200
    began = time.monotonic()
    with pytest.raises(ServingError, match=r"after [0-9]+ tries|did not answer within 3 s"):
        _ask(scripted, retries=200, timeout_s=3.0)
    assert time.monotonic() - began < 30  # 200 pauses would be minutes
    assert 1 < len(scripted.seen) < 100


def test_a_slow_answer_is_not_asked_for_again(scripted: Scripted) -> None:
    scripted.script = [None]
    with pytest.raises(ServingError, match=r"did not answer within 1 s \(m\)"):
        _ask(scripted, timeout_s=1.0)
    assert len(scripted.seen) == 1


def test_limits_that_make_no_sense() -> None:
    with pytest.raises(InputError, match="above 0 seconds"):
        Deadline(0)


@pytest.fixture(scope="module")
def served(server: TritonServer, tiny: Path) -> Iterator[TritonServer]:
    write_repository(tiny, server.repository, name="awaited", queue_delay_us=20_000)
    triton_admin.load_model(server.grpc, "awaited")
    yield server
    triton_admin.unload_model(server.grpc, "awaited")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_many_awaited_at_once(served: TritonServer, tiny: Path, clips, protocol: str) -> None:
    wanted = OnnxPredictor(tiny).predict(clips)
    before = triton_admin.statistics(served.grpc, "awaited")

    async def ask() -> list[Any]:
        async with await open_async(f"{protocol}://{getattr(served, protocol)}/awaited") as predictor:
            whole = await predictor.predict(clips)
            ones = await asyncio.gather(*(predictor.predict(clips[i : i + 1]) for i in range(len(clips))))
            none = await predictor.predict(clips[:0])
            return [whole, ones, none]

    whole, ones, none = asyncio.run(ask())
    np.testing.assert_allclose(whole.probabilities, wanted.probabilities, atol=1e-6)
    np.testing.assert_allclose(np.concatenate([p.probabilities for p in ones]), wanted.probabilities, atol=1e-6)
    assert none.probabilities.shape == (0, 2)
    since = counted(served.grpc, "awaited", before, inferences=2 * len(clips))
    assert since["executions"] < len(clips)
    assert since["total_ns"] > since["queue_ns"] + since["compute_ns"] > 0


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_errors_in_asyncio(served: TritonServer, clips, protocol: str) -> None:
    async def ask(url: str, model: str, keypoints: np.ndarray) -> None:
        async with await open_async(f"{protocol}://{url}/{model}", retries=1) as predictor:
            await predictor.predict(keypoints)

    url = getattr(served, protocol)
    with pytest.raises(ServingError, match=r"serves no model 'nobody'; it serves: "):
        asyncio.run(ask(url, "nobody", clips[:1]))
    with pytest.raises(InputError, match=r"not \(1, 2, 5, 17, 3\)"):
        asyncio.run(ask(url, "awaited", clips[:1, :, :5]))
    with pytest.raises(ServingError, match=r"no answer \(is the server up.* after 2 tries"):
        asyncio.run(ask("127.0.0.1:9", "m", clips[:1]))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_full_queue_is_tried_again(served: TritonServer, tiny: Path, clips, protocol: str) -> None:
    """Six at a time where one may wait: without retries some are refused, with them all are answered."""
    name = f"full_{protocol}"
    write_repository(tiny, served.repository, name=name, max_batch=4, queue_delay_us=300_000, instances=1, max_queue=1)
    triton_admin.load_model(served.grpc, name)

    async def ask(retries: int) -> list[Any]:
        async with await open_async(f"{protocol}://{getattr(served, protocol)}/{name}", retries=retries) as predictor:
            calls = (predictor.predict(clips[i : i + 1]) for i in range(6))
            return await asyncio.gather(*calls, return_exceptions=True)

    refused = [answer for answer in asyncio.run(ask(0)) if isinstance(answer, ServingError)]
    assert 0 < len(refused) < 6
    assert all("its queue is full" in str(error) for error in refused)
    assert not [answer for answer in asyncio.run(ask(50)) if isinstance(answer, Exception)]
    triton_admin.unload_model(served.grpc, name)


@pytest.mark.parametrize(("protocol", "limit_us"), [("grpc", 0), ("grpc", 30_000_000), ("http", 30_000_000)])
def test_the_server_drops_what_waits_too_long(served: TritonServer, tiny: Path, clips, protocol: str, limit_us) -> None:
    """Over HTTP, Triton does not learn that a client gave up: it needs a policy of its queue."""
    name = f"slow_{protocol}_{limit_us}"
    write_repository(
        tiny,
        served.repository,
        name=name,
        max_batch=8,
        queue_delay_us=2_000_000,
        instances=1,
        queue_timeout_us=limit_us,
    )
    triton_admin.load_model(served.grpc, name)
    before = triton_admin.statistics(served.grpc, name)
    with TritonPredictor(getattr(served, protocol), name, protocol) as predictor:
        with pytest.raises(ServingError, match=r"did not answer within 1 s"):
            predictor.predict(clips[:5], timeout_s=1.0)
        assert len(predictor.predict(clips[:2]).probabilities) == 2
    # of seven clips two were run, after the queue's delay, without those that were given up meanwhile
    counted(served.grpc, name, before, inferences=2, requests=1, failed=1)
    triton_admin.unload_model(served.grpc, name)


def test_local_models_in_asyncio(tiny: Path, clips) -> None:
    async def ask() -> Any:
        async with await open_async(str(tiny)) as predictor:
            return await asyncio.gather(*(predictor.predict(clips[i : i + 1]) for i in range(4)))

    got = np.concatenate([p.probabilities for p in asyncio.run(ask())])
    np.testing.assert_allclose(got, OnnxPredictor(tiny).predict(clips[:4]).probabilities, atol=1e-6)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("model.txt", "is no model: give grpc://"),
        ("ftp://127.0.0.1:1/m", "bad endpoint"),
        ("grpc://127.0.0.1:1", "bad endpoint"),
        ("grpc://127.0.0.1:x/m", "write host:port"),
        ("absent.onnx", "no such ONNX file"),
        ("absent.pt", "no such checkpoint"),
    ],
)
def test_references_that_lead_nowhere(reference: str, message: str) -> None:
    with pytest.raises(PosewatchError, match=message):
        open_predictor(reference)


def test_a_model_that_is_not_ours(served: TritonServer, tiny: Path) -> None:
    folder = write_repository(tiny, served.repository, name="foreign")
    text = (folder / "config.pbtxt").read_text()
    (folder / "config.pbtxt").write_text(text.replace(json.dumps(LABELS).replace('"', '\\"'), '[\\"a\\"]'))
    triton_admin.load_model(served.grpc, "foreign")
    with pytest.raises(ServingError, match=r"names 1 classes but answers with \[2\]"):
        TritonPredictor(served.grpc, "foreign")
    triton_admin.unload_model(served.grpc, "foreign")
