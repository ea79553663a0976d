"""Real Chromium at the real server: label by dropdown, key and brush, undo, reload, second opinions, decide, freeze."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from labeling.conftest import serve

from posewatch.errors import LabelError
from posewatch.labels.entries import BAD, UNSURE
from posewatch.labels.formats.snapshot import read_parquet, snapshot, write_parquet
from posewatch.labels.team import roles

CARDS = "article.card"


def until(value: Callable[[], Any], wanted: Any, seconds: float = 60.0) -> None:
    """Wait until ``value()`` equals ``wanted``."""
    end = time.monotonic() + seconds
    while (current := value()) != wanted:
        assert time.monotonic() < end, f"{current!r} instead of {wanted!r}"
        time.sleep(0.05)


def in_grid(page: Any, code: str, given: str = "grid") -> Any:
    """The value of an expression about the page's ``grid`` (or another name); none while it is drawn anew."""
    wait = "await new Promise((next) => setTimeout(next, 20))"
    begin = f"for (let i = 0; i < 500 && !document.posewatchGrids?.length; i++) {wait};"
    return page.evaluate(
        f"(async () => {{ {begin} const {given} = document.posewatchGrids.at(-1); return {code}; }})()"
    )


def ready(page: Any, count: int | None = None) -> Any:
    """Wait for the cards; ``page`` again."""
    page.wait_for_selector(CARDS)
    if count is not None:
        until(page.locator(CARDS).count, count)
    return page


def saved(page: Any) -> None:
    page.wait_for_selector(".state:not(.busy)")


def card(page: Any, clip: Any) -> Any:
    return page.locator(f'{CARDS}[data-clip="{clip.clip.id}"]')


def watch(page: Any) -> list[dict[str, Any]]:
    """What the visible players do."""
    return page.locator(f"{CARDS} video").evaluate_all(
        "all => all.map(v => ({id: v.closest('article').dataset.clip, at: v.currentTime, paused: v.paused, "
        "error: v.error && v.error.code, ready: v.readyState, "
        "loop: v.loop, muted: v.muted, src: v.currentSrc, w: v.videoWidth}))"
    )


def by_clip(server: Any) -> dict[str, tuple[str | None, str, str, str]]:
    return {clip: (e.new, e.who, e.source, e.act) for clip, e in server.store.current().items()}


def open_video(page: Any, name: str) -> None:
    page.get_by_test_id("stSidebar").get_by_text(name, exact=True).click()


def test_dropdown_keys_brush_rest_undo_and_reload(start, browse):
    server = start({"hall.mp4": 14})
    clips = server.clips
    page = ready(browse(server.url), 14)
    card(page, clips[3]).locator("select").select_option("abnormal")
    saved(page)
    assert by_clip(server) == {clips[3].clip.id: ("abnormal", "ann", "human", "dropdown")}

    card(page, clips[0]).locator(".about").click()
    for key in ("2", "1", "u", "ArrowRight", "b"):  # the fourth clip keeps its label
        page.keyboard.press(key)
    saved(page)
    found = by_clip(server)
    wanted = {0: "abnormal", 1: "normal", 2: UNSURE, 3: "abnormal", 4: BAD}
    assert {clips[i].clip.id: label for i, label in wanted.items()} == {clip: row[0] for clip, row in found.items()}
    assert found[clips[0].clip.id][3] == "key"
    assert card(page, clips[5]).get_attribute("class").split().count("focus") == 1

    page.get_by_role("button", name="abnormal").click()  # the brush
    for i in (6, 7):
        card(page, clips[i]).locator(".screen").click()
    page.keyboard.press("Escape")
    card(page, clips[8]).locator(".screen").click()  # without a brush a click stops the clip and labels nothing
    saved(page)
    assert by_clip(server)[clips[7].clip.id] == ("abnormal", "ann", "human", "brush")
    assert len(by_clip(server)) == 7

    page.keyboard.press("z")
    saved(page)
    until(lambda: clips[7].clip.id in by_clip(server), False)
    page.keyboard.press("y")
    until(lambda: by_clip(server).get(clips[7].clip.id), ("abnormal", "ann", "human", "brush"))

    card(page, clips[13]).scroll_into_view_if_needed()  # what nobody has seen stays without a label
    until(lambda: page.evaluate("(id) => document.posewatchGrids[0].views.get(id).seen", clips[13].clip.id), True)
    page.get_by_role("button", name="Rest of the page: normal").click()
    saved(page)
    found = by_clip(server)
    assert len(found) == 14
    assert {row for clip, row in found.items() if row[3] == "rest"} == {("normal", "ann", "bulk", "rest")}
    assert sum(row[3] == "rest" for row in found.values()) == 7
    page.keyboard.press("z")
    until(lambda: len(by_clip(server)), 7)

    page.reload()
    ready(page)
    open_video(page, "hall.mp4")
    until(lambda: page.locator(".chip").count(), 7)
    assert card(page, clips[0]).locator("select").input_value() == "abnormal"
    page.keyboard.press("z")  # what was done before the reload can still be undone
    until(lambda: len(by_clip(server)), 6)

    # while pages change a second grid may be there for a moment: a key is the newest one's alone
    page.evaluate("document.posewatchGrids.push({ home: { isConnected: true } })")
    page.keyboard.press("z")
    page.evaluate("document.posewatchGrids.pop()")
    until(lambda: page.evaluate("document.posewatchGrids.filter((grid) => grid.home.isConnected).length"), 1)
    page.keyboard.press("z")
    saved(page)
    until(lambda: len(by_clip(server)), 5)


