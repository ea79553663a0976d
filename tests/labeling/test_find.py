"""The lead's views: find clips among all, relabel many at once, send an address, go through one video in time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from labeling.conftest import WORD, Server, behind_proxy, make_clips
from labeling.test_browser import CARDS, in_grid, saved, until

from posewatch.config import LabelConfig
from posewatch.labels.active import refresh
from posewatch.labels.entries import ADJUDICATE
from posewatch.labels.store import LabelStore
from posewatch.labels.team import roles
from posewatch.records import Prediction

CLASSES = ("normal", "abnormal", "fight")
VIDEOS = {"hall.mp4": 9, "yard.mp4": 6, "talk.mp4": 2, "walk.mp4": 7}
CONFIG = "extends: default\nlabels: {classes: [normal, abnormal, fight], page_size: 6, double: %s}\n"


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("office")
    clips = make_clips(folder / "objects", VIDEOS)
    store = LabelStore(f"sqlite:///{folder / 'labels.db'}")
    store.register(clips)
    config = LabelConfig(CLASSES, random=0.0)
    shares = np.array([[0.9 - i / 50, 0.05 + i / 50, 0.05] for i in range(len(clips))], np.float32)
    vectors = np.array([[1.0, i % 3, i % 2] for i in range(len(clips))], np.float32)
    refresh(store, [e.clip.id for e in clips], Prediction(shares, config.classes, vectors), "m/1", config)
    yield from behind_proxy(folder, store, clips, CONFIG % 0)


@pytest.fixture
def sign_in(office: Server, browse: Callable[..., Any]) -> Callable[..., Any]:
    def go(who: str, path: str = "", role: str = "reviewer", **kwargs: Any) -> Any:
        roles.set_role(office.store, who, role, "operator")
        headers = {"kubeflow-userid": who, "x-posewatch-proxy-secret": WORD}
        page = browse(f"{office.url}/{path}", extra_http_headers=headers, **kwargs)
        page.set_default_timeout(30_000)
        return page

    return go


def of(office: Server, video: str) -> list[str]:
    return [entry.clip.id for entry in office.clips if entry.video == video]


def labels(office: Server, clips: list[str]) -> list[str | None]:
    current = office.store.current(clips)
    return [current[clip].new if clip in current else None for clip in clips]


def shown(page: Any) -> list[str]:
    return list(page.locator(CARDS).evaluate_all("all => all.map(c => c.dataset.clip)"))


def test_clips_are_found_relabelled_at_once_and_the_address_shows_the_same(office, sign_in):
    hall, yard = of(office, "hall.mp4"), of(office, "yard.mp4")
    office.store.set_labels(dict.fromkeys(hall, "normal"), "ann", "human", act="key")
    office.store.set_labels(dict.fromkeys(yard[:2], "abnormal"), "bob", "human", act="key")
    page = sign_in("lead1", "find")
    until(page.locator(CARDS).count, 6)
    page.get_by_label("Class").select_option("abnormal")
    until(lambda: sorted(shown(page)), sorted(yard[:2]))
    assert page.url.endswith("find?label=abnormal")
    page.get_by_label("Labelled by").select_option("lead1")
    page.get_by_text("No clip has all of this.").wait_for()
    page.go_back()
    until(lambda: sorted(shown(page)), sorted(yard[:2]))
    assert page.get_by_label("Labelled by").input_value() == ""
    page.go_back()
    until(page.locator(CARDS).count, 6)
    page.get_by_label("Class").select_option("normal")
    page.get_by_text("9 clips").wait_for()
    first = shown(page)
    page.locator("body").press("n")
    until(page.locator(CARDS).count, 3)
    assert sorted(first + shown(page)) == sorted(hall)
    page.keyboard.press("p")
    until(lambda: shown(page), first)

    # by range, with the mouse and with keys; one act, one undo
    page.locator(f'{CARDS}[data-clip="{first[0]}"] .screen').click()
    page.locator(f'{CARDS}[data-clip="{first[2]}"] .screen').click(modifiers=["Shift"])
    page.get_by_text("3 selected").wait_for()
    page.keyboard.press("3")
    page.get_by_text("3 clips labelled fight").wait_for()
    saved(page)
    assert labels(office, first) == ["fight"] * 3 + ["normal"] * 3
    events = [office.store.history(clip)[-1] for clip in first[:3]]
    assert {(e.who, e.act, e.source) for e in events} == {("lead1", ADJUDICATE, "bulk")}
    assert len({e.batch for e in events}) == 1
    assert shown(page) == first, "what was relabelled stays until somebody looks again"
    page.keyboard.press("z")
    until(lambda: labels(office, first), ["normal"] * 6)

    page.keyboard.press("Shift+R")
    page.get_by_text("9 selected").wait_for()
    office.store.set_label(hall[0], "abnormal", "ann", "human")  # after the page was shown
    page.keyboard.press("2")
    page.get_by_role("button", name="All 9 are abnormal").click()
    page.get_by_text("8 clips labelled abnormal").wait_for()
    assert not office.store.states([hall[0]])[hall[0]].settled
    page.keyboard.press("z")
    until(lambda: labels(office, hall[1:]), ["normal"] * 8)
    office.store.set_label(hall[0], "normal", "ann", "human")

    # the address of a clip shows a colleague the same page with the focus on it, and a labeler the clip in its video
    page.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
    page.locator(f'{CARDS}[data-clip="{first[4]}"] .about').click()
    page.keyboard.press("l")
    until(lambda: bool(page.evaluate("window.copied")), True)
    copied = page.evaluate("window.copied")
    other = sign_in("lead2", copied.removeprefix(office.url + "/"))
    until(lambda: shown(other), first)
    assert other.locator(f"{CARDS}.focus").get_attribute("data-clip") == first[4]
    low = sign_in("low1", copied.removeprefix(office.url + "/"), "labeler")
    until(lambda: low.locator(f"{CARDS}.focus").get_attribute("data-clip"), first[4])
    assert low.get_by_role("link", name="Find").count() == 0

    # nothing but what was on the page, and nothing by the wrong person
    ghost = yard[5]
    in_grid(page, f"grid.act({{kind: 'relabel', clips: ['{ghost}'], tickets: {{}}, label: 'fight'}}) && 1")
    page.get_by_text(f"clip {ghost} was not on your page").wait_for()
    whole = "{query: {}, stamp: '2099', ticket: 'x.y'}"
    in_grid(page, f"grid.act({{kind: 'relabel', whole: {whole}, label: 'fight'}}) && 1")
    page.get_by_text("was not on your page").last.wait_for()
    saved(page)
    assert labels(office, yard[2:]) == [None] * 4


def test_what_a_reviewer_must_not_know_yet_is_no_criterion(office, sign_in):
    yard = of(office, "yard.mp4")
    config = office.log.parent / "team.yaml"
    config.write_text(CONFIG % "1.0")
    try:
        office.store.set_labels({yard[4]: "fight"}, "first@x.org", "human", classes=CLASSES, act="key")
        page = sign_in("lead3", "find?label=fight")
        page.get_by_text("No clip has all of this.").wait_for()
        page.goto(f"{office.url}/find?video=yard&clip={yard[4]}")
        until(page.locator(CARDS).count, 6)
        assert "first@x.org" not in in_grid(page, "JSON.stringify(grid.data.cards)")
        page.keyboard.press("r")
        page.keyboard.press("2")
        page.get_by_text("left: not looked at yet, settled so already, waiting for a second opinion").wait_for()
        assert labels(office, [yard[4]]) == ["fight"]
        office.store.set_labels({yard[4]: "normal"}, "second@x.org", "human", act="key")
        page.goto(f"{office.url}/find?differ=1&video=yard")
        until(lambda: shown(page), [yard[4]])
        assert "first@x.org" in page.locator(CARDS).inner_text()
    finally:
        config.write_text(CONFIG % 0)


def timeline(page: Any, code: str) -> Any:
    return in_grid(page, f"(({{ timeline: line }}) => {code})(grid)")


def test_a_video_plays_across_its_clips_and_an_interval_labels_what_it_covers(office, sign_in):
    walk = of(office, "walk.mp4")
    page = sign_in("low2", f"timeline?video={office.clips[-1].clip.video_id}", "labeler")
    segment = page.locator("article.segment")
    until(segment.count, 7)
    page.keyboard.press("Space")  # stops
    timeline(page, "grid.focus(grid.views.get(grid.order[0])) || line.restart()")
    page.keyboard.press("Space")
    before = page.evaluate("performance.now()")
    until(lambda: timeline(page, "grid.order.indexOf(line.current.id)") >= 2, True, 20)
    took = page.evaluate("performance.now()") - before
    assert 1_800 < took < 6_000, "two clips of one second, one after the other"
    page.keyboard.press("Space")
    here = timeline(page, "line.time")
    page.keyboard.press(".")
    assert timeline(page, "line.time") == pytest.approx(here + 0.1, abs=0.02), "one frame of ten a second"
    page.keyboard.press(",")

    # marks at 1.6 and 4.4: half of the second clip is not covered, the fifth just not either
    timeline(page, "grid.focus(grid.views.get(grid.order[1])) || line.frames(6)")
    page.keyboard.press("i")
    timeline(page, "grid.focus(grid.views.get(grid.order[4])) || line.frames(4)")
    page.keyboard.press("o")
    page.get_by_text("Interval: 1.6–4.4 s · 2 clips").wait_for()
    office.store.set_labels({walk[3]: "fight"}, "ann", "human", classes=CLASSES)
    timeline(page, "grid.views.get(grid.order[2]).seen = true")
    timeline(page, "grid.views.get(grid.order[3]).seen = false")
    page.keyboard.press("2")
    page.get_by_text("1 of the 2 clips of this interval have not been played").wait_for()
    page.get_by_role("button", name="All 2 are abnormal").click()
    page.get_by_text("2 clips labelled abnormal").wait_for()
    saved(page)
    votes = office.store.states(walk)
    mine = {clip: votes[clip].votes["low2"] for clip in walk if clip in votes and "low2" in votes[clip].votes}
    assert {clip: event.new for clip, event in mine.items()} == {walk[2]: "abnormal", walk[3]: "abnormal"}
    assert {event.act for event in mine.values()} == {"interval"}
    assert len({event.batch for event in mine.values()}) == 1
    page.keyboard.press("z")
    until(lambda: labels(office, walk), [None, None, None, "fight", None, None, None])
    forged = "{kind: 'interval', clips: [grid.order[6]], since: 0, until: 1, label: 'fight', tickets: {%s}}"
    ticket = "[grid.order[6]]: grid.views.get(grid.order[6]).card.ticket"
    in_grid(page, f"grid.act({forged % ticket}) && 1")
    page.get_by_text("no clip of one video lies between 0 and 1 s").wait_for()

    # the other videos, and back; a label without marks is for the clip at the playhead
    page.keyboard.press("Shift+P")
    page.get_by_role("heading", name="talk.mp4").wait_for()
    until(segment.count, 2)
    page.go_back()
    page.get_by_role("heading", name="walk.mp4").wait_for()
    until(segment.count, 7)
    timeline(page, "(line.player.running && line.toggle(), grid.focus(grid.views.get(grid.order[5])))")
    page.keyboard.press("3")
    until(lambda: labels(office, [walk[5]]), ["fight"])
    assert timeline(page, "grid.order.indexOf(grid.focusId)") == 6
    page.keyboard.press("z")
    saved(page)


def readable(page: Any) -> None:
    """Nothing that axe finds, in light and dark."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed").Axe()
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_timeout(200)
        found = axe.run(page, options={"resultTypes": ["violations"]}).response["violations"]
        assert [(v["id"], n["html"][:120]) for v in found for n in v["nodes"]] == [], scheme


