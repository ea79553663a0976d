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

from posewatch.errors import InputError, PosewatchError, ServingError
from posewatch.inference import predictors as client
from posewatch.inference import triton_client as triton
from posewatch.inference import triton_client_async as triton_async
from posewatch.inference.predictors import OnnxPredictor, open_predictor
from posewatch.inference.predictors_async import AsyncTritonPredictor, open_async
from posewatch.inference.wire import Arrays, Away, Deadline, Retry
from posewatch.serving.repository import write_repository
from posewatch.stack import TritonServer

from .conftest import LABELS

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


def _ask(server: Scripted, how: str, **told: Any) -> Arrays:
    inputs = {"x": np.zeros((1, 2), np.float32)}
    if how == "blocking":
        connection = triton.connect(server.url, "http", **told)
        try:
            return connection.infer("m", inputs)
        finally:
            connection.close()

    async def ask() -> Arrays:
        found = triton_async.connect(server.url, "http", **told)
        try:
            return await found.infer("m", inputs)
        finally:
            await found.close()

    return asyncio.run(ask())


@pytest.mark.parametrize("how", ["blocking", "asyncio"])
@pytest.mark.parametrize("status", [429, 502, 503])
def test_what_is_tried_again(scripted: Scripted, how: str, status: int) -> None:
    scripted.script = [status, status]
    assert _ask(scripted, how)["y"].tolist() == [[0.25, 0.75]]
    assert len(scripted.seen) == 3


@pytest.mark.parametrize("how", ["blocking", "asyncio"])
@pytest.mark.parametrize("status", [400, 404, 500, 501, 504])
def test_what_is_not(scripted: Scripted, how: str, status: int) -> None:
    scripted.script = [status] * 3
    with pytest.raises(ServingError, match=f"m: status {status}"):
        _ask(scripted, how)
    assert len(scripted.seen) == 1


@pytest.mark.parametrize("how", ["blocking", "asyncio"])
def test_retries_are_bounded(scripted: Scripted, how: str) -> None:
    scripted.script = [503] * 9
    with pytest.raises(ServingError, match=r"no answer .* after 3 tries"):
        _ask(scripted, how, retries=2)
    assert len(scripted.seen) == 3


@pytest.mark.parametrize("how", ["blocking", "asyncio"])
def test_the_deadline_covers_all_tries(scripted: Scripted, how: str) -> None:
    scripted.script = [503] * 200
    began = time.monotonic()
    with pytest.raises(ServingError, match=r"after [0-9]+ tries|did not answer within 3 s"):
        _ask(scripted, how, retries=200, timeout_s=3.0)
    assert time.monotonic() - began < 30  # 200 pauses would be minutes
    assert 1 < len(scripted.seen) < 100


@pytest.mark.parametrize("how", ["blocking", "asyncio"])
def test_a_slow_answer_is_not_asked_for_again(scripted: Scripted, how: str) -> None:
    scripted.script = [None]
    with pytest.raises(ServingError, match=r"did not answer within 1 s \(m\)"):
        _ask(scripted, how, timeout_s=1.0)
    assert len(scripted.seen) == 1


def test_pauses_grow_and_differ() -> None:
    retry, deadline = Retry(retries=9, base_s=0.1, most_s=1.0), Deadline(1e6)
    pauses = [[retry.pause(attempt, deadline, Away("x"), "u") for _ in range(200)] for attempt in (0, 2, 8)]
    for drawn, most in zip(pauses, (0.1, 0.4, 1.0), strict=True):
        assert min(drawn) >= 0
        assert 0.7 * most < max(drawn) <= most
        assert len(set(drawn)) > 190
    with pytest.raises(InputError, match="retries must be at least 0"):
        Retry(-1)
    with pytest.raises(InputError, match="above 0 seconds"):
        Deadline(0)


