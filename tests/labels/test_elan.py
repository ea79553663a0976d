"""Annotation documents of ELAN (.eaf), by its schema EAFv3.0.xsd: as ELAN saves them, and as pympi does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from posewatch.config import LabelConfig
from posewatch.errors import LabelError
from posewatch.labels.formats.clip_labels import has_clip_ids, read_clip_labels
from posewatch.labels.formats.importers import find_labels

CONFIG = LabelConfig()
VIDEO = '<MEDIA_DESCRIPTOR MEDIA_URL="file:///C:/CCTV/yard%201.mp4" MIME_TYPE="video/mp4" {}/>'
SOUND = (
    '<MEDIA_DESCRIPTOR MEDIA_URL="file:///C:/CCTV/yard.wav" MIME_TYPE="audio/x-wav" '
    'EXTRACTED_FROM="file:///C:/CCTV/yard%201.mp4" RELATIVE_MEDIA_URL="./yard.wav"/>'
)


def document(tiers: str, media: str = VIDEO.format(""), units: str = "milliseconds") -> str:
    slots = {"ts1": 1000, "ts2": 2500, "ts3": 3000, "ts4": None, "ts5": None, "ts6": 6000, "ts7": 9000}
    order = "".join(
        f'<TIME_SLOT TIME_SLOT_ID="{name}"' + ("/>" if time is None else f' TIME_VALUE="{time}"/>')
        for name, time in slots.items()
    )
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT AUTHOR="" DATE="2026-10-28T10:14:04+01:00" FORMAT="3.0" VERSION="3.0"
 xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
 xsi:noNamespaceSchemaLocation="http://www.mpi.nl/tools/elan/EAFv3.0.xsd">
<HEADER MEDIA_FILE="" TIME_UNITS="{units}">{media}<PROPERTY NAME="lastUsedAnnotationId">9</PROPERTY></HEADER>
<TIME_ORDER>{order}</TIME_ORDER>{tiers}
<LINGUISTIC_TYPE GRAPHIC_REFERENCES="false" LINGUISTIC_TYPE_ID="default-lt" TIME_ALIGNABLE="true"/>
</ANNOTATION_DOCUMENT>
"""


def tier(name: str, *annotations: str, more: str = "") -> str:
    body = "".join(f"<ANNOTATION>{one}</ANNOTATION>" for one in annotations)
    return f'<TIER LINGUISTIC_TYPE_REF="default-lt" TIER_ID="{name}" {more}>{body}</TIER>'


def aligned(key: str, value: str, first: str, last: str) -> str:
    return (
        f'<ALIGNABLE_ANNOTATION ANNOTATION_ID="{key}" TIME_SLOT_REF1="{first}" TIME_SLOT_REF2="{last}">'
        f"<ANNOTATION_VALUE>{value}</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION>"
    )


def referring(key: str, value: str, to: str, before: str = "") -> str:
    after = f' PREVIOUS_ANNOTATION="{before}"' if before else ""
    return (
        f'<REF_ANNOTATION ANNOTATION_ID="{key}" ANNOTATION_REF="{to}"{after}>'
        f"<ANNOTATION_VALUE>{value}</ANNOTATION_VALUE></REF_ANNOTATION>"
    )


def found(path: Path, told: list[str] | None = None) -> list[tuple[Any, ...]]:
    intervals = find_labels(path, CONFIG, ([] if told is None else told).append)
    return [(one.file, one.start_s, one.end_s, one.label) for one in intervals]


def test_values_of_tiers_are_labels_and_tiers_of_empty_annotations(tmp_path: Path) -> None:
    path = tmp_path / "yard.eaf"
    path.write_text(
        document(
            tier("event", aligned("a1", "Abnormal", "ts1", "ts2"), aligned("a2", " normal\n", "ts6", "ts7"))
            + tier("abnormal", aligned("a3", "", "ts2", "ts3"))
            + tier("remarks", aligned("a4", "falls over", "ts1", "ts2")),
            VIDEO.format("") + SOUND,
        )
    )
    told: list[str] = []
    name = "C:/CCTV/yard 1.mp4"
    assert not has_clip_ids(path)
    assert found(path, told) == [
        *((name, 1, 2.5, "Abnormal"), (name, 6, 9, "normal")),
        (name, 2.5, 3, "abnormal"),
    ]
    assert find_labels(path, CONFIG)[0].where == "yard.eaf tier 'event'"
    assert told == ["yard.eaf: left out what is labelled falls over, which is no class"]