def closer(page: Any, code: str) -> Any:
    return in_grid(page, f"((look) => {code})(grid.closer)")


def test_a_clip_is_looked_at_closely_and_all_that_look_alike_get_one_label(office, sign_in):
    hall = of(office, "hall.mp4")
    config = office.log.parent / "team.yaml"
    many = ["normal", "abnormal", "fight", *(f"class {i}" for i in range(4, 24))]
    config.write_text(CONFIG.replace("normal, abnormal, fight", ", ".join(many)) % 0)
    try:
        office.store.set_labels({hall[4]: "class 12"}, "look1", "human", classes=many, act="key")
        page = sign_in("look1", f"?clip={hall[0]}", "labeler")
        until(page.locator(CARDS).count, 6)
        video = page.locator(f'{CARDS}[data-clip="{hall[0]}"] video')
        until(lambda: video.evaluate("v => v.readyState >= 3"), True)
        page.keyboard.press("Space")
        video.evaluate("v => { v.currentTime = 0.2; }")
        page.keyboard.press(".")
        page.keyboard.press(".")
        page.keyboard.press(",")
        assert video.evaluate("v => v.currentTime") == pytest.approx(0.3, abs=0.02), "frames of a tenth of a second"

        # classes beyond the ninth have two keys, and no two colours are alike or too bright for white text
        page.keyboard.press("0")
        page.get_by_text("Now: 1 class 10 · 2 class 11").wait_for()
        page.keyboard.press("2")
        until(lambda: labels(office, hall[:1]), ["class 11"])
        page.keyboard.press("ArrowLeft")
        for key in ("0", "0", "5"):
            page.keyboard.press(key)
        until(lambda: labels(office, hall[:1]), ["class 23"])
        page.keyboard.press("z")
        page.keyboard.press("z")
        until(lambda: labels(office, hall[:1])[0] in ("class 11", "class 23"), False)
        colours = page.evaluate(COLOURS_JS)
        assert min(map(contrast, colours)) >= 4.5
        assert min(sum(abs(a - b) for a, b in zip(x, y, strict=True)) for x, y in combinations(colours[:24], 2)) > 30
        assert len(set(map(tuple, colours))) == 40

        # enlarged: the full clip, those alike beside it, one label for all that are ticked
        page.locator(f'{CARDS}[data-clip="{hall[0]}"] .about').click()
        page.keyboard.press("f")
        figures = page.locator(".alike figure")
        until(lambda: figures.count() > 3, True)
        until(lambda: figures.locator("video").first.evaluate("v => v.readyState >= 2"), True)
        readable(page)
        page.keyboard.press("Space")
        at = closer(page, "look.player.video.currentTime")
        page.keyboard.press(".")
        assert closer(page, "look.player.running") is False
        assert closer(page, "look.player.video.currentTime") != at
        ticked = sorted(closer(page, "[...look.ticked]"))
        assert ticked, "those without a label"
        assert hall[4] not in ticked
        looked = "look.players.filter((one) => one.before).every((one) => one.seen)"
        until(lambda: closer(page, looked), True)
        shown = closer(
            page,
            "look.similar.filter((card, i) => look.ticked.has(card.id) && look.players[i].seen).map((card) => card.id)",
        )
        assert shown, "what is beyond the edge of the strip was not looked at"
        before = {clip: len(office.store.history(clip)) for clip in (hall[0], *shown)}
        page.keyboard.press("Shift+Digit2")
        page.get_by_text(f"{len(before)} clips labelled abnormal").wait_for()
        saved(page)
        events = [office.store.history(clip)[-1] for clip in before]
        assert {(e.new, e.who, e.act in ("alike", "relabel")) for e in events} == {("abnormal", "look1", True)}
        assert len({e.batch for e in events}) == 1
        page.keyboard.press("z")
        until(lambda: [office.store.history(clip)[-1].new for clip in before], [None] * len(before))
        page.keyboard.press("f")
        page.locator(".closer").wait_for()
        page.keyboard.press("3")  # the one clip alone
        until(lambda: labels(office, [hall[0]]), ["fight"])
        page.keyboard.press("z")
        page.keyboard.press("Escape")
        until(page.locator(".closer").count, 0)

        # keys of one's own survive the tab
        page.keyboard.press("h")
        page.get_by_role("button", name="Change keys").click()
        page.get_by_role("button", name="class 12: key 03, change").click()
        page.keyboard.press("k")
        page.get_by_role("button", name="class 12: key k, change").wait_for()
        page.get_by_role("button", name="undo: key z, change").click()
        page.keyboard.press("q")
        readable(page)
        page.keyboard.press("Escape")
        other = page.context.new_page()
        page.close()
        other.goto(f"{office.url}/?clip={hall[1]}")
        until(other.locator(CARDS).count, 6)
        assert other.locator("button.brush", has_text="class 12").locator("kbd").inner_text() == "k"
        other.keyboard.press("k")
        until(lambda: labels(office, [hall[1]]), ["class 12"])
        other.keyboard.press("q")
        until(lambda: labels(office, [hall[1]])[0] == "class 12", False)
    finally:
        config.write_text(CONFIG % 0)


