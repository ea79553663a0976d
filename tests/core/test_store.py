"""The same promises from every store: memory, folder and (in tests/stack) the real S3 server."""

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
