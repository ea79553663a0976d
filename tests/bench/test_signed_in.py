"""What an identity proxy adds reaches a server with every request, the handshake of a WebSocket included."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Iterator

import pytest
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.sync import client, server

from posewatch.bench.signed_in import HeaderProxy

WANTED = {"kubeflow-userid": "ann", "x-posewatch-proxy-secret": "w"}


@pytest.fixture
def echo() -> Iterator[str]:
    """A server that answers a request, or the first message of a WebSocket, with the headers that it got."""

    def answer(connection: server.ServerConnection, request: Request) -> Response | None:
        if request.headers.get("upgrade"):
            return None
        body = json.dumps([request.path, dict(request.headers.raw_items())]).encode()
        return Response(200, "OK", Headers({"Content-Length": str(len(body)), "Connection": "close"}), body)

    def talk(connection: server.ServerConnection) -> None:
        assert connection.request is not None
        for message in connection:
            connection.send(json.dumps([message, dict(connection.request.headers.raw_items())]))

    with server.serve(talk, "127.0.0.1", 0, process_request=answer) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{running.socket.getsockname()[1]}"
        running.shutdown()


def test_a_proxy_adds_headers_to_requests_and_handshakes(echo: str) -> None:
    proxy = HeaderProxy(WANTED)
    try:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": proxy.url}))
        path, headers = json.load(opener.open(f"http://{echo}/a/b?c=d%20e", timeout=10))
        assert path == "/a/b?c=d%20e"
        assert WANTED.items() <= headers.items()
        with client.connect(f"ws://{echo}/stream", proxy=proxy.url) as line:
            for message in ("one", "x" * 200_000):
                line.send(message)
                back, headers = json.loads(line.recv(10))
                assert back == message
                assert WANTED.items() <= headers.items()
    finally:
        proxy.stop()
