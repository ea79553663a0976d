"""The page with clips of single persons, in a real browser."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from labeling.conftest import WORD, Server, behind_proxy, make_clips, person_clips, serve
from labeling.test_browser import CARDS, card, open_video, ready, saved, until
from labeling.test_guidelines import axe

from posewatch.artifact import Job, produce
from posewatch.config import LabelConfig
from posewatch.labels.active import refresh
from posewatch.labels.entries import ClipEntry
from posewatch.labels.store import LabelStore
from posewatch.labels.team import audit, roles
from posewatch.records import Clip, Prediction, clip_id, video_id
from posewatch.store import open_store


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


def cropped(folder: Path) -> list[ClipEntry]:
    """Two clips of one second of each of two people, as crops that follow them, with all that they were made of.

    The raw video is green, the masked one black; person 1 is red and goes right, person 2 blue and goes left.
    """
    av = pytest.importorskip("av")
    store, side, size = open_store(str(folder)), 64, (160, 120)
    boxes = {p: [[x, 30.0, x + 20, 90.0] for x in xs] for p, xs in {1: range(10, 50, 2), 2: range(130, 90, -2)}.items()}
    views = {p: [[box[0] + 10, 60.0, 80.0] for box in rows] for p, rows in boxes.items()}

    def film(path: Path, at: range, back: tuple[int, int, int], of: Any, crop: int | None = None) -> None:
        with av.open(str(path), "w", options={"movflags": "+faststart"}) as out:
            stream = out.add_stream("libx264", rate=10)
            stream.width, stream.height = (side, side) if crop else size
            stream.pix_fmt, stream.thread_count = "yuv420p", 1
            for t in at:
                picture = np.zeros((120, 160, 3), np.uint8) + np.array(back, np.uint8)
                for p in of:
                    x1, y1, x2, y2 = map(int, boxes[p][t])
                    picture[y1:y2, x1:x2] = (200, 40, 40) if p == 1 else (40, 40, 200)
                if crop:
                    x, y, span = views[crop][t]
                    scale = side / span
                    matrix = np.array([[scale, 0, side / 2 - scale * x], [0, scale, side / 2 - scale * y]])
                    picture = cv2.warpAffine(picture, matrix, (side, side))
                out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            out.mux(stream.encode())

    name, whole = video_id("0" * 64), range(20)
    raw = produce(store, Job("raw", name, {}), lambda to: film(to / "video.mp4", whole, (0, 90, 0), (1, 2)))

    def mask(to: Path) -> None:
        film(to / "masked.mp4", whole, (0, 0, 0), (1, 2))
        rows = [
            {"person": p, "file": f"person-{p:04d}.mp4", "first": 0, "frames": 20, "seen": 20, "begin_s": 0.0,
             "end_s": 2.0, "boxes": boxes[p], "views": views[p]} for p in boxes
        ]  # fmt: skip
        (to / "persons.json").write_text(json.dumps({"persons": rows}))
        (to / "report.json").write_text(json.dumps({"fps": 10.0, "frames": 20, "width": 160, "height": 120}))

    masked = produce(store, Job("masked", name, {}, (raw,)), mask)
    clips = [
        Clip(clip_id(name, i, 1.0, p), name, float(i), 1.0, 10.0, 10, side, side, 1.0, p) for i in (0, 1) for p in boxes
    ]

    def split(to: Path) -> None:
        for clip in clips:
            first = int(10 * clip.start_s)
            film(to / f"{clip.id}.mp4", range(first, first + 10), (0, 0, 0), [clip.person], clip.person)
            (to / f"{clip.id}.json").write_text(
                json.dumps({"w": side, "h": side, "fps": 10.0, "frames": [[[32, 32, 90] * 17]] * 10})
            )

    cut = produce(store, Job("clips", name, {}, (masked,)), split)
    keys = {clip.id: f"{cut.prefix}/{clip.id}" for clip in clips}
    return [ClipEntry(c, ("gate.mp4",), f"{keys[c.id]}.mp4", store.uri, skeleton=f"{keys[c.id]}.json") for c in clips]


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Cropped clips, and an experiment whose reviewers may see the unmasked video."""
    folder = tmp_path_factory.mktemp("gate")
    clips = cropped(folder / "objects")
    store = LabelStore(f"sqlite:///{folder / 'labels.db'}")
    store.register(clips)
    for who, role in (("ann", "reviewer"), ("bob", "labeler")):
        roles.set_role(store, who, role, "operator")
    yield from behind_proxy(
        folder, store, clips, "mask: {unit: person, view: crop}\nlabels: {raw_scene: reviewer}\ntrain: {people: 1}\n"
    )


COLOURS = """box => { const [v, canvas] = [box.querySelector('video'), document.createElement('canvas')];
  if (v.readyState < 2) return '';
  [canvas.width, canvas.height] = [v.videoWidth, v.videoHeight];
  const pen = canvas.getContext('2d'); pen.drawImage(v, 0, 0);
  const data = pen.getImageData(0, 0, canvas.width, canvas.height).data;
  const found = {red: 0, green: 0, blue: 0};
  for (let i = 0; i < data.length; i += 4) {
    const [r, g, b] = data.slice(i, i + 3);
    if (r > 130) found.red++; else if (b > 130) found.blue++; else if (g > 60) found.green++;
  }
  return Object.entries(found).filter(([, n]) => n > 200).map(([name]) => name).join(' '); }"""
