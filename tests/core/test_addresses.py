"""Addresses with any sign in user and password: what is shown holds no secret, FFmpeg gets what it understands."""

from __future__ import annotations

import base64
import logging
import socket
import threading
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from posewatch.addresses import Address, connectable, name_of, without_secrets
from posewatch.errors import InputError
from posewatch.redact import redact, redact_logs, remember, remember_webhook

SIGNS = "@:/#%?[] '\"\\&=;,!$*(){}<>|^~`+가"


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize("part", ["user", "password"])
@pytest.mark.parametrize("host", ["10.0.0.7", "camera", "cam.lan:554", "[fe80::1]:554"])
def test_no_sign_of_user_or_password_is_shown(sign: str, part: str, host: str) -> None:
    secret = f"hunter{sign}2xyz"
    if part == "user" and sign == ":":
        secret = "hunter2xyz"  # the first ":" begins the password
    user = f"{secret}:pw" if part == "user" else f"admin:{secret}"
    url = f"rtsp://{user}@{host}/live/1?token=abcd"
    remember(url)
    assert without_secrets(url) == f"rtsp://{host}/live/1"
    assert "hunter" not in name_of(url) + redact(f"cannot open {url!r}: {url}") + redact(f"bad port '{secret}'")
    given = Address.parse(connectable(url))
    assert (given.place, given.path) == (host, "/live/1")
    assert given.user in (user, ":".join(quote(p, safe="") for p in user.split(":", 1)))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://admin:a@b/c#d?e@10.0.0.7/x", "rtsp://10.0.0.7/x"),
        ("rtsp://admin:p@ss/word@camera/x", "rtsp://camera/x"),
        ("rtsp://cam:554/live?mail=a@b.com", "rtsp://cam:554/live"),
        ("rtsp://camera/live?mail=a@b.com", "rtsp://camera/live"),
        ("rtsp://u:p@10.0.0.7/x?mail=a@b.com", "rtsp://10.0.0.7/x"),
        ("http://127.0.0.1:8888/x@y", "http://127.0.0.1:8888/x@y"),
        ("udp://@239.0.0.1:1234", "udp://239.0.0.1:1234"),
        ("rtsp://h/user=admin&password=abc&channel=1.sdp", "rtsp://h/user=***&password=***&channel=1.sdp"),
        ("rtsp://h/user=admin_password=abc_channel=1", "rtsp://h/user=***_password=***_channel=1"),
        ("rtsp://h/live/3f2b8c1e9a7d44aa", "rtsp://h/live/***"),
        ("http://h/s3cr3t/video.mjpg?sig=abc", "http://h/***/video.mjpg"),
        ("rtsp://h/h264Preview_01_main", "rtsp://h/h264Preview_01_main"),
        ("rtsp://h/Streaming/Channels/101", "rtsp://h/Streaming/Channels/101"),
        ("rtsp://admin:p#ss", "rtsp://***"),
        ("rtsp://admin:123/4@camera/x", "rtsp://***"),
    ],
)
def test_what_is_shown_of_an_address(url: str, shown: str) -> None:
    assert without_secrets(url) == shown


@pytest.mark.parametrize(
    "url", ["rtsp://admin:123/4@camera/x", "rtsp://admin:p#ss", "rtsp:///x", "rtsp://", "http://:80/"]
)
def test_an_address_that_can_be_read_in_several_ways_is_refused_without_its_secret(url: str) -> None:
    with pytest.raises(InputError, match=r"cannot tell where the host of .* %2F") as refused:
        connectable(url)
    assert "123" not in str(refused.value)
    assert "p#ss" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "understood"),
    [
        ("RTSP://10.0.0.7/Live", "rtsp://10.0.0.7/Live"),
        ("Rtsps://Admin:p#W@Cam/Live?A=B", "rtsps://Admin:p%23W@Cam/Live?A=B"),
        ("rtsp://10.0.0.7/Live", "rtsp://10.0.0.7/Live"),
    ],
)
def test_a_scheme_in_capitals_is_understood(url: str, understood: str) -> None:
    """FFmpeg knows no protocol RTSP."""
    assert connectable(url) == understood


