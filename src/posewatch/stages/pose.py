"""Clips → skeletons: one pass of the pose estimator over each video, cut into the clips that ``split`` wrote.

With ``mask.unit`` person, over each person's masked video; the skeletons have one person, in pixels of the scene.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from posewatch.artifact import Artifact, Job, produce
from posewatch.config import PoseConfig
from posewatch.digests import canonical
from posewatch.errors import InputError, NotFound
from posewatch.perception.networks import NETWORKS, weights_of
from posewatch.perception.persons import Person
from posewatch.records import Clip, Detections, Skeleton
from posewatch.stages import per_video
from posewatch.stages.contents import (
    FLOWS,
    POSES,
    SKELETONS,
    SKELETONS_ABOUT,
    clips_of,
    detections_of,
    mask_report,
    masked_file,
    masked_frame,
    masked_of,
    masked_unit,
    persons_of,
    raw_file,
    raw_of,
    videos_of,
)
from posewatch.store import ObjectStore
from posewatch.units import PERSON, unit_entry


def pose(store: ObjectStore, clips: Artifact, config: PoseConfig) -> Artifact:
    """Skeletons of every clip of a set; returns the set of skeletons (``skeletons.npz``: clip id → (M, T, V, 3))."""
    videos, weights = list(videos_of(clips)), weights_of(config)
    # the device changes nothing that the stage promises
    settings = {k: v for k, v in dataclasses.asdict(config).items() if k != "device"}
    jobs = []
    for v in videos:
        masked = masked_of(v.artifact)
        # 2: people are followed both ways, and those whom masking saw are among them; 3: see `_boxes_of_masking`;
        # two more with flow: it is that of where most moves, too
        revision = (3 if _in_boxes_of_persons(masked, config) else 2) + 2 * config.flow
        jobs.append(Job("skeletons", v.video, settings, (v.artifact, masked), weights, revision))
    return per_video.run(store, "pose", videos, jobs, config, _write, share=True)


def _write(job: Job, config: PoseConfig, folder: Path, workers: int = 1) -> None:
    from posewatch.perception import one_person
    from posewatch.perception.skeletons import completed, follow, skeleton

    clips, masked = job.parents
    report, unit = mask_report(masked), masked_unit(masked)
    arrays: dict[str, Any] = {}
    persons = {}

    def add(clip: Clip, found: Skeleton) -> None:
        arrays[clip.id], persons[clip.id] = found.keypoints, found.persons

    frames = _from_masking(masked, config)
    if unit == PERSON:
        people = {person.person: person for person in persons_of(masked)}
        found = _of_persons(list(people.values()), masked, config, frames, job.weights, workers)
        for clip in clips_of(clips):
            assert clip.person is not None
            first, size = masked_frame(report, clip.start_s), (report["width"], report["height"])
            own = people[clip.person], found[clip.person]
            add(clip, one_person.skeleton(*own, first, clip.frames, config, size, clip.fps))
    else:
        if frames is None:
            estimated = detections_of(_estimate(masked, config, job.weights, workers), POSES)
            if config.source == "masked" and _same_network(masked, config):
                estimated = completed(estimated, detections_of(masked))
            frames = follow(estimated, config)
        for clip in clips_of(clips):
            first = masked_frame(report, clip.start_s)
            add(clip, skeleton(frames[first : first + clip.frames], config, clip.fps, clip.width, clip.height))
    flows: dict[str, Any] = {}
    if config.steady or config.flow:
        arrays, flows = _by_pixels(arrays, clips_of(clips), masked, config)
    about = {"fps": report["fps"], "width": report["width"], "height": report["height"], "layout": "coco17"}
    about |= unit_entry(unit)
    np.savez_compressed(folder / SKELETONS, **arrays)
    if flows:
        np.savez_compressed(folder / FLOWS, **flows)
    (folder / SKELETONS_ABOUT).write_text(canonical({**about, "persons": persons}) + "\n", encoding="utf-8")


def _by_pixels(
    arrays: dict[str, Any], clips: Iterable[Clip], masked: Artifact, config: PoseConfig
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Clip id → keypoints, which follow the pixels of the raw video with ``pose.steady``, and their flow, (M, T, FLOW,
    3), with ``pose.flow``. Without a raw video there is no flow; raises InputError where joints are to follow it."""
    from posewatch import video
    from posewatch.perception.flow import Meter, by_pixels
    from posewatch.perception.pictures import over_clips

    lineage, report = masked.lineage(), mask_report(masked)
    meter, alone = Meter(lineage.config["fps"]) if config.flow else None, masked_unit(masked) == PERSON
    starts = [(clip.id, masked_frame(report, clip.start_s)) for clip in clips]
    with tempfile.TemporaryDirectory(prefix="posewatch-pose-") as temp:
        try:
            path = raw_file(raw_of(masked), Path(temp))
        except NotFound:  # imported masked clips have none, and some people delete theirs
            if not config.steady:
                return arrays, {}
            raise InputError(
                f"{masked.uri} has no raw video, whose pixels joints could follow: leave out pose.steady"
            ) from None
        read = video.read(path, lineage.config["fps"], lineage.config["max_side"])
        with closing(video.ahead(read)) as frames:  # type: ignore[type-var]
            numbered = ((number, frame.image) for number, frame in enumerate(frames))
            found = over_clips(
                numbered,
                [(first, arrays[name]) for name, first in starts],
                lambda first, keypoints, pictures: by_pixels(first, keypoints, pictures, config, meter, alone),
            )
    whole = {name: (a, arrays[name].shape[2]) for (name, _), a in zip(starts, found, strict=True)}
    joints = {name: a[:, :, :v] for name, (a, v) in whole.items()}
    return joints, {name: a[:, :, v:] for name, (a, v) in whole.items() if a.shape[2] > v}


