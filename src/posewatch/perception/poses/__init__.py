"""Poses as other people's tools write them: one file per format, one row per format in ``FORMATS``.

A format is recognised by what its files hold, not by their names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posewatch.errors import InputError
from posewatch.perception.poses import alphapose, arrays, coco, kinetics, mmpose, ntu, openpose, ultralytics
from posewatch.perception.poses.clip import PoseClip, shown
from posewatch.text import read_json, read_text

Read = Callable[[Iterable[tuple[Path, Any]]], Iterator[PoseClip]]


@dataclass(frozen=True)
class Format:
    """``claims`` says whether the content of a file is of this format, ``read`` makes clips of files and contents."""

    name: str
    suffix: str
    claims: Callable[[Any], bool]
    read: Read


FORMATS = (
    Format("MMPose's predictions", ".json", mmpose.claims, mmpose.read),
    Format("OpenPose's --write_json", ".json", openpose.claims, openpose.read),
    Format("AlphaPose's results", ".json", alphapose.claims, alphapose.read),
    Format("COCO keypoints", ".json", coco.claims, coco.read),
    Format("Ultralytics' to_json", ".json", ultralytics.claims, ultralytics.read),
    Format("Kinetics-skeleton", ".json", kinetics.claims, kinetics.read),
    Format("NTU RGB+D", ".skeleton", ntu.claims, ntu.read),
    Format("CTR-GCN's arrays", ".npz", arrays.claims_archive, arrays.read_archive),
    Format("arrays of 2s-AGCN and ST-GCN", ".npy", arrays.claims_array, arrays.read_array),
    Format("Ultralytics' save_txt", ".txt", ultralytics.claims_text, ultralytics.read_text),
)
_BESIDE = ("classes.txt", "labels.txt", "label_map.txt", "label.txt")
"""Files that lie beside poses and hold none; so do those that end with ``_label.json``."""


_LOOKED = 20
"""Text files that are looked into for one with poses."""


def _numbers(lines: Sequence[Sequence[str]]) -> bool:
    return all(re.fullmatch(r"[-+.\deE]+|nan|inf", word) for line in lines for word in line)


def _lines(path: Path) -> list[list[str]]:
    return [words for line in read_text(path).splitlines() if (words := line.split())]


_OPEN: Mapping[str, Callable[[Path], Any]] = {
    ".skeleton": read_text, ".npz": arrays.keys_of, ".npy": arrays.keys_of, ".json": read_json, ".txt": _lines,
}  # fmt: skip


def recognised(source: Path) -> tuple[Format, list[Path]]:
    """The format of a file, or of the files of a folder and its folders, and these files.

    Raises InputError for a source without such files, and for files of an unknown format: what they hold, and what is
    read here.
    """
    groups = _files(source)
    known = [first for files in groups if (first := _first(files)) is not None]
    if len(known) > 1:
        (one, path), (other, beside) = known[:2]
        raise InputError(
            f"{source} holds {one.name} ({shown(path)}) and {other.name} ({shown(beside)}): give the folder of one"
        )
    for files in groups:
        if known and files[0].suffix.lower() == known[0][0].suffix:
            return known[0][0], files
    for files in groups:
        for path in files:
            if content := _OPEN[path.suffix.lower()](path):
                names = " or ".join(one.name for one in _of(path))
                raise InputError(f"{shown(path)} holds {_seen(content)}: not {names}")
    raise InputError(f"nobody is in any of the {len(groups[0])} {groups[0][0].suffix} files of {source}")


def _of(path: Path) -> list[Format]:
    return [one for one in FORMATS if one.suffix == path.suffix.lower()]


def _first(files: Sequence[Path]) -> tuple[Format, Path] | None:
    """The format of the first files that hold anything, and one of its files; None where it is unknown."""
    looked = 0
    for path in files:
        if not (content := _OPEN[path.suffix.lower()](path)):
            continue
        for one in _of(path):
            if one.claims(content):
                return one, path
        looked += 1
        if looked == _LOOKED or path.suffix.lower() != ".txt":
            break  # a readme may lie beside label files; any other file that is unknown is told
    return None


def _files(source: Path) -> list[list[Path]]:
    """The files by suffix, never none."""
    if source.is_file() and source.suffix.lower() in _OPEN:
        return [[source]]
    if not source.is_dir():
        why = f"is no {', '.join(_OPEN)} file" if source.exists() else "does not exist"
        raise InputError(f"{source} {why} (give a folder or a file of poses: {', '.join(one.name for one in FORMATS)})")
    found = sorted(path for path in source.rglob("*") if path.suffix.lower() in _OPEN and not _aside(path))
    groups = [[path for path in found if path.suffix.lower() == suffix and path.is_file()] for suffix in _OPEN]
    if not any(groups):
        raise InputError(
            f"no {', '.join(_OPEN)} files in {source} (poses of: {', '.join(one.name for one in FORMATS)})"
        )
    return [files for files in groups if files]


def _aside(path: Path) -> bool:
    """Hidden files, lists of classes, AlphaPose's second copy of its results, bones beside the joints of arrays."""
    if path.name.startswith(".") or path.name in _BESIDE or path.name.endswith("_label.json"):
        return True
    if path.parent.name == "sep-json" and (path.parent.parent / f"{alphapose.RESULTS}.json").is_file():
        return True
    return path.suffix == ".npy" and ("_bone" in path.stem or "_motion" in path.stem)


def contents(format: Format, files: Iterable[Path]) -> Iterator[tuple[Path, Any]]:
    """Each file with what it holds. Raises InputError for one of another format than the others."""
    for path in files:
        content = _OPEN[format.suffix](path)
        if format.suffix == ".txt" and not _numbers(content):
            continue
        if content and not format.claims(content):
            raise InputError(
                f"{shown(path)} is not of {format.name}, as others of its folder: it holds {_seen(content)}"
            )
        if content or content == []:
            yield path, content


def _seen(content: Any) -> str:
    """What a file holds, in words."""
    if isinstance(content, Mapping):
        return f"an object with {', '.join(map(repr, list(content)[:5])) or 'nothing in it'}"
    if isinstance(content, list) and content:
        return f"a list of {len(content)}, the first {_seen(content[0])}"
    return repr(content)[:60]
