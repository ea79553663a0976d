"""Which files are videos, and where they are: the one list of formats and the one walk, for every verb."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from posewatch import progress
from posewatch.errors import InputError
from posewatch.names import escaped, readable
from posewatch.outputs import is_result

SUFFIXES = (
    ".mp4", ".avi", ".mkv", ".mov", ".m4v", ".webm", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".asf", ".3gp",
    ".flv", ".vob", ".h264", ".264", ".hevc", ".h265", ".265", ".mjpeg", ".mjpg", ".dav", ".3g2", ".avc", ".divx",
    ".dv", ".f4v", ".m1v", ".m2t", ".m2v", ".mod", ".mpe", ".mxf", ".nut", ".ogm", ".ogv", ".rm", ".rmvb", ".tod",
    ".tp", ".trp", ".y4m",
)  # fmt: skip
_COMPANIONS = (
    ".csv", ".tsv", ".txt", ".md", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".html", ".log", ".ini", ".db", ".pdf",
    ".xls", ".xlsx", ".doc", ".docx", ".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".thm", ".srt", ".vtt", ".ass",
    ".idx", ".wav", ".mp3", ".m4a", ".aac", ".md5", ".sha1", ".sha256", ".py", ".sh", ".lock", ".part",
    ".pt", ".onnx", ".pkl", ".npy", ".npz",
)  # fmt: skip
"""Files that lie beside recordings and are none: they are not worth a word."""
_TRASH = re.compile(
    r"@eaDir|@tmp|#recycle|#snapshot|@Recycle|@Recently-Snapshot|\.@__thumb|\.Trash.*|\$RECYCLE\.BIN|RECYCLER"
    r"|System Volume Information|lost\+found|\.AppleDouble|\.Spotlight-V100|\.fseventsd|\.TemporaryItems"
    r"|Network Trash Folder|Temporary Items",
    re.IGNORECASE,
)
"""Folders in which NAS systems, Windows and Macs keep what was deleted, and previews."""
_STORED = re.compile(r"v-[0-9a-f]{16}")
"""A folder of an artifact store that belongs to one video."""


_DEAD = "links that lead nowhere"


@dataclass
class Walk:
    """The files below ``root`` whose suffix is one of ``suffixes``, as (name within the folder, path), by name.

    Links to folders are followed, each folder is read once. ``left_out`` maps a reason to what was left out for it.
    ``without`` are folders below that are not entered: where results go. Raises InputError for a folder that
    cannot be read.
    """

    root: Path
    suffixes: Collection[str] = SUFFIXES
    without: Collection[Path] = ()
    files: list[tuple[str, Path]] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        root = self.root.resolve()
        self.without = [path for path in self.without if path.is_dir() and not root.is_relative_to(path.resolve())]
        self._seen: set[tuple[int, int]] = set()
        self._links: list[Path] = []
        self._enter(self.root)
        while self._links:  # after all real folders, so that a video has the name of its own place
            link = self._links.pop(0)
            if self.root.resolve().is_relative_to(link.resolve()):
                self._skip("links that lead back to a folder above", link)
            else:
                self._enter(link)
        self._name()

    def _enter(self, folder: Path) -> None:
        identity = _identity(folder)
        if identity in self._seen:
            return
        self._seen.add(identity)
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            raise InputError(f"cannot read the folder {folder}: {error.strerror} (check its permissions)") from None
        if {"manifest.jsonl", "lineage.json"} <= {entry.name for entry in entries}:
            return self._skip("folders of an artifact store", folder)
        for entry in entries:
            path = folder / entry.name
            if path.is_dir():
                self._folder(path, entry.is_symlink())
            else:
                self._file(path, path.is_file())

    def _folder(self, path: Path, link: bool) -> None:
        if _TRASH.fullmatch(path.name):
            self._skip("folders of deleted files and previews", path)
        elif _STORED.fullmatch(path.name):
            self._skip("folders of an artifact store", path)
        elif any(path.samefile(folder) for folder in self.without):
            self._skip("folders that results go to", path)
        elif link:
            self._links.append(path)
        else:
            self._enter(path)

    def _file(self, path: Path, regular: bool) -> None:
        suffix = path.suffix.lower()
        if path.name.startswith("."):
            if suffix in self.suffixes:
                self._skip("hidden files", path)
        elif not regular and (suffix in self.suffixes or (path.is_symlink() and not suffix)):
            self._skip(_DEAD if path.is_symlink() else "entries that are no files", path)
        elif suffix in self.suffixes and is_result(path):
            self._skip("videos that posewatch made of others", path)
        elif suffix in self.suffixes:
            self.files.append((path.relative_to(self.root).as_posix(), path))
        elif suffix not in _COMPANIONS:
            self._skip("files of other kinds", path)

    def _skip(self, reason: str, path: Path) -> None:
        self.left_out.setdefault(reason, []).append(readable(path.relative_to(self.root).as_posix()))

    def _name(self) -> None:
        """Readable names, no two of them equal: one name in two encodings may be two videos."""
        self.files.sort()
        names = Counter(readable(name) for name, _ in self.files)
        for i, (name, path) in enumerate(self.files):
            decoded = readable(name)
            if decoded != name:
                self.files[i] = (decoded if names[decoded] == 1 else escaped(name), path)

    def notes(self) -> Iterator[str]:
        """One line for each reason for which something was left out."""
        for reason, paths in self.left_out.items():
            more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
            yield f"left out in {readable(str(self.root))}: {len(paths)} {reason}: {', '.join(paths[:3])}{more}"


def _identity(path: Path) -> tuple[int, int]:
    try:
        about = path.stat()
    except OSError as error:  # a link in a circle
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    return about.st_dev, about.st_ino


def find_videos(
    root: Path,
    also: tuple[str, ...] = (),
    without: Collection[Path] = (),
    tell: Callable[[str], None] = lambda line: progress.say(f"posewatch: note: {line}"),
) -> list[tuple[str, Path]]:
    """(name, path) of every video below a folder, sorted by name; a name is the path within the folder, readable.

    ``also`` lists further suffixes, ``without`` folders that results go to. A file is returned whatever its suffix.
    ``tell`` gets a line for each kind of thing that was left out (see ``Walk``). Raises InputError when nothing is
    found, a folder cannot be read, or a link to a video or a folder leads nowhere.
    """
    if root.is_file():
        return [(readable(root.name), root)]
    if not root.is_dir():
        raise InputError(f"no such file or folder: {root} (give a video, a folder of videos, or an s3:// URI)")
    suffixes = (*SUFFIXES, *also)
    walk = Walk(root, suffixes, without)
    if dead := walk.left_out.get(_DEAD):
        raise InputError(
            f"{len(dead)} links in {root} lead nowhere: {', '.join(dead[:3])} (is a disk not mounted? else delete them)"
        )
    for line in walk.notes():
        tell(line)
    if not walk.files:
        raise InputError(f"no videos in {root} (looked for {' '.join(suffixes)})")
    return walk.files


def is_trash(folder: Path) -> bool:
    """Whether a folder is one in which a system keeps deleted files and previews."""
    return _TRASH.fullmatch(folder.name) is not None
