"""The labeling page in a real browser: a store of many clips against one of a single page.

Time to the first page (cold and warm browser, and at the server), time to save a label at the server, the server's
memory with five people at work, and the seconds per clip of a script that labels as fast as the page allows, by
dropdown and by keys, and of one that looks, decides and sometimes undoes. Needs playwright and Debian's Chromium.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from posewatch.labels.store import LabelStore  # first: its error names the missing extra

# isort: split
import numpy as np

from posewatch import video
from posewatch.bench.signed_in import new_context
from posewatch.errors import InputError, PosewatchError
from posewatch.files import write_atomically
from posewatch.labels.db.schema import sqlite_url
from posewatch.labels.entries import ClipEntry
from posewatch.labels.team import roles
from posewatch.names import uri_of
from posewatch.records import Clip, clip_id, video_id
from posewatch.stack.process import pick_ports, port_seed, wait_until

PAGE = Path("labeling-service/app.py")
CARDS = "article.card"
WHOLE = '[data-testid="stSidebar"] [role="radiogroup"]'
SECRET, PEOPLE = "bench", [f"p{i}" for i in range(5)]
LENGTH_S, PER_VIDEO = 3.0, 100
SLOW_LINE = 40 * 1024
"""Bytes per second of the slow line, as Chromium emulates it, with 50 ms of delay."""
SHOWN = 4
"""Clips that must play before the first clips count as shown."""
LOOK_S, SPREAD, UNDONE, REACTION_S = 0.9, 0.5, 0.06, 0.35
"""A person-like script looks at a clip for a lognormal time with this median and sigma, takes back this share of the
labels, and needs this long to notice that. These are assumptions, not measurements: the page's own share is beside."""
LIMITS = {
    "first page, cold browser (s)": 2.5,
    "first page, warm browser (s)": 1.0,
    "first clips play at 40 KB/s (s)": 10.0,
    "label saved at the server (ms)": 150.0,
    "memory of the server (MB)": 400.0,
    "labels lost": 0,
}
"""Highest values for the store of many clips."""
_SAVED = (
    "() => { for (const e of document.querySelectorAll('*')) { const s = e.shadowRoot && "
    "e.shadowRoot.querySelector('.state'); if (s) return !s.classList.contains('busy'); } return false; }"
)
_PLAY = """(count) => {
  const players = (root) => [...root.querySelectorAll("*")].flatMap((e) => [
    ...(e.tagName === "VIDEO" && e.closest("article") && e.readyState >= 2 ? [e] : []),
    ...(e.shadowRoot ? players(e.shadowRoot) : [])]);
  return players(document).length >= count;
}"""


