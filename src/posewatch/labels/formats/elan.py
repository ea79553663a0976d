"""Annotation documents of ELAN (``.eaf``), by its schema EAFv3.0.xsd: what is marked on the tiers, in milliseconds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import unquote
from xml.etree import ElementTree

from posewatch.errors import LabelError, first_line
from posewatch.labels.formats.stretches import Stretch
from posewatch.video.files import SUFFIXES

SUFFIX = ".eaf"
Span = tuple[float, float]


def is_document(path: Path) -> bool:
    """Whether a file is named like such a document."""
    return path.suffix.lower() == SUFFIX and path.is_file()


def read(path: Path) -> list[Stretch]:
    """Every annotation as a stretch of each video of the document: its value is the label, or the tier's name where it
    has none. Raises LabelError naming the file.

    A document shows several videos when a scene was filmed by several cameras. Sound beside them is no video.
    """
    try:
        root = ElementTree.parse(path).getroot()
        if root.tag != "ANNOTATION_DOCUMENT":
            raise LabelError(f"{path.name} is not ELAN's: it holds <{root.tag}> instead of <ANNOTATION_DOCUMENT>")
        return list(_of(root, path.name))
    except (ElementTree.ParseError, KeyError, ValueError, TypeError) as error:
        raise LabelError(f"{path.name} is not an annotation document of ELAN: {first_line(error)}") from None


def _of(root: ElementTree.Element, name: str) -> Iterator[Stretch]:
    header = root.find("HEADER")
    units = "milliseconds" if header is None else header.get("TIME_UNITS", "milliseconds")
    if units != "milliseconds":
        raise LabelError(f"{name} counts in {units}: save it with a newer ELAN, which counts milliseconds")
    videos = [one for one in root.iterfind("HEADER/MEDIA_DESCRIPTOR") if _is_video(one)]
    if not videos:
        raise LabelError(f"{name} names no video: link one in ELAN (Edit > Linked Files)")
    for tier, value, who, (first, last) in _annotations(root):
        for video in videos:
            # The document's time 0 is this moment of the video.
            origin = int(video.get("TIME_ORIGIN") or 0)
            since, until = max(0.0, first + origin), last + origin
            if until > since:
                file = _file(video)
                yield Stretch(f"{name} tier {tier!r}: ", file, value or tier, since / 1000, until / 1000, True, who=who)


def _is_video(media: ElementTree.Element) -> bool:
    kind, suffix = media.get("MIME_TYPE", ""), PurePosixPath(_file(media)).suffix.lower()
    return kind.startswith("video/") or (suffix in SUFFIXES and not kind.startswith("audio/"))


def _file(media: ElementTree.Element) -> str:
    """A file's path: file:///C:/videos/a.mp4, ./a.mp4."""
    address = media.get("MEDIA_URL") or media.attrib["RELATIVE_MEDIA_URL"]
    return unquote(address.removeprefix("file:").replace("\\", "/")).lstrip("/")


def _annotations(root: ElementTree.Element) -> Iterator[tuple[str, str, str, Span]]:
    """(tier, value, annotator, span in milliseconds) of each annotation, also of those that refer to another one."""
    slots = {one.attrib["TIME_SLOT_ID"]: one.get("TIME_VALUE") for one in root.iterfind("TIME_ORDER/TIME_SLOT")}
    spans: dict[str, Span] = {}
    parents: dict[str, list[list[str]]] = defaultdict(list)
    tiers = root.findall("TIER")
    for tier in tiers:
        spans |= _aligned(tier, slots)
        parts: dict[str, list[str]] = defaultdict(list)
        for one in tier.iterfind("ANNOTATION/REF_ANNOTATION"):
            parts[one.attrib["ANNOTATION_REF"]].append(one.attrib["ANNOTATION_ID"])
        for key, those in parts.items():
            parents[key].append(those)
    waiting = [key for key in parents if key in spans]
    while waiting:  # what several annotations of a tier refer to is shared by them evenly, as ELAN shows it
        span = spans[key := waiting.pop()]
        for those in parents[key]:
            spans |= zip(those, _shares(span, len(those)), strict=True)
            waiting += [one for one in those if one in parents]
    for tier in tiers:
        for one in tier.iterfind("ANNOTATION/*"):
            value = " ".join((one.findtext("ANNOTATION_VALUE") or "").split())
            if (key := one.attrib["ANNOTATION_ID"]) in spans:
                yield tier.attrib["TIER_ID"], value, (tier.get("ANNOTATOR") or "").strip(), spans[key]


def _aligned(tier: ElementTree.Element, slots: dict[str, str | None]) -> dict[str, Span]:
    """The spans of a tier's own annotations by their ids; those that meet at slots without a time share it evenly."""
    spans: dict[str, Span] = {}
    run: list[ElementTree.Element] = []
    for one in tier.iterfind("ANNOTATION/ALIGNABLE_ANNOTATION"):
        run.append(one)
        if (until := slots[one.attrib["TIME_SLOT_REF2"]]) is None:
            continue
        span = float(slots[run[0].attrib["TIME_SLOT_REF1"]] or "an annotation without a time"), float(until)
        spans |= zip((part.attrib["ANNOTATION_ID"] for part in run), _shares(span, len(run)), strict=True)
        run = []
    return spans


def _shares(span: Span, n: int) -> list[Span]:
    """A span in ``n`` equal parts."""
    first, step = span[0], (span[1] - span[0]) / n
    return [(first + step * i, first + step * (i + 1)) for i in range(n)]
