"""The page Alarms in a real browser, on records that the watcher's recorder made."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from labeling.alarm_records import another, record
from labeling.conftest import WORD, Server, behind_proxy
from labeling.test_browser import in_grid, saved, until
from labeling.test_guidelines import axe

from posewatch import alarms
from posewatch.labels import verdicts
from posewatch.labels.store import LabelStore
from posewatch.labels.team import audit, roles
from posewatch.store import FolderStore

HOSTILE = "<img src=x onerror=alert(1)> *hall*"
ROWS = "article.alarm"


@dataclass
class Tower:
    """A page with alarms of its own store; ``model`` is one that others are made from."""

    server: Server
    objects: FolderStore
    model: alarms.AlarmRecord

    def add(self, number: str, minutes: float, **changes: Any) -> alarms.AlarmRecord:
        return another(self.model, number, minutes, **changes)

    @property
    def labels(self) -> LabelStore:
        return self.server.store

    def said(self) -> dict[str, str | None]:
        return {alarm: verdict.verdict for alarm, verdict in verdicts.current(self.labels).items()}


@pytest.fixture(scope="module")
def tower(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tower]:
    folder = tmp_path_factory.mktemp("tower")
    objects = FolderStore(folder / "objects")
    model = record(FolderStore(folder / "elsewhere"), folder / "watch", raw=True)
    model = alarms.AlarmRecord(model.artifact, model.about)
    shutil.copytree(folder / "elsewhere", folder / "objects")
    store = LabelStore(f"sqlite:///{folder / 'labels.db'}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POSEWATCH_STORE", str(objects.root))
        for server in behind_proxy(folder, store, [], "extends: default\nlabels: {raw_alarms: reviewer}\n"):
            yield Tower(server, objects, alarms.read(objects, model.prefix))


@pytest.fixture
def sign_in(tower: Tower, browse: Callable[..., Any]) -> Callable[..., Any]:
    def go(who: str, path: str = "alarms", role: str = "operator", **kwargs: Any) -> Any:
        roles.set_role(tower.labels, who, role, "test")
        headers = {"kubeflow-userid": who, "x-posewatch-proxy-secret": WORD}
        page = browse(f"{tower.server.url}/{path}", extra_http_headers=headers, **kwargs)
        page.set_default_timeout(20_000)
        return page

    return go


def shown(page: Any) -> list[str]:
    return list(page.locator(ROWS).evaluate_all("all => all.map(one => one.dataset.alarm)"))


def focused(page: Any) -> str:
    return str(page.locator(f"{ROWS}.focus").get_attribute("data-alarm"))


def in_desk(page: Any, code: str) -> Any:
    return in_grid(page, code, "desk")


def plays(page: Any) -> None:
    moving = "v => v.readyState >= 2 && !v.error && v.currentTime > 0"
    until(lambda: page.locator(".screens .screen:not([hidden]) video").evaluate(moving), True, 30)


def test_alarms_are_judged_by_keys_with_the_clip_and_the_curve(tower, sign_in):
    for i in range(11):
        tower.add(f"k{i:02}", 10 + i, camera="keys", probability=0.5 + i / 25)
    page = sign_in("op", "alarms?camera=keys")
    until(lambda: shown(page), [f"k{i:02}" for i in range(10, -1, -1)])
    plays(page)
    # the person is outlined where their box is in the record, and nobody else in that colour
    yellow = """c => { const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data, xs = [];
      for (let i = 0; i < d.length; i += 4) if (d[i] > 200 && d[i + 1] > 180 && d[i + 2] < 140 && d[i + 3] > 200)
        xs.push((i / 4) % c.width / c.width);
      return xs.length ? [Math.min(...xs), Math.max(...xs)] : null; }"""
    canvas = page.locator(".screens .screen:not([hidden]) canvas")
    until(lambda: canvas.evaluate(yellow) is not None, True)
    low, high = canvas.evaluate(yellow)
    assert 0.05 < low < high < 0.5, "the other one stands at three quarters"
    assert (
        page.locator(".curve").get_attribute("aria-label").replace("\xa0", " ")
        == "Score over time, from 0 % to 100 %; the threshold is 50 %"
    )
    # ten verdicts without a wait: the next clips are there before they are looked at
    for i, key in enumerate("1213412343"):
        until(lambda i=i: focused(page), f"k{10 - i:02}")
        in_desk(page, "desk.player.about") or page.wait_for_timeout(50)
        page.keyboard.press(key)
    saved(page)
    words = dict(zip("1234", verdicts.VERDICTS, strict=True))
    assert tower.said() == {f"k{10 - i:02}": words[key] for i, key in enumerate("1213412343")}
    assert focused(page) == "k00"
    assert {one.who for one in verdicts.current(tower.labels).values()} == {"op"}
    page.get_by_text("10 judged").wait_for()
    page.get_by_text("keys 43 % of 7").wait_for()  # unsure counts in neither
    page.get_by_text("too few random moments are judged to say (0 of 30)").wait_for()
    assert tower.objects.exists(f"{tower.model.prefix.rsplit('/', 1)[0].replace('yard', 'keys')}/k10/judged")

    # undo goes back to it, also after a reload; redo says it again
    page.keyboard.press("z")
    until(lambda: tower.said().get("k01"), None)
    assert focused(page) == "k01"
    page.keyboard.press("y")
    until(lambda: tower.said().get("k01"), words["3"])
    page.reload()
    until(lambda: len(shown(page)), 11)
    in_desk(page, "desk.home.posewatchGrid = null")  # Streamlit mounts the page anew while the answer is on its way
    page.keyboard.press("z")
    page.get_by_text("Taken back: keys #1").wait_for()
    assert tower.said().get("k01") is None
    assert focused(page) == "k01"
    acts = [(row["act"], row["who"], row["new"]) for row in audit.trail(tower.labels) if row["clip_id"] == "k01"]
    assert acts == [("verdict", "op", "unsure"), ("undo verdict", "op", None)] * 2

    # a note goes with the verdict
    page.keyboard.press("c")
    page.get_by_role("textbox").fill("a <b>mop</b>")
    page.locator("dialog").get_by_role("button", name="not a person").click()
    page.get_by_text("“a <b>mop</b>”").wait_for()
    assert verdicts.current(tower.labels)["k01"].note == "a <b>mop</b>"


def test_a_new_alarm_appears_by_itself_and_a_deleted_one_is_told(tower, sign_in):
    tower.add("l0", 30, camera="live")
    old = tower.add("l1", 31, camera="live")
    page = sign_in("liv", "alarms?camera=live")
    until(lambda: shown(page), ["l1", "l0"])
    until(lambda: in_desk(page, "Boolean(desk.player?.about)"), True)
    tower.add("l2", 32, camera="live")
    until(lambda: shown(page), ["l2", "l1", "l0"])
    page.get_by_text("New alarms: 1").wait_for()
    assert focused(page) == "l1", "the focus stays"
    # retention deletes what is looked at
    for name in (*old.artifact.files, "manifest.jsonl"):
        tower.objects.delete(f"{old.prefix}/{name}")
    page.locator(".notice.bad", has_text="was deleted by retention").wait_for()
    assert page.locator(".notice.bad").count() == 1
    until(lambda: shown(page), ["l2", "l0"])
    act = f"{{kind: 'judge', alarm: 'l1', record: '{old.prefix}', verdict: 'true', seen: 0}}"
    in_desk(page, f"desk.act({act}) && 1")  # what was on its way meanwhile
    page.locator(".notice.bad", has_text=f"{old.prefix} was deleted by retention: it cannot be judged").wait_for()
    assert "l1" not in tower.said()


def test_of_two_operators_the_second_is_told(tower, sign_in):
    for i in range(2):
        tower.add(f"t{i}", 40 + i, camera="two")
    one, two = sign_in("ann", "alarms?camera=two"), sign_in("bea", "alarms?camera=two")
    for page in (one, two):
        until(lambda page=page: shown(page), ["t1", "t0"])
        until(lambda page=page: in_desk(page, "Boolean(desk.player?.about)"), True)
    in_desk(two, "(desk.poll = () => {}) && 1")  # what ann says has not reached this page yet
    one.keyboard.press("1")
    saved(one)
    two.keyboard.press("2")
    two.get_by_text("somebody else was faster: ann said true").wait_for()
    assert tower.said()["t1"] == "true"
    two.locator(f"{ROWS}[data-alarm=t1]", has_text="ann").wait_for()
    two.keyboard.press("ArrowUp")
    two.keyboard.press("2")  # now it has been seen
    until(lambda: tower.said()["t1"], "false")
    one.locator(f"{ROWS}[data-alarm=t1]", has_text="bea").wait_for()  # by itself


def test_filters_are_in_the_address_and_hostile_names_are_text(tower, sign_in):
    tower.add("f0", 50, camera=HOSTILE, probability=0.61)
    tower.add("f1", 51, camera=HOSTILE, probability=0.91, kind="near_miss")
    tower.add("f2", 52, camera=HOSTILE, probability=0.71, model={"version": "8", "release": "abc"})
    bones = tower.add("f3", 53, camera=HOSTILE, probability=0.81, leave=("masked.mp4", "raw.mp4", "people.jsonl"))
    page = sign_in("fil", "alarms")
    page.on("dialog", lambda _: pytest.fail("a name was run"))
    page.locator(ROWS, has_text=HOSTILE).first.wait_for()
    page.locator("summary", has_text="Filters").click()
    page.get_by_label("Camera").select_option(label=HOSTILE)
    until(lambda: shown(page), ["f3", "f2", "f0"])
    key = alarms.camera_key(HOSTILE)
    assert page.url.endswith(f"/alarms?camera={key}")
    page.get_by_label("Version").select_option(label="8")
    until(lambda: shown(page), ["f2"])
    page.go_back()
    until(lambda: shown(page), ["f3", "f2", "f0"])
    page.goto(f"{tower.server.url}/alarms?camera={key}&kind=all&low=0.7&verdict=open&since=2026-03-01&until=2026-03-01")
    until(lambda: shown(page), ["f3", "f2", "f1"])
    page.locator(f"{ROWS}[data-alarm=f1]", has_text="near miss").wait_for()
    # judged, it stays until somebody looks again, though the filter asks for those without a verdict
    until(lambda: in_desk(page, "desk.player?.seeable"), "shown")
    assert page.locator(".facts").inner_text().endswith("only skeletons were kept"), bones
    page.keyboard.press("1")
    saved(page)
    assert shown(page) == ["f3", "f2", "f1"]
    page.reload()
    until(lambda: shown(page), ["f2", "f1"])
    # an hour and minute narrow a day, on the clock of whoever looks; the address holds them
    page.goto(f"{tower.server.url}/alarms?camera={key}&kind=all")
    until(lambda: shown(page), ["f3", "f2", "f1", "f0"])
    page.locator("summary", has_text="Filters").click()
    clock = page.evaluate("t => new Date(t).toTimeString().slice(0, 5)", f3 := bones.about["began"])
    page.get_by_label("From", exact=True).fill(page.evaluate("t => new Date(t).toLocaleDateString('sv')", f3))
    page.get_by_label("from, time").fill(clock)
    until(lambda: shown(page), ["f3"])
    assert f"T{clock.replace(':', '%3A')}" in page.url
    assert page.get_by_label("from, time").input_value() == clock
    page.goto(f"{tower.server.url}/alarms?low=7")
    page.get_by_text("the filters 'low' and 'high' are numbers from 0 to 1").wait_for()
    assert page.get_by_label("Camera").is_visible(), "the form stays, where it can be mended"


def test_pages_go_back_in_time(tower, sign_in):
    for i in range(53):
        tower.add(f"p{i:02}", 60 + i / 10, camera="pages", leave=("masked.mp4", "raw.mp4", "windows.npz"))
    page = sign_in("pag", "alarms?camera=pages")
    until(lambda: shown(page), [f"p{i:02}" for i in range(52, 2, -1)])
    page.keyboard.press("n")
    until(lambda: shown(page), ["p02", "p01", "p00"])
    assert "before=" in page.url
    page.keyboard.press("p")
    until(lambda: len(shown(page)), 50)


def test_who_sees_the_page(tower, sign_in):
    tower.add("w0", 70, camera="who")
    page = sign_in("only", "?camera=who")
    until(lambda: shown(page), ["w0"])
    assert page.url.endswith("/alarms?camera=who"), "the address that others have, too"
    links = page.get_by_test_id("stSidebar").get_by_role("link")
    assert links.count() <= 1
    page = sign_in("lab", "alarms", "labeler")
    page.get_by_text("lab is a labeler, and this needs the role operator: ask an admin for it").wait_for()
    assert page.get_by_role("link", name="Alarms").count() == 0
    page = sign_in("lead", "", "reviewer")
    page.get_by_role("link", name="Alarms").click()
    page.locator(ROWS).first.wait_for()
    # an act of somebody whose role was revoked
    roles.set_role(tower.labels, "lead", "labeler", "test")
    before = tower.said()
    page.keyboard.press("1")
    page.get_by_text("lead is a labeler, and this needs the role operator").first.wait_for()
    assert tower.said() == before


def test_while_the_store_is_away_one_message_and_no_verdict_is_lost(tower, sign_in):
    for i in range(2):
        tower.add(f"a{i}", 80 + i, camera="away")
    page = sign_in("awa", "alarms?camera=away")
    until(lambda: shown(page), ["a1", "a0"])
    until(lambda: in_desk(page, "[...desk.players.values()].filter(p => p.seeable === 'shown').length"), 2)
    elsewhere = tower.objects.root.with_name("away")
    tower.objects.root.rename(elsewhere)
    try:
        page.locator(".notice.held", has_text="The store of the alarms gives no answer").wait_for()
        page.keyboard.press("2")
        page.locator(".notice.held", has_text="Your verdicts are kept in this browser").wait_for()
        assert page.locator(".notice.held").count() == 2
        assert shown(page) == ["a1", "a0"], "the page stays as it was"
        assert not tower.objects.root.exists(), "nothing is written in its place"
        page.close()  # or the browser is killed: the verdict waits in its storage
    finally:
        elsewhere.rename(tower.objects.root)
    assert "a1" not in tower.said()
    page = sign_in("awa", "alarms?camera=away", same=page.context)
    page.get_by_text("1 verdicts that a closed tab had not sent are being saved now · away #1").wait_for()
    until(lambda: tower.said().get("a1"), "false")
    saved(page)
    assert page.locator(".notice.held").count() == 0
    assert len(verdicts.history(tower.labels, "a1")) == 1


@pytest.mark.parametrize(("locale", "scheme", "width"), [("en-US", "light", 1400), ("ko-KR", "dark", 360)])
def test_it_is_accessible_and_keeps_to_narrow_windows(tower, sign_in, locale, scheme, width):
    tower.add("x0", 90, camera="seen")
    page = sign_in(
        f"axe{width}", "alarms?camera=seen", locale=locale, color_scheme=scheme,
        viewport={"width": width, "height": 740},
    )  # fmt: skip
    page.locator(ROWS).first.wait_for()
    page.locator("summary", has_text={"en-US": "Filters", "ko-KR": "필터"}[locale]).click()
    plays(page)
    axe(page, locale)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.keyboard.press("Escape")
    for key in ("c", "h"):
        page.locator(ROWS).first.click()
        page.keyboard.press(key)
        page.locator("dialog[open]").wait_for()
        assert page.locator("dialog").evaluate("box => box.scrollWidth <= box.clientWidth"), key
        page.keyboard.press("Escape")
    page.locator("summary").last.focus()
    for _ in range(40):  # the keyboard alone comes to the alarm, and its focus is seen
        page.keyboard.press("Tab")
        if in_desk(page, "desk.list.contains(desk.home.getRootNode().activeElement)"):
            break
    assert in_desk(page, "desk.home.getRootNode().activeElement.dataset.alarm") == "x0"
    ring = "getComputedStyle(desk.home.getRootNode().activeElement).boxShadow"
    assert in_desk(page, ring) != "none"


def test_welfare_holds_here_too(tower, sign_in):
    tower.add("b0", 95, camera="soft")
    page = sign_in("wel", "alarms?camera=soft")
    page.locator(ROWS).first.wait_for()
    page.get_by_role("button", name="Welfare").click()
    page.get_by_label("Blur").check()
    page.keyboard.press("Escape")
    blur = "getComputedStyle(desk.player.video).filter"
    assert "blur" in in_desk(page, blur)
    page.keyboard.press("v")
    assert in_desk(page, blur) == "none"
    page.get_by_role("button", name="Welfare").click()
    page.get_by_label("Skeletons only").check()
    page.keyboard.press("Escape")
    assert in_desk(page, "getComputedStyle(desk.player.video).visibility") == "hidden"


def test_the_unmasked_clip_is_for_whom_the_experiment_names_and_each_look_is_recorded(tower, sign_in):
    tower.add("u0", 96, camera="bare")
    tower.add("u1", 97, camera="bare", leave=("raw.mp4",))
    page = sign_in("blind", "alarms?camera=bare")
    until(lambda: shown(page), ["u1", "u0"])
    page.keyboard.press("ArrowDown")
    until(lambda: in_desk(page, "desk.player?.seeable"), "shown")
    assert page.get_by_role("button", name="Unmasked video").count() == 0
    page.keyboard.press("r")
    one = f"{tower.model.prefix.rsplit('/', 1)[0].replace('yard', 'bare')}/u0"
    in_desk(page, f"desk.act({{kind: 'raw', alarm: 'u0', record: '{one}'}}) && 1")  # by hand
    page.get_by_text("blind may not look at unmasked video: labels.raw_alarms is reviewer").wait_for()
    assert alarms.RAW not in in_desk(page, "JSON.stringify([desk.data, desk.player.about])")

    page = sign_in("sees", "alarms?camera=bare", "reviewer")
    until(lambda: shown(page), ["u1", "u0"])
    until(lambda: in_desk(page, "desk.player?.seeable"), "shown")
    button = page.get_by_role("button", name="Unmasked video")
    assert button.count() == 0, "this alarm has none"
    page.keyboard.press("ArrowDown")
    button.wait_for()
    source = "desk.player.video.currentSrc.split('?')[0].split('%2F').pop().split('/').pop()"
    until(lambda: in_desk(page, source), alarms.MASKED)
    colour = (
        "c => { const d = Object.assign(document.createElement('canvas'), {width: 1, height: 1}).getContext('2d'); "
    )
    colour += "d.drawImage(c, 0, 0, 1, 1); return [...d.getImageData(0, 0, 1, 1).data].slice(0, 3); }"
    plays(page)
    video = page.locator(".screens .screen:not([hidden]) video")
    dark = video.evaluate(colour)
    page.keyboard.press("r")
    until(lambda: in_desk(page, source), alarms.RAW)
    plays(page)
    assert button.get_attribute("aria-pressed") == "true"
    assert sum(video.evaluate(colour)) > sum(dark), "what was masked is seen"
    page.keyboard.press("r")
    until(lambda: in_desk(page, source), alarms.MASKED)
    button.click()
    until(lambda: in_desk(page, source), alarms.RAW)
    looks = [row["who"] for row in audit.trail(tower.labels) if row["act"] == "raw" and row["clip_id"] == "u0"]
    assert looks == ["sees"] * 2
