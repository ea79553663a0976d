"""CVAT's XML and FiftyOne's datasets: as these tools write them, and ours on the way to them and back."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from posewatch.config import LabelConfig
from posewatch.datasets.intervals import Interval
from posewatch.errors import LabelError
from posewatch.labels.entries import ClipEntry
from posewatch.labels.formats.clip_labels import has_clip_ids, read_clip_labels
from posewatch.labels.formats.exporters import export
from posewatch.labels.formats.importers import assign, find_labels, import_labels
from posewatch.labels.formats.snapshot import snapshot
from posewatch.labels.store import LabelStore
from posewatch.records import clip_id
from posewatch.store import FolderStore

CONFIG = LabelConfig()
A, B = "c-0123456789abcdef", "c-fedcba9876543210"


def xml(body: str, source: str = "a.mp4", about: str = "", kind: str = "task") -> str:
    """A file as CVAT's `dump_as_cvat_interpolation` and `dump_as_cvat_annotation` write it."""
    return f"""<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><{kind}><id>3</id><name>my task</name><size>100</size>
<mode>interpolation</mode><overlap>0</overlap><subset>default</subset><start_frame>0</start_frame>
<stop_frame>99</stop_frame><frame_filter></frame_filter>
<labels><label><name>abnormal</name><color>#b83df5</color><type>any</type><attributes></attributes></label></labels>
<assignee><username>eve</username><email>eve@x.org</email></assignee>
<original_size><width>64</width><height>48</height></original_size><source>{source}</source>{about}</{kind}>
<dumped>2026-11-20 11:51:51.000000+00:00</dumped></meta>
{body}
</annotations>
"""


def box(frame: int, outside: int = 0, keyframe: int = 0) -> str:
    return (
        f'<box frame="{frame}" keyframe="{keyframe}" outside="{outside}" occluded="0" xtl="0.00" ytl="0.00" '
        'xbr="64.00" ybr="48.00" z_order="0"><attribute name="person"></attribute></box>'
    )


def skeleton(frame: int, *outside: bool) -> str:
    points = "".join(
        f'<points label="{i}" keyframe="0" outside="{int(out)}" occluded="0" points="1.00,2.00"></points>'
        for i, out in enumerate(outside)
    )
    return f'<skeleton frame="{frame}" keyframe="0" z_order="0">{points}</skeleton>'


def track(label: str, *boxes: str, number: int = 0) -> str:
    return f'<track id="{number}" label="{label}" source="manual">{"".join(boxes)}</track>'


def image(frame: int, *tags: str) -> str:
    tagged = "".join(f'<tag label="{label}" source="manual"></tag>' for label in tags)
    return f'<image id="{frame}" name="frame_{frame:06}" width="64" height="48">{tagged}</image>'


