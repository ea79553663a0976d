"""Files of poses from other tools → skeletons to train on: people are followed, sizes and joint layouts settled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch.config import PoseConfig
from posewatch.datasets import layouts
from posewatch.datasets.annotations import BY_JOINTS, count, some
from posewatch.datasets.clipset import ClipSet
from posewatch.datasets.layouts import Layout
from posewatch.datasets.paper import sources_of
from posewatch.datasets.subjects import name_subjects
from posewatch.errors import InputError
from posewatch.perception.poses import contents, mmpose, recognised, ultralytics
from posewatch.perception.poses.clip import PoseClip
from posewatch.perception.skeletons import follow
from posewatch.perception.tracking.identities import follow_one, track
from posewatch.progress import Progress
from posewatch.records import Detections

Floats = NDArray[np.float32]

COCO_FIRST = (17, 26, 68, 133, 136)
"""Numbers of joints of the sets that begin with COCO's 17: COCO itself, Halpe-26 without and with hands,
COCO-WholeBody, Halpe-136."""
_BEGINNINGS = ("coco17", "coco20", "halpe26")
"""Layouts that such a set may begin with."""
_IN_PICTURE = 1.5
"""A clip whose coordinates are all below this is in shares of the picture, not in pixels."""
_LEAST = 3
"""A person in fewer frames is taken for a false detection, as among our own detections."""


@dataclass(frozen=True)
class Imported:
    """The clips; their frames' sizes (height, width), where known; splits by index; names of clips in which nobody is
    seen; lines for the user; whether the files say the clips' classes."""

    clips: ClipSet
    sizes: tuple[tuple[int, int] | None, ...]
    splits: Mapping[str, Sequence[int]]
    empty: tuple[str, ...]
    notes: tuple[str, ...]
    labelled: bool

    def subset(self, indices: Sequence[int]) -> Imported:
        """The clips at ``indices``, in that order, which are a sorted part of all."""
        place = {old: new for new, old in enumerate(indices)}
        return replace(
            self,
            clips=self.clips.subset(indices),
            sizes=tuple(self.sizes[i] for i in indices),
            splits={part: [place[i] for i in members if i in place] for part, members in self.splits.items()},
        )


def read_poses(
    source: Path | str,
    config: PoseConfig,
    people: int,
    fps: float,
    layout: Layout | None = None,
    size: tuple[int, int] | None = None,
) -> Imported:
    """Every clip of a file or folder of poses as skeletons (M, T, V, 3), ``people`` being M.

    Persons whom the files follow keep their tracks, others are followed from frame to frame. ``layout`` is that of the
    joints (default: what the format says, else by their number), ``size`` the frames' (height, width) for coordinates
    that are shares of them. Without classes in the files all clips are of the first of two nameless ones. Raises
    InputError for an unknown format, and where there is nobody.
    """
    source = Path(source)
    format, files = recognised(source)
    read = format.read
    if read is ultralytics.read_text and layout is not None:
        read = partial(ultralytics.read_text, joints=layout.observed)
    empty: list[str] = []
    kept: list[tuple[PoseClip, Floats]] = []
    taken: Layout | None = None
    first: PoseClip | None = None
    longest = cut = 0
    with Progress("read", len(files), "file") as progress:
        for clip in read(_counted(contents(format, files), progress)):
            longest = max(longest, len(clip.frames) if isinstance(clip.frames, Sequence) else clip.frames.shape[1])
            if not clip.joints:
                empty.append(clip.name)
                continue
            clip = _settled(clip)
            if taken is None or first is None or clip.joints != first.joints or clip.layout != first.layout:
                own = _layout(clip, layout)
                if taken is not None and first is not None and own != taken:
                    raise InputError(
                        f"{clip.where} has {clip.joints} joints ({own.name}), {first.where} {first.joints} "
                        f"({taken.name}): one folder for each"
                    )
                taken, first = own, clip
            cut = max(cut, clip.joints if clip.joints > taken.observed else 0)
            keypoints = _in_pixels(_tracks(_cut(clip, taken.observed), config, people), clip, size)
            if keypoints.shape[1] > 1 and keypoints[..., 2].any():
                kept.append((replace(clip, frames=(), size=clip.size or size), keypoints))
            else:
                empty.append(clip.name)
    if not kept or taken is None:
        raise InputError(_nobody(source, len(files), longest))
    notes = [f"{format.name}: joints are {taken.name}, {taken.observed} of them."]
    if cut:
        notes.append(f"Of {cut} joints the first {taken.observed} are taken (all of them: --layout).")
    return _imported(kept, taken, people, fps, empty, notes, read is mmpose.read)


