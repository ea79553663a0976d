"""Scenes with bystanders, in both units: does each person's video hold that person, and who is told to be abnormal?

Rendered footage in which one of three people falls or harms while the others walk, with exact truth. Real videos, which
have none, give how many persons masking makes of them. Writes persons.json.
"""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch import video
from posewatch.bench.perception.accuracy import compare, switches
from posewatch.bench.person_clips import PersonClips
from posewatch.config import Experiment, MaskConfig, TrainConfig
from posewatch.datasets.clipset import ClipSet
from posewatch.digests import digest
from posewatch.files import write_atomically
from posewatch.footage.make import FootageVideo, make_footage
from posewatch.footage.scenario import ABNORMAL, AMONG_TWO
from posewatch.footage.truth import Truth, read_truth
from posewatch.perception import one_person
from posewatch.perception.masking import mask_video
from posewatch.perception.networks import build_estimator
from posewatch.perception.persons import PERSONS, Person, read_persons
from posewatch.perception.skeletons import follow, skeleton
from posewatch.perception.storage import DETECTIONS, read_detections
from posewatch.progress import Progress
from posewatch.recognition.evaluation.metrics import metrics_of
from posewatch.recognition.recogniser import load_checkpoint
from posewatch.recognition.training.holdout import CHECKPOINT, fit
from posewatch.records import Detections
from posewatch.stages.split import present
from posewatch.units import PERSON, SCENE
from posewatch.video.files import find_videos

CLASSES = ("normal", "abnormal")
PEOPLE = 3
_LIT = 40
"""Brightness from which a pixel of a masked video shows somebody."""
_SHARE = 0.2
"""Share of the shown pixels, and of the other person's visible ones, from which a frame shows two."""
_FRAMES = 3
"""So many frames that show two people, or somebody else than the others, make a video that holds more than one."""

Key = tuple[str, int, int]
"""(video, first frame, true person or -1) of a moment of somebody."""


@dataclass(frozen=True)
class Masked:
    """A masked video: its persons, the detections of each frame, and the sum of the boxes that masking told of."""

    folder: Path
    persons: list[Person]
    detections: list[Detections]


@dataclass(frozen=True)
class Shown:
    """Who is shown by a person's masked video: ``holder`` the true person of each frame (-1: nobody), ``several``
    whether more than one person is, ``told`` whether persons.json says so."""

    holder: list[int]
    several: bool
    told: bool


def masked(path: Path, out: Path, config: MaskConfig) -> Masked:
    """Mask a video person by person, or read what was masked before."""
    folder = out / f"masked-{digest(config.__dict__)[:8]}" / path.stem
    if not (folder / "report.json").is_file():
        report = mask_video(path, folder / "masked.mp4", config)
        write_atomically(folder / "report.json", json.dumps(report.to_dict()))
    return Masked(
        folder, read_persons(json.loads((folder / PERSONS).read_text())), read_detections(folder / DETECTIONS)
    )


def shown(folder: Path, person: Person, truth: Truth) -> Shown:
    """Compare a person's masked video with the true masks, pixel by pixel."""
    holder, two = [], 0
    for i, frame in enumerate(video.read(folder / person.file)):
        t = person.first + i
        if t >= len(truth.masks):
            break
        lit = frame.image.max(-1) > _LIT
        own = np.array([(lit & mask).sum() for mask in truth.masks[t]])
        whole = np.array([mask.sum() for mask in truth.masks[t]])
        order = np.argsort(-own)
        holder.append(int(order[0]) if own[order[0]] > _SHARE * max(1, whole[order[0]]) else -1)
        second = order[1] if len(order) > 1 else order[0]
        two += len(order) > 1 and own[second] > _SHARE * max(1, own.sum()) and own[second] > _SHARE * whole[second]
    held = [q for q, count in Counter(q for q in holder if q >= 0).items() if count >= _FRAMES]
    return Shown(holder, len(held) > 1 or bool(two >= _FRAMES), bool(person.overlaps))


def windows(frames: int, config: Experiment) -> list[tuple[int, int, float]]:
    """The clips of a video as `split` cuts them: (first frame, frames, 0)."""
    length, overlap = (round(s * config.mask.fps) for s in (config.split.length_s, config.split.overlap_s))
    return [(first, count, 0.0) for first, count in video.spans(frames, length, overlap)]


def truly(actions: Sequence[dict[str, Any]], person: int, first: int, count: int, config: Experiment) -> int:
    """1 when a true person (-1: anybody) does something abnormal in a clip for ``labels.min_overlap_s`` of it."""
    begin, end = first / config.mask.fps, (first + count) / config.mask.fps
    spans = [a for a in actions if a["action"] in ABNORMAL and (person < 0 or a["person"] == person)]
    shared = sum(max(0.0, min(end, a["stop"]) - max(begin, a["start"])) for a in spans)
    return int(shared >= config.labels.min_overlap_s)


