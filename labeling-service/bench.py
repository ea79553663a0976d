"""Benchmark of the labeling page: ``make bench-labeling-ui``. Needs playwright and Debian's Chromium.

Compares a store of many clips with one of a single page: time to the first page (cold and warm browser, and at the
server), time to save a label at the server, the server's memory with five people at work, and the seconds per clip of
a script that labels as fast as the page allows, by dropdown and by keys.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from posewatch import video
from posewatch.labels.entries import ClipEntry
from posewatch.labels.store import LabelStore
from posewatch.labels.team import roles
from posewatch.records import Clip, clip_id, video_id

HERE = Path(__file__).resolve().parent
CARDS = "article.card"
SECRET, PEOPLE = "bench", [f"p{i}" for i in range(5)]
LENGTH_S, PER_VIDEO = 3.0, 100


def fill(folder: Path, count: int) -> LabelStore:
    """A store of ``count`` clips, a hundred per video; all keys are links to a few real files."""
    samples = []
    for i in range(8):
        path = folder / f"sample{i}.mp4"
        with video.Writer(path, 10.0, (320, 240)) as out:
            for t in range(30):
                picture = np.zeros((240, 320, 3), np.uint8)
                x = (i * 31 + 7 * t) % 270
                picture[90:220, x : x + 40] = (200 - 20 * i, 120, 60 + 20 * i)
                out.write(picture)
        samples.append(path)
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
        entries.append(ClipEntry(clip, (name,), key, (folder / "objects").as_uri()))
    store = LabelStore(f"sqlite:///{folder / 'labels.db'}")
    store.register(entries)
    for who in PEOPLE:
        roles.set_role(store, who, "labeler", "bench")
    return store


@contextlib.contextmanager
def server(store: LabelStore, folder: Path) -> Iterator[tuple[str, int]]:
    """Run the labeling server on a store; yields its address and process id."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = {**os.environ, "POSEWATCH_LABELS_URL": store.url, "POSEWATCH_AUTH": "proxy", "HOME": str(folder)}
    env["POSEWATCH_PROXY_SECRET"] = SECRET
    command = [sys.executable, "-m", "streamlit", "run", str(HERE / "app.py"), "--server.address", "127.0.0.1"]
    command += ["--server.port", str(port), "--server.headless", "true", "--browser.gatherUsageStats", "false"]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/ready", timeout=2):
                break
            time.sleep(0.1)
        yield url, process.pid
    finally:
        process.terminate()
        process.wait()