def test_annotations_without_times_of_their_own(tmp_path: Path) -> None:
    """Between slots without a time, and those that refer to others: what ELAN shows."""
    path = tmp_path / "a.eaf"
    subdivided = [aligned(f"a{i}", "", f"ts{i}", f"ts{i + 1}") for i in (3, 4, 5)]
    one = tier("parts", *subdivided)
    first = tier("class", referring("b1", "abnormal", "a4"), referring("b2", "normal", "a5"), more='PARENT_REF="parts"')
    second = tier(
        "again", referring("c1", "normal", "b1"), referring("c2", "abnormal", "b1", "c1"), more='PARENT_REF="class"'
    )
    path.write_text(document(second + one + first))
    assert [row[1:] for row in found(path)] == [
        *((4, 4.5, "normal"), (4.5, 5, "abnormal")),
        *((4, 5, "abnormal"), (5, 6, "normal")),
    ]


def test_several_cameras_and_their_beginnings(tmp_path: Path) -> None:
    path = tmp_path / "a.eaf"
    other = '<MEDIA_DESCRIPTOR MEDIA_URL="./b.avi" MIME_TYPE="unknown" TIME_ORIGIN="-1500"/>'
    path.write_text(
        document(tier("abnormal", aligned("a1", "", "ts1", "ts2")), VIDEO.format('TIME_ORIGIN="2000"') + other)
    )
    assert found(path) == [("C:/CCTV/yard 1.mp4", 3, 4.5, "abnormal"), ("./b.avi", 0, 1, "abnormal")]


def test_a_folder_of_documents_and_a_clip(tmp_path: Path) -> None:
    for name, label in (("a", "abnormal"), ("b", "normal")):
        media = f'<MEDIA_DESCRIPTOR MEDIA_URL="file:///home/{name}.mp4" MIME_TYPE="video/mp4"/>'
        text = document(tier("event", aligned("a1", label, "ts1", "ts2"), more='ANNOTATOR="ann"'), media)
        (tmp_path / f"{name}.eaf").write_text(text)
    (tmp_path / "a.pfsx").write_text("<preferences/>")
    (tmp_path / "other.xml").write_text("<metadata/>")
    (tmp_path / "empty.xml").write_text("<annotations><meta><task><name>c.mp4</name></task></meta></annotations>")
    assert found(tmp_path) == [("home/a.mp4", 1, 2.5, "abnormal"), ("home/b.mp4", 1, 2.5, "normal")]
    (tmp_path / "labels.csv").write_text("file,start_s,end_s,label\nc.mp4,0,1,normal\n")
    assert found(tmp_path) == [("c.mp4", 0, 1, "normal")]
    path, clip = tmp_path / "c.eaf", "c-0123456789abcdef"
    media = f'<MEDIA_DESCRIPTOR MEDIA_URL="file:///home/{clip}.mp4" MIME_TYPE="video/mp4"/>'
    path.write_text(document(tier("event", aligned("a1", "normal", "ts1", "ts2"), more='ANNOTATOR="ann"'), media))
    assert has_clip_ids(path)
    given = read_clip_labels(path, CONFIG)[clip]
    assert (given.label, given.who) == ("normal", "ann")


ONE = tier("event", aligned("a1", "abnormal", "ts1", "ts2"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<ANNOTATION_DOCUMENT>", "is not an annotation document of ELAN"),
        ("<annotations/>", "is not ELAN's: it holds <annotations>"),
        (document(ONE, SOUND), "names no video: link one in ELAN"),
        (document(ONE, units="PAL-frames"), "counts in PAL-frames"),
        (document(tier("event")), "nothing is labelled there yet"),
        (document(ONE).replace('TIME_VALUE="1000"', 'TIME_VALUE="x"'), "is not an annotation document of ELAN"),
        (document(ONE).replace(' TIME_VALUE="1000"', ""), "an annotation without a time"),
        (document(ONE).replace('TIME_SLOT_REF1="ts1"', 'TIME_SLOT_REF1="ts99"'), "is not an annotation document"),
        (document(tier("event", aligned("a1", "dance", "ts1", "ts2"))), "none of its labels (dance) is one of"),
    ],
)
def test_what_cannot_be_read_is_one_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.eaf"
    path.write_text(text)
    with pytest.raises(LabelError) as caught:
        find_labels(path, CONFIG)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