@dataclass
class Clips:
    """The clips of one unit: skeletons, labels, and whom of the truth each shows."""

    keypoints: list[NDArray[np.float32]]
    labels: list[int]
    keys: list[Key]

    def chosen(self, videos: set[str], config: Experiment, unit: str) -> ClipSet:
        """The clips of some videos in which somebody is seen."""
        i = [k for k, key in enumerate(self.keys) if key[0] in videos and self.keypoints[k][..., 2].any()]
        names = tuple(f"{k}:{'/'.join(map(str, self.keys[k]))}" for k in i)
        groups = tuple(self.keys[k][0] for k in i)
        labels = np.array([self.labels[k] for k in i], np.int64)
        skeletons = tuple(self.keypoints[k] for k in i)
        return ClipSet(skeletons, labels, CLASSES, names, groups, config.mask.fps, certain=True, unit=unit)


def bench_persons(
    out: Path, config: Experiment, *, videos: int = 32, seconds: float = 6.0, seed: int = 11, seeds: int = 3,
    real: Path | None = None, clips: Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Run the benchmark, write ``out``/persons.json and return its content.

    ``real`` is a folder of videos; into ``clips`` go the persons' clips as the paper's tools leave them. With no
    ``seeds`` nothing is trained.
    """
    # threads that spin while they wait make training several times slower as soon as anything else runs
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    mask = replace(config.mask, unit=PERSON)
    with Progress("footage", videos) as progress:
        footage = make_footage(
            out / "footage", videos=videos, seconds=seconds, seed=seed, fps=mask.fps, kinds=AMONG_TWO,
            progress=progress.advance,
        )  # fmt: skip
    scenes, people = Clips([], [], []), Clips([], [], [])
    moments: dict[Key, int] = {}
    counted: Counter[str] = Counter()
    folder = PersonClips(clips, CLASSES, seed) if clips is not None else None
    with Progress("mask", videos) as progress:
        for one in footage:
            counted += _footage(one, masked(one.path, out, mask), config, scenes, people, moments, folder)
            progress.advance()
    if folder is not None:
        folder.finish()
    report: dict[str, Any] = {
        "about": {"videos": videos, "seconds": seconds, "seed": seed, "kinds": list(AMONG_TWO)},
        "footage": _identities(counted, videos * seconds / 60),
    }
    report["f1"] = [_f1(footage, scenes, people, moments, config, out / f"seed{k}", k) for k in range(seeds)]
    report["f1_mean"] = {
        name: round(float(np.mean([row[name] for row in report["f1"]])), 3)
        for name in (report["f1"][0] if report["f1"] else ())
        if name != "seed"
    }
    if real is not None:
        report["real"] = _real(real, out, config, mask)
    write_atomically(out / "persons.json", json.dumps(report, indent=1) + "\n")
    return report


def _footage(
    one: FootageVideo, made: Masked, config: Experiment, scenes: Clips, people: Clips, moments: dict[Key, int],
    folder: PersonClips | None,
) -> Counter[str]:  # fmt: skip
    """Add the clips of a video, and of each true person's moments the label; returns what is counted."""
    truth, actions = read_truth(one.truth), json.loads(one.truth.with_suffix(".json").read_text())["actions"]
    counted: Counter[str] = Counter()
    rows = [row for t, found in enumerate(made.detections) for row in compare(t, truth, found)[0]]
    counted["id_switches"] = switches(rows)
    held = {person.person: shown(made.folder, person, truth) for person in made.persons}
    counted["videos"] = len(held)
    counted["several"] = sum(s.several for s in held.values())
    counted["several_told"] = sum(s.several and s.told for s in held.values())
    plan = windows(len(made.detections), config)
    tracked = follow(made.detections, config.pose)
    found = one_person.by_number(made.persons, made.detections)
    size = truth.masks.shape[3], truth.masks.shape[2]
    pose = replace(config.pose, max_people=PEOPLE)
    for first, count, _ in plan:
        scenes.keypoints.append(skeleton(tracked[first : first + count], pose, config.mask.fps, *size).keypoints)
        scenes.labels.append(truly(actions, -1, first, count, config))
        scenes.keys.append((one.name, first, -1))
        for q in range(truth.masks.shape[1]):
            if truth.masks[first : first + count, q].any():
                moments[one.name, first, q] = truly(actions, q, first, count, config)
    least = max(1, round(config.mask.min_presence_s * config.mask.fps))
    covered = set()
    for person in made.persons:
        own_plan = present(person, plan, least)
        for first, count, _ in own_plan:
            frames = held[person.person].holder[max(0, first - person.first) : first + count - person.first]
            most = Counter(q for q in frames if q >= 0).most_common(1)
            q = most[0][0] if most else -1
            own = one_person.skeleton(person, found[person.person], first, count, config.pose, size, config.mask.fps)
            people.keypoints.append(own.keypoints)
            people.labels.append(truly(actions, q, first, count, config) if q >= 0 else 0)
            people.keys.append((one.name, first, q))
            # a clip holds a person who is shown in most of the frames in which the true person is to be seen
            seen = sum(bool(truth.masks[t, q].any()) for t in range(first, first + count)) if q >= 0 else 0
            if q >= 0 and most[0][1] >= 0.5 * max(1, seen):
                covered.add((one.name, first, q))
        if folder is not None:
            spans = [(first, count) for first, count, _ in own_plan]
            folder.add(one.name, person, made.folder / person.file, spans, people.labels[-len(spans) :])
    abnormal = [key for key, label in moments.items() if label and key[0] == one.name]
    counted["abnormal"] = len(abnormal)
    counted["abnormal_held"] = sum(key in covered for key in abnormal)
    return counted


def _identities(counted: Counter[str], minutes: float) -> dict[str, Any]:
    return {
        "minutes": round(minutes, 2),
        "abnormal_moments": counted["abnormal"],
        "abnormal_moments_in_a_clip_of_that_person": round(counted["abnormal_held"] / max(1, counted["abnormal"]), 4),
        "id_switches": counted["id_switches"],
        "id_switches_per_minute": round(counted["id_switches"] / minutes, 2),
        "person_videos": counted["videos"],
        "videos_of_several": counted["several"],
        "videos_of_several_told_in_persons_json": counted["several_told"],
    }


def _f1(
    footage: Sequence[FootageVideo], scenes: Clips, people: Clips, moments: dict[Key, int], config: Experiment,
    out: Path, seed: int,
) -> dict[str, Any]:  # fmt: skip
    """Train both units on two thirds of the videos; F1 of persons and of scenes on the rest.

    A true person whom no clip shows counts as predicted normal, a clip of nobody as a person who is normal.
    """
    test = {one.name for i, one in enumerate(footage) if (i // 2 + seed) % 3 == 0}
    train = {one.name for one in footage} - test
    of_scene = _predicted(scenes, train, test, config, replace(config.train, people=PEOPLE, seed=seed), out, SCENE)
    of_person = _predicted(people, train, test, config, replace(config.train, people=1, seed=seed), out, PERSON)
    asked = {key: label for key, label in moments.items() if key[0] in test}
    asked |= {key: 0 for key in of_person if key[2] < 0}
    by_person = _score(asked, of_person)
    by_scene = _score(asked, {key: of_scene.get((key[0], key[1], -1), 0) for key in asked})
    labels = {key: scenes.labels[i] for i, key in enumerate(scenes.keys) if key[0] in test}
    anybody: dict[Key, int] = defaultdict(int)
    for (name, first, _), answer in of_person.items():
        anybody[name, first, -1] = max(anybody[name, first, -1], answer)
    return {
        "seed": seed,
        "person_model_of_persons": by_person,
        "scene_model_of_persons": by_scene,
        "person_model_of_scenes": _score(labels, anybody),
        "scene_model_of_scenes": _score(labels, of_scene),
    }


def _predicted(
    clips: Clips, train: set[str], test: set[str], config: Experiment, recipe: TrainConfig, out: Path, unit: str
) -> dict[Key, int]:
    """Train on some videos; the answers for the moments of others."""
    learnt, asked = (clips.chosen(videos, config, unit) for videos in (train, test))
    fit(learnt, recipe, out / unit, positive="abnormal")
    recogniser = load_checkpoint(out / unit / CHECKPOINT)
    answers = recogniser.decide(recogniser.score(asked))
    found: dict[Key, int] = defaultdict(int)
    for name, answer in zip(asked.ids, answers.tolist(), strict=True):
        key = clips.keys[int(name.partition(":")[0])]
        found[key] = max(found[key], answer)
    return found


def _score(labels: dict[Key, int], answers: dict[Key, int]) -> float:
    truth, given = (np.array([of.get(key, 0) for key in labels], np.int64) for of in (labels, answers))
    return float(metrics_of(np.eye(2)[given], given, truth, 1)["f1"] or 0.0)


def _real(folder: Path, out: Path, config: Experiment, mask: MaskConfig) -> dict[str, Any]:
    """Without truth: how many persons come of a video, and in how many of their videos the estimator sees two."""
    estimator = build_estimator(config.pose)
    rows: list[dict[str, Any]] = []
    for path in [path for _, path in find_videos(folder)]:
        made = masked(path, out, mask)
        several = told = 0
        for person in made.persons:
            images = [frame.image for frame in video.read(made.folder / person.file)]
            found = [estimator.estimate([image])[0] for image in images]
            two = sum((each.scores >= config.pose.min_score).sum() > 1 for each in found)
            several += int(two >= _FRAMES)
            told += int(two >= _FRAMES and bool(person.overlaps))
        at_once = max((len(found) for found in made.detections), default=0)
        seconds = len(made.detections) / mask.fps
        rows.append(
            {
                "video": path.name, "seconds": round(seconds, 1), "persons": len(made.persons), "at_once": at_once,
                "several": several, "several_told": told,
            }
        )  # fmt: skip
    minutes = sum(row["seconds"] for row in rows) / 60
    more = sum(max(0, row["persons"] - row["at_once"]) for row in rows)
    return {
        "minutes": round(minutes, 2),
        "persons": sum(row["persons"] for row in rows),
        "persons_beyond_those_at_once_per_minute": round(more / max(minutes, 1e-6), 2),
        "videos_in_which_two_are_seen": sum(row["several"] for row in rows),
        "of_them_told_in_persons_json": sum(row["several_told"] for row in rows),
        "videos": rows,
    }
