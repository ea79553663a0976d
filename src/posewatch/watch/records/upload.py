"""Closed records go from the spool to the object store, for as long as it takes; old ones are deleted there."""

from __future__ import annotations

import json
import logging
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from posewatch import alarms, video
from posewatch.artifact import Artifact, Job, find, publish
from posewatch.digests import canonical
from posewatch.errors import PosewatchError, StoreError, first_line
from posewatch.lineage import published
from posewatch.retry import retry
from posewatch.store import ObjectStore
from posewatch.watch.records.spool import PEOPLE, Spool, lines, windows_of

FIRST_S, MAX_S = 1.0, 60.0
"""Backoff after the first failed attempt, at most, and the longest one."""
PRUNE_S = 3600.0
"""Between two deletions of old records."""
GAP_S = 2.0
"""Pictures further apart than this follow each other in a clip."""
_SPOOLED = ("message", "closed")
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class RecordSettings:
    """``near_misses`` and ``samples`` are records without an alarm per hour; ``raw`` keeps the clip as it is, too.

    Records of cameras older than ``keep_days`` days are deleted (0: never), but for those with a verdict.
    """

    near_misses: float = 4.0
    samples: float = 1.0
    raw: bool = False
    keep_days: int = 0


class Records:
    """Stores the closed records of ``spool`` from a thread, until ``close``; then what is left waits for the next one.

    ``store`` opens the object store: one that is away is tried again with backoff. ``stored`` and ``failures`` count.
    """

    def __init__(self, spool: Spool, store: Callable[[], ObjectStore], settings: RecordSettings, camera: str) -> None:
        self.spool, self.settings, self._open, self._camera = spool, settings, store, camera
        self.stored = self.failures = 0
        self.news, self._closing = threading.Event(), threading.Event()
        self._store: ObjectStore | None = None
        self._models: dict[str, Artifact | None] = {}
        self._pruned_s = -PRUNE_S
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Records that are not in the store yet."""
        return len(self.spool.folders())

    def drain(self, timeout_s: float) -> int:
        """Wait until all closed records are stored, at most ``timeout_s`` seconds; returns how many are left."""
        end = time.monotonic() + timeout_s
        while (left := self.waiting) and time.monotonic() < end and self._thread.is_alive():
            time.sleep(0.05)
        return left

    def close(self) -> None:
        """Stop after the attempt that is under way."""
        self._closing.set()
        self.news.set()
        self._thread.join(30)
        self.spool.close()

    def _run(self) -> None:
        while not self._closing.is_set():
            self.news.clear()
            self._attempt(self._prune)
            for folder in self.spool.folders():
                if not self._closing.is_set():
                    self._attempt(partial(self._take, folder))
            self.news.wait(PRUNE_S)

    def _attempt(self, call: Callable[[], None]) -> None:
        """Do something with the store, again and again while it is away; gives up on ``close``."""
        silent = False

        def passes(error: BaseException) -> bool:
            nonlocal silent
            if self._closing.is_set() or not isinstance(error, (StoreError, OSError)):
                return False
            self.failures += 1
            if not silent:
                _LOG.warning("records wait, the store does not take them: %s", first_line(error))
            silent = True
            return True

        try:
            retry(call, passes, first_s=FIRST_S, max_s=MAX_S, sleep=self._sleep)
        except (PosewatchError, OSError) as error:
            if not self._closing.is_set():
                self.failures += 1
                _LOG.warning("records: %s", first_line(error))
        else:
            if silent:
                _LOG.warning("the store takes records again")

    def _sleep(self, seconds: float) -> None:
        self._closing.wait(seconds)

    @property
    def _objects(self) -> ObjectStore:
        if self._store is None:
            self._store = self._open()
        return self._store

    def _take(self, folder: Path) -> None:
        """Store a record that is closed, and delete it here; one that is stored already is only deleted."""
        try:
            about = self.spool.read(folder)
            if not about.get("closed"):
                return
            began = about.get("began")
            prefix = alarms.key_of(about["camera"], began and datetime.fromisoformat(began), about["id"])
        except (ValueError, KeyError, TypeError) as error:
            _LOG.warning("record %s: %s; put aside as %s", folder.name, error, self.spool.refuse(folder))
            return
        if find(self._objects, prefix) is None:
            self._publish(folder, about, prefix)
            self.stored += 1
        self.spool.remove(folder)

    def _publish(self, folder: Path, about: dict[str, Any], prefix: str) -> None:
        model = self._model(about["model"].get("release", ""))
        rows: list[dict[str, Any]] = []
        arrays: dict[str, Any] = {}
        for row, keypoints in windows_of(folder):
            if keypoints is not None:
                row["keypoints"] = f"w{len(rows):05d}"
                arrays[row["keypoints"]] = keypoints
            rows.append(row)
        with tempfile.TemporaryDirectory(prefix="posewatch-") as temp:
            place = Path(temp)
            clip = _clips(folder, place, about["watch"]["fps"])
            np.savez_compressed(place / alarms.WINDOWS, **arrays)
            people = [row for row in lines(folder / PEOPLE)]
            (place / alarms.PEOPLE).write_text("".join(canonical(row) + "\n" for row in people), encoding="utf-8")
            told = {key: value for key, value in about.items() if key not in _SPOOLED}
            told["model"] = {**about["model"], **({"uri": model.uri} if model else {})}
            told |= {"windows": rows, "clip": clip, "stored": datetime.now(UTC).isoformat(timespec="milliseconds")}
            (place / alarms.ABOUT).write_text(json.dumps(told, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
            unit = prefix.split("/")[1]
            job = Job(
                alarms.ROOT, unit, about["watch"], (model,) if model else (), fixed_prefix=prefix,
                source="" if model else about["model"].get("lineage", ""),
            )  # fmt: skip
            publish(self._objects, job, place)

    def _model(self, release: str) -> Artifact | None:
        """The published version that scored a record, when this store has it."""
        if not release:
            return None
        if self._models.get(release) is None:
            self._models[release] = published(self._objects, release)
        return self._models[release]

    def _prune(self) -> None:
        if not self.settings.keep_days or time.monotonic() - self._pruned_s < PRUNE_S:
            return
        before = (datetime.now(UTC) - timedelta(days=self.settings.keep_days)).date()
        if gone := alarms.prune(self._objects, before, camera=self._camera):
            _LOG.warning("%s: %d records from before %s were deleted", self._camera, len(gone), before)
        self._pruned_s = time.monotonic()


def _clips(folder: Path, place: Path, fps: float) -> dict[str, Any] | None:
    """Make the clips from their pictures; returns what alarm.json says of them. A picture that is missing or was cut
    off is the one before it."""
    import cv2

    about = None
    times = {row["index"]: row["time_s"] for row in lines(folder / PEOPLE)}
    for name, file in (("masked", alarms.MASKED), ("raw", alarms.RAW)):
        pictures = sorted((folder / name).glob("*.jpg"))
        writer: video.Writer | None = None
        last: Any = None
        index, first = -1, 0
        for path in pictures:
            decoded = cv2.imread(str(path))
            if decoded is None:
                continue
            even = decoded[: decoded.shape[0] // 2 * 2, : decoded.shape[1] // 2 * 2]
            image = np.asarray(cv2.cvtColor(even, cv2.COLOR_BGR2RGB), np.uint8)
            here = int(path.stem)
            if writer is None:
                writer, first = video.Writer(place / file, fps, (image.shape[1], image.shape[0])).__enter__(), here
            elif image.shape != last.shape:
                continue
            elif 1 < here - index <= GAP_S * fps:
                for _ in range(here - index - 1):
                    writer.write(last)
            writer.write(image)
            index, last = here, image
        if writer is not None:
            writer.__exit__(None, None, None)
            if about is None:
                about = {
                    "start_s": times.get(first, round(first / fps, 3)), "fps": fps, "frames": writer.frames,
                    "width": last.shape[1], "height": last.shape[0],
                }  # fmt: skip
    return about
