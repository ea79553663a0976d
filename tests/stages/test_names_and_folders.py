"""Folders as people have them: links, trash of a NAS, names of Macs and of Korean Windows, earlier results."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from posewatch import video
from posewatch.artifact import Job, produce
from posewatch.config import LabelConfig
from posewatch.datasets.gmdcsa24 import read_gmdcsa24
from posewatch.errors import InputError, LabelError, VideoError
from posewatch.labels.formats.importers import find_labels, import_labels
from posewatch.labels.store import LabelStore
from posewatch.outputs import RESULT, mark
from posewatch.stages.contents import videos_of
from posewatch.stages.ingest import ingest
from posewatch.store import FolderStore
from posewatch.video.files import SUFFIXES, Walk, find_videos

NFD, NFC = (unicodedata.normalize(form, "낙상_복도.mp4") for form in ("NFD", "NFC"))


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def found(root: Path, **given: Any) -> tuple[list[str], list[str]]:
    """The names of the videos below a folder, and what was told."""
    told: list[str] = []
    return [name for name, _ in find_videos(root, tell=told.append, **given)], told


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    tree, nas = tmp_path / "tree", tmp_path / "nas"
    touch(tree / "b.mp4", tree / "z" / "own.mp4", nas / "cam1" / "a.mp4", nas / "cam1" / "deep" / "c.mp4")
    (tree / "cam1").symlink_to(nas / "cam1")
    (tree / "again").symlink_to(nas / "cam1")
    (tree / "a-first").symlink_to(tree / "z")  # a video has the name of its own place
    (nas / "cam1" / "circle").symlink_to(nas / "cam1")
    (nas / "cam1" / "up").symlink_to(tmp_path)
    names, told = found(tree)
    assert names == ["again/a.mp4", "again/deep/c.mp4", "b.mp4", "z/own.mp4"]
    assert told == [f"left out in {tree}: 1 links that lead back to a folder above: again/up"]


def test_what_is_left_out_is_told_with_its_number(tmp_path: Path) -> None:
    touch(tmp_path / "a.mp4", tmp_path / "labels.csv", tmp_path / "._a.mp4", tmp_path / "b.braw", tmp_path / "dvr")
    os.mkfifo(tmp_path / "pipe.mp4")
    for trash in ("@eaDir", "#recycle", ".Trash-1000", ".Trashes", "$RECYCLE.BIN", "System Volume Information"):
        touch(tmp_path / "cam" / trash / "deleted.mp4")
    touch(tmp_path / "lost+found" / "x.mp4")
    names, told = found(tmp_path)
    assert names == ["a.mp4"]
    counts = {line.partition(": ")[2].partition(":")[0]: line for line in told}
    assert set(counts) == {
        "1 hidden files", "2 files of other kinds", "1 entries that are no files",
        "7 folders of deleted files and previews",
    }  # fmt: skip
    assert counts["2 files of other kinds"].endswith("b.braw, dvr")


@pytest.mark.parametrize("name", ["gone.mp4", "cam1"])
def test_a_link_to_a_disk_that_is_not_mounted_is_an_error(name: str, tmp_path: Path) -> None:
    touch(tmp_path / "a.mp4")
    (tmp_path / "notes.txt").symlink_to(tmp_path / "nowhere")  # is no video
    assert found(tmp_path) == (["a.mp4"], [])
    (tmp_path / name).symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop.mp4").symlink_to(tmp_path / "loop.mp4")
    with pytest.raises(InputError, match=f"2 links in .* lead nowhere: {name}, loop.mp4"):
        found(tmp_path)


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "a.mp4", tmp_path / "locked" / "b.mp4")
    scan = os.scandir

    def refuse(path: Any) -> Any:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)  # root may read everything
    with pytest.raises(InputError, match=r"cannot read the folder .*locked: Permission denied"):
        found(tmp_path)


def test_results_are_never_taken_for_recordings(make: Any, tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    make().rename(videos / "a.mp4")
    inside = FolderStore(videos / "store")
    for _ in range(2):  # the second time the store is in the folder
        raw = ingest(inside, str(videos))
        assert [item.names for item in videos_of(raw)] == [("a.mp4",)]
    same = FolderStore(videos)
    for _ in range(2):
        assert len(list(videos_of(ingest(same, str(videos))))) == 1
    produce(same, Job("reports", "", {}), lambda folder: (folder / "x.mp4").touch() or (folder / "y.json").touch())
    assert found(videos)[0] == ["a.mp4"]
    assert found(videos, without=[videos])[0] == ["a.mp4"], "a folder that is the input itself is read"


def test_videos_that_were_made_of_others_are_left_out(tmp_path: Path) -> None:
    touch(tmp_path / "hall.avi", tmp_path / "hall.mp4", tmp_path / "alarms" / "x.mp4")
    for path in (tmp_path / "hall.mp4", tmp_path / "alarms" / "x.mp4"):
        mark(path, RESULT)
    names, told = found(tmp_path)
    assert names == ["hall.avi"]
    assert "2 videos that posewatch made of others: alarms/x.mp4, hall.mp4" in told[0]
    assert [name for name, _ in find_videos(tmp_path / "hall.mp4")] == ["hall.mp4"], "given by name, it is taken"


def test_a_name_in_another_encoding_is_ingested(make: Any, tmp_path: Path) -> None:
    folder = tmp_path / "cp949"
    folder.mkdir()
    make().rename(folder / os.fsdecode("복도.mp4".encode("cp949")))
    raw = ingest(FolderStore(tmp_path / "store"), str(folder))
    assert [item.names for item in videos_of(raw)] == [("복도.mp4",)]


@pytest.mark.parametrize("when", ["probed", "stored"])
def test_a_video_that_is_still_written_is_not_stored(
    when: str, make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its record would be of another content than the file: damaged, to every stage that reads it."""
    (tmp_path / "cam").mkdir()
    path = make("cam/now.ts")
    more = path.read_bytes()

    def grows(function: Any) -> Any:
        def call(*given: Any) -> Any:
            done = function(*given)
            with path.open("ab") as file:
                file.write(more)
            return done

        return call

    store = FolderStore(tmp_path / "store")
    if when == "probed":
        monkeypatch.setattr(video, "probe", grows(video.probe))
    else:
        monkeypatch.setattr(store, "upload", grows(store.upload))
    with pytest.raises(VideoError, match=r"now.ts is still being written.*run again"):
        ingest(store, str(path.parent))
    assert not [one.key for one in store.list() if one.key.endswith("manifest.jsonl")]
    monkeypatch.undo()
    (raw,) = videos_of(ingest(store, str(path.parent)))
    assert raw.artifact.read("video.ts") == path.read_bytes()