def _counted(found: Iterable[tuple[Path, Any]], progress: Progress) -> Iterator[tuple[Path, Any]]:
    for one in found:
        yield one
        progress.advance()


def _imported(
    kept: Sequence[tuple[PoseClip, Floats]],
    taken: Layout,
    people: int,
    fps: float,
    empty: Sequence[str],
    notes: Sequence[str],
    cut_from_videos: bool,
) -> Imported:
    """``cut_from_videos``: clips are named <video>_<person>_<clip>, as the paper's tools have them for MMPose; else a
    clip is a video of its own, in the groups that `subjects` guesses."""
    clips = [clip for clip, _ in kept]
    names = _names(clips)
    labels, classes = _labels(clips)
    guessed = name_subjects([{"frame_dir": name} for name in names], names).groups
    groups = sources_of(names) if cut_from_videos else guessed
    parts = dict.fromkeys(clip.part for clip in clips if clip.part)
    splits = {part: [i for i, clip in enumerate(clips) if clip.part == part] for part in parts}
    made = ClipSet(
        tuple(keypoints for _, keypoints in kept),
        labels,
        classes,
        names,
        groups,
        fps,
        taken.name,
        certain=cut_from_videos,
        unit="person" if people == 1 else "scene",
    )
    if clips[0].measured:
        notes = [*notes, "Coordinates are metres, x and y of them: a recogniser of these fits no camera's pixels."]
    return Imported(
        made,
        tuple(clip.size for clip in clips),
        splits or {"all": range(len(clips))},
        tuple(empty),
        tuple(notes),
        all(clip.label for clip in clips),
    )


def _names(clips: Sequence[PoseClip]) -> tuple[str, ...]:
    """The clips' names; those that are there twice, in several folders, with what messages call the clip."""
    often = Counter(clip.name for clip in clips)
    names = [clip.name if often[clip.name] == 1 else f"{Path(clip.where).parent.name}_{clip.name}" for clip in clips]
    twice = [name for name, n in Counter(names).items() if n > 1]
    if twice:
        raise InputError(f"{count(len(twice), 'clip')} there twice: {some(twice, 3)} (give the files different names)")
    return tuple(names)