@pytest.fixture(scope="module")
def served(server: TritonServer, tiny: Path) -> Iterator[TritonServer]:
    write_repository(tiny, server.repository, name="awaited", queue_delay_us=20_000)
    client.load_model(server.grpc, "awaited")
    yield server
    client.unload_model(server.grpc, "awaited")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_many_awaited_at_once(served: TritonServer, tiny: Path, clips, protocol: str) -> None:
    wanted = OnnxPredictor(tiny).predict(clips)
    before = client.statistics(served.grpc, "awaited")

    async def ask() -> list[Any]:
        async with await open_async(f"{protocol}://{getattr(served, protocol)}/awaited") as predictor:
            whole = await predictor.predict(clips)
            ones = await asyncio.gather(*(predictor.predict(clips[i : i + 1]) for i in range(len(clips))))
            none = await predictor.predict(clips[:0])
            return [whole, ones, none, predictor.metadata]

    whole, ones, none, metadata = asyncio.run(ask())
    after = client.statistics(served.grpc, "awaited")
    np.testing.assert_allclose(whole.probabilities, wanted.probabilities, atol=1e-6)
    np.testing.assert_allclose(np.concatenate([p.probabilities for p in ones]), wanted.probabilities, atol=1e-6)
    assert none.probabilities.shape == (0, 2)
    assert (metadata["layout"], metadata["positive"]) == ("coco17", "abnormal")
    assert after["inferences"] - before["inferences"] == 2 * len(clips)
    assert after["executions"] - before["executions"] < len(clips)
    assert after["total_ns"] > after["queue_ns"] + after["compute_ns"] > 0


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_errors_in_asyncio(served: TritonServer, clips, protocol: str) -> None:
    url = getattr(served, protocol)

    async def ask(model: str, **told: Any) -> None:
        async with await AsyncTritonPredictor.connect(url, model, protocol, **told) as predictor:
            await predictor.predict(clips[:1])

    with pytest.raises(ServingError, match=r"serves no model 'nobody'; it serves: "):
        asyncio.run(ask("nobody"))

    async def wrong() -> None:
        async with await AsyncTritonPredictor.connect(url, "awaited", protocol) as predictor:
            await predictor.predict(clips[:1, :, :5])

    with pytest.raises(InputError, match=r"not \(1, 2, 5, 17, 3\)"):
        asyncio.run(wrong())

    async def nobody() -> None:
        await AsyncTritonPredictor.connect("127.0.0.1:9", "m", protocol, retries=1)

    with pytest.raises(ServingError, match=r"no answer \(is the server up.* after 2 tries"):
        asyncio.run(nobody())


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_server_drops_what_waits_too_long(served: TritonServer, tiny: Path, clips, protocol: str) -> None:
    name = f"slow_{protocol}"
    write_repository(tiny, served.repository, name=name, max_batch=8, queue_delay_us=2_000_000, instances=1)
    client.load_model(served.grpc, name)
    before = client.statistics(served.grpc, name)
    with client.TritonPredictor(getattr(served, protocol), name, protocol) as predictor:
        with pytest.raises(ServingError, match=r"did not answer within 1 s"):
            predictor.predict(clips[:5], timeout_s=1.0)
        assert len(predictor.predict(clips[:2]).probabilities) == 2
    after = client.statistics(served.grpc, name)
    # of seven clips two were run, after the queue's delay, without those that were given up meanwhile
    assert [after[k] - before[k] for k in ("inferences", "requests", "failed")] == [2, 1, 1]
    client.unload_model(served.grpc, name)


def test_local_models_in_asyncio(tiny: Path, clips) -> None:
    async def ask() -> Any:
        predictor = await open_async(str(tiny))
        answers = await asyncio.gather(*(predictor.predict(clips[i : i + 1]) for i in range(4)))
        await predictor.close()
        return answers

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
    client.load_model(served.grpc, "foreign")
    with pytest.raises(ServingError, match=r"names 1 classes but answers with \[2\]"):
        client.TritonPredictor(served.grpc, "foreign")
    client.unload_model(served.grpc, "foreign")
