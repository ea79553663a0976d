"""The labeling page, run by Streamlit's own test driver on a real label store and a local-folder object store."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("streamlit", reason="the labeling extra is not installed")

import streamlit as st
from streamlit.testing.v1 import AppTest

from posewatch.labels.store import ClipEntry, LabelStore
from posewatch.records import Clip, clip_id, video_id

APP = Path(__file__).resolve().parents[2] / "labeling-service" / "app.py"


def encode(path: Path, shade: int) -> None:
    """A tiny real H.264 clip of one second."""
    av = pytest.importorskip("av")
    import numpy as np

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt, stream.thread_count = 64, 48, "yuv420p", 1
        for i in range(10):
            picture = np.full((48, 64, 3), (shade + 9 * i) % 255, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode())


@pytest.fixture
def clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[ClipEntry]:
    """14 clips of a video with a hostile name, and one of another, in a label store that the page opens."""
    monkeypatch.setenv("POSEWATCH_LABELS_URL", f"sqlite:///{tmp_path / 'labels.db'}")
    monkeypatch.setenv("POSEWATCH_USER", "ann")
    monkeypatch.delenv("POSEWATCH_CONFIG", raising=False)
    st.cache_resource.clear()
    st.cache_data.clear()
    out = []
    for name, count in (("<b>hall*way*</b>.mp4", 14), ("yard.mp4", 1)):
        video = video_id(hashlib.sha256(name.encode()).hexdigest())
        for i in range(count):
            clip = Clip(clip_id(video, i, 1.0), video, float(i), 1.0, 10.0, 10, 64, 48, float(i > 0))
            entry = ClipEntry(clip, (name,), f"clips/{video}/{clip.id}.mp4", (tmp_path / "objects").as_uri())
            encode(tmp_path / "objects" / entry.key, 20 * i)
            out.append(entry)
    store = LabelStore()
    store.register(out)
    store.close()
    return out


@pytest.fixture
def page(clips: list[ClipEntry]) -> AppTest:
    found = AppTest.from_file(str(APP), default_timeout=30).run()
    assert not found.exception
    return found


def test_a_label_set_on_the_page_is_an_event_in_the_store(page: AppTest, clips: list[ClipEntry]):
    chosen = clips[3].clip.id
    page.selectbox(key=f"label {chosen}").select("abnormal").run()
    assert not page.exception
    store = LabelStore()
    event = store.current()[chosen]
    assert (event.new, event.who, event.source) == ("abnormal", "ann", "human")
    assert len(store.current()) == 1
    assert page.selectbox(key=f"label {chosen}").value == "abnormal"
    assert "1 of 15 clips" in page.sidebar.get("progress")[0].proto.text

    page.text_input(key="who").set_value("bob").run()
    page.selectbox(key=f"label {chosen}").select("normal").run()
    assert [(e.old, e.new, e.who) for e in store.history(chosen)][1:] == [("abnormal", "normal", "bob")]
    page.selectbox(key=f"label {chosen}").set_value(None).run()
    assert page.selectbox(key=f"label {chosen}").value == "abnormal", "taken back: the label before it counts again"
    store.close()


def test_the_page_shows_what_others_did(page: AppTest, clips: list[ClipEntry]):
    store = LabelStore()
    store.set_label(clips[0].clip.id, "normal", "cat", "human")
    store.set_label(clips[1].clip.id, "abnormal", "net", "model", "m/1")
    store.close()
    page.run()
    assert page.selectbox(key=f"label {clips[0].clip.id}").value == "normal"
    assert page.selectbox(key=f"label {clips[1].clip.id}").value is None, "a model's opinion is not a label"
    assert any("model says abnormal" in caption.value for caption in page.caption)


def test_pages_of_twelve_and_another_video(page: AppTest, clips: list[ClipEntry]):
    assert [box.key for box in page.selectbox] == [f"label {e.clip.id}" for e in clips[:12]]
    assert len(page.get("video")) == 12
    video = page.get("video")[0].proto
    assert (video.loop, video.autoplay, video.muted) == (True, True, True)
    page.session_state[f"page {clips[0].clip.video_id}"] = 2
    page.run()
    assert [box.key for box in page.selectbox] == [f"label {e.clip.id}" for e in clips[12:14]]
    page.radio(key="video").set_value(clips[14].clip.video_id).run()
    assert [box.key for box in page.selectbox] == [f"label {clips[14].clip.id}"]
    assert not page.exception


def test_a_hostile_name_is_shown_as_text(page: AppTest):
    assert page.subheader[0].value == r"\<b\>hall\*way\*\</b\>\.mp4"


def test_a_clip_that_is_gone_leaves_the_others_usable(page: AppTest, clips: list[ClipEntry], tmp_path: Path):
    (tmp_path / "objects" / clips[0].key).unlink()
    page.run()
    assert not page.exception
    assert page.warning[0].value == "This clip is not in the object store."
    assert len(page.get("video")) == 11


def test_nobody_labels_without_a_name(page: AppTest):
    page.text_input(key="who").set_value(" ").run()
    assert page.error[0].value.startswith("say who you are first")
    assert len(page.selectbox) == 0


def test_an_empty_store_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("POSEWATCH_LABELS_URL", f"sqlite:///{tmp_path / 'empty.db'}")
    st.cache_resource.clear()
    page = AppTest.from_file(str(APP), default_timeout=30).run()
    assert "posewatch prepare" in page.info[0].value


def test_the_server_starts_and_is_healthy(clips: list[ClipEntry]):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", str(APP), "--server.address", "127.0.0.1"]
    command += ["--server.port", str(port), "--server.headless", "true"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ))
    try:
        answer = b""
        for _ in range(300):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=2) as reply:
                    answer = reply.read()
                break
            except OSError:
                assert server.poll() is None, "the server died"
                time.sleep(0.1)
        assert answer == b"ok"
    finally:
        server.terminate()
        server.wait(timeout=20)
