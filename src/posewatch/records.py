"""The frozen records that stages exchange; each checks its shapes and ranges on construction."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from posewatch.errors import InputError

Source = Literal["human", "bulk", "verdict", "import", "model"]
SOURCES: tuple[Source, ...] = ("human", "bulk", "verdict", "import", "model")
"""A person, one act on many clips, an operator's verdict on an alarm, a label file, a model."""


def _require(ok: bool, message: str) -> None:
    if not ok:
        raise InputError(message)


def video_id(sha256: str) -> str:
    """Id of a video, derived from its content: the same file never makes a second copy."""
    _require(len(sha256) == 64, f"a video's sha256 has 64 hex digits, not {len(sha256)}")
    return f"v-{sha256[:16]}"


def clip_id(video: str, start_s: float, length_s: float, person: int | None = None) -> str:
    """Id of a clip, derived from its video, start and length (milliseconds) and the person that it shows alone (None:
    the scene), whatever the masking was."""
    text = f"{video}/{round(start_s * 1000)}/{round(length_s * 1000)}" + ("" if person is None else f"/{person}")
    return f"c-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


@dataclass(frozen=True)
class Video:
    """A raw video in the store.

    ``fps`` is the mean frame rate in frames per second, ``duration_s`` the length in seconds that a player shows,
    ``name`` the path that the user knows it by (labels refer to it), ``gaps`` (start, length) in seconds of stretches
    without a picture.
    """

    id: str
    name: str
    sha256: str
    bytes: int
    width: int
    height: int
    fps: float
    duration_s: float
    frames: int
    gaps: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        _require(self.id == video_id(self.sha256), f"video id {self.id!r} does not follow from its sha256")
        _require(self.width > 0 and self.height > 0, f"video {self.name!r} has size {self.width}x{self.height}")
        _require(self.fps > 0 and self.duration_s > 0, f"video {self.name!r} has no duration or frame rate")

    def to_dict(self) -> dict[str, Any]:
        """Without ``gaps`` where there are none, as before there were gaps: the same video keeps its digest."""
        return {k: v for k, v in asdict(self).items() if k != "gaps" or v}


@dataclass(frozen=True)
class Clip:
    """A stretch of one masked video: [start_s, start_s + length_s) seconds of the raw one, shown to labelers.

    ``people`` is the mean number of persons found per frame; 0 means that nobody is visible. ``person``, from 1, is the
    tracked person of the video that the clip shows alone; None: it shows the scene.
    """

    id: str
    video_id: str
    start_s: float
    length_s: float
    fps: float
    frames: int
    width: int
    height: int
    people: float = 0.0
    person: int | None = None

    def __post_init__(self) -> None:
        _require(
            self.person is None or self.person >= 1, f"clip {self.id}: person {self.person} is not a number from 1"
        )
        _require(
            self.start_s >= 0 and self.length_s > 0, f"clip {self.id}: start {self.start_s}, length {self.length_s}"
        )
        _require(
            self.id == clip_id(self.video_id, self.start_s, self.length_s, self.person),
            f"clip id {self.id!r} does not follow from its video, start, length and person",
        )
        _require(self.frames > 0, f"clip {self.id} has no frames")

    @property
    def end_s(self) -> float:
        return self.start_s + self.length_s

    @property
    def place(self) -> tuple[float, float, int]:
        """Orders the clips of a video: start, length, person."""
        return self.start_s, self.length_s, self.person or 0

    def to_dict(self) -> dict[str, Any]:
        """Without ``person`` where it is None, as before there were clips of persons."""
        return {k: v for k, v in asdict(self).items() if k != "person" or v is not None}


