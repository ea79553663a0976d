"""Raw video into the store: each file becomes ``raw/<video id>/``, named by its content; the set holds the names."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from posewatch.artifact import Artifact, Job, collect, find, produce, sha256_file
from posewatch.digests import canonical
from posewatch.errors import VideoError
from posewatch.progress import Progress
from posewatch.records import Video, video_id
from posewatch.stages.contents import VIDEO
from posewatch.store import FolderStore, ObjectStore, local_copy
from posewatch.video.files import SUFFIXES, find_videos

if TYPE_CHECKING:
    from posewatch.video import VideoInfo

State = tuple[int, int]
"""Size and time of a file: what changes while a recorder writes it."""


def ingest(store: ObjectStore, source: str, *, allow_truncated: bool = False) -> Artifact:
    """Copy the videos below ``source`` (a file, a folder, an s3:// URI) into the store; returns the set of raw videos.

    All are probed first: when one cannot be read nothing is copied, and a VideoError names every such file.
    A truncated video is refused unless ``allow_truncated`` is set, one that changes meanwhile always.
    """
    from posewatch import video

    with local_copy(source) as root:
        files = find_videos(root, without=[store.root] if isinstance(store, FolderStore) else ())
        readable: list[tuple[str, Path, VideoInfo, State]] = []
        errors: list[str] = []
        with Progress("ingest", len(files)) as progress:
            for name, path in files:
                try:
                    state = _state(path)
                    info = video.probe(path)
                    _unchanged(name, path, state)
                    if info.truncated and not allow_truncated:
                        raise VideoError(f"{name}: {info.trouble}")
                    for note in (*info.notes, *([info.trouble.partition(" (")[0]] if info.trouble else [])):
                        progress.say(f"{name}: {note}")
                    readable.append((name, path, info, state))
                except VideoError as error:
                    errors.append(str(error))
                progress.advance(0)
            if errors:
                raise VideoError(video.refusal(errors, len(files)))
            found = []
            for name, path, info, state in readable:
                record = record_of(name, path, info)
                check = functools.partial(_unchanged, name, path, state)
                found.append((record.id, name, store_video(store, record, path, check)))
                progress.advance(1)
    return set_of(store, found)


def set_of(store: ObjectStore, found: Iterable[tuple[str, str, Artifact]]) -> Artifact:
    """The set of raw videos, given as (video id, name, artifact); a video of several names is in it once."""
    names: dict[str, list[str]] = {}
    artifacts: dict[str, Artifact] = {}
    for video, name, artifact in found:
        names.setdefault(video, []).append(name)
        artifacts.setdefault(video, artifact)
    return collect(store, "ingest", [{"video": v, "names": names[v]} for v in artifacts], artifacts.values())


def record_of(name: str, path: Path, info: VideoInfo) -> Video:
    """The record of a video file that was probed; its id follows from its content."""
    sha = sha256_file(path)
    fps, duration_s = round(info.fps, 6), round(info.duration_s, 6)
    gaps = tuple((gap.start_s, gap.length_s) for gap in info.gaps)
    return Video(
        video_id(sha), name, sha, path.stat().st_size, info.width, info.height, fps, duration_s, info.frames, gaps
    )


def store_video(store: ObjectStore, record: Video, path: Path, check: Callable[[], None] | None = None) -> Artifact:
    """The raw artifact of one video file; a video that is in the store is not stored again.

    ``check`` raises where the file is no longer the one of the record: it is not stored then.
    """
    job = Job("raw", record.id, {}, fixed_prefix=f"raw/{record.id}", source=f"video sha256 {record.sha256}")
    existing = find(store, job.prefix)
    if existing is not None:
        return existing

    def write(folder: Path) -> None:
        # the set holds the name: the same content under another name is the same video
        about = {k: v for k, v in record.to_dict().items() if k != "name"}
        (folder / f"{VIDEO}.json").write_text(canonical(about) + "\n", encoding="utf-8")
        suffix = path.suffix.lower()
        (folder / f"{VIDEO}{suffix if suffix in SUFFIXES else '.video'}").symlink_to(path.resolve())

    return produce(store, job, write, check=check)


def _state(path: Path) -> State:
    about = path.stat() if path.is_file() else None
    return (about.st_size, about.st_mtime_ns) if about else (0, 0)


def _unchanged(name: str, path: Path, state: State) -> None:
    """Raises VideoError for a file that a recorder still writes: its record would be of another length and content."""
    if _state(path) != state:
        raise VideoError(f"{name} is still being written: it changed while it was read (run again when it is complete)")
