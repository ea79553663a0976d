"""An operator who knows the truth: gives verdicts by keys on the page Alarms, in a real browser where there is one."""

from __future__ import annotations

import importlib.util
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from posewatch import alarms
from posewatch.alarms import AlarmRecord
from posewatch.bench.labeling_ui import SECRET, server
from posewatch.bench.signed_in import new_context
from posewatch.errors import PosewatchError
from posewatch.labels import verdicts
from posewatch.labels.judging import Judged, execute
from posewatch.labels.store import LabelStore
from posewatch.labels.team import roles
from posewatch.progress import Progress
from posewatch.store import ObjectStore

WHO = "operator"
KEYS = dict(zip(verdicts.VERDICTS, "1234", strict=True))
ROWS = "article.alarm"
DEBIAN = (Path("/usr/bin/chromium"), Path("/usr/bin/chromium-browser"))
SHOT_AT = 5
"""Verdicts before the page is photographed."""
PATIENCE_S = 120.0
_PLAYS = "v => v.readyState >= 2 && !v.error && v.currentTime > 0"


def chromium() -> Path | None:
    """Debian's Chromium, else the one that `playwright install` fetched; None without either, or without playwright."""
    if importlib.util.find_spec("playwright") is None:
        return None
    if found := next((path for path in DEBIAN if path.exists()), None):
        return found
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = Path(playwright.chromium.executable_path)
    return path if path.exists() else None


def open_records(store: ObjectStore, labels: LabelStore) -> list[AlarmRecord]:
    """The records without a verdict."""
    said = verdicts.current(labels)
    return [record for record in alarms.records(store) if record.id not in said]


def judge(
    store: ObjectStore, labels: LabelStore, truth: Callable[[AlarmRecord], bool], folder: Path, browser: Path | None,
    shot: Path,
) -> int:  # fmt: skip
    """Say of every record without a verdict whether it is true; returns how many there were.

    With a ``browser`` by keys on the page, of which ``shot`` becomes a picture; without, by what the page's acts call.
    Raises PosewatchError when the page does not take the verdicts.
    """
    roles.set_role(labels, WHO, "operator", "demo")
    wanted = {record.id: "true" if truth(record) else "false" for record in open_records(store, labels)}
    with Progress("verdicts", len(wanted), "alarm") as progress:
        if not wanted:
            return 0
        if browser is None:
            _without_page(store, labels, wanted, progress)
        else:
            with server(labels, folder, {"POSEWATCH_STORE": store.uri}) as (url, _):
                _on_page(f"{url}/alarms?kind=all&verdict=open", wanted, browser, shot, progress)
    if left := [number for number in wanted if number not in verdicts.current(labels)]:
        raise PosewatchError(f"{len(left)} of {len(wanted)} verdicts were not saved (the page's log: {folder})")
    return len(wanted)


def _without_page(store: ObjectStore, labels: LabelStore, wanted: dict[str, str], progress: Progress) -> None:
    judged = Judged(labels)
    for record in open_records(store, labels):
        act = {"kind": "judge", "id": uuid.uuid4().hex, "record": record.prefix, "verdict": wanted[record.id]}
        execute(labels, lambda: store, judged, WHO, act)
        progress.advance()


def _on_page(url: str, wanted: dict[str, str], browser: Path, shot: Path, progress: Progress) -> None:
    from playwright.sync_api import sync_playwright

    headers = {"kubeflow-userid": WHO, "x-posewatch-proxy-secret": SECRET}
    with sync_playwright() as playwright:
        chrome = playwright.chromium.launch(executable_path=str(browser), args=["--no-sandbox", "--disable-gpu"])
        try:
            context = new_context(chrome, headers, viewport={"width": 1280, "height": 800}, locale="en-US")
            page = context.new_page()
            page.set_default_timeout(1000 * PATIENCE_S)
            while progress.done < len(wanted):  # a page at a time
                before = progress.done
                page.goto(url)
                _page_of(page, wanted, shot, progress)
                if progress.done == before:
                    raise PosewatchError("the page Alarms shows no alarm that has no verdict yet")
        finally:
            chrome.close()


def _page_of(page: Any, wanted: dict[str, str], shot: Path, progress: Progress) -> None:
    """Judge what one page shows."""
    page.locator(ROWS).first.wait_for()
    focus = page.locator(f"{ROWS}.focus")
    focus.wait_for()
    known: set[str] = set()
    while (number := str(focus.get_attribute("data-alarm"))) not in known and number in wanted:
        known.add(number)
        if progress.done == min(SHOT_AT, len(wanted) - 1):
            _picture(page, shot)
        page.keyboard.press(KEYS[wanted[number]])
        progress.advance()
        _moved(focus, number)
    page.wait_for_selector(".state:not(.busy)")


def _moved(focus: Any, number: str) -> None:
    """Wait until the focus is elsewhere; after the last alarm of a page it stays."""
    end = time.monotonic() + 2
    while time.monotonic() < end and focus.get_attribute("data-alarm") == number:
        time.sleep(0.02)


def _picture(page: Any, shot: Path) -> None:
    """The page with the clip in motion, if it has one."""
    video = page.locator(".screens .screen:not([hidden]) video")
    end = time.monotonic() + 20
    while time.monotonic() < end and not (video.count() and video.first.evaluate(_PLAYS)):
        time.sleep(0.1)
    page.screenshot(path=str(shot))