def _from_masking(masked: Artifact, config: PoseConfig) -> list[Detections] | None:
    """The detections of masking, when the same network is asked for skeletons of the raw frames; else None."""
    return detections_of(masked) if config.source == "raw" and _same_network(masked, config) else None


def _same_network(masked: Artifact, config: PoseConfig) -> bool:
    return bool(masked.lineage().config.get("detector") == config.estimator)


def _in_boxes_of_persons(masked: Artifact, config: PoseConfig) -> bool:
    """Whether the estimator looks at one person at a time, and the masked video tells where its persons are."""
    return NETWORKS[config.estimator].topdown and masked_unit(masked) == PERSON


def _boxes_of_masking(masked: Artifact, config: PoseConfig) -> list[Detections] | None:
    """The persons whom masking found, when it had the detector that the estimator is to have; else None.

    In the unit of persons whatever the detector was: a person's video is made of these boxes, and another detector
    could find somebody else in it.
    """
    if masked_unit(masked) == PERSON:
        return detections_of(masked)
    made = masked.lineage().config
    if (made.get("detector"), made.get("detector_weights", "")) != (config.boxes, config.boxes_weights):
        return None
    return detections_of(masked)


def _of_persons(
    people: list[Person],
    masked: Artifact,
    config: PoseConfig,
    frames: list[Detections] | None,
    weights: dict[str, dict[str, str]],
    workers: int,
) -> dict[int, list[Detections]]:
    """The person's number → that person's detections in each frame of the person's video; ``frames`` are masking's."""
    from posewatch.perception import one_person
    from posewatch.perception.skeletons import completed

    if frames is not None:
        return one_person.by_number(people, frames)
    estimated = _estimate(masked, config, weights, workers)
    if config.source == "raw":
        return one_person.in_scene(people, detections_of(estimated, POSES), config)
    found = {
        person.person: one_person.in_own_video(person, detections_of(estimated, _poses(person)), config)
        for person in people
    }
    if _same_network(masked, config):
        of_masking = one_person.by_number(people, detections_of(masked))
        found = {number: completed(own, of_masking[number][: len(own)]) for number, own in found.items()}
    return found


def _poses(person: Person) -> str:
    return person.file.replace(".mp4", ".npz")


def _estimate(masked: Artifact, config: PoseConfig, weights: dict[str, dict[str, str]], workers: int) -> Artifact:
    """All detections of the estimator in one video, an artifact that later clips and settings use again."""
    from posewatch.perception import one_person
    from posewatch.perception.skeletons import estimate_video
    from posewatch.perception.storage import write_detections

    topdown = NETWORKS[config.estimator].topdown
    keys = ("estimator", "weights", "source", *(("boxes", "boxes_weights") if topdown else ()))
    settings = {key: getattr(config, key) for key in keys}
    lineage = masked.lineage()
    found = _boxes_of_masking(masked, config) if topdown else None

    def write(folder: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="posewatch-pose-") as temp:
            if config.source == "masked" and masked_unit(masked) == PERSON:
                for person in persons_of(masked):
                    own = None if found is None else one_person.in_view(person, found)
                    alone = estimate_video(masked.fetch(person.file, Path(temp)), config, workers=workers, found=own)
                    write_detections(folder / _poses(person), alone)
                return
            if config.source == "masked":
                frames = estimate_video(masked_file(masked, Path(temp)), config, workers=workers, found=found)
            else:
                grid = {"fps": lineage.config["fps"], "max_side": lineage.config["max_side"]}
                raw = raw_file(raw_of(masked), Path(temp))
                frames = estimate_video(raw, config, workers=workers, found=found, **grid)
        write_detections(folder / POSES, frames)

    looks = "movenet" in (config.estimator, config.boxes if topdown else "")
    revision = 2 if looks else 1  # 2: MoveNet looks at each frame more than once
    if _in_boxes_of_persons(masked, config):
        revision = 3
    return produce(masked.store, Job("poses", lineage.unit, settings, (masked,), weights, revision), write)
