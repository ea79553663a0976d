"""What the real S3 server's client does when answers on the way are those of a busy or failing store."""

import http.client
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from posewatch.errors import NotFound, Unreachable
from posewatch.store import S3Store, local_copy


class Between(BaseHTTPRequestHandler):
    """Hands each request on to the real server, but for those that ``server.script`` answers: (method, part of the
    path, status, page), each once."""

    protocol_version = "HTTP/1.1"

    def handle_one(self) -> None:
        server: Any = self.server
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with server.lock:
            server.seen.append((self.command, self.path))
            told = next((t for t in server.script if t[0] == self.command and t[1] in self.path), None)
            if told:
                server.script.remove(told)
        if told:
            _, _, status, page = told
            answered: list[tuple[str, str]] = [("Content-Type", "application/xml")]
        else:
            real = http.client.HTTPConnection(server.real, timeout=30)
            real.request(self.command, self.path, body, dict(self.headers))
            answer = real.getresponse()
            status, page = answer.status, answer.read()
            answered = [(k, v) for k, v in answer.getheaders() if k.lower() not in ("content-length", "connection")]
            real.close()
        self.send_response_only(status)
        for name, value in answered:
            self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(page)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_one

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def between(s3_store: S3Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The real server behind one that can answer in its place; ``between.store`` goes through it."""
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Between)
    server.real = urlsplit(os.environ["POSEWATCH_S3_ENDPOINT"]).netloc
    server.script, server.seen, server.lock = [], [], threading.Lock()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    monkeypatch.setenv("POSEWATCH_S3_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    server.store = S3Store(s3_store.bucket, s3_store.prefix, attempts=2)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def _error(code: str) -> bytes:
    page = f"<Error><Code>{code}</Code><Message>try again</Message></Error>"
    return b'<?xml version="1.0" encoding="UTF-8"?>\n  \n' + page.encode()


# as AWS describes it for CompleteMultipartUpload: 200 and blanks first, the error when it is known
LATE = ("POST", "uploadId=", 200, _error("InternalError"))


@pytest.mark.parametrize("way", ["put", "upload"])
def test_an_upload_whose_parts_were_not_put_together_is_sent_again(
    between: Any, s3_store: S3Store, tmp_path: Path, way: str
) -> None:
    data = os.urandom(6 << 20)
    (tmp_path / "video.mp4").write_bytes(data)
    between.script.append(LATE)
    if way == "put":
        between.store.put("video.mp4", data)
    else:
        between.store.upload("video.mp4", tmp_path / "video.mp4")
    assert not between.script
    assert s3_store.get("video.mp4") == data


def test_an_upload_that_is_never_put_together_is_told(between: Any, tmp_path: Path) -> None:
    (tmp_path / "video.mp4").write_bytes(bytes(6 << 20))
    between.script += [LATE, LATE]
    with pytest.raises(Unreachable, match="the parts of the upload were not put together"):
        between.store.upload("video.mp4", tmp_path / "video.mp4")


@pytest.mark.parametrize(
    ("code", "status"),
    [
        # MinIO's, then SeaweedFS's
        ("SlowDownRead", 503), ("SlowDownWrite", 503), ("XMinioIAMNotInitialized", 503), ("TooManyRequests", 429),
        ("ErrTooManyRequest", 503), ("ErrRequestBytesExceed", 503),
    ],
)  # fmt: skip
def test_a_busy_store_is_asked_again_whatever_it_calls_that(between: Any, code: str, status: int) -> None:
    between.script += [("PUT", "a.json", status, _error(code)), ("GET", "a.json", status, _error(code))]
    between.store.put("a.json", b"{}")
    assert between.store.get("a.json") == b"{}"
    assert not between.script


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_folder_of_the_store_is_asked_for_without_its_neighbours(between: Any, slash: str) -> None:
    """SeaweedFS 4.08 to 4.12, asked for `in` instead of `in/`, end after the first page (seaweedfs#8287)."""
    for key in ("in/a.mp4", "in/cam 1/b.mp4", "in-old/c.mp4", "in.mp4"):
        between.store.put(key, key.encode())
    with local_copy(f"{between.store.uri}/in{slash}") as folder:
        assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.mp4")) == ["a.mp4", "cam 1/b.mp4"]
    asked = [parse_qs(urlsplit(path).query)["prefix"] for _, path in between.seen if "list-type" in path]
    assert asked == [[f"{between.store.prefix}/in/"]]


def test_a_single_object_of_the_store_is_copied_by_its_name(between: Any) -> None:
    for key in ("in/a.mp4", "in/a.mp4.json"):
        between.store.put(key, key.encode())
    with local_copy(f"{between.store.uri}/in/a.mp4") as path:
        assert (path.name, path.read_bytes()) == ("a.mp4", b"in/a.mp4")
    with pytest.raises(NotFound, match="nothing below"), local_copy(f"{between.store.uri}/in/b"):
        pass
