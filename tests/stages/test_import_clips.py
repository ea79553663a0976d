"""Masked videos and clips as the paper's tools leave them, through the import, with their labels, to a dataset."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest

from posewatch.config import LabelConfig, PoseConfig, SplitConfig
from posewatch.errors import InputError, LabelError
from posewatch.labels.formats import paper
from posewatch.perception.persons import read_persons
from posewatch.stages.contents import clips_of, clips_unit, videos_of
from posewatch.stages.import_clips import import_clips, names_of
from posewatch.stages.label_import import label_import
from posewatch.stages.pose import pose
from posewatch.stages.queue_clips import queue_clips
from posewatch.stages.split import split
from posewatch.store import FolderStore

SIZE = (64, 48)
CONFIG = LabelConfig(classes=("normal", "falldown"), positive="falldown")


def masked_file(path: Path, frames: int, shade: int, fps: int = 30, lit: range | None = None) -> None:
    """A video in MPEG-4 part 2 as OpenCV's mp4v writes it: a rectangle that moves on black."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=fps)
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        for t in range(frames):
            image = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
            if lit is None or t in lit:
                image[10:40, 10 + t // 4 : 26 + t // 4] = shade
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        out.mux(stream.encode())


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Clips of 10 frames: of two persons of hall, one of whose clips is missing, and one person of the yard."""
    root = tmp_path_factory.mktemp("paper")
    for name, shade in (("hall_0_0", 90), ("hall_0_1", 110), ("hall_1_0", 130), ("hall_1_2", 150), ("yard_0_0", 170)):
        masked_file(root / "output" / f"{name}.mp4", 10, shade)
    masked_file(root / "persons/hall_0.mp4", 25, 90)
    masked_file(root / "persons/hall_1.mp4", 12, 130, lit=range(2, 9))
    (root / "label_map.txt").write_text("normal\nfalldown\n")
    return root


@pytest.fixture
def imported(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("POSEWATCH_WORKERS", "1")
    store = FolderStore(tmp_path / "objects")
    masked, fps = import_clips(store, str(folder / "output"), clip_frames=10)
    return store, masked, split(store, masked, SplitConfig(length_s=10 / fps))


def test_the_source_video_is_the_group_and_each_person_is_one(imported, folder):
    store, masked, clips = imported
    (hall, yard) = videos_of(masked)
    assert (hall.names, yard.names) == (("hall",), ("yard",))
    assert clips_unit(clips) == "person"
    persons = read_persons(hall.artifact.json("persons.json"))
    assert [(p.person, p.frames, p.seen) for p in persons] == [(1, 20, 20), (2, 30, 20)], "a missing clip is black"
    box = persons[0].boxes[0]
    assert np.abs(np.array(box) - (10, 10, 26, 40)).max() <= 3, "where the picture is lit"
    rows = [clip for item in videos_of(clips) for clip in clips_of(item.artifact)]
    assert {clip.video_id for clip in rows} == {hall.video, yard.video}
    assert {(c.person, round(c.start_s * 30)) for c in rows if c.video_id == hall.video} >= {
        (1, 0),
        (1, 10),
        (2, 0),
        (2, 20),
    }
    names = names_of(clips)
    assert {"hall_0_0", "hall_0_1", "hall_1_0", "hall_1_2", "yard_0_0"} <= set(names)
    again, _ = import_clips(store, str(folder / "output"), clip_frames=10)
    assert again.uri == masked.uri, "the same files are the same artifacts"


def test_whole_masked_videos(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("POSEWATCH_WORKERS", "1")
    masked, fps = import_clips(FolderStore(tmp_path / "objects"), str(folder / "persons"), clip_frames=10)
    told = capsys.readouterr().err
    assert "30 frames per second, as the files say: the paper's tools write that whatever the source had" in told
    assert "names are read as <video>_<person>: 1 source video" in told
    (hall,) = videos_of(masked)
    persons = read_persons(hall.artifact.json("persons.json"))
    assert [(p.frames, p.seen) for p in persons] == [(25, 25), (12, 7)]
    assert persons[1].boxes[0] is None
    assert hall.artifact.json("report.json")["frames"] == 25
    assert fps == 30
    _, given = import_clips(FolderStore(tmp_path / "objects"), str(folder / "persons"), fps=12.5)
    assert given == 12.5


def test_files_that_do_not_go(folder, tmp_path):
    masked_file(tmp_path / "a/one.mp4", 8, 90)
    store = FolderStore(tmp_path / "objects")
    with pytest.raises(InputError, match=r"1 file not named <video>_<person>: one\.mp4 \(say what the numbers count"):
        import_clips(store, str(tmp_path / "a"))
    masked_file(tmp_path / "b/x_0.mp4", 8, 90)
    masked_file(tmp_path / "b/x_1.mp4", 8, 90, fps=25)
    with pytest.raises(InputError, match=r"the files have 25, 30 frames per second: give one rate with --fps"):
        import_clips(store, str(tmp_path / "b"))


def output_data(path: Path, labels: dict[str, list[int]]) -> Path:
    rows = [{"video_name": f"{n}.mp4", "total_frames": 10 * len(k) + 4, "label": k} for n, k in labels.items()]
    data = {"video_list": [f"{n}.mp4" for n in labels], "clip_size": 10, "label_list": rows}
    path.write_text(json.dumps(data, indent=4))
    return path


def test_labels_name_clips_and_the_rest_is_counted(imported, sqlite_store, folder, tmp_path, capsys):
    _, _, clips = imported
    queue_clips(clips, sqlite_store)
    names = names_of(clips)
    path = tmp_path / "label.csv"
    path.write_text("hall_0_0.mp4, normal\nhall_1_2.mp4, falldown\ngone_0_0.mp4, normal\n")
    report = label_import(clips, str(path), sqlite_store, CONFIG)
    assert report == {"set": 2, "unchanged": 0, "unlabelled": len(names) - 2, "kept": 0, "without_clip": 1}
    current = {clip: event.new for clip, event in sqlite_store.current().items()}
    assert current == {names["hall_0_0"]: "normal", names["hall_1_2"]: "falldown"}
    told = capsys.readouterr().err
    assert "1 row of the labels without a clip: gone_0_0" in told
    assert "writes the first class for a clip that nobody looked at, too" in told
    path.write_text("gone_0_0.mp4, normal\n")
    with pytest.raises(LabelError, match="1 row of the labels without a clip: gone_0_0"):
        label_import(clips, str(path), sqlite_store, CONFIG)


def test_untouched_videos_are_unlabelled(imported, sqlite_store, folder, tmp_path, capsys):
    """The zeros behind the last video with another class; the option says otherwise."""
    _, _, clips = imported
    queue_clips(clips, sqlite_store)
    names = names_of(clips)
    (tmp_path / "label_map.txt").write_text("normal\nfalldown\n")
    output_data(tmp_path / "output_data.json", {"hall_0": [0, 0, 0], "hall_1": [0, 0, 1], "yard_0": [0]})
    (tmp_path / "label.csv").write_text("yard_0_0.mp4,normal\n")
    report = label_import(clips, str(tmp_path), sqlite_store, CONFIG)
    current = {clip: event.new for clip, event in sqlite_store.current().items()}
    assert current[names["hall_1_2"]] == "falldown"
    assert current[names["hall_0_0"]] == "normal"
    assert names["yard_0_0"] not in current
    assert report["unlabelled"] >= 1
    told = capsys.readouterr().err
    assert (
        "output_data.json: 1 clip unlabelled: they are 'normal' in the 1 video behind the last one with another" in told
    )
    read = {z: paper.read(tmp_path / "output_data.json", CONFIG, z, lambda _: None) for z in ("touched", "all", "none")}
    assert {z: (len(n.labels), n.unlabelled) for z, n in read.items()} == {
        "touched": (6, 1),
        "all": (7, 0),
        "none": (1, 6),
    }


def test_clips_that_were_ingested_as_videos_take_labels_too(sqlite_store, sets_of_videos, tmp_path):
    clips, names = sets_of_videos
    queue_clips(clips, sqlite_store)
    (tmp_path / "label.csv").write_text("".join(f"{n}.mp4, {'falldown' if n == 'a_0' else 'normal'}\n" for n in names))
    report = label_import(clips, str(tmp_path / "label.csv"), sqlite_store, CONFIG)
    assert report["set"] == 8
    (tmp_path / "label.csv").write_text("zzz_0.mp4, normal\n")
    with pytest.raises(
        LabelError, match=r"names a video of this set: bring the clips in with `posewatch import-clips`"
    ):
        label_import(clips, str(tmp_path / "label.csv"), sqlite_store, CONFIG)


@pytest.fixture
def sets_of_videos(tmp_path, make_clips):
    from posewatch.artifact import Job, collect, produce
    from posewatch.digests import canonical

    store, made, rows = FolderStore(tmp_path / "objects"), [], []
    for name in ("a_0", "b_0"):
        entries = make_clips(f"{name}.mp4")
        masked = produce(
            store, Job("masked", entries[0].clip.video_id, {}), lambda folder: (folder / "x").write_text("")
        )

        def files(folder: Path, entries=entries) -> None:
            (folder / "clips.jsonl").write_text("".join(canonical(e.clip.to_dict()) + "\n" for e in entries))
            for e in entries:
                (folder / f"{e.clip.id}.mp4").write_bytes(b"mp4")

        rows.append({"video": entries[0].clip.video_id, "names": [f"{name}.mp4"]})
        made.append(produce(store, Job("clips", entries[0].clip.video_id, {}, (masked,)), files))
    return collect(store, "split", rows, made), ("a_0", "b_0")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a_0": [0, 3]}, r"video 1 \(a_0\.mp4\): class 3 is none of the 2 of label_map\.txt: normal, falldown"),
        ({"a_0": [0, 0]}, "no clip has another class than 'normal': --zeros all"),
        ({"a_0": ["x"]}, "video 1 needs a video_name, and a label for each clip as a number"),
    ],
)
def test_output_data_that_does_not_go(tmp_path, content, message):
    (tmp_path / "label_map.txt").write_text("normal\nfalldown\n")
    path = output_data(tmp_path / "output_data.json", content)
    with pytest.raises(LabelError, match=message):
        paper.read(path, CONFIG, "touched", lambda _: None)
    (tmp_path / "label_map.txt").unlink()
    with pytest.raises(LabelError, match=r"put the label_map\.txt that names them beside it"):
        paper.read(path, CONFIG, "touched", lambda _: None)


def test_other_label_files_are_not_taken_for_theirs(tmp_path):
    (tmp_path / "labels.csv").write_text("file,start_s,end_s,label\na.mp4,0,1,normal\n")
    (tmp_path / "tasks.json").write_text("[]")
    (tmp_path / "clips.csv").write_text("clip_id,label\nc-1,normal\n")
    assert [paper.find(tmp_path / n) for n in ("labels.csv", "tasks.json", "clips.csv")] == [None] * 3
    assert paper.find(tmp_path) is None


def test_skeletons_come_from_the_persons_videos(imported):
    from posewatch.stages.contents import skeletons_of
    from posewatch.stages.pose import pose

    pytest.importorskip("ai_edge_litert")
    store, _, clips = imported
    found = pose(store, clips, PoseConfig())
    for item in videos_of(found):
        assert all(s.keypoints.shape[:2] == (1, 10) for s in skeletons_of(item.artifact).values())


def test_joints_cannot_follow_the_pixels_of_a_video_that_is_not_there(imported):
    store, _, clips = imported
    with pytest.raises(InputError, match=r"has no raw video, whose pixels joints could follow: leave out pose\.steady"):
        pose(store, clips, PoseConfig(steady=True))
