"""ByteTrack (Zhang et al., ECCV 2022) in Ultralytics' implementation: persons followed by motion and overlap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch.errors import PosewatchError
from posewatch.perception.networks.yolo import load_ultralytics
from posewatch.records import Detections


@dataclass
class _Boxes:
    """The tracker's input: boxes as centre and size (N, 4), scores and classes (N,)."""

    xywh: NDArray[np.float32]
    conf: NDArray[np.float32]
    cls: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.conf)

    def __getitem__(self, chosen: Any) -> _Boxes:
        return _Boxes(self.xywh[chosen], self.conf[chosen], self.cls[chosen])


class ByteTrack:
    """Adds track ids to the detections of successive frames. A new person needs the score ``start``; a lost one keeps
    its id for ``hold`` frames."""

    def __init__(self, start: float, hold: int) -> None:
        load_ultralytics()
        try:
            from ultralytics.trackers.byte_tracker import BYTETracker
            from ultralytics.utils import IterableSimpleNamespace
        except ImportError:
            raise PosewatchError("ByteTrack needs Ultralytics and lap: pip install 'posewatch[yolo]'") from None
        self._tracker = BYTETracker(
            IterableSimpleNamespace(
                tracker_type="bytetrack", track_high_thresh=start, track_low_thresh=min(0.1, start),
                new_track_thresh=start, track_buffer=max(1, hold), match_thresh=0.8, fuse_score=True,
            )
        )  # fmt: skip

    def update(self, found: Detections) -> Detections:
        """The tracked persons of the next frame, sorted by their ``ids``."""
        boxes = found.boxes.astype(np.float32)
        size = boxes[:, 2:] - boxes[:, :2]
        boxes_xywh = _Boxes(
            np.concatenate([boxes[:, :2] + size / 2, size], 1), found.scores, np.zeros(len(found), np.float32)
        )
        rows = np.asarray(self._tracker.update(boxes_xywh), np.float64).reshape(-1, 8)  # box, id, score, class, index
        rows = rows[np.argsort(rows[:, 4], kind="stable")]
        chosen = found.pick([int(i) for i in rows[:, 7]])
        return Detections(chosen.boxes, chosen.scores, chosen.keypoints, rows[:, 4].astype(np.int64))
