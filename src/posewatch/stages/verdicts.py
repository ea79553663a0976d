"""Judged alarms → labelled clips and their skeletons, which datasets take beside those of prepared videos."""

from __future__ import annotations

import io
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch import alarms
from posewatch.alarms import AlarmRecord
from posewatch.artifact import Artifact, Job, collect, produce
from posewatch.config import Experiment
from posewatch.datasets import layouts
from posewatch.digests import canonical
from posewatch.errors import NotFound
from posewatch.inference.open import open_predictor
from posewatch.labels import verdicts as said
from posewatch.labels.alarm_clips import AlarmClip, Unusable, choose, clip_of, label_of, name_of, video_of, watched
from posewatch.labels.entries import MARKS
from posewatch.labels.store import LabelStore
from posewatch.labels.verdict_labels import VerdictLabel, bring
from posewatch.labels.verdicts import Verdict
from posewatch.lineage import find_ancestor, published
from posewatch.progress import Progress, say
from posewatch.records import Clip, Skeleton
from posewatch.stages.contents import ALARMS, CLIPS, FLOWS, SKELETONS, SKELETONS_ABOUT, clip_entries
from posewatch.stages.gather import gather
from posewatch.store import ObjectStore
from posewatch.units import unit_entry

READERS = 8
"""Records that are read at the same time."""


@dataclass(frozen=True)
class Judged:
    """A record, the verdict that counts, its clips with their keypoints, and the class that they get."""

    record: AlarmRecord
    verdict: Verdict
    label: str
    clips: tuple[tuple[AlarmClip, NDArray[np.float32]], ...]


@dataclass(frozen=True)
class Collected:
    """The sets of clips and of skeletons, one artifact per camera and day, and what became of the verdicts.

    ``alarms`` are the alarms of which clips were made: of each clip the class that counts now, which may be that of a
    person in the grid; clips that a person marked as unsure or bad have none.
    """

    clips: Artifact
    skeletons: Artifact
    counts: dict[str, Any]
    alarms: tuple[dict[str, str], ...] = ()


def verdicts(
    store: ObjectStore,
    labels: LabelStore,
    experiment: Experiment,
    clips: Artifact | None = None,
    skeletons: Artifact | None = None,
) -> Collected:
    """Bring the verdicts on alarm records into the label store, on clips of the records' own windows.

    Of each camera's day one artifact of clips (``alarms.json`` says which clips are of which record, the verdicts, and
    when the camera was watched) and one of skeletons, with the records as parents. The sets hold those of ``clips`` and
    ``skeletons``, sets of prepared videos, too. ``counts``: verdicts, used, clips,
    given and taken (labels), left_out (reason → records: a record that was deleted, say). Labels that were given stay
    when their record is deleted later; its clips are in no set any more.
    """
    counting = said.current(labels)
    used: list[Judged] = []
    left_out: Counter[str] = Counter()
    with Progress("verdicts", len(counting), "alarm") as progress, ThreadPoolExecutor(READERS) as pool:

        def look(verdict: Verdict) -> Judged | str:
            try:
                return _judged(store, verdict, experiment)
            except Unusable as error:
                return str(error)

        for found in pool.map(look, sorted(counting.values(), key=lambda one: one.id)):
            if isinstance(found, str):
                left_out[found] += 1
            else:
                used.append(found)
            progress.advance()
    days: dict[str, list[Judged]] = {}
    for one in used:
        days.setdefault(video_of(one.record), []).append(one)
    rows, cut, posed = [], [], []
    for video, judged in sorted(days.items()):
        rows.append({"video": video, "names": [name_of(judged[0].record)]})
        cut.append(_clips(store, video, judged, experiment))
        posed.append(_skeletons(store, video, judged, cut[-1], experiment))
    sets = [collect(store, "split", rows, cut), collect(store, "pose", rows, posed)]
    labels.register(clip_entries(sets[0]))
    wanted = {
        clip.clip.id: VerdictLabel(one.label, one.verdict.id, one.verdict.who, one.verdict.version)
        for one in used  # by id: of two records with the same window the last verdict counts
        for clip, _ in one.clips
    }
    given, taken = bring(labels, wanted)
    counts = {
        "verdicts": len(counting), "used": len(used), "clips": len(wanted), "given": given, "taken": taken,
        "labels": dict(sorted(Counter(one.label for one in wanted.values()).items())),
        "left_out": dict(sorted(left_out.items())),
    }  # fmt: skip
    for i, prepared in enumerate((clips, skeletons)):
        sets[i] = sets[i] if prepared is None else gather(store, [prepared, sets[i]])
    now = {clip: event.new for clip, event in labels.current(wanted).items() if event.new not in (None, *MARKS)}
    labelled = tuple({c.clip.id: now[c.clip.id] for c, _ in one.clips if c.clip.id in now} for one in used)
    return Collected(sets[0], sets[1], counts, labelled)