@dataclass(frozen=True)
class Detections:
    """Persons found in one frame.

    boxes      float32 (P, 4)      x1, y1, x2, y2 in pixels of the frame
    scores     float32 (P,)        in [0, 1]
    keypoints  float32 (P, V, 3)   x, y in pixels, score in [0, 1]; None when the detector gives boxes only
    ids        int64 (P,)          who is who from frame to frame; None when the detector does not follow persons
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    keypoints: NDArray[np.float32] | None = None
    ids: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        p = len(self.boxes)
        _require(self.boxes.shape == (p, 4), f"boxes must be (P, 4), not {self.boxes.shape}")
        _require(self.scores.shape == (p,), f"scores must be ({p},), not {self.scores.shape}")
        if self.keypoints is not None:
            shape = self.keypoints.shape
            _require(len(shape) == 3 and shape[0] == p and shape[2] == 3, f"keypoints must be ({p}, V, 3), not {shape}")
        if self.ids is not None:
            _require(self.ids.shape == (p,), f"ids must be ({p},), not {self.ids.shape}")

    def pick(self, indices: Sequence[int]) -> Detections:
        """Some of the persons, in the given order."""
        chosen = list(indices)
        keypoints = None if self.keypoints is None else self.keypoints[chosen]
        return Detections(
            self.boxes[chosen], self.scores[chosen], keypoints, None if self.ids is None else self.ids[chosen]
        )

    @classmethod
    def none(cls, joints: int | None = None) -> Detections:
        """No persons; ``joints`` gives V when the detector has keypoints."""
        keypoints = None if joints is None else np.zeros((0, joints, 3), np.float32)
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), keypoints)

    def __len__(self) -> int:
        return len(self.boxes)


@dataclass(frozen=True)
class Skeleton:
    """The skeletons of one clip.

    ``keypoints`` float32 (M, T, V, 3): x, y in pixels and a score in [0, 1], M persons by track (most present first,
    absent persons all zero), T frames at ``fps``, V joints in the order of ``layout``. ``flow`` float32 (M, T, FLOW,
    3), where it was measured, tells how their pixels move (``perception/flow.py``).
    """

    keypoints: NDArray[np.float32]
    fps: float
    width: int
    height: int
    layout: str = "coco17"
    flow: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        k = self.keypoints
        _require(k.ndim == 4 and k.shape[3] == 3, f"keypoints must be (M, T, V, 3), not {k.shape}")
        _require(k.dtype == np.float32, f"keypoints must be float32, not {k.dtype}")
        _require(k.shape[0] >= 1 and k.shape[1] >= 1, f"keypoints need a person and a frame, shape is {k.shape}")
        _require(bool(np.isfinite(k).all()), "keypoints hold NaN or infinite values")
        score = k[..., 2]
        _require(bool((score >= 0).all() and (score <= 1).all()), "keypoint scores must lie in [0, 1]")
        _require(self.fps > 0 and self.width > 0 and self.height > 0, "a skeleton needs fps and the frame size")
        if self.flow is not None:
            shape = (*k.shape[:2], 3)
            _require(self.flow.shape[:2] + self.flow.shape[3:] == shape, f"flow {self.flow.shape} is not of {k.shape}")

    @property
    def columns(self) -> NDArray[np.float32]:
        """Joints and, where it was measured, flow: (M, T, V + FLOW, 3), what a model takes."""
        return self.keypoints if self.flow is None else np.concatenate([self.keypoints, self.flow], 2)

    @property
    def persons(self) -> int:
        """How many of the M persons are ever seen."""
        return int((self.keypoints[..., 2] > 0).any(axis=(1, 2)).sum())


@dataclass(frozen=True)
class LabelEvent:
    """One act of labelling; events are only ever appended and the current label is a fold over them.

    ``new`` None means that the label was taken back (undo). ``when`` is an ISO 8601 time in UTC, ``act`` how it was
    done (key, dropdown, brush, rest of the page, adjudicate, ...). Events of one act share its ``batch``. ``undoes`` is
    the ``id`` (of the store) of the event that an undo takes back or a redo brings back.
    """

    clip_id: str
    old: str | None
    new: str | None
    who: str
    when: str
    source: Source
    model_version: str | None = None
    act: str = "label"
    batch: str | None = None
    undoes: int | None = None
    id: int = field(default=0, compare=False)

    def __post_init__(self) -> None:
        _require(self.source in SOURCES, f"label source {self.source!r} is none of {', '.join(SOURCES)}")
        _require(bool(self.who), "a label event needs the person who labelled (who)")
        _require(self.source != "model" or bool(self.model_version), "a model's label needs its model_version")

    @property
    def reverts(self) -> int:
        """The event that an undo of this one names: itself, or the one that it takes back or brings back."""
        return self.id if self.undoes is None else self.undoes


@dataclass(frozen=True)
class Prediction:
    """A model's predictions of N clips.

    probabilities  float32 (N, K), rows sum to 1, columns in the order of ``labels``
    embedding      float32 (N, D), or None when the model gives none
    novelty        float32 (N,), how strange each clip is to the model (above 1: like nothing it knows), or None
    """

    probabilities: NDArray[np.float32]
    labels: tuple[str, ...]
    embedding: NDArray[np.float32] | None = None
    novelty: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        p = self.probabilities
        _require(
            p.ndim == 2 and p.shape[1] == len(self.labels),
            f"probabilities must be (N, {len(self.labels)}), not {p.shape}",
        )
        _require(bool(np.allclose(p.sum(1), 1, atol=1e-3)), "probabilities do not sum to 1")
        if self.embedding is not None:
            _require(self.embedding.ndim == 2 and len(self.embedding) == len(p), "embedding must be (N, D)")
        if self.novelty is not None:
            _require(self.novelty.shape == (len(p),), "novelty must be (N,)")


@dataclass(frozen=True)
class Parent:
    """A parent of an artifact: its prefix in the same store and the sha256 of its manifest."""

    prefix: str
    digest: str


@dataclass(frozen=True)
class Lineage:
    """Where an artifact comes from; stored beside it as ``lineage.json``.

    ``config`` holds the stage's settings, ``weights`` maps a weights name to {"sha256", "licence"}, ``source`` is the
    origin of an artifact without parents. No clock and no host in it: the same input gives the same bytes.
    """

    stage: str
    unit: str
    config: dict[str, Any]
    parents: tuple[Parent, ...] = ()
    code_version: str = ""
    weights: dict[str, dict[str, str]] = field(default_factory=dict)
    source: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Lineage:
        return cls(**{**data, "parents": tuple(Parent(**p) for p in data.get("parents", ()))})