COLOURS_JS = """(() => {
  const grid = document.posewatchGrids.at(-1), classes = grid.data.classes;
  grid.data.classes = Array.from({ length: 40 }, (_, i) => String(i));
  const probe = document.body.appendChild(document.createElement("i"));
  const out = grid.data.classes.map((one) => {
    probe.style.color = grid.colour(one);
    return getComputedStyle(probe).color.match(/[0-9]+/g).slice(0, 3).map(Number);
  });
  probe.remove();
  grid.data.classes = classes;
  return out;
})()"""


def contrast(colour: list[int]) -> float:
    """Of white text on this colour, as WCAG 2 defines it."""
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (one / 255 for one in colour)]
    return 1.05 / (sum(v * w for v, w in zip(linear, (0.2126, 0.7152, 0.0722), strict=True)) + 0.05)


FOCUSED = """() => {
  let at = document.activeElement;
  while (at?.shadowRoot?.activeElement) at = at.shadowRoot.activeElement;
  if (!at || at === document.body) return null;
  const { home, toolbar } = document.posewatchGrids.at(-1);
  const box = at.getBoundingClientRect();
  const name = `${at.tagName} ${at.getAttribute("aria-label") || at.name || at.textContent.slice(0, 40)}`.trim();
  const inside = (part) => part.contains(at) || at.contains(part) || at.contains(part.getRootNode().host);
  const over = [toolbar.bar, toolbar.foot].filter((bar) => !inside(bar)).map((bar) => bar.getBoundingClientRect());
  const ring = (one) => {
    const { boxShadow, outlineStyle, outlineWidth } = getComputedStyle(one);
    return boxShadow !== "none" || (outlineStyle !== "none" && parseFloat(outlineWidth) > 0);
  };
  const beside = (bar) => box.left >= bar.right || box.right <= bar.left;
  const meet = (bar) => box.top < bar.bottom - 1 && box.bottom > bar.top + 1 && !beside(bar);
  const chain = [];
  for (let one = at; one && chain.length < 4; one = one.parentElement) chain.push(one);
  const wrong = [];
  const modal = at.closest("dialog");
  const scroller = at.contains(home) || at.contains(home.getRootNode().host);
  if (!modal && !scroller && over.some(meet)) wrong.push("under a bar");
  if (!modal && !scroller && (box.bottom <= 0 || box.top >= innerHeight)) wrong.push("not on the screen");
  if (!chain.some(ring)) wrong.push("not visible");
  return { name, wrong };
}"""
"""What has the focus, and what is wrong with it."""


