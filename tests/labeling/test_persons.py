"""The page with clips of single persons, in a real browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from labeling.conftest import Server, make_clips, person_clips, serve
from labeling.test_browser import CARDS, card, open_video, ready, saved, until
from labeling.test_guidelines import axe

from posewatch.config import LabelConfig
from posewatch.labels.active import refresh
from posewatch.labels.store import LabelStore
from posewatch.labels.team import roles
from posewatch.records import Prediction


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("yard")
    clips = person_clips(folder / "objects", {"yard.mp4": {1: 3, 2: 3, 3: 1}})
    broken = next(e for e in clips if e.clip.person == 3)
    (folder / "objects" / broken.key).write_bytes(b"no video at all")
    store = LabelStore(f"sqlite:///{folder / 'labels.db'}")
    store.register(clips)
    roles.set_role(store, "ann", "admin", "operator")
    env = {"POSEWATCH_LABELS_URL": store.url, "POSEWATCH_USER": "ann", "HOME": str(folder)}
    url, process = serve(env, folder / "server.log")
    yield Server(url, store, clips, process, folder / "server.log")
    process.terminate()
    process.wait(timeout=60)
    store.close()


def at_video(page: Any) -> Any:
    """Open the video from the list, and wait for its grid; ``page`` again."""
    at = "document.posewatchGrids.map((grid) => grid.data.queued)"

    def opened() -> Any:
        if page.evaluate(at) != [False]:  # a click that meets a redraw of Streamlit is lost: a person clicks again
            open_video(page, "yard.mp4")
            page.wait_for_timeout(800)
        return page.evaluate(at)

    until(opened, [False])
    return page


@pytest.fixture
def page(yard: Server, browse: Callable[..., Any]) -> Any:
    """The page at the video."""
    return at_video(ready(browse(yard.url), 7))


def of(yard: Server, person: int, number: int) -> Any:
    return next(e for e in yard.clips if (e.clip.person, e.clip.start_s) == (person, float(number)))


def shown(page: Any) -> list[str]:
    return [text.partition(" · yard")[0] for text in page.locator(f"{CARDS} .about").all_inner_texts()]


def test_the_scene_around_a_person_and_everybody_at_a_moment(yard, page):
    assert shown(page)[:4] == ["#1 · 0.0–1.0 s", "#2 · 0.0–1.0 s", "#3 · 0.0–1.0 s", "#1 · 1.0–2.0 s"]
    card(page, of(yard, 2, 0)).locator(".about").click()
    page.keyboard.press("w")
    page.get_by_role("heading", name="Whole scene · yard.mp4 #2 0.0–1.0 s").wait_for()
    scene = page.locator(".scene")
    moving = "all => all.filter(v => v.readyState >= 2 && !v.error && v.currentTime > 0).length"
    until(lambda: scene.locator("video").evaluate_all(moving), 2, 20)
    assert scene.locator(".other").count() == 2
    painted = """c => c.width ? [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]
      .filter((v, i) => i % 4 === 3 && v).length : 0"""
    until(lambda: scene.locator("canvas.outline").evaluate(painted) > 50, True, 20)
    page.keyboard.press("2")
    axe(page, "scene")
    page.keyboard.press("w")
    scene.wait_for(state="detached")
    saved(page)
    assert yard.store.current() == {}, "no key labels a clip behind the scene"

    card(page, of(yard, 2, 0)).locator(".about").click()
    page.keyboard.press("m")
    page.get_by_text("Everybody at 0.0–1.0 s · persons: 3").wait_for()
    until(lambda: shown(page), [f"#{p} · 0.0–1.0 s" for p in (1, 2, 3)], 20)
    assert page.locator(f"{CARDS}.focus").get_attribute("data-clip") == of(yard, 2, 0).clip.id
    seen = "[...document.posewatchGrids.at(-1).views.values()].filter((view) => view.seen).length"
    until(lambda: page.evaluate(seen), 2, 20)
    axe(page, "moment")
    page.get_by_role("button", name="Everybody here is normal").click()
    page.get_by_text("2 clips labelled normal. 1 left").wait_for()
    saved(page)
    found = yard.store.current()
    assert {e.source for e in found.values()} == {"bulk"}
    assert set(found) == {of(yard, p, 0).clip.id for p in (1, 2)}, "what does not play is left"
    assert len({e.batch for e in found.values()}) == 1
    page.keyboard.press("z")
    until(yard.store.current, {}, 20)

    page.keyboard.press("n")
    until(lambda: shown(page), [f"#{p} · 1.0–2.0 s" for p in (1, 2)], 20)
    page.keyboard.press("2")
    saved(page)
    until(lambda: {c: e.new for c, e in yard.store.current().items()}, {of(yard, 1, 1).clip.id: "abnormal"}, 20)
    page.keyboard.press("Escape")
    until(page.locator(CARDS).count, 7, 20)
    assert page.locator(f"{CARDS}.focus").get_attribute("data-clip") == of(yard, 2, 0).clip.id, "where one came from"
    page.keyboard.press("z")
    page.get_by_text("Undone: abnormal → no label · yard.mp4 #1 1.0–2.0 s").wait_for()

    card(page, of(yard, 2, 1)).locator(".about").click()
    page.keyboard.press("x")
    page.get_by_role("heading", name="Before and after · yard.mp4 #2 1.0–2.0 s").wait_for()
    until(page.locator("dialog figure").count, 3)  # this person's clips only


def test_review_names_the_person(yard, page):
    clip = of(yard, 2, 2)
    for who, label in (("a1", "normal"), ("a2", "abnormal")):
        yard.store.set_labels({clip.clip.id: label}, who, "human")
    page.get_by_role("link", name="Review").click()
    until(lambda: shown(page), ["#2 · 2.0–3.0 s"], 20)
    page.keyboard.press("w")
    page.get_by_role("heading", name="Whole scene · yard.mp4 #2 2.0–3.0 s").wait_for()


def test_with_scenes_beside_them_find_and_acceptance_show_the_experiments_unit(yard, browse):
    persons = [entry.clip.id for entry in yard.clips]
    scenes = make_clips(yard.log.parent / "objects", {"yard.mp4": 2})
    yard.store.register(scenes)  # the experiment's unit is the scene: from now on the persons are left out
    config = LabelConfig(random=0.0)
    for some, version in (([e.clip.id for e in scenes], "m/scene"), (persons, "m/person")):
        shares = np.tile(np.array([0.02, 0.98], np.float32), (len(some), 1))
        refresh(yard.store, some, Prediction(shares, config.classes), version, config)
    page = browse(f"{yard.url}/find?clip={persons[0]}")
    page.get_by_text("2 clips").wait_for()
    ids = page.locator(CARDS).evaluate_all("all => all.map(c => c.dataset.clip)")
    assert sorted(ids) == sorted(e.clip.id for e in scenes)
    page.get_by_text("clips of whole scenes").wait_for()
    page.get_by_role("link", name="Review").click()
    page.get_by_text("Accept the model's predictions").click()
    page.get_by_role("button", name="Accept 2 predictions").wait_for()
