"""Clips in a real S3 server: queued by the pipeline's component, played from presigned addresses."""

from __future__ import annotations

import io
import os
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("streamlit", reason="the labeling extra is not installed")

from labeling.conftest import encode, serve
from labeling.test_browser import CARDS, ready, saved, until, watch

from posewatch import alarms
from posewatch.artifact import Artifact, Job, collect, produce
from posewatch.digests import canonical
from posewatch.labels.store import LabelStore
from posewatch.labels.verdicts import current
from posewatch.records import Clip, clip_id, video_id
from posewatch.store import ObjectStore


def prepared(store: ObjectStore) -> tuple[Artifact, Artifact]:
    """Sets of clips and of skeletons as the stages write them: one video of four clips."""
    video = video_id("ab" * 32)
    clips = [Clip(clip_id(video, i, 1.0), video, float(i), 1.0, 10.0, 10, 160, 120, 1.0) for i in range(4)]

    def files(folder: Path) -> None:
        for i, clip in enumerate(clips):
            encode(folder / f"{clip.id}.mp4", i)
        (folder / "clips.jsonl").write_text("".join(canonical(c.to_dict()) + "\n" for c in clips))

    def poses(folder: Path) -> None:
        data = io.BytesIO()
        np.savez(data, **{c.id: np.full((1, 10, 17, 3), 0.5, np.float32) for c in clips})
        (folder / "skeletons.npz").write_bytes(data.getvalue())
        about = {"fps": 10.0, "width": 160, "height": 120, "layout": "coco17", "persons": {c.id: 1 for c in clips}}
        (folder / "skeletons.json").write_text(canonical(about))

    rows = [{"video": video, "names": ["yard.mp4"]}]
    clip_set = produce(store, Job("clips", video, {}), files)
    found = produce(store, Job("skeletons", video, {}, (clip_set,)), poses)
    return collect(store, "split", rows, [clip_set]), collect(store, "pose", rows, [found])


def alarm(store: ObjectStore, name: str) -> str:
    """A record of an alarm with a clip; its prefix."""
    began = datetime(2026, 3, 1, 9, 1 if name == "here" else 0, tzinfo=UTC)
    about = {"kind": "alarm", "id": name, "camera": "door", "began": began.isoformat(), "model": {}}

    def files(folder: Path) -> None:
        encode(folder / alarms.MASKED, 1)
        (folder / alarms.ABOUT).write_text(canonical(about))

    return produce(store, Job("alarms", "x", {}, fixed_prefix=alarms.key_of("door", began, name)), files).prefix


def test_the_component_queues_previews_that_play_from_s3(s3_store, servers, browse, tmp_path, monkeypatch):
    from components.queue_clips.component import queue_clips

    url = f"sqlite:///{tmp_path / 'labels.db'}"
    monkeypatch.setenv("POSEWATCH_LABELS_URL", url)
    monkeypatch.setenv("POSEWATCH_WORKERS", "1")
    clips, skeletons = prepared(s3_store)
    for _ in range(2):  # the second time nothing is created
        assert queue_clips.python_func(store=s3_store.uri, clips=clips.uri, skeletons=skeletons.uri) == 4
    store = LabelStore(url)
    assert all(e.preview.startswith("previews/") and e.skeleton.endswith(".json") for e in store.clips())
    env = {**os.environ, "POSEWATCH_USER": "ann", "HOME": str(tmp_path), "POSEWATCH_STORE": s3_store.uri}
    gone, here = (alarm(s3_store, name) for name in ("gone", "here"))
    address, process = serve(env, tmp_path / "log")
    try:
        frames: list[str] = []
        page = browse("about:blank")
        page.on("websocket", lambda ws: ws.on("framereceived", lambda data: frames.append(str(data))))
        page.goto(address)
        ready(page, 4)
        until(lambda: [row["ready"] >= 3 and not row["paused"] for row in watch(page)], [True] * 4)
        rows = watch(page)
        assert all(row["src"].startswith(servers.s3_endpoint) and row["error"] is None for row in rows)
        ranged = page.context.request.get(rows[0]["src"], headers={"Range": "bytes=0-99"})
        assert (ranged.status, len(ranged.body())) == (206, 100)
        assert page.context.request.get(rows[0]["src"].split("?")[0]).status == 403, "without the signature: nothing"
        page.keyboard.press("s")
        drawn = "c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some(x => x > 0)"
        until(lambda: page.locator(f"{CARDS} canvas").first.evaluate(drawn), True)
        page.keyboard.press("2")
        saved(page)
        until(lambda: len(store.current()), 1)
        page.goto(f"{address}/alarms")
        page.locator("article.alarm.focus[data-alarm=here]").wait_for()
        player = page.locator(".screens .screen:not([hidden]) video")
        until(lambda: player.evaluate("v => v.readyState >= 3 && !v.error"), True)
        assert player.evaluate("v => v.currentSrc").startswith(f"{servers.s3_endpoint}/")
        for item in s3_store.list(gone):  # its folder may stay, without an object
            s3_store.delete(item.key)
        page.keyboard.press("2")
        page.locator(".notice.bad", has_text="was deleted by retention").wait_for()
        until(lambda: [verdict.record for verdict in current(store).values()], [f"{s3_store.uri}/{here}"])
        assert frames
        assert not any(servers.secret_key in frame for frame in frames)
        assert servers.secret_key not in page.content()
    finally:
        process.terminate()
        process.wait(timeout=60)
        store.close()
