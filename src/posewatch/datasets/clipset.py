"""Labelled skeleton clips in memory: what training and evaluation read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch.datasets.layouts import FLOW, WITH_FLOW
from posewatch.errors import ConfigError, InputError, LabelError
from posewatch.names import nfc
from posewatch.records import Skeleton
from posewatch.units import SCENE


@dataclass(frozen=True)
class ClipSet:
    """N labelled clips of any length.

    keypoints  N arrays float32 (M_i, T_i, V, 3): x, y in pixels and a score in [0, 1]; absent persons are zero; with a
               ``layout`` that ends with "+flow" the last columns are no joints (``perception/flow.py``)
    labels     int64 (N,), indices into ``classes``
    classes    names in the composed Unicode form
    groups     N names of source videos, or of subjects joined by "+"; a split keeps each on one side
    fps        frames per second that the clips were sampled at
    takes      N groups as the file writes them (s05s03 is of the group s03+s05); empty: the same as ``groups``
    certain    whether the groups were given, not guessed from the clips' names
    notes      remarks for the user on how the clips were read
    sources    what gave each label ("human", "verdict", ...), where that is known
    unit       what each clip shows: "scene", or "person" where it is one person (M is 1)
    acts       what is done in each clip, finer than its class ("lie_down"), "" where nobody says; or none
    relative   whether x and y are no pixels, but relative to each person's hips in every frame
    """

    keypoints: tuple[NDArray[np.float32], ...]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    ids: tuple[str, ...]
    groups: tuple[str, ...]
    fps: float = 10.0
    layout: str = "coco17"
    takes: tuple[str, ...] = ()
    certain: bool = False
    notes: tuple[str, ...] = ()
    unit: str = SCENE
    relative: bool = False
    sources: tuple[str, ...] = ()
    acts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(map(nfc, self.classes)))
        n = len(self.keypoints)
        if not len(self.labels) == len(self.ids) == len(self.groups) == n:
            raise InputError(
                f"{n} clips need as many labels, ids and groups, not {len(self.labels)}, {len(self.ids)}, "
                f"{len(self.groups)}"
            )
        for what, given in (("takes", self.takes), ("sources", self.sources), ("acts", self.acts)):
            if len(given) not in (0, n):
                raise InputError(f"{n} clips need as many {what}, or none, not {len(given)}")
        if len(self.classes) < 2 or len(set(self.classes)) != len(self.classes):
            raise LabelError(f"a recogniser needs at least two different classes, not {', '.join(self.classes)!r}")
        outside = [int(k) for k in self.labels if not 0 <= k < len(self.classes)]
        if outside:
            raise LabelError(f"label {outside[0]} is none of the {len(self.classes)} classes {', '.join(self.classes)}")
        for name, k in zip(self.ids, self.keypoints, strict=True):
            if k.ndim != 4 or k.shape[3] != 3 or not all(k.shape):
                raise InputError(
                    f"clip {name}: keypoints must be (M, T, V, 3) with a person and a frame, not {k.shape}"
                )
            if k.shape[2] != self.keypoints[0].shape[2]:
                raise InputError(f"clip {name} has {k.shape[2]} joints, the first clip {self.keypoints[0].shape[2]}")
            if not np.isfinite(k).all():
                raise InputError(
                    f"clip {name}: keypoints hold NaN or infinite values (give missing joints a score of 0)"
                )

    def __len__(self) -> int:
        return len(self.keypoints)

    @property
    def flow(self) -> int:
        """How many of the V columns tell how pixels move, after the joints."""
        return FLOW if self.layout.endswith(WITH_FLOW) else 0

    def with_flow(self, flow: int) -> ClipSet:
        """The same clips with ``flow`` such columns: cut off, or added as not measured (0)."""
        if flow == self.flow:
            return self
        layout = self.layout.removesuffix(WITH_FLOW) + (WITH_FLOW if flow else "")
        return replace(self, keypoints=tuple(with_flow(k, self.flow, flow) for k in self.keypoints), layout=layout)

    def seen(self) -> NDArray[np.bool_]:
        """(N,): whether anybody is seen in a clip, for two frames at least: what can be trained on."""
        return np.array([k.shape[1] > 1 and bool(k[..., 2].any()) for k in self.keypoints], bool)

    def subset(self, indices: Sequence[int] | NDArray[Any]) -> ClipSet:
        """The clips at ``indices``, in that order."""
        i = [int(k) for k in indices]
        return replace(
            self,
            keypoints=tuple(self.keypoints[k] for k in i),
            labels=self.labels[i],
            ids=tuple(self.ids[k] for k in i),
            groups=tuple(self.groups[k] for k in i),
            takes=tuple(self.takes[k] for k in i) if self.takes else (),
            sources=tuple(self.sources[k] for k in i) if self.sources else (),
            acts=tuple(self.acts[k] for k in i) if self.acts else (),
        )

    def require_pixels(self, features: str) -> None:
        """Raises ConfigError for relative clips and a network with other ``features`` than "hips": it would see numbers
        that no camera gives."""
        if self.relative and features != "hips":
            raise ConfigError(
                f"the clips' coordinates are relative to the hips, the network's features are {features!r}: it needs "
                "train.features=hips, which makes pixels relative in the same way"
            )

    def joined(self, other: ClipSet) -> ClipSet:
        """These clips, then ``other``'s; classes, layout, fps, unit and notes are those of these."""
        takes = self.takes + other.takes if len(self.takes) == len(self) and len(other.takes) == len(other) else ()
        known = len(self.sources) == len(self) and len(other.sources) == len(other)
        return replace(
            self,
            keypoints=self.keypoints + other.keypoints,
            labels=np.concatenate([self.labels, other.labels]),
            ids=self.ids + other.ids,
            groups=self.groups + other.groups,
            takes=takes,
            sources=self.sources + other.sources if known else (),
            acts=self.acts + other.acts if len(self.acts) == len(self) and len(other.acts) == len(other) else (),
            certain=self.certain and other.certain,
        )


def levelled(skeletons: Sequence[Skeleton]) -> tuple[list[NDArray[np.float32]], str]:
    """The columns (M, T, V, 3) of each skeleton, all with flow where one has it, and the name of their layout."""
    flow = FLOW if any(one.flow is not None for one in skeletons) else 0
    clips = [with_flow(one.columns, 0 if one.flow is None else FLOW, flow) for one in skeletons]
    return clips, min(one.layout for one in skeletons) + (WITH_FLOW if flow else "")


def with_flow(clip: NDArray[np.float32], have: int, want: int) -> NDArray[np.float32]:
    """A clip (M, T, V, 3) whose last ``have`` columns are flow, with ``want`` of them: cut, or not measured (0)."""
    if have == want:
        return clip
    joints = clip[:, :, : clip.shape[2] - have]
    return np.pad(joints, ((0, 0), (0, 0), (0, want), (0, 0))) if want else joints