def _judged(store: ObjectStore, verdict: Verdict, experiment: Experiment) -> Judged:
    try:
        record = alarms.read(store, "/".join(verdict.record.split("/")[-4:]))
        assert verdict.verdict is not None
        label = label_of(verdict.verdict, record, experiment)
        if label is None:
            raise Unusable("nobody is sure")
        chosen = choose(record, verdict.verdict, experiment)
        with np.load(io.BytesIO(record.artifact.read(alarms.WINDOWS))) as arrays:
            windows = [np.asarray(arrays[row["keypoints"]], np.float32) for row in chosen]
    except NotFound:
        raise Unusable("its record was deleted") from None
    made = [(clip_of(record, row, k), k) for row, k in zip(chosen, windows, strict=True)]
    seen = tuple(one for one in made if one[1][..., 2].any())  # a dataset leaves the others out
    if not seen:
        raise Unusable("nobody is seen in it")
    return Judged(record, verdict, label, seen)


def _job(stage: str, video: str, judged: Sequence[Judged], parents: Iterable[Artifact], config: Experiment) -> Job:
    chosen = [[one.record.id, one.verdict.verdict, [clip.clip.id for clip, _ in one.clips]] for one in judged]
    return Job(stage, video, {"alarms": chosen, "unit": config.mask.unit}, tuple(parents))


def _clips(store: ObjectStore, video: str, judged: Sequence[Judged], config: Experiment) -> Artifact:
    def write(folder: Path) -> None:
        written: dict[str, Clip] = {}
        for one in judged:
            new = [clip for clip, _ in one.clips if clip.clip.id not in written]
            written |= {clip.clip.id: clip.clip for clip in new}
            _cut(one.record, new, folder)
        told = {
            "watched": watched([one.record for one in judged]),
            "alarms": [
                {
                    "alarm": one.record.id, "kind": one.record.about["kind"], "verdict": one.verdict.verdict,
                    "label": one.label, "time": one.record.time, "clips": [clip.clip.id for clip, _ in one.clips],
                }
                for one in judged
            ],
        }  # fmt: skip
        (folder / ALARMS).write_text(canonical(told) + "\n", encoding="utf-8")
        lines = "".join(canonical(clip.to_dict()) + "\n" for clip in sorted(written.values(), key=lambda c: c.place))
        (folder / CLIPS).write_text(lines, encoding="utf-8")

    return produce(store, _job("clips", video, judged, (one.record.artifact for one in judged), config), write)


def _cut(record: AlarmRecord, clips: Sequence[AlarmClip], folder: Path) -> None:
    """Write the stretches of the record's masked clip that these clips show; none where it has no pictures."""
    from posewatch import video

    about = record.about.get("clip")
    if alarms.MASKED not in record.artifact.files or not about:
        return
    with tempfile.TemporaryDirectory(prefix="posewatch-alarm-") as temp:
        path = record.artifact.fetch(alarms.MASKED, Path(temp))
        for clip in clips:
            first = round((clip.start_s - about["start_s"]) * about["fps"])
            begin, end = max(0, first), min(about["frames"], first + clip.clip.frames)
            if end <= begin:
                continue
            size = about["width"], about["height"]
            with video.Writer(folder / f"{clip.clip.id}.mp4", about["fps"], size) as out:
                for frame in video.read(path, start_s=begin / about["fps"], end_s=end / about["fps"]):
                    out.write(frame.image)


