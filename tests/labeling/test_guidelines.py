"""The first visit, the guidelines with their examples, and comments, in a real browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from labeling.conftest import WORD, Server, behind_proxy, make_clips
from labeling.test_browser import CARDS, card, open_video, ready, saved, until

from posewatch.config import load
from posewatch.labels.notes import comments, examples
from posewatch.labels.store import LabelStore
from posewatch.labels.team import audit, roles

TEXTS = """extends: default
labels:
  classes: [normal, abnormal, self-harm]
  sensitive: [self-harm]
  claim_s: 0.5
  guide:
    normal: {text: "Walks, sits, talks."}
    abnormal: {text: "%s", examples: [%s]}
"""


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("guide")
    clips = make_clips(folder / "objects", {"hall.mp4": 5})
    store = LabelStore(f"sqlite:///{folder / 'labels.db'}")
    store.register(clips)
    yield from behind_proxy(folder, store, clips, TEXTS % ("Hits and kicks.", clips[1].clip.id))


@pytest.fixture
def sign_in(room: Server, browse: Callable[..., Any]) -> Callable[..., Any]:
    """Opens the page at the queue for a person who gets a role."""

    def go(who: str, role: str = "labeler", **kwargs: Any) -> Any:
        roles.set_role(room.store, who, role, "operator")
        headers = {"kubeflow-userid": who, "x-posewatch-proxy-secret": WORD}
        page = browse(room.url, extra_http_headers=headers, **kwargs)
        page.set_default_timeout(30_000)
        return ready(page)

    return go


def at_video(page: Any) -> None:
    at = "document.posewatchGrids.map((grid) => grid.data.queued)"

    def opened() -> Any:
        if page.evaluate(at) != [False]:  # a click that meets a redraw of Streamlit is lost: a person clicks again
            open_video(page, "hall.mp4")
            page.wait_for_timeout(800)
        return page.evaluate(at)

    until(opened, [False])


def axe(page: Any, where: str) -> None:
    run = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed").Axe().run

    def found() -> list[tuple[str, str]]:
        violations = run(page, options={"resultTypes": ["violations"]}).response["violations"]
        return [(v["id"], n["html"][:120]) for v in violations for n in v["nodes"]]

    for _ in range(3):  # Streamlit pales what it draws again
        if not found():
            return
        page.wait_for_timeout(700)
    assert found() == [], where


def plays(page: Any, where: str) -> None:
    page.wait_for_selector(f"{where} video")
    moving = "all => all.length && all.every(v => v.readyState >= 2 && !v.error && v.currentTime > 0)"
    until(lambda: page.locator(f"{where} video").evaluate_all(moving), True, 20)


VISITS = [("en-US", "light", "Start labeling", "softened"), ("ko-KR", "dark", "라벨링 시작", "흐리게 표시합니다")]


@pytest.mark.parametrize(("locale", "scheme", "start", "hidden"), VISITS)
def test_the_first_visit_explains_itself_and_what_is_hidden(sign_in, locale, scheme, start, hidden):
    page = sign_in(f"new {locale}", first=True, locale=locale, color_scheme=scheme)
    dialog = page.locator("dialog.over")
    for text in ("1 normal · 2 abnormal · 3 self-harm", "Hits and kicks.", "Walks, sits, talks.", hidden):
        dialog.get_by_text(text).wait_for()
    until(page.locator("#posewatch-first").count, 0)  # Streamlit has taken the page over, and the dialog with it
    assert dialog.evaluate("box => box.matches(':modal')")
    plays(page, "dialog .class")
    axe(page, locale)
    blurred = "getComputedStyle(document.posewatchGrids.at(-1).cards.querySelector('video')).filter"
    assert "blur" in page.evaluate(blurred)
    page.keyboard.press("1")
    assert page.evaluate("document.posewatchGrids.at(-1).outbox.acts.length") == 0, "no key reaches the clips behind"
    dialog.locator("input[value=sharp]").check()
    assert page.evaluate(blurred) == "none"
    dialog.locator("input[value=soft]").check()
    assert "blur" in page.evaluate(blurred)
    page.get_by_role("button", name=start).click()
    dialog.wait_for(state="hidden")
    veil = page.locator(".veil")
    assert "v" in veil.inner_text()  # what to press
    veil.get_by_role("button").click()
    veil.wait_for(state="hidden")
    page.reload()
    ready(page)
    page.wait_for_timeout(300)
    assert not dialog.is_visible(), "once"
    assert not veil.is_visible()


def test_guidelines_are_on_the_button_in_help_and_told_when_they_change(room, sign_in):
    page = sign_in("ann", first=True)
    page.keyboard.press("Escape")
    button, tip = page.locator("button.brush", has_text="abnormal"), page.locator(".popover")
    button.hover()
    tip.get_by_text("Hits and kicks.").wait_for()
    plays(page, ".popover")
    assert button.get_attribute("aria-describedby") == tip.get_attribute("id")
    tip.hover()
    page.wait_for_timeout(600)
    assert tip.is_visible(), "the pointer can go onto it"
    axe(page, "popover")
    page.keyboard.press("Escape")
    assert not tip.is_visible()
    page.mouse.move(5, 5)
    page.locator("button.brush", has_text="normal").first.focus()
    page.keyboard.press("Tab")  # by keyboard, to "abnormal"
    tip.get_by_text("Hits and kicks.").wait_for()
    page.keyboard.press("2")
    for key, title in (("h", "Keys"), ("g", "Guidelines")):
        page.keyboard.press("Escape")
        page.keyboard.press(key)
        page.locator("dialog").get_by_role("heading", name=title).first.wait_for()
        page.locator("dialog").get_by_text("Hits and kicks.").wait_for()
        axe(page, title)
    page.keyboard.press("g")
    saved(page)
    (room.log.parent / "team.yaml").write_text(TEXTS % ("Hits, kicks and falls.", room.clips[1].clip.id))
    page.reload()
    page.get_by_text("The guidelines have changed since your last visit.").wait_for()
    page.locator(".notice").get_by_role("button", name="Guidelines").click()
    page.locator("dialog").get_by_text("Hits, kicks and falls.").wait_for()


def test_a_comment_is_seen_in_review_and_a_lead_makes_an_example(room, sign_in):
    one, two = room.clips[2], room.clips[3]
    for who, label in (("a1", "normal"), ("a2", "abnormal")):
        room.store.set_labels({two.clip.id: label}, who, "human")
    page = sign_in("cem")
    at_video(page)
    card(page, two).locator(".about").click()
    page.keyboard.press("c")
    box = page.locator("dialog textarea")
    box.fill("look at 0.5 s")
    page.keyboard.press("Escape")
    page.keyboard.press("c")
    assert box.input_value() == "look at 0.5 s", "what was not saved is still there"
    page.locator("dialog button", has_text="example").wait_for(state="hidden")  # a labeler makes none
    # half of an emoji, as a paste or the limit of the field leaves it
    box.evaluate("box => { box.value += ' \\ud83d'; box.dispatchEvent(new Event('input')); }")
    box.press("Control+Enter")
    page.locator("dialog .comments").get_by_text("look at 0.5 s \ufffd").wait_for()
    axe(page, "comments")
    page.keyboard.press("Escape")
    saved(page)
    said = comments(room.store, [two.clip.id])[two.clip.id]
    assert [(c.who, c.text) for c in said] == [("cem", "look at 0.5 s \ufffd")]
    until(lambda: card(page, two).locator(".talk").inner_text().strip(), "1", 20)

    lead = sign_in("lead", role="reviewer")
    lead.get_by_role("link", name="Review").click()
    card(lead, two).get_by_text("look at 0.5 s").wait_for()
    card(lead, two).locator(".about").click()
    lead.keyboard.press("2")
    until(lead.locator(CARDS).count, 0)
    lead.get_by_role("link", name="Label").click()
    ready(lead)
    at_video(lead)
    card(lead, one).locator(".about").click()
    lead.keyboard.press("c")
    lead.locator("dialog textarea").wait_for()
    assert not lead.get_by_role("button", name="Make this an example").is_visible(), "it has no label yet"
    lead.keyboard.press("Escape")
    card(lead, two).locator(".about").click()
    lead.keyboard.press("c")
    lead.get_by_role("button", name="Make this an example of abnormal").click()
    lead.get_by_role("button", name="No longer an example of abnormal").wait_for()
    config = load(str(room.log.parent / "team.yaml")).labels
    assert examples(room.store, config)["abnormal"] == [room.clips[1].clip.id, two.clip.id]
    lead.keyboard.press("Escape")
    lead.keyboard.press("g")
    until(lead.locator("dialog .class video").count, 2)
    acts = [(row["who"], row["act"], row["new"]) for row in audit.trail(room.store) if row["clip_id"] == two.clip.id]
    assert ("lead", "example", "abnormal") in acts