def _labels(clips: Sequence[PoseClip]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Class indices (N,) and classes in the order of their numbers; zeros, of nameless classes, if one has none."""
    named = sorted({(clip.number, clip.label) for clip in clips})
    classes = tuple(dict.fromkeys(label for _, label in named))
    if not all(classes) or len(classes) < 2:
        return np.zeros(len(clips), np.int64), (classes[0], "other") if all(classes) else ("class_0", "class_1")
    return np.array([classes.index(clip.label) for clip in clips], np.int64), classes


def _layout(clip: PoseClip, wanted: Layout | None) -> Layout:
    """The layout of a clip's joints: the one ``wanted``, else what the format says, else by their number."""
    v = clip.joints
    if wanted is not None:
        if wanted.observed == v or (v in COCO_FIRST and v > wanted.observed and wanted.name in _BEGINNINGS):
            return wanted
        fitting = ", ".join(layouts.of_size(v)) or "none that is built in"
        raise InputError(
            f"{clip.where} has {v} joints, layout {wanted.name!r} has {wanted.observed} (--layout: {fitting})"
        )
    if clip.layout and not (v in COCO_FIRST and layouts.get(clip.layout).joints[:17] == layouts.get("coco17").joints):
        return layouts.get(clip.layout)
    if v in COCO_FIRST:
        return layouts.get("coco17")
    if v not in BY_JOINTS:
        as_many = layouts.of_size(v)
        remedy = f"they may be {' or '.join(as_many)}: say --layout" if as_many else "describe them: --layout FILE.yaml"
        raise InputError(f"{clip.where} has {v} joints ({remedy})")
    return layouts.get(BY_JOINTS[v])


def _cut(clip: PoseClip, joints: int) -> PoseClip:
    """The clip with the first ``joints`` joints."""
    if clip.joints == joints:
        return clip
    if isinstance(clip.frames, np.ndarray):
        return replace(clip, frames=clip.frames[:, :, :joints])
    frames = []
    for found in clip.frames:
        keypoints = None if found is None or found.keypoints is None else found.keypoints[:, :joints]
        frames.append(found if found is None or keypoints is None else replace(found, keypoints=keypoints))
    return replace(clip, frames=frames)


def _tracks(clip: PoseClip, config: PoseConfig, people: int) -> Floats:
    """Keypoints (M, T, V, 3) of the ``people`` most present."""
    v = clip.joints
    if isinstance(clip.frames, np.ndarray):
        out = np.zeros((people, *clip.frames.shape[1:]), np.float32)
        out[: len(clip.frames)] = clip.frames[:people]
        return out
    none = Detections.none(v)
    frames = [none if found is None else found for found in clip.frames]
    if any(keypoints.shape[1] != v for found in frames if (keypoints := found.keypoints) is not None):
        raise InputError(f"{clip.where}: persons of {v} joints, and of another number (one layout in one folder)")
    seen = [found for found in frames if len(found)]
    if not all(found.ids is not None for found in seen):
        scale = _scale(clip)
        followed = follow([_scaled(found, scale) for found in frames], config)
        out = track(followed, people, config.hold, v)
        out[..., :2] /= scale
        return out
    by_id: dict[int, dict[int, Floats]] = {}
    for t, found in enumerate(frames):
        for i in range(len(found)):
            assert found.ids is not None
            assert found.keypoints is not None
            by_id.setdefault(int(found.ids[i]), {})[t] = found.keypoints[i]
    lasting = [own for own in by_id.values() if len(own) >= min(_LEAST, len(frames))]
    best = sorted(lasting, key=lambda own: (-len(own), -float(np.mean([k[:, 2].mean() for k in own.values()]))))
    out = np.zeros((people, max(1, len(frames)), v, 3), np.float32)
    for m, own in enumerate(best[:people]):
        out[m] = follow_one(own, len(frames), config.hold, v)
    return out


def _scale(clip: PoseClip) -> float:
    """What shares of a picture are multiplied with to be followed: distances in pixels are limited there."""
    return 1000.0 if clip.scaled else 1.0


def _scaled(found: Detections, scale: float) -> Detections:
    if scale == 1 or found.keypoints is None:
        return found
    keypoints = found.keypoints * np.array([scale, scale, 1], np.float32)
    return replace(found, boxes=found.boxes * np.float32(scale), keypoints=keypoints)


def _settled(clip: PoseClip) -> PoseClip:
    """The clip as ``scaled`` where no coordinate could be a pixel's. Raises InputError for shares of half a picture."""
    if isinstance(clip.frames, np.ndarray):
        return clip
    there = [found.keypoints[..., :2] for found in clip.frames if found is not None and found.keypoints is not None]
    if max(float(xy.max()) for xy in there) > _IN_PICTURE:
        return clip
    if min(float(xy.min()) for xy in there) < -0.5:
        raise InputError(
            f"{clip.where}: its coordinates are from -1 to 1: let its tool write pixels (OpenPose: --keypoint_scale 0)"
        )
    return replace(clip, scaled=True)


def _in_pixels(keypoints: Floats, clip: PoseClip, size: tuple[int, int] | None) -> Floats:
    """Shares of the picture as pixels of it. Raises InputError where nobody says its size."""
    if not clip.scaled:
        return keypoints
    size = size or clip.size
    if size is None:
        raise InputError(f"{clip.where}: its coordinates are shares of the picture: say its size, --size 1920x1080")
    return keypoints * np.array([size[1], size[0], 1], np.float32)


def _nobody(source: Path, files: int, longest: int) -> str:
    if longest < 2:
        return (
            f"each of the {files} files of {source} is of one picture, and nobody says which belong to one clip: "
            "let its tool read the videos, not their pictures"
        )
    return f"nobody is seen in any of the {files} files of {source} (lower pose.min_score?)"