def test_cameras_that_differ_in_a_token_only_have_names_of_their_own() -> None:
    one, two = (name_of(f"rtsp://h/live/{token}") for token in ("3f2b8c1e9a7d44aa", "9f2b8c1e9a7d44ab"))
    assert one != two
    assert "3f2b8c1e9a7d44aa" not in one
    assert name_of("rtsp://u:p@10.0.0.7:554/Streaming/1") == "10-0-0-7-streaming-1"


@pytest.fixture
def asked() -> Iterator[tuple[int, list[str]]]:
    """A server that wants a password as a camera does: the Authorization headers that it got."""
    server = socket.create_server(("127.0.0.1", 0))
    headers: list[str] = []

    def serve() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            with client:
                text = client.recv(8192).decode()
                headers.extend(
                    line.partition(": ")[2] for line in text.splitlines() if line.startswith("Authorization")
                )
                client.sendall(b'HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm="c"\r\nContent-Length: 0\r\n\r\n')

    threading.Thread(target=serve, daemon=True).start()
    yield server.getsockname()[1], headers
    server.shutdown(socket.SHUT_RDWR)
    server.close()


@pytest.mark.parametrize("password", ["p#ss/w?rd", "p%23", "p@ss", "p[s]s", "a:b"])
def test_the_camera_gets_the_password_that_was_meant(password: str, asked: tuple[int, list[str]]) -> None:
    av = pytest.importorskip("av")
    from posewatch.video.capture import connect

    port, headers = asked
    with pytest.raises(av.error.FFmpegError):
        connect(f"http://admin:{password}@127.0.0.1:{port}/video")
    meant = "p#" if password == "p%23" else password  # already encoded
    assert base64.b64decode(headers[-1].removeprefix("Basic ")).decode() == f"admin:{meant}"


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("no answer from http://u:p@h:1/x (retry)", "no answer from http://***@h:1/x (retry)"),
        ("'rtsp:/u:p@h/x' is no file", "'rtsp:/***@h/x' is no file"),
        ("at https://b/x?X-Amz-Signature=ab&list=2, again", "at https://b/x?X-Amz-Signature=***&list=2, again"),
        ("postgresql://h/db?password=ab&sslmode=on", "postgresql://h/db?password=***&sslmode=on"),
        ("s3://b/sets/ingest/3f2b8c1e9a7d and file:///a/b@c", "s3://b/sets/ingest/3f2b8c1e9a7d and file:///a/b@c"),
        ("http://h:1/#/runs/details/3f2b8c1e-1111-2222-3333-444455556666", None),
        ("a: b://, http:// and c:/d", None),
    ],
)
def test_addresses_in_a_text(text: str, redacted: str | None) -> None:
    assert redact(text) == (text if redacted is None else redacted)


def test_known_secrets_are_found_wherever_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSEWATCH_S3_SECRET_KEY", "abc/def+ghi")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:mlf-word@host/x")
    remember("source=rtsp://admin:hunt er2's@cam/x")
    remember_webhook("https://hooks.example/services/T012345/Xy9876543")
    for text in (
        "key abc/def+ghi",
        "abc%2Fdef%2Bghi",
        "for mlf-word",
        "'hunt er2\\'s'",
        "hunt%20er2%27s",
        "/x/Xy9876543",
    ):
        assert "***" in redact(text), text
        assert not {"abc/d", "mlf", "hunt", "Xy98"} & {
            word for word in ("abc/d", "mlf", "hunt", "Xy98") if word in redact(text)
        }


def test_log_records_of_every_library_are_redacted(caplog: pytest.LogCaptureFixture) -> None:
    before = logging.getLogRecordFactory()
    try:
        redact_logs()
        redact_logs()
        try:
            raise ValueError("port of rtsp://u:hunter9@cam")
        except ValueError:
            logging.getLogger("urllib3.x").exception("failed %s", "http://u:hunter9@h/")
        logging.getLogger("x").warning("100% %s")
    finally:
        logging.setLogRecordFactory(before)
    assert "hunter9" not in caplog.text
    assert "Traceback" in caplog.text