def test_two_names_never_become_one(tmp_path: Path) -> None:
    touch(tmp_path / "복도.mp4", tmp_path / os.fsdecode("복도.mp4".encode("cp949")))
    assert found(tmp_path)[0] == ["복도.mp4", "%BA%B9%B5%B5.mp4"]


def test_labels_find_the_video_of_a_mac(sqlite_store: LabelStore, make_clips: Any, tmp_path: Path) -> None:
    clips = make_clips(names=(NFD,))
    sqlite_store.register(clips)
    (tmp_path / "labels.csv").write_text(f"file,start_s,end_s,label\n{NFC},0,4,abnormal\n", encoding="utf-8")
    report = import_labels(sqlite_store, clips, find_labels(tmp_path), LabelConfig())
    assert report.set == 2
    twins = [*clips, *make_clips(name="other", names=(NFC,))]  # both forms on one disk: the csv names one of them
    sqlite_store.register(twins)
    assert import_labels(sqlite_store, twins, find_labels(tmp_path), LabelConfig()).set == 2
    (tmp_path / "labels.csv").write_text(f"file,start_s,end_s,label\nx/{NFC},0,4,abnormal\n", encoding="utf-8")
    with pytest.raises(LabelError, match="could be any of"):
        import_labels(sqlite_store, twins, find_labels(tmp_path), LabelConfig())


def test_a_class_has_one_name_in_both_unicode_forms(sqlite_store: LabelStore, make_clips: Any, tmp_path: Path) -> None:
    nfd, nfc = (unicodedata.normalize(form, "낙상") for form in ("NFD", "NFC"))
    touch(tmp_path / nfd / "a.mp4")
    config = LabelConfig(classes=("normal", nfc), positive=nfc)
    clips = make_clips(names=(f"{nfc}/a.mp4",))
    sqlite_store.register(clips)
    assert import_labels(sqlite_store, clips, find_labels(tmp_path, config), config).set == 4
    first = clips[0].clip.id
    assert sqlite_store.current([first])[first].new == nfc
    assert sqlite_store.set_labels({first: nfd}, "ann", "human", classes=config.classes)[0].new == nfc


def test_class_folders_take_every_format_that_ingest_takes(tmp_path: Path) -> None:
    touch(*(tmp_path / ("normal", "abnormal")[i % 2] / f"v{i}{suffix}" for i, suffix in enumerate(SUFFIXES)))
    touch(tmp_path / "normal" / "@eaDir" / "v0.mp4", tmp_path / "@eaDir" / "x.mp4")
    assert sorted(i.file for i in find_labels(tmp_path)) == sorted(found(tmp_path)[0])
    assert len(Walk(tmp_path).files) == len(SUFFIXES)


def test_the_csv_of_a_data_set_finds_every_format_and_form(tmp_path: Path) -> None:
    prefix = unicodedata.normalize("NFD", "복도_Fall")
    touch(tmp_path / f"{prefix}_01.avi", tmp_path / f"{prefix}_02.mkv")
    row = unicodedata.normalize("NFC", f"{prefix}_01.avi")
    (tmp_path / f"{prefix}.csv").write_text(f"File Name,Classes\n{row},Falling[0 to 2]\n", encoding="utf-8")
    told: list[str] = []
    assert [i.label for i in read_gmdcsa24(tmp_path, warn=told.append)] == ["abnormal"]
    assert "02.mkv, the video stays unlabelled" in told[0]


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_a_folder_store_has_the_permissions_of_the_umask(make: Any, tmp_path: Path, umask: int) -> None:
    video = make()
    before = os.umask(umask)
    try:
        ingest(FolderStore(tmp_path / "store"), str(video))
    finally:
        os.umask(before)
    for path in (tmp_path / "store").rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o777 if path.is_dir() else 0o666) & ~umask
