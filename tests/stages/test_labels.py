"""The stages between the object store and the label store, on sets whose videos are many for one transaction."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from posewatch.artifact import Job, collect, produce
from posewatch.config import LabelConfig
from posewatch.digests import canonical
from posewatch.errors import LabelError
from posewatch.labels.formats.snapshot import read_parquet
from posewatch.stages import queue_clips as stage
from posewatch.stages.contents import SNAPSHOT, clip_entries
from posewatch.stages.label_gate import label_gate
from posewatch.stages.label_import import label_import
from posewatch.stages.queue_clips import queue_clips
from posewatch.stages.snapshot import snapshot
from posewatch.store import open_store


@pytest.fixture
def sets(tmp_path: Path, make_clips):
    """A store with sets of clips and of previews: five videos of four clips, the last video without previews."""
    store = open_store(str(tmp_path / "objects"))
    clips, previews, rows = [], [], []
    for name in "abcde":
        entries = make_clips(f"{name}.mp4")

        def clip_files(folder: Path, entries=entries) -> None:
            (folder / "clips.jsonl").write_text("".join(canonical(e.clip.to_dict()) + "\n" for e in entries))
            for e in entries:
                (folder / f"{e.clip.id}.mp4").write_bytes(b"mp4")

        def preview_files(folder: Path, entries=entries) -> None:
            for e in entries[1:]:
                (folder / f"{e.clip.id}.mp4").write_bytes(b"small")
            (folder / f"{entries[1].clip.id}.json").write_text("{}")

        video = entries[0].clip.video_id
        rows.append({"video": video, "names": [f"{name}.mp4"]})
        clips.append(produce(store, Job("clips", video, {}), clip_files))
        previews.append(produce(store, Job("previews", video, {}), preview_files))
    return store, collect(store, "split", rows, clips), collect(store, "preview", rows[:4], previews[:4])


def test_clips_are_queued_in_parts_with_their_previews(sets, store, monkeypatch):
    objects, clips, previews = sets
    monkeypatch.setattr(stage, "BATCH", 3)
    parts = []
    register = store.register
    monkeypatch.setattr(store, "register", lambda entries: parts.append(len(entries)) or register(entries))
    assert queue_clips(clips, store, previews) == 20
    assert parts == [3, 3, 3, 3, 3, 3, 2], "no transaction holds all clips"
    known = {e.clip.id: e for e in store.clips()}
    assert len(known) == 20
    for entry in clip_entries(clips, previews):
        found = known[entry.clip.id]
        assert found == entry
        assert objects.exists(found.key)
        assert found.preview is None or objects.exists(found.preview)
        assert found.skeleton is None or objects.exists(found.skeleton)
    assert sum(e.preview is not None for e in known.values()) == 4 * 3
    assert sum(e.skeleton is not None for e in known.values()) == 4
    assert queue_clips(clips, store) == 20
    assert sum(e.preview is not None for e in store.clips()) == 12, "a stage that makes none takes none away"


@pytest.mark.parametrize(("fps", "labelled"), [(None, 1), (12.0, 2)])
def test_label_studio_counts_24_frames_a_second_unless_somebody_says_otherwise(sets, store, tmp_path, fps, labelled):
    """Whatever the video's own are (10 here): its player knows none."""
    _, clips, _ = sets
    queue_clips(clips, store)
    region = {"type": "timelinelabels", "value": {"ranges": [{"start": 1, "end": 72}], "timelinelabels": ["abnormal"]}}
    task = {"data": {"video": "/data/upload/1/3f2a1b9c-a.mp4"}, "annotations": [{"result": [region]}]}
    (tmp_path / "export.json").write_text(json.dumps([task]))
    assert label_import(clips, str(tmp_path / "export.json"), store, LabelConfig(), fps)["set"] == labelled


@pytest.mark.parametrize("form", ["supervisely", "fiftyone"])
def test_others_count_the_masked_videos_frames(form, sets, store, tmp_path):
    """10 a second here: 72 frames are 7.2 s, in three clips. As Label Studio's 24 a second, it was one."""
    _, clips, _ = sets
    queue_clips(clips, store)
    files = {
        "supervisely": {
            **{key: [] for key in ("objects", "frames")},
            "framesCount": 80, "tags": [{"name": "abnormal", "frameRange": [0, 71]}],
        },
        "fiftyone": {"classes": ["abnormal"], "labels": {"a": [{"label": 0, "support": [1, 72]}]}},
    }  # fmt: skip
    (tmp_path / "a.mp4.json").write_text(json.dumps(files[form]))
    assert label_import(clips, str(tmp_path / "a.mp4.json"), store, LabelConfig())["set"] == 3


def test_the_gate_and_the_snapshot_know_the_clips_of_their_set_only(sets, store, tmp_path, make_clips):
    objects, clips, _ = sets
    queue_clips(clips, store)
    others = make_clips("z.mp4")
    store.register(others)
    mine = [e.clip.id for e in clip_entries(clips)]
    store.set_labels({mine[0]: "normal", mine[1]: "abnormal", others[0].clip.id: "abnormal"}, "ann", "human")
    config = LabelConfig(min_per_class=1)
    assert label_gate(clips, store, config) == {"normal": 1, "abnormal": 1}
    frozen = snapshot(objects, clips, store, config)
    rows = read_parquet(frozen.fetch(SNAPSHOT, tmp_path)).rows
    assert {row["clip_id"]: row["label"] for row in rows} == {mine[0]: "normal", mine[1]: "abnormal"}
    assert store.video_ids([mine[0], others[0].clip.id, "c-unknown"]) == {
        mine[0]: next(clip_entries(clips)).clip.video_id,
        others[0].clip.id: others[0].clip.video_id,
    }


def test_labels_do_not_pass_to_other_people_of_the_same_number(tmp_path: Path, store, make_clips):
    """Clips' ids name a person by number: masked with other settings, number 1 may be somebody else."""
    objects = open_store(str(tmp_path / "objects"))
    entries = make_clips("yard.mp4", 2, person=1)
    video = entries[0].clip.video_id

    def clips_of_masking(min_score: float, x: float):
        row = {
            "person": 1, "file": "person-0001.mp4", "first": 0, "frames": 1, "seen": 1, "begin_s": 0, "end_s": 0.1,
            "boxes": [[x, 0, x + 9, 9]],
        }  # fmt: skip

        def masking(folder: Path) -> None:
            (folder / "persons.json").write_text(canonical({"persons": [row]}))

        def cutting(folder: Path) -> None:
            (folder / "clips.jsonl").write_text("".join(canonical(e.clip.to_dict()) + "\n" for e in entries))

        masked = produce(objects, Job("masked", video, {"unit": "person", "min_score": min_score}), masking)
        cut = produce(objects, Job("clips", video, {}, (masked,)), cutting)
        return collect(objects, "split", [{"video": video, "names": ["yard.mp4"]}], [cut])

    assert queue_clips(clips_of_masking(0.2, 5), store) == 2
    assert queue_clips(clips_of_masking(0.3, 50), store) == 2, "nobody has labelled anything yet"
    store.set_label(entries[0].clip.id, "abnormal", "ann", "human")
    with pytest.raises(LabelError, match=r"yard.mp4 #1 was somebody else"):
        queue_clips(clips_of_masking(0.5, 90), store)
    assert queue_clips(clips_of_masking(0.3, 50), store) == 2, "the same person"
