"""The clips that stand in the HTML itself, before Streamlit has loaded: at once, with keys, and handed over whole."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from typing import Any

import httpx
from labeling.test_browser import CARDS, by_clip, card, ready, saved, until, watch

from posewatch.labels.entries import UNSURE
from posewatch.labels.team import roles

HTML = {"accept": "text/html"}


def first(answer: httpx.Response) -> dict[str, Any] | None:
    """What the page gives to its grid; None for a page without clips."""
    found = re.search(r'<script type="application/json" id="posewatch-data">(.*?)</script>', answer.text, re.DOTALL)
    return json.loads(found[1]) if found else None


def without_streamlit(page: Any) -> Callable[[], None]:
    """Hold Streamlit's scripts back until the result is called; they are several, and some are asked for later."""
    held: list[Any] = []
    free = False

    def hold(route: Any) -> None:
        if free:
            route.continue_()
        else:
            held.append(route)

    def release() -> None:
        nonlocal free
        free = True
        for route in held:
            route.continue_()

    page.route("**/static/js/index.*", hold)
    return release


def test_clips_play_and_take_labels_before_streamlit_has_loaded(start, browse):
    server = start({"hall.mp4": 6})
    asked: list[str] = []
    page = browse("about:blank")
    page.on("request", lambda request: asked.append(request.url))
    release = without_streamlit(page)
    page.goto(server.url, wait_until="commit")
    ready(page, 6)
    until(lambda: all(one["ready"] == 4 and not one["paused"] for one in watch(page)), True)
    assert not [url for url in asked if ".woff" in url]
    assert page.locator('[data-testid="stSidebar"]').count() == 0

    for key in ("2", "1", "z", "u"):
        page.keyboard.press(key)
    assert "4 labels are kept in this browser" in page.locator(".state").inner_text()
    until(lambda: page.locator(".chip").count(), 2)
    assert by_clip(server) == {}
    page.evaluate(f"document.querySelector('.host').shadowRoot.querySelector('{CARDS} video').mine = true")
    focused = page.locator(f"{CARDS}.focus").get_attribute("data-clip")

    release()
    page.get_by_test_id("stSidebar").get_by_text("hall.mp4").wait_for()
    saved(page)
    until(page.locator("#posewatch-first").count, 0)
    assert page.locator(CARDS).count() == 6
    assert page.locator(f"{CARDS}.focus").get_attribute("data-clip") == focused
    assert page.evaluate("document.posewatchGrids.length") == 1
    assert page.locator(f"{CARDS} video").first.evaluate("video => video.mine"), "the players go on"
    until(lambda: all(not one["paused"] for one in watch(page)), True)
    until(lambda: sorted(row[:2] for row in by_clip(server).values()), [(UNSURE, "ann"), ("abnormal", "ann")])
    card(page, server.clips[4]).locator("select").select_option("normal")
    saved(page)
    until(lambda: len(by_clip(server)), 3)


