"""What went wrong in a day's work with the page: a label on the wrong clip, a label lost, a clip labelled unseen.

All tests share one server. Each has people of its own, and videos of its own that it opens from the list.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labeling.conftest import WORD, Server, behind_proxy, make_clips
from labeling.test_browser import CARDS, card, in_grid, open_video, saved, until

from posewatch.config import LabelConfig
from posewatch.labels.active import refresh
from posewatch.labels.entries import BAD
from posewatch.labels.store import LabelStore
from posewatch.labels.team import roles
from posewatch.labels.team.agreement import opinions
from posewatch.records import Prediction

VIDEOS = {
    "review.mp4": 4,
    "tab.mp4": 5,
    "keys.mp4": 6,
    "undo.mp4": 8,
    "rest.mp4": 14,
    "blind.mp4": 2,
    "gone.mp4": 3,
    "accept.mp4": 5,
}
CLASSES = "extends: default\nlabels: {classes: [normal, abnormal, fight], page_size: 14, claim_s: 1, double: %s}\n"


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("room")
    clips = make_clips(folder / "objects", VIDEOS)
    store = LabelStore(f"sqlite:///{folder / 'labels.db'}")
    store.register(clips)
    yield from behind_proxy(folder, store, clips, CLASSES % 0)


@pytest.fixture
def sign_in(room: Server, browse: Callable[..., Any]) -> Callable[..., Any]:
    """Opens the page for a person who gets a role: at the queue, or at a video."""

    def go(who: str, video: str | None = None, role: str = "labeler", **kwargs: Any) -> Any:
        roles.set_role(room.store, who, role, "operator")
        headers = {"kubeflow-userid": who, "x-posewatch-proxy-secret": WORD}
        page = browse(room.url, extra_http_headers=headers, **kwargs)
        page.set_default_timeout(30_000)
        return at(page, video) if video else page

    return go


def at(page: Any, video: str) -> Any:
    """Open a video from the list, and wait for its clips; ``page`` again."""
    open_video(page, video)
    page.get_by_role("heading", name=video).wait_for()
    shown = "[...grid.views.values()].map((view) => view.card.video)"  # the queue's clips may be as many
    until(lambda: in_grid(page, shown), [video] * VIDEOS[video], 30)
    until(page.locator(".bar").count, 1, 30)  # while Streamlit changes pages there are two; the newer is the video's
    return page


def clips_of(room: Server, video: str) -> list[Any]:
    return [entry for entry in room.clips if entry.video == video]


def label_of(room: Server, entry: Any) -> str | None:
    event = room.store.current([entry.clip.id]).get(entry.clip.id)
    return event.new if event else None


def ringed(page: Any) -> str:
    return str(page.locator(f"{CARDS}.focus").get_attribute("data-clip"))


def test_an_act_is_about_the_clip_that_is_seen_focused(room, sign_in):
    one, two, three, four = clips_of(room, "review.mp4")
    for who, label in (("a1", "normal"), ("a2", "abnormal")):
        room.store.set_labels({e.clip.id: label for e in (one, two, three)}, who, "human")
    page = sign_in("rev1", role="reviewer")
    page.get_by_role("link", name="Review").click()
    until(page.locator(CARDS).count, 3)
    page.keyboard.press("ArrowRight")
    assert ringed(page) == two.clip.id
    page.keyboard.press("2")
    until(page.locator(CARDS).count, 2)
    assert ringed(page) == three.clip.id
    page.keyboard.press("1")
    until(page.locator(CARDS).count, 1)
    assert [label_of(room, e) for e in (two, three)] == ["abnormal", "normal"]
    assert ringed(page) == one.clip.id
    assert room.store.states([one.clip.id])[one.clip.id].settled is False

    # what is not on the page cannot be labelled, whatever a browser sends
    four_id = four.clip.id
    in_grid(page, f"grid.act({{kind: 'label', clip: '{four_id}', label: 'fight', how: 'key'}}) && 1")
    page.get_by_text(f"clip {four_id} was not on your page").wait_for()
    in_grid(page, f"grid.act({{kind: 'rest', clips: ['{four_id}'], label: 'normal'}}) && 1")
    saved(page)
    assert label_of(room, four) is None


class Line:
    """The connection of a page to its server, which can be cut without a word, as a dead network does it."""

    def __init__(self, page: Any) -> None:
        self.cut = False
        page.route_web_socket(lambda url: True, self.connect)

    def connect(self, socket: Any) -> None:
        server = socket.connect_to_server()
        socket.on_message(lambda message: None if self.cut else server.send(message))
        server.on_message(lambda message: None if self.cut else socket.send(message))


def test_nothing_is_lost_when_a_tab_closes_during_an_outage(room, sign_in):
    clips = clips_of(room, "tab.mp4")
    other = sign_in("tab1", "tab.mp4")  # a second tab of the same person, which stays open for a while
    page = other.context.new_page()
    line = Line(page)
    page.goto(room.url)
    at(page, "tab.mp4")
    line.cut = True
    page.keyboard.press("2")
    page.keyboard.press("3")
    page.get_by_text("2 labels are kept in this browser").wait_for()
    other.wait_for_timeout(1500)
    assert in_grid(other, "grid.outbox.acts.length") == 0, "a tab that lives is not taken over"
    other.get_by_text("2 labels of another tab are not saved yet").wait_for()
    asked: list[str] = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
    card(page, clips[4]).locator(".about").click()  # browsers ask only where somebody has clicked
    page.close(run_before_unload=True)
    until(lambda: (other.wait_for_timeout(20), asked)[1], ["beforeunload"], 20)
    other.get_by_text("2 labels that a closed tab had not sent").wait_for()
    until(lambda: [label_of(room, e) for e in clips[:2]], ["abnormal", "fight"])
    other.get_by_text("everything is saved").wait_for()
    assert [len(room.store.history(e.clip.id)) for e in clips] == [1, 1, 0, 0, 0], "sent once"


def press(page: Any, key: str, code: str = "", shift: bool = False) -> None:
    """Press a key as a keyboard layout sends it: ``key`` is what it writes, ``code`` its place."""
    session = press.sessions.setdefault(page, None) or page.context.new_cdp_session(page)  # type: ignore[attr-defined]
    press.sessions[page] = session  # type: ignore[attr-defined]
    event = {"key": key, "code": code, "modifiers": 8 if shift else 0}
    session.send("Input.dispatchKeyEvent", {"type": "rawKeyDown", **event})
    session.send("Input.dispatchKeyEvent", {"type": "keyUp", **event})


press.sessions = {}  # type: ignore[attr-defined]

LAYOUTS = [  # (layout, key, code, shift, what happens)
    ("us", "2", "Digit2", False, "label abnormal"),
    ("us", "z", "KeyZ", False, "undo"),
    ("us with Caps Lock", "Z", "KeyZ", False, "undo"),
    ("us", "Z", "KeyZ", True, "redo"),
    ("us with Caps Lock", "z", "KeyZ", True, "redo"),
    ("hangul", "ㅋ", "KeyZ", False, "undo"),
    ("hangul, composing", "Process", "KeyU", False, "label (unsure)"),
    ("hangul", "ㅕ", "KeyU", False, "label (unsure)"),
    ("hangul", "ㅠ", "KeyB", False, "label (bad clip)"),
    ("french", "é", "Digit2", False, "label abnormal"),
    ("french", "z", "KeyW", False, "undo"),
    ("french", "w", "KeyZ", False, ""),
    ("number pad", "3", "Numpad3", False, "label fight"),
    ("cyrillic", "я", "KeyZ", False, "undo"),
    ("us", "q", "KeyQ", False, ""),
]
SCOPES = {  # where the focus is, and which of the keys do something to the clips there
    "page": ("document.activeElement.blur()", "1 2 u Enter Backspace z e"),
    "button": ("grid.home.querySelector('button.undo').focus()", "1 2 u Backspace e"),
    "select": ("grid.home.querySelector('.card.focus select').focus()", ""),
    "search": ("document.body.appendChild(Object.assign(document.createElement('input'), {id: 'probe'})).focus()", ""),
    "help": ("(document.activeElement.blur(), grid.help())", ""),
    "context": ("grid.act({kind: 'context', clip: grid.focusId})", ""),
    "pause": ("grid.remindToPause()", ""),
    "welfare": ("grid.home.querySelector('button[aria-pressed]:nth-of-type(7)')?.click()", ""),
}


def test_keys_belong_to_what_has_focus_in_every_layout(room, sign_in):
    page = sign_in("key1", "keys.mp4")
    in_grid(page, "grid.notices.show = () => {}")
    # every act is noted instead of being done, and forgotten again
    note = """(() => { const grid = document.posewatchGrids.at(-1); window.noted = [];
      grid.outbox.add = (act) => {
        window.noted.push([act.kind, act.label].filter(Boolean).join(' ')); return {id: 'x', ...act}; };
      for (const view of grid.views.values()) view.card.suggestion = 'fight'; })()"""
    page.evaluate(note)

    def effect(key: str, code: str = "", shift: bool = False) -> str:
        page.evaluate("window.noted = []")
        in_grid(page, "(grid.waiting = null, grid.focus(grid.views.get(grid.order[0]), {dom: false}))")
        press(page, key, code, shift)
        return str(page.evaluate("window.noted.join()"))

    for layout, key, code, shift, wanted in LAYOUTS:
        assert effect(key, code, shift) == wanted, (layout, key, code, shift)
    codes = {"1": "Digit1", "2": "Digit2", "u": "KeyU", "z": "KeyZ", "e": "KeyE", " ": "Space"}
    in_grid(page, "[...grid.views.values()].forEach((view) => { view.seen = true; view.card.suggestion = 'fight'; })")
    for scope, (enter, alive) in SCOPES.items():
        if scope == "context":
            page.reload()  # with a real outbox
            at(page, "keys.mp4")
            in_grid(page, enter + " && 1")
            page.get_by_text("Before and after").wait_for()
            page.evaluate(note)
        else:
            in_grid(page, enter + ", 1")
        for key in ("1", "2", "u", "Enter", "Backspace", "z", "e"):
            if scope in ("button", "pause", "welfare", "help", "context") and key == "Enter":
                continue  # presses the button: below
            if key in ("e", "Backspace") and alive:
                continue  # asks; has nothing to take back
            done = effect(key, codes.get(key, key))
            assert bool(done) == (key in alive.split() or (scope == "button" and key == "z")), (scope, key, done)
        page.keyboard.press("Escape")
        page.evaluate("document.getElementById('probe')?.remove()")
    page.evaluate("window.noted = []")
    in_grid(page, "grid.home.querySelector('button.undo').focus()")
    page.keyboard.press("Enter")
    page.keyboard.press("Space")
    assert page.evaluate("window.noted") == ["undo", "undo"], "Enter and Space press what has the focus"
    page.get_by_role("link", name="Progress").focus()
    page.keyboard.press("Enter")
    page.get_by_text("Per labeler").wait_for()


def test_a_dropdown_saves_no_class_that_the_keys_only_pass(room, sign_in):
    clips = clips_of(room, "keys.mp4")
    page = sign_in("key2", "keys.mp4")
    select = card(page, clips[1]).locator("select")
    select.focus()
    for key in ("ArrowDown", "ArrowDown"):
        page.keyboard.press(key)
    page.wait_for_timeout(200)
    assert in_grid(page, "grid.outbox.acts.length") == 0
    assert room.store.history(clips[1].clip.id) == []
    page.keyboard.press("Enter")
    saved(page)
    until(lambda: [e.new for e in room.store.history(clips[1].clip.id)], ["abnormal"])
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Escape")
    assert select.input_value() == "abnormal", "Escape takes back what was not saved"
    # by keyboard alone: the focus is always visible, and never below a bar
    page.set_viewport_size({"width": 900, "height": 500})
    for key in [*["ArrowDown"] * 3, *["ArrowUp"] * 3]:
        page.keyboard.press("Tab") if key == "x" else in_grid(page, "grid.focused.root.focus()")
        page.keyboard.press(key)
        box = "e => { const r = e.getBoundingClientRect(); return [r.top, r.bottom]; }"
        top, bottom = page.locator(f"{CARDS}.focus").evaluate(box)
        assert page.locator(".bar").evaluate(box)[1] <= top, "not below the upper bar"
        assert bottom <= page.locator(".foot").evaluate(box)[0] + 1, "not below the lower bar"


def test_an_undo_says_what_it_did_and_its_clip_has_the_focus(room, sign_in):
    clips = clips_of(room, "undo.mp4")
    page = sign_in("undo1", "undo.mp4")
    for key in ("2", "z", "1"):
        page.keyboard.press(key)
    saved(page)
    assert [e.new for e in room.store.history(clips[0].clip.id)] == ["abnormal", None, "normal"]
    assert label_of(room, clips[1]) is None
    page.get_by_text("Undone: abnormal → no label · undo.mp4 0.0–1.0 s").wait_for()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Backspace")  # taking a label back is an act, too
    page.keyboard.press("z")
    saved(page)
    until(lambda: label_of(room, clips[0]), "normal")
    at(page, "keys.mp4")
    page.keyboard.press("z")  # its clip is on another page
    notice = page.locator(".notice")
    notice.get_by_text("undo.mp4 0.0–1.0 s").wait_for()
    notice.locator("video").first.wait_for()
    until(lambda: label_of(room, clips[0]), None)
    page.reload()
    at(page, "keys.mp4")
    for _ in range(2):  # the second key before anybody knows what is undone: no answer comes between the two
        page.evaluate(
            "for (const key of ['z', '3'])"
            " document.body.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }))"
        )
    page.wait_for_timeout(300)
    saved(page)
    assert not any(e.new == "fight" for e in room.store.current().values() if e.who == "undo1")


def test_the_rest_of_a_page_is_what_was_seen_and_asks_where_a_model_differs(room, sign_in):
    from playwright.sync_api import TimeoutError as PlaywrightTimeout

    clips = clips_of(room, "rest.mp4")
    room.store.set_label(clips[1].clip.id, "abnormal", "net", "model", "m/1")
    objects = Path(clips[2].store.removeprefix("file://"))
    (objects / clips[2].key).write_bytes(b"no video at all")
    page = sign_in("rest1", "rest.mp4")
    page.get_by_text("This clip does not play").first.wait_for()
    until(page.locator("#posewatch-first").count, 0)  # Streamlit has taken the first page over: no redraw follows
    saved(page)
    waits = "view.visible && !view.seen && ['shown', 'loading'].includes(view.player.seeable)"
    look = f"[all.filter((view) => view.seen).length, all.some((view) => {waits})]"
    counts = [0]

    def settled() -> bool:  # both in one look: a grid that is drawn anew begins with nothing seen
        count, waiting = in_grid(page, f"((all) => {look})([...grid.views.values()])")
        counts.append(count)
        return count >= 6 and not waiting

    for _ in range(4):  # a page that Streamlit draws anew closes the question, and the key asks again
        until(settled, True)
        page.keyboard.press("e")
        with contextlib.suppress(PlaywrightTimeout):
            page.get_by_text(f"For 1 of these {counts[-1]} clips the model suggests something else").wait_for(
                timeout=8000
            )
            page.get_by_role("button", name="Leave these 1 out").click(timeout=5000)
            break
    count = counts[-1]
    assert count < 13, "the last row is below the window"
    page.get_by_text(f"{count - 1} clips labelled normal. {14 - count + 1} left").wait_for()
    saved(page)
    labelled = [label_of(room, e) for e in clips]
    assert labelled[:4] == ["normal", "abnormal", None, "normal"], "the second is the model's, the third does not play"
    assert labelled[13] is None, "nobody has seen it"
    assert sum(label == "normal" for label in labelled) == count - 1
    page.keyboard.press("z")
    until(lambda: label_of(room, clips[0]), None)


def test_a_second_opinion_is_blind_for_everybody_and_kappa_counts_no_other(room, sign_in):
    one, two = clips_of(room, "blind.mp4")
    config = room.log.parent / "team.yaml"
    config.write_text(CLASSES % "1.0")
    time.sleep(0.02)
    try:
        for entry in (one, two):
            room.store.set_labels({entry.clip.id: "abnormal"}, "first@x.org", "human", act="key")
        page = sign_in("rev2", "blind.mp4", role="admin")
        for entry in (one, two):
            assert card(page, entry).locator(".chip").count() == 0
            assert "first@x.org" not in card(page, entry).inner_text()
        sent = in_grid(page, "JSON.stringify(grid.data.cards)")
        assert "first@x.org" not in sent
        assert '"label":"abnormal"' not in sent
        card(page, one).locator(".about").click()
        page.keyboard.press("1")
        saved(page)
        assert opinions(room.store)[one.clip.id] == {"first@x.org": "abnormal", "rev2": "normal"}
        config.write_text(CLASSES % 0)  # no second opinions: the label of the first is shown, and replaced knowingly
        page.reload()
        at(page, "blind.mp4")
        until(lambda: card(page, two).locator(".chip").count(), 1)
        card(page, two).locator(".about").click()
        page.keyboard.press("3")
        saved(page)
        until(lambda: [e.act for e in room.store.history(two.clip.id)], ["key", "relabel"])
        assert two.clip.id not in opinions(room.store)
    finally:
        config.write_text(CLASSES % 0)


def test_what_cannot_be_seen_is_not_called_normal_and_a_store_that_is_down_is_one_message(room, sign_in):
    one, two, _ = clips_of(room, "gone.mp4")
    objects = Path(one.store.removeprefix("file://"))
    (objects / one.key).rename(objects / "away.mp4")
    page = sign_in("gone1", "gone.mp4")
    page.get_by_text("This clip is not in the object store.").wait_for()
    card(page, one).locator(".about").click()
    page.keyboard.press("1")
    page.get_by_text("it can only be marked as a bad clip").wait_for()
    in_grid(page, "(grid.focused.player.state = 'shown') && 1")  # a browser that does not refuse
    page.keyboard.press("1")
    page.get_by_text("cannot be seen").last.wait_for()
    saved(page)
    assert label_of(room, one) is None
    page.reload()
    at(page, "gone.mp4")
    card(page, one).locator(".about").click()
    page.keyboard.press("b")
    saved(page)
    assert label_of(room, one) == BAD

    objects.rename(objects.with_name("unmounted"))
    try:
        page.reload()
        at(page, "gone.mp4")
        page.get_by_text("The store of the clips gives no answer").wait_for()
        assert page.get_by_text("This clip is not in the object store.").count() == 0
        assert page.locator(".notice.held").count() == 1
        card(page, two).locator(".about").click()
        page.keyboard.press("2")
        page.wait_for_timeout(300)
        assert label_of(room, two) is None
    finally:
        objects.with_name("unmounted").rename(objects)
    until(lambda: page.locator(".notice.held").count(), 0)  # it comes back by itself
    page.keyboard.press("2")
    until(lambda: label_of(room, two), "abnormal")


def test_every_view_is_readable_light_and_dark_and_asks_no_other_host(room, sign_in):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed").Axe()
    page = sign_in("lead1", "review.mp4", role="admin")
    hosts: set[str] = set()
    page.on("request", lambda request: hosts.add(request.url.split("/")[2] if "://" in request.url else ""))
    for scheme, views in (
        ("dark", ("Label", "Timeline", "Review", "Find")),
        ("light", ("Label", "Timeline", "Review", "Find", "Progress", "People")),
    ):
        page.emulate_media(color_scheme=scheme)
        page.reload()
        for view in views:
            page.get_by_role("link", name=view, exact=True).click()
            page.locator(".bar, [data-testid=stDataFrame]").first.wait_for()
            until(page.locator('[data-stale="true"]').count, 0)  # the view before fades
            page.wait_for_timeout(500)
            found = axe.run(page, options={"resultTypes": ["violations"]}).response["violations"]
            assert [(v["id"], n["html"][:120]) for v in found for n in v["nodes"]] == [], (scheme, view)
    back = page.evaluate("getComputedStyle(document.querySelector('.stApp')).backgroundColor")
    page.emulate_media(color_scheme="dark")
    page.reload()
    page.locator(".bar, [data-testid=stDataFrame]").first.wait_for()
    assert page.evaluate("getComputedStyle(document.querySelector('.stApp')).backgroundColor") != back
    assert hosts - {""} == {room.url.split("/")[2]}


def test_reduced_motion_stops_all_clips_and_one_key_starts_them(room, sign_in):
    page = sign_in("still1", "review.mp4", reduced_motion="reduce")
    paused = "all => all.filter(v => v.readyState >= 2).map(v => v.paused)"
    videos = page.locator(f"{CARDS} video")
    until(lambda: videos.evaluate_all(paused), [True] * 4, 20)
    page.keyboard.press("Space")
    until(lambda: sorted(videos.evaluate_all(paused)), [False, True, True, True], 20)
    page.keyboard.press("a")
    until(lambda: videos.evaluate_all(paused), [False] * 4, 20)
    page.keyboard.press("a")
    until(lambda: videos.evaluate_all(paused), [True] * 4, 20)


def test_a_bulk_acceptance_shows_first_what_it_would_accept(room, sign_in):
    clips = clips_of(room, "accept.mp4")
    config = LabelConfig(("normal", "abnormal", "fight"), random=0.0)
    shares = np.array([[1 - p - 0.001, p, 0.001] for p in (0.99, 0.98, 0.97, 0.96, 0.3)], np.float32)
    refresh(room.store, [e.clip.id for e in clips], Prediction(shares, config.classes), "m/1", config)
    page = sign_in("rev3", role="reviewer")
    page.get_by_role("link", name="Review").click()
    page.get_by_text("Accept the model's predictions").click()
    page.get_by_text("abnormal: 4 clips, of which 4").wait_for()
    figures = page.locator("figure[data-clip]")
    shown = figures.evaluate_all("all => all.map(f => [f.dataset.clip, f.innerText.split(' ')[0]])")
    assert shown == [[e.clip.id, share] for e, share in zip(clips[3::-1], ("96", "97", "98", "99"), strict=True)]
    until(lambda: figures.locator("video").evaluate_all("all => all.every(v => v.readyState >= 2)"), True, 20)
    room.store.set_label(clips[0].clip.id, "normal", "a1", "human")
    page.get_by_role("button", name="Accept 4 predictions").click()
    page.get_by_text("Accept 3 predictions").wait_for()  # it has changed: looked at again before it is accepted
    accept, expected = page.get_by_role("button", name="Accept 3 predictions"), ["normal", *["abnormal"] * 3, None]

    def labels() -> list[str | None]:
        if accept.is_visible():  # a click that meets a redraw of Streamlit is lost: a person clicks again
            accept.click()
            page.wait_for_timeout(2000)  # each click begins the page anew: on a busy machine many would end none
        return [label_of(room, e) for e in clips]

    until(labels, expected, 30)
