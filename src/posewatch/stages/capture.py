"""A camera's stream into the store: segments of a fixed length become raw videos as soon as each is complete.

What was recorded under a name is noted in the store (``captures/<name>/``), so a recording that was interrupted goes
on where it stopped: the seconds that are there count, and the set holds them too.
"""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from posewatch.artifact import Artifact, collect, find, sha256_file
from posewatch.digests import canonical
from posewatch.errors import InputError, StoreError, VideoError
from posewatch.progress import Progress
from posewatch.records import Video, video_id
from posewatch.stages.ingest import store_video
from posewatch.store import ObjectStore


def name_of(url: str) -> str:
    """What a camera is called when nobody names it: host and path of its address, without secrets."""
    parts = urlsplit(url)
    return re.sub(r"[^A-Za-z0-9]+", "-", f"{parts.hostname or ''}{parts.path}").strip("-").lower() or "camera"


def capture(
    store: ObjectStore,
    url: str,
    *,
    duration_s: float,
    segment_s: float = 60.0,
    name: str = "",
    patience_s: float = 60.0,
) -> Artifact:
    """Record ``duration_s`` seconds from ``url`` in segments of ``segment_s``; returns the set of raw videos.

    Ctrl-C ends the recording early: the set then holds what is complete. Raises InputError for a bad name, VideoError
    when the camera stays silent for ``patience_s`` seconds and nothing was recorded.
    """
    from posewatch import video
    from posewatch.video import capture as camera

    name = name or name_of(url)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise InputError(f"bad camera name {name!r} (letters, digits, '.', '_' and '-')")
    journal = f"captures/{name}"
    rows = [json.loads(store.get(o.key)) for o in store.list(f"{journal}/")]
    seconds = sum(row["seconds"] for row in rows)
    with Progress("capture", round(duration_s), "s") as progress, tempfile.TemporaryDirectory() as temp:
        progress.advance(round(min(seconds, duration_s)), "recorded before" if rows else "")
        left = duration_s - seconds
        try:
            if left > 0.01:
                for piece in camera.capture(url, Path(temp), segment_s, left, patience_s=patience_s):
                    stamp = piece.path.stem
                    info = video.probe(piece.path)
                    sha = sha256_file(piece.path)
                    record = Video(
                        video_id(sha), f"{name}/{stamp}", sha, piece.path.stat().st_size, info.width, info.height,
                        round(info.fps, 6), round(info.duration_s, 6), info.frames,
                    )  # fmt: skip
                    artifact = store_video(store, record, piece.path)
                    piece.path.unlink()
                    row = {"video": record.id, "name": record.name, "seconds": piece.seconds, "prefix": artifact.prefix}
                    store.put(f"{journal}/{stamp}.json", (canonical(row) + "\n").encode())
                    rows.append(row)
                    progress.advance(round(piece.seconds), f"{len(rows)} segments")
        except KeyboardInterrupt:
            progress.say(f"recording ended; {len(rows)} segments are kept")
        except VideoError as error:
            if not rows:
                raise
            progress.say(f"{error}; {len(rows)} segments are kept")
    if not rows:
        raise VideoError(f"nothing was recorded from {camera.without_secrets(url)} (give it more time)")
    members: dict[str, tuple[dict[str, object], Artifact]] = {}
    for row in sorted(rows, key=lambda r: str(r["name"])):
        found = find(store, row["prefix"])
        if found is None:
            raise StoreError(f"{store.uri}/{row['prefix']} is gone, though {journal} names it (delete {journal})")
        kept = members.setdefault(row["video"], ({"video": row["video"], "names": []}, found))
        kept[0]["names"].append(row["name"])  # type: ignore[attr-defined]
    return collect(store, "ingest", [row for row, _ in members.values()], [a for _, a in members.values()])