def test_the_list_beside_the_clips_follows_each_label(start, browse):
    server = start({"hall.mp4": 3, "yard.mp4": 2})
    page = ready(browse(server.url), 5)
    beside = page.get_by_test_id("stSidebar")
    beside.get_by_text("0 of 5 clips labelled").wait_for()
    for done in (1, 2):
        page.keyboard.press("2")
        beside.get_by_text(f"{done} of 5 clips labelled").wait_for(timeout=12_000)
    assert {text for text in beside.get_by_text("clips labelled").all_inner_texts()} == {"2 of 5 clips labelled"}
    page.keyboard.press("z")
    beside.get_by_text("1 of 5 clips labelled").wait_for(timeout=12_000)
    assert page.locator(CARDS).count() == 5


def test_clips_play_and_loop_and_labelling_one_leaves_the_others_playing(start, browse):
    server = start({"hall.mp4": 40})
    page = ready(browse(server.url), 24)
    until(lambda: sum(row["ready"] >= 3 and not row["paused"] for row in watch(page)) >= 8, True)
    until(lambda: {row["w"] for row in watch(page) if row["src"]}, {160})  # the last ones load for a moment longer
    assert all(row["loop"] and row["muted"] and row["error"] is None for row in watch(page) if row["src"])
    assert any(not row["src"] for row in watch(page)), "what is far below is not even loaded"
    # a mark on each element, and how often each starts over: a reload would lose the one and show in the other
    page.locator(f"{CARDS} video").evaluate_all(
        "all => all.forEach(v => { v.mine = true; v.loads = 0; v.addEventListener('loadstart', () => v.loads++); "
        "v.turns = 0; v.addEventListener('seeked', () => v.turns++); })"
    )
    before = {row["id"]: row["at"] for row in watch(page)}
    page.keyboard.press("2")
    page.keyboard.press("1")
    saved(page)
    until(lambda: len(by_clip(server)), 2)
    page.wait_for_timeout(1500)
    state = page.locator(f"{CARDS} video").evaluate_all("all => all.map(v => [v.mine, v.loads, v.turns])")
    assert all(mine and loads == 0 for mine, loads, _ in state), "no element was replaced or loaded again"
    assert sum(turns >= 1 for _, _, turns in state) >= 8, "one-second clips loop"
    after = {row["id"]: row for row in watch(page)}
    playing = [clip for clip, row in after.items() if row["src"] and not row["paused"]]
    assert len(playing) >= 8
    assert any(after[clip]["at"] != before[clip] for clip in playing)
    page.keyboard.press("+")
    assert page.locator(f"{CARDS} video").first.evaluate("v => v.playbackRate") == 2
    page.keyboard.press("n")
    until(lambda: page.locator(CARDS).count(), 24)  # the two labelled ones left: 22 claimed, 2 new