def bench_labeling_ui(out: Path, clips: int, chromium: Path) -> tuple[str, bool]:
    """Write ``bench.json`` to ``out``; returns a table of both stores, and whether all ``LIMITS`` are met.

    Raises InputError outside a checkout, PosewatchError without Chromium.
    """
    from playwright.sync_api import sync_playwright

    if not PAGE.is_file():
        raise InputError(f"no {PAGE} here: run this at the root of a checkout")
    if not chromium.exists():
        raise PosewatchError(f"no Chromium at {chromium}: apt-get install chromium, or give --chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(chromium), args=["--no-sandbox", "--disable-gpu"])
        small, large = (measure(count, browser) for count in (24, clips))
        browser.close()
    write_atomically(out / "bench.json", json.dumps([small, large], indent=1) + "\n")
    lines = [f"{'':<42}{'one page':>12}{'many':>12}{'ratio':>8}"]
    for name, value in large.items():
        ratio = f"{value / small[name]:.2f}" if isinstance(value, float) and small[name] else ""
        shown = [f"{v:.3f}" if isinstance(v, float) else str(v) for v in (small[name], value)]
        lines.append(f"{name:<42}{shown[0]:>12}{shown[1]:>12}{ratio:>8}")
    lines.append(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    missed = [f"{name} is {large[name]:.3f}, above {most}" for name, most in LIMITS.items() if large[name] > most]
    return "\n".join([*lines, *(missed or ["all limits are met"])]), not missed


def fill(folder: Path, count: int) -> LabelStore:
    """A store of ``count`` clips, a hundred per video; all keys are links to a few real files."""
    samples = [folder / f"sample{i}.mp4" for i in range(8)]
    for i, path in enumerate(samples):
        with video.Writer(path, 10.0, (320, 240)) as out:
            for t in range(30):
                picture = np.zeros((240, 320, 3), np.uint8)
                x = (i * 31 + 7 * t) % 270
                picture[90:220, x : x + 40] = (200 - 20 * i, 120, 60 + 20 * i)
                out.write(picture)
    entries = []
    for n in range(count):
        name = f"camera {n // PER_VIDEO:03}.mp4"
        source = video_id(hashlib.sha256(name.encode()).hexdigest())
        start = n % PER_VIDEO * LENGTH_S
        clip = Clip(clip_id(source, start, LENGTH_S), source, start, LENGTH_S, 10.0, 30, 320, 240, 1.0)
        key = f"clips/{source}/{clip.id}.mp4"
        target = folder / "objects" / key
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(samples[n % len(samples)], target)
        entries.append(ClipEntry(clip, (name,), key, uri_of(folder / "objects")))
    store = LabelStore(sqlite_url(folder / "labels.db"))
    store.register(entries)
    for who in PEOPLE:
        roles.set_role(store, who, "labeler", "bench")
    return store


@contextlib.contextmanager
def server(store: LabelStore, folder: Path, more: Mapping[str, str] | None = None) -> Iterator[tuple[str, int]]:
    """Run the labeling page on a store, with ``more`` variables; yields its address and process id."""
    (port,) = pick_ports(1, port_seed(folder))
    env = {**os.environ, "POSEWATCH_LABELS_URL": store.url, "POSEWATCH_AUTH": "proxy", "HOME": str(folder)}
    env |= {"POSEWATCH_PROXY_SECRET": SECRET, **(more or {})}
    command = [sys.executable, "-m", "streamlit", "run", str(PAGE), "--server.address", "127.0.0.1"]
    command += ["--server.port", str(port), "--server.headless", "true", "--browser.gatherUsageStats", "false"]
    url = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/ready", timeout=2):
            return True
        return False

    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    try:
        if not wait_until(lambda: ready() or process.poll() is not None, 120.0, 0.1) or process.poll() is not None:
            raise PosewatchError(f"the labeling page did not start (its log: {folder / 'server.log'})")
        yield url, process.pid
    finally:
        process.terminate()
        process.wait()


def metric(url: str, name: str) -> float:
    """One value of the server's /metrics, after ``posewatch_labeling_``."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as reply:
        text = reply.read().decode()
    match = re.search(rf"^posewatch_labeling_{name} ([0-9.e+-]+)$", text, re.MULTILINE)
    return float(match[1]) if match else 0.0


def totals(url: str, what: str) -> tuple[float, float, float]:
    """Number of pages or acts (``what``) at the server so far, their seconds, and their seconds of processor time."""
    count, seconds, cpu = (
        metric(url, f"{what}_{name}") for name in ("seconds_count", "seconds_sum", "cpu_seconds_total")
    )
    return count, seconds, cpu


def memory(pid: int) -> tuple[float, float]:
    """Resident memory of a process now and at its peak, in MB."""
    sizes = dict(re.findall(r"(VmRSS|VmHWM):\s+(\d+)", Path(f"/proc/{pid}/status").read_text()))
    return int(sizes["VmRSS"]) / 1024, int(sizes["VmHWM"]) / 1024


class Person:
    """A person with a browser of their own."""

    def __init__(self, browser: Any, url: str, who: str) -> None:
        headers = {"kubeflow-userid": who, "x-posewatch-proxy-secret": SECRET}
        self.context = new_context(browser, headers, viewport={"width": 1600, "height": 1000})
        self.page, self.url = self.context.new_page(), url
        self.page.set_default_timeout(120_000)

    def open(self) -> tuple[float, float]:
        """Seconds from the request to the first page of clips, and to the whole page."""
        began = time.perf_counter()
        self.page.goto(self.url, wait_until="commit")
        self.page.wait_for_selector(CARDS)
        shown = time.perf_counter() - began
        self.whole()
        took = time.perf_counter() - began
        self.page.keyboard.press("Escape")  # what the first visit explains
        return shown, took

    def whole(self) -> None:
        """Wait until Streamlit's page is there and has the clips."""
        self.page.wait_for_selector(WHOLE)
        self.page.wait_for_function("document.querySelector('#posewatch-first') === null", polling=20)

    def open_slowly(self) -> dict[str, float]:
        """Seconds until the first clips play on a slow line, and until the page is whole."""
        line = self.context.new_cdp_session(self.page)
        line.send("Network.enable")
        speed = {"downloadThroughput": SLOW_LINE, "uploadThroughput": SLOW_LINE}
        line.send("Network.emulateNetworkConditions", {"offline": False, "latency": 50, **speed})
        result, received = {}, [0.0]
        line.on("Network.dataReceived", lambda part: received.append(part["encodedDataLength"]))
        began = time.perf_counter()
        self.page.goto(self.url, wait_until="commit")
        self.page.wait_for_function(_PLAY, arg=SHOWN, polling=20)
        result["first clips play at 40 KB/s (s)"] = time.perf_counter() - began
        result["  KB until then"] = sum(received) / 1024
        self.whole()
        result["whole page at 40 KB/s (s)"] = time.perf_counter() - began
        return result

    def saved(self) -> None:
        """Wait until all labels are saved."""
        self.page.wait_for_function(_SAVED, polling=20)

    def press(self, i: int) -> None:
        """Label the next clip by a key."""
        self.page.keyboard.press("12"[i % 5 == 0])

    def choose(self, i: int) -> None:
        """Label clip ``i`` of the page from its dropdown, with the mouse."""
        box = self.page.locator(f"{CARDS} select").nth(i)
        box.click()
        box.select_option("abnormal" if i % 5 == 0 else "normal")

    def label(self, act: Callable[[int], None], count: int, at_once: bool = False) -> float:
        """Median seconds per clip, each saved before the next; ``at_once``: the mean without waiting in between."""
        took, first = [], time.perf_counter()
        for i in range(count):
            began = time.perf_counter()
            act(i)
            if not at_once:
                self.saved()
            took.append(time.perf_counter() - began)
        self.saved()
        return (time.perf_counter() - first) / count if at_once else statistics.median(took)

    def work(self, count: int, seed: int = 1) -> tuple[float, float]:
        """Seconds per clip of a person-like script by keys, and those of them that it looked and thought."""
        rng, thought = np.random.default_rng(seed), 0.0

        def think(seconds: float) -> None:
            nonlocal thought
            thought += seconds
            time.sleep(seconds)

        began = time.perf_counter()
        for i in range(count):
            think(float(rng.lognormal(np.log(LOOK_S), SPREAD)))
            self.press(i)
            if rng.random() < UNDONE:
                think(REACTION_S)
                self.page.keyboard.press("z")
                think(float(rng.lognormal(np.log(LOOK_S), SPREAD)))
                self.press(i)
        self.saved()
        return (time.perf_counter() - began) / count, thought / count


def measure(clips: int, browser: Any) -> dict[str, Any]:
    """All results for a store of ``clips`` clips."""
    with tempfile.TemporaryDirectory(prefix="posewatch-bench-", ignore_cleanup_errors=True) as temp:
        folder = Path(temp)
        with contextlib.closing(fill(folder, clips)) as store, server(store, folder) as (url, pid):
            first = Person(browser, url, PEOPLE[0])
            result: dict[str, Any] = {"clips": clips}
            result["first page, cold browser (s)"], result["whole page, cold browser (s)"] = first.open()
            warm = zip(*(first.open() for _ in range(5)), strict=True)
            result["first page, warm browser (s)"], result["whole page, warm browser (s)"] = map(
                statistics.median, warm
            )
            slow = Person(browser, url, PEOPLE[0])
            result.update(slow.open_slowly())
            slow.context.close()
            count, seconds, cpu = totals(url, "page")
            result["page at the server (ms)"] = 1000 * seconds / max(1.0, count)
            result["  of which CPU (ms)"] = 1000 * cpu / max(1.0, count)
            some = min(10, clips // 2 - 1)
            result["seconds per clip, dropdown"] = first.label(first.choose, some)
            first.page.keyboard.press("n")
            first.page.wait_for_timeout(1500)
            result["seconds per clip, keys"] = first.label(first.press, some)
            result["seconds per clip, keys without waiting"] = first.label(first.press, some, at_once=True)
            first.page.keyboard.press("n")
            first.page.wait_for_timeout(1500)
            like = first.work(20 if clips > 200 else some)
            result["seconds per clip, keys, like a person"], result["  of which looking"] = like
            others = [Person(browser, url, who) for who in PEOPLE[1:]] if clips > 200 else []
            for person in others:
                person.open()
            before = totals(url, "act") if others else (0.0, 0.0, 0.0)
            for person in others:
                for i in range(10):
                    person.page.keyboard.press("12"[i % 2])
            for person in others:
                person.saved()
            count, seconds, cpu = totals(url, "act")
            result["label saved at the server (ms)"] = 1000 * (seconds - before[1]) / max(1.0, count - before[0])
            result["  of which CPU per act (ms)"] = 1000 * cpu / max(1.0, count)
            result["sessions"] = 1 + len(others)
            result["memory of the server (MB)"], result["peak (MB)"] = memory(pid)
            for person in (first, *others):
                person.context.close()
            result["labels lost"] = max(0, 10 * len(others) - sum(store.counts().values()))
            return result