def times(path: Path, fps: float = 10.0) -> list[tuple[str, float, float]]:
    return sorted((one.label, one.start_s, one.end_s) for one in find_labels(path, CONFIG, lambda line: None, fps))


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (track("abnormal", *[box(f) for f in range(20, 50)], box(50, outside=1, keyframe=1)), [("abnormal", 2, 5)]),
        (track("abnormal", *[box(f) for f in range(80, 100)]), [("abnormal", 8, 10)]),  # until the end
        (
            track("abnormal", box(10), box(20, 1), box(40), box(60, 1)),
            [("abnormal", 1, 2), ("abnormal", 4, 6)],
        ),  # away in between
        ("".join(image(f, *["abnormal"] * (30 <= f < 50)) for f in range(100)), [("abnormal", 3, 5)]),
        (
            image(3, "abnormal") + image(4, "abnormal", "normal") + image(9, "normal"),
            [("abnormal", 0.3, 0.5), ("normal", 0.4, 0.5), ("normal", 0.9, 1)],
        ),
        # a skeleton is away when all its points are
        (track("abnormal", *[skeleton(f, f >= 20, f >= 30) for f in range(10, 40)]), [("abnormal", 1, 3)]),
        (track("person", box(0), box(99)) + track("abnormal", box(10), box(20, 1), number=1), [("abnormal", 1, 2)]),
    ],
)
def test_cvats_tracks_and_tags_are_stretches(body: str, wanted: list[Any], tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(xml(body))
    assert times(tmp_path / "a.xml") == wanted
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("annotations.xml", xml(body, kind="job"))
    assert times(tmp_path / "a.zip", 20.0) == [(label, start / 2, end / 2) for label, start, end in wanted]


def test_a_task_with_every_fifth_frame(tmp_path: Path) -> None:
    body = "".join(image(f, "abnormal") for f in range(20, 50, 5))
    text = xml(body).replace("<frame_filter></frame_filter>", "<frame_filter>step=5</frame_filter>")
    (tmp_path / "a.xml").write_text(text)
    assert times(tmp_path / "a.xml") == [("abnormal", 2, 5)]


def test_a_task_that_is_a_clip_labels_the_clip(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text(xml(image(0, "Abnormal") + image(1, "cat"), f"clips/{A}.mp4"))
    assert has_clip_ids(path)
    told: list[str] = []
    found = read_clip_labels(path, CONFIG, told.append)
    assert {clip: (given.label, given.who) for clip, given in found.items()} == {A: ("abnormal", "eve@x.org")}
    assert told == ["a.xml: left out what is labelled cat, which is no class"]


def project(body: str, *tasks: tuple[int, str, str, int, str, int]) -> str:
    """Of (id, source, subset, size, frame filter, first frame), as `ProjectData` in CVAT's bindings.py writes them."""
    told = "".join(
        f"<task><id>{number}</id><name></name><size>{size}</size><mode>interpolation</mode><overlap>0</overlap>"
        f"<subset>{subset}</subset><start_frame>{first}</start_frame><stop_frame>0</stop_frame>"
        f"<frame_filter>{step}</frame_filter><owner></owner><assignee></assignee>"
        f"<original_size><width>64</width><height>48</height></original_size><source>{source}</source></task>"
        for number, source, subset, size, step, first in tasks
    )
    return f"""<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><project><id>1</id><name>yard</name><bugtracker></bugtracker>
<tasks>{told}</tasks><subsets>default
Test</subsets><owner></owner><assignee></assignee><labels></labels></project><dumped>2026-11-20</dumped></meta>
{body}
</annotations>
"""


def test_a_project_has_the_stretches_of_all_its_tasks(tmp_path: Path) -> None:
    """Frames count on from task to task of a subset: start + step x size of those before."""
    tasks = [
        *((7, "a.mp4", "Test", 100, "", 0), (2, "b.mp4", "default", 100, "", 0)),
        *((3, "c.mp4", "default", 20, "step=5", 10), (5, f"clips/{A}.mp4", "default", 20, "", 0)),
    ]
    body = "".join(
        track("abnormal", box(first), box(last, 1)).replace("<track", f'<track task_id="{task}" subset="{subset}"')
        for task, subset, first, last in (
            *((7, "Test", 10, 20), (2, "default", 30, 50)),
            *((3, "default", 100 + 20, 100 + 40), (5, "default", 100 + 110 + 0, 100 + 110 + 20)),
        )
    )
    path = tmp_path / "a.xml"
    path.write_text(project(body, *tasks))
    found = [(one.file, one.start_s, one.end_s, one.where) for one in find_labels(path, CONFIG, fps=10)]
    assert found == [
        *(("a.mp4", 1, 2, "a.xml task 7"), ("b.mp4", 3, 5, "a.xml task 2")),
        *(("c.mp4", 2, 4, "a.xml task 3"), (f"clips/{A}.mp4", 0, 2, "a.xml task 5")),
    ]
    tags = image(12, "abnormal") + image(112, "abnormal")
    for frame, task in ((12, 1), (112, 2)):
        tags = tags.replace(f'<image id="{frame}"', f'<image id="{frame}" subset="default" task_id="{task}"')
    path.write_text(project(tags, (1, f"{A}.mp4", "default", 100, "", 0), (2, f"{B}.mp4", "default", 100, "", 0)))
    assert {clip: one.label for clip, one in read_clip_labels(path, CONFIG).items()} == {A: "abnormal", B: "abnormal"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotations>", "is not CVAT's XML 1.1"),
        ("<xmeml/>", "holds <xmeml> instead of <annotations>"),
        (project(""), "nothing is labelled there yet"),
        (project(track("abnormal", box(1))), "is not CVAT's XML 1.1: 'task_id'"),
        (project(track("abnormal", box(1)).replace("<track", '<track task_id="9"')), "labels of the tasks 9, about"),
        (
            project(track("abnormal", box(1)).replace("<track", '<track task_id="3"'), (3, "", "", 10, "", 0)),
            "the name of the video of task 3",
        ),
        (xml("").replace("<source>a.mp4</source>", "").replace("<name>my task</name>", ""), "does not tell the name"),
        (xml(track("dance", box(1))), "none of its labels (dance) is one of normal, abnormal"),
        (xml(""), "nothing is labelled there yet, or by tags alone"),
        (xml(image(3)), "nothing is labelled there yet"),
        (
            xml("", kind="job").replace("<source>a.mp4</source>", "").replace("<name>my task</name>", ""),
            "export the task",
        ),
        (xml('<track id="0"><box frame="1"/></track>'), "is not CVAT's XML 1.1: 'label'"),
        (xml(track("abnormal", '<box frame="x"/>')), "is not CVAT's XML 1.1"),
        ('<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotations>&x;</annotations>', "is not CVAT's XML"),
    ],
)
def test_what_is_no_task_of_cvat_is_one_line(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(LabelError) as caught:
        find_labels(tmp_path / "a.xml", CONFIG)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def labelled(store: LabelStore, make_clips: Any, folder: Path, person: bool = False) -> list[ClipEntry]:
    """Six clips of two seconds of one video, the first four labelled normal, abnormal, abnormal, normal."""
    objects = FolderStore(folder)
    entries = []
    for i, entry in enumerate(make_clips("yard/a.mp4", 6)):
        who = 1 + i % 2 if person else None
        clip = entry.clip
        new = clip_id(clip.video_id, clip.start_s, clip.length_s, who)
        entries.append(
            replace(entry, clip=replace(clip, id=new, person=who), key=f"clips/{new}.mp4", store=objects.uri)
        )
        objects.put(entries[-1].key, new.encode())
    store.register(entries)
    names = ["normal", "abnormal", "abnormal", "normal"]
    store.set_labels({e.clip.id: name for e, name in zip(entries, names, strict=False)}, "ann", "human")
    return entries


@pytest.mark.parametrize("person", [False, True])
@pytest.mark.parametrize("form", ["cvat", "fiftyone"])
def test_there_and_back(form: str, person: bool, sqlite_store: LabelStore, make_clips: Any, tmp_path: Path) -> None:
    entries = labelled(sqlite_store, make_clips, tmp_path / "objects", person)
    out = tmp_path / "out"
    assert export(sqlite_store, snapshot(sqlite_store), form, out, CONFIG) == 4
    wanted = {clip: event.new for clip, event in sqlite_store.current().items()}
    if form == "fiftyone":
        assert has_clip_ids(out)
        found = read_clip_labels(out, CONFIG)
        assert {clip: given.label for clip, given in found.items()} == wanted
        assert {given.who for given in found.values()} == {"ann"}
        assert {p.stem for p in (out / "data").iterdir()} == {entry.clip.id for entry in entries}
        return
    (path,) = out.glob("*.xml")
    assert not has_clip_ids(path)
    other = LabelStore(f"sqlite:///{tmp_path / 'other.db'}")
    other.register(entries)
    intervals = find_labels(path, CONFIG, fps=entries[0].clip.fps)
    assert import_labels(other, entries, intervals, CONFIG).set == 4
    assert {clip: event.new for clip, event in other.current().items()} == wanted
    other.close()


def test_a_clip_is_one_stretch_with_those_that_follow(
    sqlite_store: LabelStore, make_clips: Any, tmp_path: Path
) -> None:
    labelled(sqlite_store, make_clips, tmp_path / "objects")
    export(sqlite_store, snapshot(sqlite_store), "cvat", tmp_path / "out", CONFIG)
    (path,) = (tmp_path / "out").glob("*.xml")
    tracks = ElementTree.parse(path).getroot().findall("track")
    assert [one.get("label") for one in tracks] == ["normal", "abnormal", "normal"]
    assert [label["name"] for label in json.loads((tmp_path / "out/labels.json").read_text())] == list(CONFIG.classes)


def test_an_interval_about_one_person_labels_their_clips(
    sqlite_store: LabelStore, make_clips: Any, tmp_path: Path
) -> None:
    entries = labelled(sqlite_store, make_clips, tmp_path / "objects", person=True)
    everybody = Interval("yard/a.mp4", 0, math.inf, "normal")
    one = Interval("yard/a.mp4", 0, math.inf, "abnormal", person=2)
    labels = assign(entries, [everybody, one], CONFIG)
    assert [labels[entry.clip.id] for entry in entries] == ["normal", "abnormal"] * 3


SAMPLES = {
    "samples": [
        {
            "filepath": "data/yard/a.mp4",
            "tags": [],
            "_media_type": "video",
            "metadata": {"_cls": "VideoMetadata", "frame_rate": 20.0, "total_frame_count": 200},
            "events": {
                "_cls": "TemporalDetections",
                "detections": [
                    {"_cls": "TemporalDetection", "label": "abnormal", "support": [41, 80], "who": "eve"},
                    {"_cls": "TemporalDetection", "label": "cat", "support": [1, 2]},
                ],
            },
            "frames": {},
        },
        {"filepath": f"data/{A}.mp4", "ground_truth": {"_cls": "Classification", "label": "normal"}},
    ]
}


def test_fiftyones_datasets(tmp_path: Path) -> None:
    clips, videos = SAMPLES["samples"][1:], SAMPLES["samples"][:1]
    for name, samples in (("clips", clips), ("videos", videos)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "samples.json").write_text(json.dumps({"samples": samples}))
    assert {clip: one.label for clip, one in read_clip_labels(tmp_path / "clips", CONFIG).items()} == {A: "normal"}
    assert times(tmp_path / "videos") == [("abnormal", 2, 4)]
    temporal = {
        "classes": ["normal", "abnormal"],
        "labels": {
            "yard/a": [{"label": 1, "timestamps": [1.5, 4]}, {"label": "normal", "support": [61, 100]}],
            "yard/b": None,
        },
    }
    (tmp_path / "labels.json").write_text(json.dumps(temporal))
    assert times(tmp_path / "labels.json") == [("abnormal", 1.5, 4), ("normal", 6, 10)]
    temporal["labels"]["yard/b"] = [{"label": 7, "support": [1, 2]}]
    (tmp_path / "labels.json").write_text(json.dumps(temporal))
    with pytest.raises(LabelError, match=r"labels.json 'yard/b': not a label of FiftyOne"):
        find_labels(tmp_path / "labels.json", CONFIG)


def test_a_video_is_found_without_its_suffix(make_clips: Any) -> None:
    clips = make_clips("yard/a.mp4", 2)
    assert len(assign(clips, [Interval("a", 0, math.inf, "abnormal")], CONFIG)) == 2
    with pytest.raises(LabelError, match="no video named 'b'"):
        assign(clips, [Interval("b", 0, math.inf, "abnormal")], CONFIG)


DATUMARO = """
import sys
from datumaro.components.dataset import Dataset
found = Dataset.import_from(sys.argv[1], "cvat")
names = [one.name for one in found.categories()[list(found.categories())[0]].items]
shown = {int(i.attributes["frame"]): sorted({names[a.label] for a in i.annotations}) for i in found if i.annotations}
print(__import__("json").dumps({"names": names, "shown": shown}))
"""
FIFTYONE = """
import sys
import fiftyone as fo, fiftyone.utils.data as data
given = data.FiftyOneTemporalDetectionDatasetImporter(dataset_dir=sys.argv[1])
made = data.FiftyOneTemporalDetectionDatasetExporter(export_dir=sys.argv[2], export_media=True)
with given, made:
    for path, _, labels, _ in given:
        if labels is None:
            labels = fo.TemporalDetections(detections=[fo.TemporalDetection(label="abnormal", support=[3, 9])])
        made.export_sample(path, labels, None)
"""


def run(tool: str, script: str, folder: Path, *arguments: Path) -> str:
    """Run a script where the tool is: POSEWATCH_<TOOL> names a Python, else it is installed, which takes long."""
    python = os.environ.get(f"POSEWATCH_{tool.upper()}")
    if not python:
        subprocess.run([sys.executable, "-m", "venv", folder / tool], check=True)
        subprocess.run([folder / tool / "bin/pip", "install", "--quiet", tool], check=True)
        python = str(folder / tool / "bin/python")
    env = {**os.environ, "HOME": str(folder), "FIFTYONE_DO_NOT_TRACK": "true", "PYTHONPATH": ""}
    command = [python, "-c", script, *map(str, arguments)]
    return subprocess.run(command, env=env, check=True, capture_output=True, text=True, cwd=folder).stdout


@pytest.mark.slow
def test_datumaro_reads_our_xml(sqlite_store: LabelStore, make_clips: Any, tmp_path: Path) -> None:
    entries = labelled(sqlite_store, make_clips, tmp_path / "objects")
    export(sqlite_store, snapshot(sqlite_store), "cvat", tmp_path / "out", CONFIG)
    (path,) = (tmp_path / "out").glob("*.xml")
    found = json.loads(run("datumaro", DATUMARO, tmp_path, path).splitlines()[-1])
    assert found["names"] == list(CONFIG.classes)
    clip = entries[1].clip
    inside = range(round(clip.start_s * clip.fps), round(clip.end_s * clip.fps))
    assert {tuple(found["shown"][str(frame)]) for frame in inside[1:]} == {("abnormal",)}


@pytest.mark.slow
def test_fiftyone_reads_our_dataset_and_we_read_its_own(
    sqlite_store: LabelStore, make_clips: Any, tmp_path: Path
) -> None:
    entries = labelled(sqlite_store, make_clips, tmp_path / "objects")
    export(sqlite_store, snapshot(sqlite_store), "fiftyone", tmp_path / "out", CONFIG)
    run("fiftyone", FIFTYONE, tmp_path, tmp_path / "out", tmp_path / "back")
    found = read_clip_labels(tmp_path / "back", CONFIG)
    wanted = ["normal", "abnormal", "abnormal", "normal", "abnormal", "abnormal"]
    assert [found[entry.clip.id].label for entry in entries] == wanted
    assert [found[entry.clip.id].who for entry in entries] == ["ann"] * 4 + [""] * 2