def _skeletons(
    store: ObjectStore, video: str, judged: Sequence[Judged], clips: Artifact, config: Experiment
) -> Artifact:
    def write(folder: Path) -> None:
        found = {clip.clip.id: (clip.clip, keypoints) for one in judged for clip, keypoints in one.clips}
        sizes = [(clip.width, clip.height) for clip, _ in found.values()]
        about: dict[str, Any] = {
            "fps": config.mask.fps, "width": max(w for w, _ in sizes), "height": max(h for _, h in sizes),
            "layout": "coco17",
        }  # fmt: skip
        v = len(layouts.get(about["layout"]).joints)
        arrays = {name: keypoints[:, :, :v] for name, (_, keypoints) in found.items()}
        flow = {name: keypoints[:, :, v:] for name, (_, keypoints) in found.items() if keypoints.shape[2] > v}
        persons = {name: Skeleton(keypoints, **about).persons for name, keypoints in arrays.items()}
        np.savez_compressed(folder / SKELETONS, **arrays)  # type: ignore[arg-type]
        if flow:
            np.savez_compressed(folder / FLOWS, **flow)  # type: ignore[arg-type]
        told = {**about, **unit_entry(config.mask.unit), "persons": persons}
        (folder / SKELETONS_ABOUT).write_text(canonical(told) + "\n", encoding="utf-8")

    return produce(store, _job("skeletons", video, judged, (clips,), config), write)


def offer(
    store: ObjectStore, experiment: Experiment, clips: Artifact, skeletons: Artifact, endpoint: str, drifted: bool
) -> tuple[bool, tuple[str, ...], dict[str, int]]:
    """`verdicts` and `ready`, for a pipeline: whether to train; the URIs of both sets, of the version that ``endpoint``
    serves and of its dataset, with the reason in words; and the counts. Says the reason."""
    with open_predictor(endpoint) as predictor:
        release = predictor.version
    made = verdicts(store, LabelStore(), experiment, clips, skeletons)
    about = ready(store, made, release, experiment, drifted=drifted)
    say(f"posewatch: verdicts: {about.told}")
    uris = [one.uri if one else "" for one in (made.clips, made.skeletons, about.served, about.data)]
    return about.enough, (*uris, about.told), {k: v for k, v in made.counts.items() if isinstance(v, int)}


@dataclass(frozen=True)
class Readiness:
    """Whether there are enough verdicts to learn from, in words, and the served version with its dataset."""

    enough: bool
    told: str
    served: Artifact | None
    data: Artifact | None


def ready(
    store: ObjectStore, made: Collected, release: str, experiment: Experiment, *, drifted: bool = False
) -> Readiness:
    """Whether to train on what was ``made`` of the verdicts, while the version ``release`` is served.

    New are judged alarms with a clip that is not in that version's dataset with the label that it has now;
    ``labels.min_verdicts`` of them are enough, or a single one when the cameras' pictures have ``drifted``. Without a
    published version that leads to its dataset there is nothing to compare a new one with, and never enough.
    """
    served = published(store, release)
    data = served and find_ancestor(served, "datasets")
    if made.counts["used"] == 0:
        return Readiness(False, "no verdict on an alarm to learn from: nothing is trained", served, data)
    if served is None or data is None:
        told = "the served version and its dataset are not in this store: there is nothing to compare a new one with"
        return Readiness(False, told, served, data)
    known = {(row["clip"], row["label"]) for row in data.lines(CLIPS)}
    new = sum(any(labelled not in known for labelled in one.items()) for one in made.alarms)
    wanted = 1 if drifted else experiment.labels.min_verdicts
    words = f"{new} judged alarms that the served version has not learned from, of {wanted} (labels.min_verdicts)"
    if new < wanted:
        return Readiness(False, f"{words}: nothing is trained", served, data)
    return Readiness(True, words, served, data)