def test_two_people_at_once_a_second_opinion_a_decision_and_a_snapshot(start, browse, tmp_path):
    config = tmp_path / "team.yaml"
    config.write_text("extends: default\nlabels: {double: 1.0, page_size: 6}\n")
    people = {"ann@x.org": "labeler", "bob@x.org": "labeler", "rev@x.org": "reviewer"}
    env = {"POSEWATCH_AUTH": "proxy", "POSEWATCH_PROXY_SECRET": "s3cret", "POSEWATCH_CONFIG": str(config)}
    server = start({"yard.mp4": 6}, people, **env)

    def sign_in(who: str) -> Any:
        headers = {"kubeflow-userid": who, "x-posewatch-proxy-secret": "s3cret"}
        return browse(server.url, extra_http_headers=headers)

    ann, bob = ready(sign_in("ann@x.org"), 6), ready(sign_in("bob@x.org"), 6)
    for page, keys in ((ann, "111222"), (bob, "111221")):
        for key in keys:
            page.keyboard.press(key)
    saved(ann)
    saved(bob)
    until(lambda: len(server.store.states([e.clip.id for e in server.clips])), 6)
    assert ann.get_by_role("link", name="Review").count() == 0
    last = server.clips[5]
    assert card(ann, last).locator(".chip").inner_text() == "abnormal"
    assert card(bob, last).locator(".chip").inner_text() == "normal", "each sees their own label only"
    with pytest.raises(LabelError, match="1 clip"):
        snapshot(server.store)

    rev = sign_in("rev@x.org")
    rev.get_by_role("link", name="Review").click()
    ready(rev, 1)
    assert sorted(rev.locator(".vote").all_inner_texts()) == ["ann@x.org: abnormal", "bob@x.org: normal"]
    assert rev.get_by_role("button", name="unsure").count() == 0, "a reviewer decides"
    assert card(rev, last).locator("select").input_value() == "", "nothing is decided yet"
    rev.keyboard.press("2")
    until(lambda: rev.locator(CARDS).count(), 0)
    rev.keyboard.press("z")
    until(lambda: rev.locator(CARDS).count(), 1)
    card(rev, last).locator("select").select_option("abnormal")
    until(lambda: rev.locator(CARDS).count(), 0)
    event = server.store.current()[last.clip.id]
    assert (event.new, event.who, event.act) == ("abnormal", "rev@x.org", "adjudicate")
    frozen = snapshot(server.store)
    write_parquet(frozen, tmp_path / "labels.parquet")
    assert Counter(row["label"] for row in read_parquet(tmp_path / "labels.parquet").rows) == {
        "abnormal": 3,
        "normal": 3,
    }
    rev.get_by_role("link", name="Progress").click()
    rev.get_by_text("6 clips were labelled by two or more people").wait_for()


def test_nobody_gets_in_without_identity_or_role(start, browse, chromium):
    server = start({"yard.mp4": 1}, {"ann": "labeler"}, POSEWATCH_AUTH="proxy", POSEWATCH_PROXY_SECRET="s3cret")
    page = browse(server.url, extra_http_headers={"kubeflow-userid": "ann"})  # the header alone is not believed
    assert "through its identity proxy only" in page.inner_text("body")
    zoe = browse(server.url, extra_http_headers={"kubeflow-userid": "zoe", "x-posewatch-proxy-secret": "s3cret"})
    zoe.get_by_text("zoe has no role here").wait_for()
    assert zoe.locator(CARDS).count() == 0
    ann = browse(server.url, extra_http_headers={"kubeflow-userid": "ann", "x-posewatch-proxy-secret": "s3cret"})
    ready(ann, 1)
    roles.set_role(server.store, "ann", "none", "operator")
    ann.keyboard.press("1")
    ann.get_by_text("ann has no role here").first.wait_for()
    assert server.store.current() == {}


def test_a_server_that_dies_loses_nothing_that_was_pressed(start, browse, tmp_path):
    server = start({"yard.mp4": 8})
    page = ready(browse(server.url), 8)
    page.keyboard.press("1")
    saved(page)
    server.process.kill()
    server.process.wait()
    for key in "212":
        page.keyboard.press(key)
    assert page.locator(".state.busy").count() == 1, "the page shows that it has not saved yet"
    assert len(by_clip(server)) == 1
    env = {"POSEWATCH_LABELS_URL": server.store.url, "POSEWATCH_USER": "ann", "HOME": str(tmp_path)}
    _, server.process = serve(env, server.log, port=int(server.url.rsplit(":", 1)[1]))
    until(
        lambda: [by_clip(server).get(e.clip.id, [None])[0] for e in server.clips[:4]],
        ["normal", "abnormal", "normal", "abnormal"],
        90,
    )
    assert len(server.store.history(server.clips[1].clip.id)) == 1, "sent more than once, done once"


