"""Raw video into the store: each file becomes ``raw/<video id>/``, named by its content; the set keeps the names."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from posewatch.artifact import Artifact, Job, collect, find, produce, sha256_file
from posewatch.digests import canonical
from posewatch.errors import NotFound, VideoError
from posewatch.progress import Progress
from posewatch.records import Video, video_id
from posewatch.store import ObjectStore, open_store
from posewatch.video.files import find_videos


@contextmanager
def local(source: str) -> Iterator[Path]:
    """A local folder or file for ``source``: itself, or a copy of what lies below an ``s3://`` or ``memory://`` URI."""
    if "://" not in source:
        yield Path(source).expanduser()
        return
    if source.startswith("file://"):
        yield Path(source.removeprefix("file://"))
        return
    head, _, key = source.partition("://")[2].partition("/")
    store = open_store(f"{source.partition('://')[0]}://{head}")
    found = [o for o in store.list(key) if o.key == key or o.key.startswith(key.rstrip("/") + "/") or not key]
    if not found:
        raise NotFound(f"nothing below {source} (check the bucket and the prefix)")
    with tempfile.TemporaryDirectory(prefix="posewatch-source-") as temp:
        for item in found:
            name = item.key[len(key) :].lstrip("/") or Path(item.key).name
            path = Path(temp) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            store.fetch(item.key, path)
        yield Path(temp) / Path(key).name if len(found) == 1 and found[0].key == key else Path(temp)


def ingest(store: ObjectStore, source: str, *, allow_truncated: bool = False) -> Artifact:
    """Bring the videos below ``source`` (a file, a folder, an s3:// URI) into the store; returns the set of raw videos.

    All are looked at first: when one cannot be read nothing is brought in, and a VideoError names every such file.
    A video that breaks off is refused unless ``allow_truncated`` is set.
    """
    from posewatch import video

    with local(source) as root:
        files = find_videos(root)
        looked: list[tuple[str, Path, dict[str, Any]]] = []
        bad: list[str] = []
        with Progress("ingest", len(files)) as progress:
            for name, path in files:
                try:
                    info = video.probe(path)
                    if info.truncated and not allow_truncated:
                        raise VideoError(
                            f"{name}: breaks off after {info.duration_s:.1f} s "
                            "(copy it again, or pass --allow-truncated to use what is there)"
                        )
                    about: dict[str, Any] = {
                        "width": info.width,
                        "height": info.height,
                        "fps": round(info.fps, 6),
                        "duration_s": round(info.duration_s, 6),
                        "frames": info.frames,
                    }
                    looked.append((name, path, about))
                except VideoError as error:
                    bad.append(str(error))
                progress.advance(0)
            if bad:
                count = f"{len(bad)} of {len(files)} videos cannot be used: " if len(files) > 1 else ""
                more = f" … and {len(bad) - 3} more" if len(bad) > 3 else ""
                raise VideoError(count + "; ".join(bad[:3]) + more)
            rows: dict[str, dict[str, Any]] = {}
            artifacts: dict[str, Artifact] = {}
            for name, path, about in looked:
                sha = sha256_file(path)
                record = Video(video_id(sha), name, sha, path.stat().st_size, **about)
                if record.id not in artifacts:
                    artifacts[record.id] = store_video(store, record, path)
                    rows[record.id] = {"video": record.id, "names": []}
                rows[record.id]["names"].append(name)
                progress.advance(1)
    return collect(store, "ingest", rows.values(), artifacts.values())


def store_video(store: ObjectStore, record: Video, path: Path) -> Artifact:
    """The raw artifact of one video file; what is there already is not stored again."""
    job = Job("raw", record.id, {}, prefix=f"raw/{record.id}", source=f"video sha256 {record.sha256}")
    found = find(store, job.where)
    if found is not None:
        return found

    def make(folder: Path) -> None:
        # the name is kept by the set: the same content under another name is the same video
        about = {k: v for k, v in record.to_dict().items() if k != "name"}
        (folder / "video.json").write_text(canonical(about) + "\n", encoding="utf-8")
        (folder / f"video{path.suffix.lower()}").symlink_to(path.resolve())

    return produce(store, job, make)
