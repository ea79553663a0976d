"""Clips of an object store that browsers cannot reach: the page's own server hands them out, in ranges."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from labeling.test_browser import by_clip, card, ready, until

from .conftest import SERVICE

DATA = bytes(range(100))


@pytest.fixture
def url(s3_store: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.syspath_prepend(str(SERVICE))
    monkeypatch.setenv("POSEWATCH_MEDIA", "server")
    from labeling_ui import media

    s3_store.put("clips/a.mp4", DATA)
    assert media.clip_url(s3_store.uri, "clips/b.mp4") == "", "no such clip"
    url: str = media.clip_url(s3_store.uri, "clips/a.mp4")
    assert url.startswith("/clips/clips/a.mp4?store=s3")
    monkeypatch.delenv("POSEWATCH_MEDIA")
    assert media.clip_url(s3_store.uri, "clips/a.mp4").startswith("http"), "presigned by default"
    return url


@pytest.mark.parametrize(
    ("asked", "status", "got", "content_range"),
    [
        ("", 200, DATA, None),
        ("bytes=0-9", 206, DATA[:10], "bytes 0-9/100"),
        ("bytes=90-", 206, DATA[90:], "bytes 90-99/100"),
        ("bytes=95-400", 206, DATA[95:], "bytes 95-99/100"),
        ("bytes=-5", 206, DATA[95:], "bytes 95-99/100"),
        ("bytes=100-", 416, b"", "bytes */100"),
        ("bytes=-", 200, DATA, None),
        ("bytes=1-2,5-6", 200, DATA, None),
    ],
)
def test_ranges_of_a_clip(url: str, asked: str, status: int, got: bytes, content_range: str | None) -> None:
    from starlette.applications import Starlette
    from starlette.testclient import TestClient

    from labeling_ui.server import routes

    with TestClient(Starlette(routes=routes())) as client:
        answer = client.get(url, headers={"Range": asked} if asked else {})
        assert (answer.status_code, answer.content) == (status, got)
        assert answer.headers.get("content-range") == content_range
        assert answer.headers["accept-ranges"] == "bytes"
        assert client.get(url.replace("token=", "token=0")).status_code == 403


def test_a_clip_of_a_folder_of_any_name_has_a_url(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SERVICE))
    from labeling_ui import media
    from posewatch.store import FolderStore

    for name in ("내 영상 100%", "a#b?c%20"):
        store = FolderStore(tmp_path / name)
        store.put("clips/a.mp4", b"1")
        assert media.clip_url(store.uri, "clips/a.mp4")
        assert media.file_of(store.uri, "clips/a.mp4") == store.root / "clips" / "a.mp4"


def test_clips_of_a_page_left_open_until_its_addresses_end_are_not_called_missing(
    start: Any, browse: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would take only "bad clip": the page asks for new addresses instead."""
    service = shutil.copytree(SERVICE, tmp_path / "service")
    code = service / "labeling_ui" / "media.py"
    code.write_text(code.read_text().replace("\nURL_S = 3600\n", "\nURL_S = 8\n"))
    monkeypatch.setitem(start.__globals__, "SERVICE", service)
    server = start({"hall.mp4": 24})
    page = ready(browse(server.url, viewport={"width": 1000, "height": 700}), 24)
    page.get_by_test_id("stSidebar").get_by_text("hall.mp4").wait_for()
    (tmp_path / "objects" / server.clips[23].key).unlink()
    page.wait_for_timeout(13_000)  # an address is valid for 8 to 12 seconds here
    late = card(page, server.clips[22])
    late.scroll_into_view_if_needed()
    until(lambda: late.locator("video").evaluate("video => video.readyState >= 2"), True, 30)
    late.locator(".about").click()
    page.keyboard.press("2")
    until(lambda: by_clip(server).get(server.clips[22].clip.id, [""])[0], "abnormal")
    page.wait_for_timeout(13_000)
    page.keyboard.press("s")  # likewise the skeletons
    drawn = "canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some((x) => x > 0)"
    until(lambda: late.locator("canvas").evaluate(drawn), True, 30)
    gone = card(page, server.clips[23]).locator(".note")
    until(gone.inner_text, "This clip is not in the object store.")
