"""The same promises from every store: memory, folder and (in tests/stack) the real S3 server."""

import os
import pickle
import resource
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from posewatch.errors import InputError, NotFound, StoreError
from posewatch.store import FolderStore, MemoryStore, ObjectStore, S3Store, open_store


@pytest.fixture(params=["memory", "folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "memory":
        return MemoryStore(str(tmp_path))
    if request.param == "folder":
        return FolderStore(tmp_path / "store")
    return request.getfixturevalue("s3_store")


def test_round_trip_through_bytes_and_files(store: ObjectStore, tmp_path: Path) -> None:
    store.put("a/b.txt", b"one")
    source = tmp_path / "source"
    source.write_bytes(b"two" * 1000)
    store.upload("a/c.bin", source)
    assert store.get("a/b.txt") == b"one"
    assert store.fetch("a/c.bin", tmp_path / "back").read_bytes() == source.read_bytes()
    assert store.exists("a/b.txt")
    assert not store.exists("a/nothing")


def test_list_is_sorted_and_bounded_by_the_prefix(store: ObjectStore) -> None:
    for key in ("x/b/1", "x/a", "x/b-2", "x/b/0", "y/1"):
        store.put(key, key.encode())
    assert [o.key for o in store.list("x/")] == ["x/a", "x/b-2", "x/b/0", "x/b/1"]
    assert [o.size for o in store.list("y/")] == [3]


def test_what_somebody_deletes_meanwhile_is_not_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FolderStore(tmp_path / "store")
    for key in ("x/a", "x/b"):
        store.put(key, b"1")
    walk = os.walk

    def walked(folder: Path) -> Any:
        for found in walk(folder):
            store.delete("x/a")
            yield found

    monkeypatch.setattr("posewatch.store.folder.os.walk", walked)
    assert [o.key for o in store.list("x/")] == ["x/b"]
    with pytest.raises(NotFound, match="no such object"):
        store.fetch("x/a", tmp_path / "back")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        store.fetch("x/b", tmp_path / "nowhere" / "back")


def test_folders_are_the_names_before_the_next_slash(store: ObjectStore) -> None:
    for key in ("x/b/1", "x/a", "x/b-2/c/d", "x/b/0", "y/1"):
        store.put(key, key.encode())
    assert store.folders("x/") == ("b", "b-2")
    assert store.folders("x/b/") == store.folders("nothing/") == ()
    store.delete("x/b-2/c/d")
    if not isinstance(store, S3Store):
        assert store.folders("x/") == ("b",)


def test_put_replaces_and_delete_is_idempotent(store: ObjectStore) -> None:
    store.put("k", b"1")
    store.put("k", b"22")
    assert store.get("k") == b"22"
    store.delete("k")
    store.delete("k")
    assert not store.exists("k")


def test_missing_object_is_named(store: ObjectStore) -> None:
    with pytest.raises(NotFound, match=r"no such object: .*nothing/here"):
        store.get("nothing/here")


@pytest.mark.parametrize("key", ["", "/a", "a//b", "../a", "a/../b", "a\\b"])
def test_keys_that_could_escape_are_refused(store: ObjectStore, key: str) -> None:
    with pytest.raises(InputError, match="bad object key"):
        store.put(key, b"")


def test_a_folder_store_leaves_no_half_file_when_the_source_fails(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    with pytest.raises(Exception, match="missing"):
        store.upload("a/b", tmp_path / "missing")
    assert store.list() == []
    assert not [p for p in (tmp_path / "store").rglob("*") if p.is_file()]


def test_stores_travel_to_other_processes_by_uri(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    assert pickle.loads(pickle.dumps(store)).uri == store.uri


@pytest.mark.parametrize(
    ("uri", "words"), [("ftp://x", "unknown store"), ("s3://", "no bucket"), ("", "no object store")]
)
def test_bad_uris(uri: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POSEWATCH_STORE", raising=False)
    with pytest.raises(InputError, match=words):
        open_store(uri)


class Page(BaseHTTPRequestHandler):
    """A web page at every address, or what a proxy says of a store that is away."""

    def do_GET(self) -> None:
        server: Any = self.server
        server.seen += 1
        self.send_response(server.status)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<html><body><br>Console</body></html>")

    def log_message(self, *_: Any) -> None:
        pass


@pytest.mark.parametrize(("status", "tries"), [(200, 1), (403, 1), (404, 1), (502, 2)])
def test_a_web_page_is_no_object_store(status: int, tries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    server.status, server.seen = status, 0
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    for name, value in (
        ("ENDPOINT", f"http://127.0.0.1:{server.server_port}"),
        ("ACCESS_KEY", "aaaaaaaa"),
        ("SECRET_KEY", "b" * 8),
    ):
        monkeypatch.setenv(f"POSEWATCH_S3_{name}", value)
    try:
        with pytest.raises(
            StoreError, match=r"not as an S3 server does: is POSEWATCH_S3_ENDPOINT its S3 port|gave no answer"
        ):
            S3Store("bucket", attempts=2).list("x/")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert server.seen == tries


@pytest.mark.parametrize("name", ["x", "a..b", "-hall", "h" * 64])
def test_a_name_that_no_bucket_can_have_is_told_before_anything_is_asked(name: str) -> None:
    with pytest.raises(InputError, match=f"no bucket can be called s3://{name}: "):
        S3Store(name)


def test_a_full_disk_is_told_by_the_file_that_is_written(tmp_path: Path) -> None:
    """The limit of a file's size is the full disk of a test: the copy breaks off in the middle."""
    (tmp_path / "source.mp4").write_bytes(bytes(5000))
    store, limits = FolderStore(tmp_path / "store"), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(StoreError, match=r"^cannot write \S+/store/a.mp4: File too large") as caught:
            store.upload("a.mp4", tmp_path / "source.mp4")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "source.mp4" not in str(caught.value)
    assert not list((tmp_path / "store").iterdir())


@pytest.mark.parametrize(
    ("told", "region", "asked"),
    [
        ({"POSEWATCH_S3_ENDPOINT": "https://s3.eu-central-1.amazonaws.com"}, "eu-central-1", "s3.eu-central-1"),
        ({"POSEWATCH_S3_ENDPOINT": "https://s3.amazonaws.com", "POSEWATCH_S3_REGION": "eu-west-3"}, "eu-west-3", "s3"),
        ({"POSEWATCH_S3_ENDPOINT": "http://minio:9000"}, "us-east-1", "minio:9000"),
        ({"POSEWATCH_S3_ENDPOINT": "http://minio:9000", "AWS_REGION": "eu-west-3"}, "us-east-1", "minio:9000"),
        ({"AWS_ENDPOINT_URL": "https://s3.amazonaws.com", "AWS_REGION": "eu-west-3"}, "eu-west-3", "s3.eu-west-3"),
        ({"AWS_ENDPOINT_URL": "https://s3.fr-par.scw.cloud", "AWS_DEFAULT_REGION": "fr-par"}, "fr-par", "s3.fr-par"),
        ({"AWS_ENDPOINT_URL": "https://s3.sa-east-1.amazonaws.com", "AWS_REGION": "eu-west-3"}, "sa-east-1", "s3.sa-e"),
    ],
)
def test_requests_are_signed_for_the_region_of_the_bucket(
    told: dict[str, str], region: str, asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _only(monkeypatch, told)
    address = S3Store("bucket").url("key")
    assert f"%2F{region}%2Fs3%2F" in address
    assert asked in address.partition("/key")[0]


def test_a_session_token_is_sent_beside_the_keys_that_it_belongs_to(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"AWS_ENDPOINT_URL": "http://s3:9000", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    _only(monkeypatch, told | {"AWS_SESSION_TOKEN": "passing"})
    assert "X-Amz-Security-Token=passing" in S3Store("bucket").url("key")
    monkeypatch.setenv("POSEWATCH_S3_ACCESS_KEY", "c")
    monkeypatch.setenv("POSEWATCH_S3_SECRET_KEY", "d")
    assert "Security-Token" not in S3Store("bucket").url("key")


def test_the_end_of_a_line_in_a_secret_is_no_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    _only(monkeypatch, {"POSEWATCH_S3_ENDPOINT": "http://minio:9000\n", "POSEWATCH_S3_ACCESS_KEY": "key\n"})
    assert "http://minio:9000/bucket/key?" in (address := S3Store("bucket").url("key"))
    assert "Credential=key%2F" in address


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"POSEWATCH_S3_ENDPOINT": "http://minio:9000/bucket"}, "must end at the port.*without /bucket"),
        ({"POSEWATCH_S3_ENDPOINT": "https://bucket.s3.amazonaws.com"}, "check POSEWATCH_S3_ENDPOINT"),
        ({"POSEWATCH_S3_ENDPOINT": "http://minio:9000", "POSEWATCH_S3_REGION": "eu central"}, "invalid region"),
        ({"POSEWATCH_S3_ENDPOINT": "http://minio:9000", "POSEWATCH_S3_SECRET_KEY": ""}, "SECRET_KEY is not set"),
    ],
)
def test_a_wrong_setting_is_named(told: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _only(monkeypatch, told)
    with pytest.raises(InputError, match=words):
        S3Store("bucket")


def test_a_certificate_that_is_not_trusted_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import ssl

    import urllib3

    tries = 0

    def refused(*_: object, **__: object) -> None:
        nonlocal tries
        tries += 1
        error = ssl.SSLCertVerificationError(1, "certificate verify failed")
        error.verify_message = "self-signed certificate"
        raise urllib3.exceptions.SSLError(error)

    _only(monkeypatch, {"POSEWATCH_S3_ENDPOINT": "https://minio:9000"})
    monkeypatch.setattr(urllib3.PoolManager, "urlopen", refused)
    with pytest.raises(StoreError, match=r"not trusted \(self-signed certificate\): set SSL_CERT_FILE"):
        S3Store("bucket").list("x/")
    assert tries == 1


@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidToken", "SignatureDoesNotMatch"])
def test_keys_that_are_refused_are_told_as_that(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import urllib3

    page = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
    answer = urllib3.HTTPResponse(page, headers={"Content-Type": "application/xml"}, status=403)
    _only(monkeypatch, {"POSEWATCH_S3_ENDPOINT": "http://minio:9000"})
    monkeypatch.setattr(urllib3.PoolManager, "urlopen", lambda *_, **__: answer)
    with pytest.raises(StoreError, match="check POSEWATCH_S3_ACCESS_KEY"):
        S3Store("bucket").list("x/")


def test_a_wrong_region_is_no_wrong_key(monkeypatch: pytest.MonkeyPatch) -> None:
    import urllib3

    # as AWS and MinIO answer
    page = (
        b"<Error><Code>AuthorizationHeaderMalformed</Code><Message>The authorization header is malformed; the region"
        b" 'us-east-1' is wrong; expecting 'eu-central-1'</Message><Region>eu-central-1</Region></Error>"
    )
    answer = urllib3.HTTPResponse(page, headers={"Content-Type": "application/xml"}, status=400)
    _only(monkeypatch, {"POSEWATCH_S3_ENDPOINT": "http://minio:9000"})
    monkeypatch.setattr(urllib3.PoolManager, "urlopen", lambda *_, **__: answer)
    with pytest.raises(StoreError, match=r"expecting 'eu-central-1' \(set POSEWATCH_S3_REGION"):
        S3Store("bucket").list("x/")


def _only(monkeypatch: pytest.MonkeyPatch, told: dict[str, str]) -> None:
    """Only these variables of the store, beside keys."""
    for name in ("ENDPOINT_URL", "ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "REGION", "DEFAULT_REGION"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    for name in ("ENDPOINT", "ACCESS_KEY", "SECRET_KEY", "REGION"):
        monkeypatch.delenv(f"POSEWATCH_S3_{name}", raising=False)
    keys = {"POSEWATCH_S3_ACCESS_KEY": "a", "POSEWATCH_S3_SECRET_KEY": "b"}
    aws = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    for name, value in ((keys if "POSEWATCH_S3_ENDPOINT" in told else aws) | told).items():
        monkeypatch.setenv(name, value)
