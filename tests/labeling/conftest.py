"""Clips that really play, a labeling server of its own, and Debian's Chromium to drive it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("streamlit", reason="the labeling extra is not installed")

from posewatch.bench.signed_in import new_context
from posewatch.labels.entries import ClipEntry
from posewatch.labels.store import LabelStore
from posewatch.labels.team import roles
from posewatch.records import Clip, clip_id, video_id

SERVICE = Path(__file__).resolve().parents[2] / "labeling-service"
CHROMIUM = next((p for p in ("/usr/bin/chromium", "/usr/bin/chromium-browser") if Path(p).exists()), None)
FPS, WIDTH, HEIGHT = 10, 160, 120
BEEN_HERE = """{ const read = Storage.prototype.getItem;
  Storage.prototype.getItem = function (key) {
    return read.call(this, key) ?? (String(key).startsWith("posewatch guide ") ? "" : null); }; }"""
"""For a browser: whoever it is, this is not their first visit."""


def encode(path: Path, number: int, frames: int = 10) -> None:
    """A small real H.264 clip: a figure that walks, or one that falls when ``number`` is odd."""
    av = pytest.importorskip("av")
    import numpy as np

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as out:
        stream = out.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt, stream.thread_count = WIDTH, HEIGHT, "yuv420p", 1
        for i in range(frames):
            picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
            x, share = 20 + (number * 17 + 9 * i) % 110, i / frames if number % 2 else 0
            tall, wide = int(60 - 40 * share), int(14 + 40 * share)
            picture[110 - tall : 110, x : x + wide] = ((number * 40) % 200 + 55, 160, 90)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode())


def joints(number: int, frames: int = 10) -> bytes:
    """The skeleton of such a clip as the page reads it."""
    rows = []
    for i in range(frames):
        x = 27 + (number * 17 + 9 * i) % 110
        person = []
        for j in range(17):
            person += [x + (6 if j % 2 else -6) * (j > 0), 52 + 3 * j, 90]
        rows.append([person])
    return json.dumps({"w": WIDTH, "h": HEIGHT, "fps": FPS, "frames": rows}).encode()


def make_clips(folder: Path, videos: dict[str, int], *, files: bool = True, store: str = "") -> list[ClipEntry]:
    """Clips of one second of each video, with their files below ``folder``."""
    out = []
    for name, count in videos.items():
        video = video_id(hashlib.sha256(name.encode()).hexdigest())
        for i in range(count):
            clip = Clip(clip_id(video, i, 1.0), video, float(i), 1.0, float(FPS), 10, WIDTH, HEIGHT, float(i > 0))
            place = f"clips/{video}/{clip.id}"
            entry = ClipEntry(clip, (name,), f"{place}.mp4", store or folder.as_uri(), skeleton=f"{place}.json")
            if files:
                encode(folder / entry.key, i)
                (folder / f"{place}.json").write_bytes(joints(i))
            out.append(entry)
    return out


def person_clips(folder: Path, videos: dict[str, dict[int, int]]) -> list[ClipEntry]:
    """Clips of one second of each person of each video (video → person → clips), with their files below ``folder``."""
    out = []
    for name, persons in videos.items():
        video = video_id(hashlib.sha256(name.encode()).hexdigest())
        for person, count in persons.items():
            for i in range(count):
                clip = Clip(
                    clip_id(video, i, 1.0, person), video, float(i), 1.0, float(FPS), 10, WIDTH, HEIGHT, 1.0, person
                )
                place, number = f"clips/{video}/{clip.id}", 3 * person + 2 * i
                encode(folder / f"{place}.mp4", number)
                (folder / f"{place}.json").write_bytes(joints(number))
                out.append(ClipEntry(clip, (name,), f"{place}.mp4", folder.as_uri(), skeleton=f"{place}.json"))
    return out


@dataclass
class Server:
    """A running labeling server and the store behind it."""

    url: str
    store: LabelStore
    clips: list[ClipEntry]
    process: subprocess.Popen[bytes]
    log: Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def serve(env: dict[str, str], log: Path, port: int | None = None, cwd: Path | None = None) -> tuple[str, Any]:
    """Start ``streamlit run app.py`` and wait until it is ready."""
    port = port or free_port()
    command = [sys.executable, "-m", "streamlit", "run", str(SERVICE / "app.py"), "--server.address", "127.0.0.1"]
    command += ["--server.port", str(port), "--server.headless", "true", "--browser.gatherUsageStats", "false"]
    with log.open("ab") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, **env}, cwd=cwd)
    for _ in range(900):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=2):
                return f"http://127.0.0.1:{port}", process
        except OSError:
            if process.poll() is not None:
                break
            time.sleep(0.1)
    process.kill()
    raise AssertionError(f"the server did not start: {log.read_text()[-2000:]}")


WORD = "s3cret"
"""Of the identity proxy that `behind_proxy` pretends to be."""


def behind_proxy(folder: Path, store: LabelStore, clips: list[ClipEntry], config: str) -> Iterator[Server]:
    """A page behind an identity proxy, with the experiment ``config`` in the folder; ends with the fixture."""
    (folder / "team.yaml").write_text(config)
    env = {"POSEWATCH_LABELS_URL": store.url, "POSEWATCH_AUTH": "proxy", "POSEWATCH_PROXY_SECRET": WORD}
    env |= {"HOME": str(folder), "POSEWATCH_CONFIG": str(folder / "team.yaml")}
    url, process = serve(env, folder / "server.log")
    yield Server(url, store, clips, process, folder / "server.log")
    process.terminate()
    process.wait(timeout=60)
    store.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts a server on clips of one's own; ``env`` goes to it."""
    servers: list[Server] = []

    def go(videos: dict[str, int], people: dict[str, str] | None = None, **env: str) -> Server:
        clips = make_clips(tmp_path / "objects", videos)
        url = f"sqlite:///{tmp_path / 'labels.db'}"
        store = LabelStore(url)
        store.register(clips)
        for who, role in (people or {}).items():
            roles.set_role(store, who, role, "operator")
        variables = {"POSEWATCH_LABELS_URL": url, "POSEWATCH_USER": "ann", "HOME": str(tmp_path), **env}
        address, process = serve(variables, tmp_path / "server.log")
        servers.append(Server(address, store, clips, process, tmp_path / "server.log"))
        return servers[-1]

    yield go
    for server in servers:
        server.process.terminate()
        server.process.wait(timeout=60)
        server.store.close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Debian's Chromium, driven by playwright; not longer than it is needed, for it keeps an event loop running."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium here (apt-get install chromium)")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def browse(chromium: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Opens pages, each in a browser profile of its own, of somebody who has been here before (not with ``first``)."""
    contexts = []

    def go(url: str, *, same: Any = None, locale: str = "en-US", first: bool = False, **kwargs: Any) -> Any:
        headers = kwargs.pop("extra_http_headers", {})
        options = {"locale": locale, "viewport": {"width": 1400, "height": 900}, **kwargs}
        context = same or new_context(chromium, headers, **options)
        if same is None:
            contexts.append(context)
            if not first:
                context.add_init_script(BEEN_HERE)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.goto(url)
        return page

    yield go
    shots = os.environ.get("POSEWATCH_SHOTS")
    for i, context in enumerate(contexts):
        for j, page in enumerate(context.pages):
            if shots:
                Path(shots).mkdir(parents=True, exist_ok=True)
                page.screenshot(path=str(tmp_path / f"{i}{j}.png"))
                shutil.copy(tmp_path / f"{i}{j}.png", Path(shots) / f"{tmp_path.name}-{i}{j}.png")
        context.close()
