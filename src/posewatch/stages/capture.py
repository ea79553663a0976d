"""Ingest from a camera: its stream becomes raw videos of a fixed length, each stored as soon as it is complete.

A journal in the store (``captures/<name>/``) lists the segments of a recording, so an interrupted recording goes on
where it stopped: the recorded seconds count, and the set holds those segments too.
"""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path

from posewatch.addresses import name_of, with_environment, without_secrets
from posewatch.artifact import Artifact, find
from posewatch.digests import canonical
from posewatch.errors import InputError, StoreError, VideoError
from posewatch.progress import Progress
from posewatch.stages.ingest import ingest, record_of, set_of, store_video
from posewatch.store import ObjectStore


def raw_videos(
    store: ObjectStore,
    source: str,
    *,
    duration_s: float = 0.0,
    segment_s: float = 60.0,
    name: str = "",
    run: str = "",
    allow_truncated: bool = False,
) -> Artifact:
    """The set of raw videos below ``source`` (a file, a folder, an s3:// URI), or of what a camera sends from now on.

    A camera's recording is called ``name``; without one, by its address and ``run``, so that another run records anew.
    Raises InputError for a camera without ``duration_s``.
    """
    from posewatch.video.capture import is_stream

    if not is_stream(source):
        return ingest(store, source, allow_truncated=allow_truncated)
    if not duration_s:
        raise InputError(
            f"give the time to record {without_secrets(source)}: --duration SECONDS, in a pipeline source_seconds"
        )
    url = with_environment(source)
    name = name or "-".join(filter(None, (name_of(url), run)))
    return capture(store, url, duration_s=duration_s, segment_s=segment_s, name=name)


def capture(
    store: ObjectStore,
    url: str,
    *,
    duration_s: float,
    segment_s: float = 60.0,
    name: str = "",
    timeout_s: float = 60.0,
) -> Artifact:
    """Record ``duration_s`` seconds from ``url`` in segments of ``segment_s``; returns the set of raw videos.

    Ctrl-C ends the recording early: the set then holds the complete segments. Raises InputError for a bad name,
    VideoError when the camera sends nothing for ``timeout_s`` seconds and nothing was recorded.
    """
    from posewatch import video
    from posewatch.video import capture as camera

    name = name or name_of(url)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise InputError(f"bad camera name {name!r} (letters, digits, '.', '_' and '-')")
    journal = f"captures/{name}"
    rows = [json.loads(store.get(o.key)) for o in store.list(f"{journal}/")]
    recorded_s = sum(row["seconds"] for row in rows)
    with (
        Progress("capture", round(duration_s), "s") as progress,
        tempfile.TemporaryDirectory(prefix="posewatch-") as temp,
    ):
        progress.advance(round(min(recorded_s, duration_s)), "recorded before" if rows else "", before=True)
        remaining_s = duration_s - recorded_s
        try:
            if remaining_s > 0.01:
                for segment in camera.capture(url, Path(temp), segment_s, remaining_s, timeout_s=timeout_s):
                    stamp = segment.path.stem
                    record = record_of(f"{name}/{stamp}", segment.path, video.probe(segment.path))
                    prefix = store_video(store, record, segment.path).prefix
                    segment.path.unlink()
                    row = {"video": record.id, "name": record.name, "seconds": segment.seconds, "prefix": prefix}
                    store.put(f"{journal}/{stamp}.json", (canonical(row) + "\n").encode())
                    rows.append(row)
                    progress.advance(round(segment.seconds), f"{len(rows)} segments")
        except KeyboardInterrupt:
            progress.say(f"recording ended; {len(rows)} segments are stored")
        except VideoError as error:
            if not rows:
                raise
            progress.say(f"{error}; {len(rows)} segments are stored")
    if not rows:
        raise VideoError(f"nothing was recorded from {without_secrets(url)} (give it more time)")
    found = []
    for row in sorted(rows, key=lambda r: str(r["name"])):
        artifact = find(store, row["prefix"])
        if artifact is None:
            raise StoreError(f"{store.uri}/{row['prefix']} is missing, but {journal} lists it (delete {journal})")
        found.append((row["video"], row["name"], artifact))
    return set_of(store, found)