def metric(url: str, name: str) -> float:
    """One value of the server's /metrics."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as reply:
        match = re.search(rf"^{re.escape(name)} ([0-9.e+-]+)$", reply.read().decode(), re.MULTILINE)
    return float(match[1]) if match else 0.0


def mean(url: str, name: str, before: tuple[float, float]) -> float:
    """The mean of a histogram since ``before`` (its sum and count then), in seconds."""
    total, count = metric(url, f"{name}_sum") - before[0], metric(url, f"{name}_count") - before[1]
    return total / count if count else 0.0


def cpu(url: str, what: str) -> float:
    """Mean CPU time per page or act at the server, in ms: the latency on a machine without other load."""
    count = metric(url, f"posewatch_labeling_{what}_seconds_count")
    return 1000 * metric(url, f"posewatch_labeling_{what}_cpu_seconds_total") / max(1.0, count)


def memory(pid: int) -> tuple[float, float]:
    """Resident memory of a process now and at its peak, in MB."""
    text = Path(f"/proc/{pid}/status").read_text()
    return tuple(int(re.search(rf"{name}:\s+(\d+)", text)[1]) / 1024 for name in ("VmRSS", "VmHWM"))  # type: ignore


class Person:
    """A person with a browser of their own."""

    def __init__(self, browser: Any, url: str, who: str) -> None:
        headers = {"kubeflow-userid": who, "x-posewatch-proxy-secret": SECRET}
        self.context = browser.new_context(extra_http_headers=headers, viewport={"width": 1600, "height": 1000})
        self.page, self.url = self.context.new_page(), url
        self.page.set_default_timeout(120_000)

    def open(self) -> float:
        """Seconds from the request to the first page of clips."""
        began = time.perf_counter()
        self.page.goto(self.url, wait_until="commit")
        self.page.wait_for_selector(CARDS)
        return time.perf_counter() - began

    def saved(self) -> None:
        self.page.wait_for_function(
            "() => { for (const e of document.querySelectorAll('*')) { const s = e.shadowRoot && "
            "e.shadowRoot.querySelector('.state'); if (s) return !s.classList.contains('busy'); } return false; }",
            polling=20,
        )

    def by_keys(self, count: int) -> float:
        """Median seconds per clip: one key per clip, and a wait until the label is saved."""
        took = []
        for i in range(count):
            began = time.perf_counter()
            self.page.keyboard.press("12"[i % 5 == 0])
            self.saved()
            took.append(time.perf_counter() - began)
        return statistics.median(took)

    def by_keys_at_once(self, count: int) -> float:
        """Seconds per clip: keys pressed without waiting, until all labels are saved."""
        began = time.perf_counter()
        for i in range(count):
            self.page.keyboard.press("12"[i % 5 == 0])
        self.saved()
        return (time.perf_counter() - began) / count

    def by_dropdown(self, count: int) -> float:
        """Median seconds per clip: choose from the dropdown with the mouse, and wait until the label is saved."""
        boxes, took = self.page.locator(f"{CARDS} select"), []
        for i in range(count):
            began = time.perf_counter()
            box = boxes.nth(i)
            box.click()
            box.select_option("abnormal" if i % 5 == 0 else "normal")
            self.saved()
            took.append(time.perf_counter() - began)
        return statistics.median(took)


def measure(count: int, browser: Any) -> dict[str, Any]:
    """All results for a store of ``count`` clips."""
    folder = Path(tempfile.mkdtemp(prefix="posewatch-bench-"))
    store = fill(folder, count)
    try:
        with server(store, folder) as (url, pid):
            first = Person(browser, url, PEOPLE[0])
            result: dict[str, Any] = {"clips": count, "first page, cold browser (s)": first.open()}
            result["first page, warm browser (s)"] = statistics.median(first.open() for _ in range(5))
            result["page at the server (ms)"] = 1000 * mean(url, "posewatch_labeling_page_seconds", (0, 0))
            result["  of which CPU (ms)"] = cpu(url, "page")
            some = min(10, count // 2 - 1)
            result["seconds per clip, dropdown"] = first.by_dropdown(some)
            first.page.keyboard.press("n")
            first.page.wait_for_timeout(1500)
            result["seconds per clip, keys"] = first.by_keys(some)
            result["seconds per clip, keys without waiting"] = first.by_keys_at_once(some)
            others = [Person(browser, url, who) for who in PEOPLE[1:]] if count > 200 else []
            for person in others:
                person.open()
            sums = tuple(metric(url, f"posewatch_labeling_act_seconds_{part}") for part in ("sum", "count"))
            for person in others:
                for i in range(10):
                    person.page.keyboard.press("12"[i % 2])
            for person in others:
                person.saved()
            result["label saved at the server (ms)"] = 1000 * mean(
                url, "posewatch_labeling_act_seconds", sums if others else (0, 0)
            )
            result["  of which CPU per act (ms)"] = cpu(url, "act")
            result["sessions"] = 1 + len(others)
            result["memory of the server (MB)"], result["peak (MB)"] = memory(pid)
            for person in (first, *others):
                person.context.close()
            wanted = 10 * len(others)
            result["labels lost"] = max(0, wanted - sum(v for v in store.counts().values()))
            return result
    finally:
        store.close()
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """Print both columns and their ratio; returns 1 when a limit is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=10_000)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    parser.add_argument("--out", type=Path, default=Path("build/bench-labeling-ui"))
    args = parser.parse_args()
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        print("bench-labeling-ui needs playwright: pip install 'posewatch[dev]'", file=sys.stderr)
        return 1
    if not Path(args.chromium).exists():
        print(f"bench-labeling-ui needs Chromium at {args.chromium}: apt-get install chromium", file=sys.stderr)
        return 1
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=args.chromium, args=["--no-sandbox", "--disable-gpu"])
        small, large = measure(24, browser), measure(args.clips, browser)
        browser.close()
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "bench.json").write_text(json.dumps([small, large], indent=1) + "\n")
    print(f"{'':<42}{'one page':>12}{'many':>12}{'ratio':>8}")
    for name, value in large.items():
        ratio = f"{value / small[name]:.2f}" if isinstance(value, float) and small[name] else ""
        shown = [f"{v:.3f}" if isinstance(v, float) else str(v) for v in (small[name], value)]
        print(f"{name:<42}{shown[0]:>12}{shown[1]:>12}{ratio:>8}")
    limits = {
        "first page, warm browser (s)": 1.0,
        "label saved at the server (ms)": 150.0,
        "memory of the server (MB)": 400.0,
        "labels lost": 0,
    }
    missed = [f"{name} is {large[name]:.3f}, above {limit}" for name, limit in limits.items() if large[name] > limit]
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print("\n".join(missed) or "all limits are met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
