"""Which files are videos, and where they are: the one list of formats, for every verb."""

from __future__ import annotations

from pathlib import Path

from posewatch.errors import InputError

SUFFIXES = (
    ".mp4", ".avi", ".mkv", ".mov", ".m4v", ".webm", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".asf", ".3gp",
    ".flv", ".vob", ".h264", ".264", ".hevc", ".h265", ".265", ".mjpeg", ".mjpg", ".dav",
)  # fmt: skip


def find_videos(root: Path, also: tuple[str, ...] = ()) -> list[tuple[str, Path]]:
    """(name, path) of every video below a folder, sorted by name; a name is the path within the folder.

    ``also`` lists further suffixes. A file is returned whatever its suffix, hidden files of a folder are left out.
    Raises InputError when nothing is found.
    """
    if root.is_file():
        return [(root.name, root)]
    if not root.is_dir():
        raise InputError(f"no such file or folder: {root} (give a video, a folder of videos, or an s3:// URI)")
    suffixes = (*SUFFIXES, *also)
    found = [
        (p.relative_to(root).as_posix(), p)
        for p in sorted(root.rglob("*"))
        if p.suffix.lower() in suffixes and p.is_file() and not p.name.startswith(".")
    ]
    if not found:
        raise InputError(f"no videos in {root} (looked for {' '.join(suffixes)})")
    return found