def test_a_stale_tab_a_changed_label_set_a_clip_that_is_gone_and_a_hostile_name(start, browse, tmp_path):
    config = tmp_path / "labels.yaml"
    config.write_text("extends: default\nlabels: {classes: [normal, abnormal, fight]}\n")
    name = "<img src=x onerror=alert(1)>../../etc.mp4"
    server = start({name: 5}, POSEWATCH_CONFIG=str(config))
    (tmp_path / "objects" / server.clips[4].key).unlink()
    alerts: list[str] = []
    page = browse(server.url)
    page.on("dialog", lambda dialog: (alerts.append(dialog.message), dialog.dismiss()))
    ready(page, 5)
    assert card(page, server.clips[4]).locator(".note").inner_text() == "This clip is not in the object store."
    assert name in card(page, server.clips[0]).locator(".about").inner_text()
    other = ready(browse(server.url, same=page.context), 5)  # the same person in a second tab
    # its own page is there, too: one that comes later has no card of a clip that is labelled meanwhile
    until(lambda: other.evaluate("document.posewatchGrids.at(-1).connected"), True)
    page.keyboard.press("2")
    saved(page)
    other.keyboard.press("1")  # this tab has not seen it yet
    saved(other)
    until(lambda: card(other, server.clips[0]).locator(".chip").inner_text(), "normal")
    assert [e.new for e in server.store.history(server.clips[0].clip.id)] == ["abnormal", "normal"]
    config.write_text("extends: default\nlabels: {classes: [normal, abnormal]}\n")
    page.keyboard.press("3")
    page.get_by_text("unknown class 'fight' (known: normal, abnormal)").wait_for()
    until(lambda: page.locator("button.brush").count(), 4)
    assert server.store.current().keys() == {server.clips[0].clip.id}
    assert alerts == []


def test_the_page_speaks_korean_where_the_browser_does(start, browse):
    server = start({"yard.mp4": 2})
    page = ready(browse(server.url, locale="ko-KR"), 2)
    page.get_by_text("작업 대기열").first.wait_for()
    assert page.get_by_role("button", name="불확실").count() == 1
    page.get_by_test_id("stSidebar").get_by_test_id("stSelectbox").locator("input").click()
    page.get_by_role("option", name="English").click()
    page.get_by_role("button", name="unsure").wait_for()


def test_welfare_settings_hold_and_the_pause_comes(start, browse, tmp_path):
    config = tmp_path / "hard.yaml"
    config.write_text("extends: default\nlabels: {sensitive: [abnormal]}\n")
    server = start({"yard.mp4": 3}, POSEWATCH_CONFIG=str(config))
    page = ready(browse(server.url), 3)
    style = "v => getComputedStyle(v).filter"
    first = page.locator(f"{CARDS} video").first
    assert first.evaluate(style) == "blur(5px) grayscale(1)", "on by default where a class is marked sensitive"
    page.keyboard.press("v")
    assert first.evaluate(style) == "none"
    page.get_by_role("button", name="Welfare").click()
    page.get_by_label("Skeletons only").check()
    page.keyboard.press("Escape")
    assert first.evaluate("v => getComputedStyle(v).visibility") == "hidden"
    drawn = "c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some(x => x > 0)"
    until(lambda: page.locator(f"{CARDS} canvas").first.evaluate(drawn), True)
    page.reload()
    ready(page, 3)
    assert page.locator(f"{CARDS} video").first.evaluate("v => v.currentSrc") == "", "no picture is even loaded"
    work = (
        "localStorage.setItem('posewatch work ann', JSON.stringify({since: Date.now() - 26 * 60000, last: Date.now()}))"
    )
    page.evaluate(work)
    page.reload()
    page.get_by_text("Time for a break").wait_for()
    page.get_by_role("button", name="I took a break").click()
    assert page.get_by_text("Time for a break").count() == 0


def test_clips_come_by_urls_that_end(start, browse, tmp_path):
    """Every clip URL expires, and nothing that the browser receives holds a credential."""
    server = start({"yard.mp4": 1})
    page = ready(browse(server.url), 1)
    until(lambda: bool(watch(page)[0]["src"]), True)
    url = watch(page)[0]["src"]
    context = page.context.request
    assert context.get(url).status == 200
    ranged = context.get(url, headers={"Range": "bytes=0-99"})
    assert (ranged.status, len(ranged.body())) == (206, 100)
    assert context.get(url.replace("token=", "token=0")).status == 403
    assert context.get(url.replace(server.clips[0].clip.id, "../../labels")).status in (403, 404)
    assert context.get(url.replace("until=", "until=1")).status == 403
    assert Path(server.log).read_text().count("Traceback") == 0