"""The colours that the playing video of a scene shows."""
YELLOW = """c => { const data = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; const xs = [];
  for (let i = 0; i < data.length; i += 4) {
    const [r, g, b, a] = data.slice(i, i + 4);
    if (r > 200 && g > 160 && b < 140 && a > 200) xs.push((i / 4) % c.width);
  }
  return xs.length ? [Math.min(...xs), Math.max(...xs)] : null; }"""
"""Where the yellow outline is: its leftmost and rightmost pixel."""


def test_a_crop_is_shown_in_its_scene_and_whoever_may_see_it_the_unmasked_one(gate, browse):
    of_second = [e for e in gate.clips if e.clip.start_s == 1.0]
    one = next(e for e in of_second if e.clip.person == 1)

    def opened(who: str) -> Any:
        headers = {"kubeflow-userid": who, "x-posewatch-proxy-secret": WORD}
        page = ready(browse(f"{gate.url}/?clip={one.clip.id}", extra_http_headers=headers), 4)
        card(page, one).locator(".about").click()
        return page

    page = opened("ann")
    page.keyboard.press("w")
    page.get_by_role("heading", name="Whole scene · gate.mp4 #1 1.0–2.0 s").wait_for()
    scene = page.locator(".scene")
    until(lambda: scene.evaluate(COLOURS), "red blue", 20)
    playing = "v => v.currentTime >= 0.95 && v.currentTime <= 2.05"
    until(lambda: scene.locator("video").evaluate(playing), True, 20)
    # from frame 10 to 19 the person goes from 30 to 48: the box is there and nowhere else
    outline = scene.locator("canvas.outline")
    until(lambda: bool(outline.evaluate(YELLOW)), True, 20)
    left, right = outline.evaluate(YELLOW)
    assert 28 <= left <= 50
    assert 16 <= right - left <= 24, "one box"
    assert [row for row in audit.trail(gate.store) if row["act"] == "raw"] == []
    axe(page, "cropped scene")
    page.keyboard.press("r")
    page.get_by_role("heading", name="Unmasked video · gate.mp4 #1 1.0–2.0 s").wait_for()
    until(lambda: scene.evaluate(COLOURS), "red green blue", 20)
    until(lambda: bool(outline.evaluate(YELLOW)), True, 20)
    looks = [(row["act"], row["who"], row["clip_id"]) for row in audit.trail(gate.store) if row["act"] == "raw"]
    assert looks == [("raw", "ann", one.clip.id)]
    page.keyboard.press("Escape")
    scene.wait_for(state="detached")

    page.keyboard.press("m")
    page.get_by_text("Everybody at 1.0–2.0 s · persons: 2").wait_for()
    until(lambda: shown(page), [f"#{p} · 1.0–2.0 s · gate.mp4" for p in (1, 2)], 20)
    page.keyboard.press("w")
    until(lambda: scene.evaluate(COLOURS), "red blue", 20)

    page.keyboard.press("Escape")
    page.keyboard.press("s")
    page.keyboard.press("f")
    painted = "c => c.getContext('2d').getImageData(32, 32, 1, 1).data[3]"
    closer = page.locator(".closer > .screen")
    until(lambda: closer.locator("video").evaluate("v => v.readyState >= 2 && v.videoWidth"), 64, 20)
    until(lambda: closer.locator("canvas").evaluate(painted), 255, 20)

    page = opened("bob")
    page.keyboard.press("w")
    page.get_by_role("heading", name="Whole scene · gate.mp4 #1 1.0–2.0 s").wait_for()
    until(lambda: page.locator(".scene").evaluate(COLOURS), "red blue", 20)
    assert page.get_by_role("button", name="Unmasked video").count() == 0
    page.evaluate(f"""document.posewatchGrids.at(-1)
      .act({{ kind: "context", clip: "{one.clip.id}", scene: true, raw: true }})""")
    saved(page)
    until(lambda: page.locator(".scene").evaluate(COLOURS), "red blue", 20)
    assert len([row for row in audit.trail(gate.store) if row["act"] == "raw"]) == 1


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

    def scenes_only() -> int:
        """A server on a busy machine may answer from a count that it made before there were scenes."""
        page.reload()
        page.locator(CARDS).first.wait_for()
        return page.get_by_text("2 clips").count()

    until(scenes_only, 1)
    ids = page.locator(CARDS).evaluate_all("all => all.map(c => c.dataset.clip)")
    assert sorted(ids) == sorted(e.clip.id for e in scenes)
    page.get_by_text("clips of whole scenes").wait_for()
    page.get_by_role("link", name="Review").click()
    page.get_by_text("Accept the model's predictions").click()
    page.get_by_role("button", name="Accept 2 predictions").wait_for()