def walk(page: Any, key: str, steps: int, until_name: str = "") -> list[str]:
    """Press a key until the focus is on something of this name; the names. Whatever has the focus can be seen."""
    names = []
    for _ in range(steps):
        page.keyboard.press(key)
        found = page.evaluate(FOCUSED)
        if found is None:  # the window itself
            continue
        assert not found["wrong"], found
        names.append(found["name"])
        if until_name and until_name in found["name"]:
            return names
    assert not until_name, f"{until_name!r} is not among {names}"
    return names


def test_the_whole_page_by_keys_alone_and_the_focus_is_always_seen(sign_in):
    window = {"width": 911, "height": 512}  # 1366x768 at 150 %
    page = sign_in("keys1", first=True, viewport=window)
    page.locator("dialog.over").wait_for()
    until(page.locator("#posewatch-first").count, 0)
    walk(page, "Tab", 12, "Start labeling")
    page.keyboard.press("Enter")
    page.locator("dialog.over").wait_for(state="hidden")
    assert any("Label of clip" in name for name in walk(page, "Tab", 45))
    walk(page, "Tab", 45, "Find")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Find").wait_for()
    until(page.locator(".bar").count, 1)
    until(page.locator(CARDS).count, 6)
    names = walk(page, "Tab", 60)
    assert {"INPUT video", "SELECT sort"} <= set(names)
    walk(page, "Tab", 60, "Label of clip")
    page.keyboard.press("Escape")
    walk(page, "Tab", 60, "Timeline")
    page.keyboard.press("Enter")
    page.locator(".stage video").first.wait_for()
    until(page.locator(".bar").count, 1)
    walk(page, "Tab", 45)
    page.get_by_role("link", name="Label").focus()
    page.keyboard.press("Enter")
    until(page.locator(".stage").count, 0)
    until(page.locator(".bar").count, 1)
    page.locator(CARDS).first.wait_for()
    page.evaluate("document.activeElement.blur()")
    for key in ("ArrowDown", "ArrowRight", "ArrowUp"):
        walk(page, key, 4)