def test_what_the_first_page_says_to_whom(start):
    people = {"ann": "labeler", "rev": "reviewer"}
    env = {"POSEWATCH_AUTH": "proxy", "POSEWATCH_PROXY_SECRET": "s", "POSEWATCH_ADMINS": "boss"}
    server = start({"</script><b>.mp4": 3}, people, **env)

    def get(who: str, path: str = "", **headers: str) -> httpx.Response:
        named = {"kubeflow-userid": who, "x-posewatch-proxy-secret": "s"}
        return httpx.get(f"{server.url}{path}", headers={**HTML, **named, **headers})

    page = get("ann")
    data = first(page)
    assert (data["who"], len(data["cards"]), data["cards"][0]["video"]) == ("ann", 3, "</script><b>.mp4")
    assert "<b>" not in page.text
    assert page.headers["cache-control"] == "no-store"
    assert 'as="font"' not in page.text
    before = page.text.partition('id="posewatch-later"')[0]
    assert "/static/" not in before, "nothing of Streamlit's loads by itself"
    with httpx.stream("GET", server.url, headers={**page.request.headers, "accept-encoding": "gzip"}) as answer:
        raw = b"".join(answer.iter_raw())
    assert len(raw) < 40_000, "a second on a line of 40 KB/s"
    assert first(httpx.Response(200, text=gzip.decompress(raw).decode()))["who"] == "ann"
    assert "불러오는 중" in get("ann", **{"accept-language": "ko-KR,ko;q=0.9"}).text

    assert first(get("rev")) is None, "everything is claimed by ann"
    assert first(get("ann", "/label")) is not None
    for path in ("/review", "/?video=1", "/label?clip=2"):
        assert first(get("ann", path)) is None
    clip = data["cards"][0]["url"]  # a clip in a tab of its own: not a page, and in parts
    part = get("ann", clip, range="bytes=0-9")
    assert (part.status_code, len(part.content)) == (206, 10)
    assert first(get("eve")) is None, "a stranger gets Streamlit's page, which says why there is nothing"
    assert first(get("ann", **{"sec-purpose": "prefetch"})) is None
    assert httpx.get(server.url, headers={**HTML, "kubeflow-userid": "ann"}).status_code == 403
    roles.set_role(server.store, "ann", "none", "operator")
    assert first(get("ann")) is None


def test_what_streamlit_says_instead_is_shown(start, browse):
    server = start({"hall.mp4": 2}, {"ann": "labeler"})
    page = browse("about:blank")
    release = without_streamlit(page)
    page.goto(server.url, wait_until="commit")
    ready(page, 2)
    roles.set_role(server.store, "ann", "none", "operator")
    release()
    page.get_by_text("has no role here").wait_for()
    until(page.locator("#posewatch-first").count, 0)


def test_no_bar_hides_the_clip_or_the_classes(start, browse, tmp_path):
    """Neither forty classes nor Streamlit's header, which is there while the list at the left is closed."""
    classes = ["normal", *(f"pushes or hits somebody at the entrance, kind {i}" for i in range(39))]
    config = tmp_path / "many.yaml"
    config.write_text(f"extends: default\nlabels: {{classes: {classes}, positive: '{classes[1]}', page_size: 8}}\n")
    page = browse(start({"yard.mp4": 8}, POSEWATCH_CONFIG=str(config)).url, viewport={"width": 1366, "height": 768})
    within = """(part) => {
      const box = (name) => document.posewatchGrids.at(-1).home.querySelector(name).getBoundingClientRect();
      const { top, bottom, height } = box(part);
      return (Math.min(bottom, box(".foot").top) - Math.max(top, box(".bar").bottom)) / height; }"""
    at_top = """() => {
      const first = document.posewatchGrids.at(-1).home.querySelector("button.brush").getBoundingClientRect();
      const place = [first.left + 8, first.top + first.height / 2], found = document.elementFromPoint(...place);
      return (found.shadowRoot?.elementFromPoint(...place) ?? found).className; }"""
    page.locator(CARDS).nth(1).wait_for()
    page.get_by_test_id("stSidebar").get_by_text("yard.mp4").wait_for()
    page.get_by_test_id("stSidebarCollapseButton").locator("button").dispatch_event("click")
    left = "document.posewatchGrids.at(-1).home.getBoundingClientRect().x"  # a former grid may be there for a moment
    until(lambda: page.evaluate(left) < 60, True)  # closed, the list leaves its room to the clips
    for width, height, seen in ((1366, 768, 0.95), (683, 384, 0.7), (390, 844, 0.95)):
        page.set_viewport_size({"width": width, "height": height})
        for _ in range(3):
            page.keyboard.press("1")
            page.wait_for_timeout(200)
        assert page.evaluate(within, ".card.focus .screen") >= seen, f"the clip is hidden at {width} x {height}"
        assert page.evaluate(at_top) == "brush", f"the first class is hidden at {width} x {height}"
    page.get_by_test_id("stExpandSidebarButton").click()
    page.get_by_test_id("stSidebar").get_by_text("yard.mp4").wait_for()
