"""Falls and what is mistaken for them: a recogniser trained on rendered people without everyday acts, and with them.

Both see the same falls and twice as many other clips; of the second's, half are of people who sit or lie down, pick
something up, exercise, or are old and slow. At a recall that is the same for both, how often does each raise a false
alarm, by kind of act? Asked of other rendered scenes and of real people.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch.artifact import Artifact
from posewatch.config import Experiment
from posewatch.datasets.clipset import ClipSet
from posewatch.datasets.intervals import Interval
from posewatch.datasets.pyskl import read_pyskl
from posewatch.datasets.rendered import LAYOUT
from posewatch.errors import InputError
from posewatch.files import write_atomically
from posewatch.footage.scenario import ABNORMAL_KINDS, EVERYDAY_KINDS, FALL_KINDS, NORMAL_KINDS
from posewatch.footage.skeletons import SEEN_S, RenderedClip, make_skeletons
from posewatch.progress import Progress
from posewatch.recognition.evaluation.acts import FALSE, alarms_by_act
from posewatch.recognition.evaluation.metrics import class_areas
from posewatch.recognition.recogniser import load_checkpoint
from posewatch.recognition.training.holdout import CHECKPOINT, fit
from posewatch.stages.contents import clips_of, parent_clips, skeletons_of, videos_of

REPORT, TABLE = "falls.json", "falls.md"
CLASSES = ("other", "fall")
WAYS = ("without", "with")
"""Trained without everyday acts, and with them."""
ORDINARY_KINDS = (*NORMAL_KINDS, *(kind for kind in ABNORMAL_KINDS if "fall" not in kind))
TEST_SEED = 1000
FALLING_S = 1.5
"""Seconds from the beginning of an annotated fall in which somebody falls; then they lie."""
HELD_OUT = "rendered people, other scenes"


def clip_set(made: Sequence[tuple[NDArray[np.float32], str, str]], fps: float) -> ClipSet:
    """Clips of (keypoints, act, scene or video): those of the act ``fall`` are of the class."""
    return ClipSet(
        keypoints=tuple(keypoints for keypoints, _, _ in made),
        labels=np.array([int(act == CLASSES[1]) for _, act, _ in made], np.int64),
        classes=CLASSES,
        ids=tuple(f"{group}_{i:05d}" for i, (_, _, group) in enumerate(made)),
        groups=tuple(group for _, _, group in made),
        fps=fps,
        layout=LAYOUT,
        certain=True,
        acts=tuple(act for _, act, _ in made),
    )


def told(acts: Mapping[str, float], act: str) -> str | None:
    """The act of a rendered clip: ``fall`` where one is seen for half a second, None where less of one is, or somebody
    lies who fell: that is the end of a fall, and no answer is wrong."""
    if acts.get("fall", 0.0) >= SEEN_S:
        return "fall"
    return None if acts.get("fall") or acts.get("lie") else act


def rendered(kinds: Sequence[str], count: int, seconds: float, fps: float, seed: int, prefix: str) -> list[Any]:
    """Clips (keypoints, act, scene) of scenes of ``kinds``; of scenes of falls only the falls."""
    out: list[Any] = []
    falls = any("fall" in kind for kind in kinds)
    more = round(count * 2.5) if falls else count
    while len(out) < count:
        found: list[RenderedClip] = make_skeletons(more, seconds=seconds, fps=fps, seed=seed, kinds=kinds)
        named = [(clip.keypoints, told(clip.acts, clip.act), f"{prefix}-{clip.scene}") for clip in found]
        out = [row for row in named if row[1] is not None and (row[1] == "fall" or not falls)]
        more = more * 2
    return out[:count]


def real_windows(skeletons: Artifact, intervals: Iterable[Interval], positive: str) -> ClipSet:
    """Prepared clips of real videos with the act that ``intervals`` tell of each.

    A clip that shows half a second of the beginning of a fall is one; one that touches no fall is of the act that is
    done in it the longest. The others, and those of which nothing is told, are left out. Raises InputError for no clip.
    """
    by_name: dict[str, list[Interval]] = {}
    for interval in intervals:
        by_name.setdefault(Path(interval.file).name, []).append(interval)
    rows: list[tuple[NDArray[np.float32], str, str]] = []
    rate = 10.0
    for item in videos_of(skeletons):
        spans = [i for name in item.names for i in by_name.get(Path(name).name, [])]
        found = skeletons_of(item.artifact)
        for clip in clips_of(parent_clips(item.artifact)) if spans else ():
            act = act_of(spans, clip.start_s, clip.end_s, positive)
            if act and clip.id in found and found[clip.id].keypoints[..., 2].any():
                rows.append((found[clip.id].keypoints, act, item.names[0]))
                rate = found[clip.id].fps
    if not rows:
        raise InputError(f"the intervals tell nothing of the videos of {skeletons.uri} (are the names the same?)")
    return clip_set(rows, rate)


def act_of(spans: Sequence[Interval], start: float, end: float, positive: str) -> str:
    """What is done in [start, end) seconds, "" where that is not clear."""

    def shared(a: float, b: float) -> float:
        return min(end, b) - max(start, a)

    falls = [span for span in spans if span.label == positive]
    if any(shared(f.start_s, min(f.end_s, f.start_s + FALLING_S)) >= SEEN_S for f in falls):
        return "fall"
    if any(shared(f.start_s, f.end_s) > 0 for f in falls):
        return ""
    longest = max(spans, key=lambda span: shared(span.start_s, span.end_s))
    return (longest.act or longest.label) if shared(longest.start_s, longest.end_s) > 0 else ""


def others(path: Path) -> ClipSet:
    """A file of real people of whom nobody falls: its classes are their acts."""
    clips, _ = read_pyskl(path, drop_empty=True)
    acts = clips.acts or tuple(clips.classes[k] for k in clips.labels)
    return replace(clips, labels=np.zeros(len(clips), np.int64), classes=CLASSES, acts=acts)


def bench_falls(
    out: Path,
    experiment: Experiment,
    *,
    clips: int,
    seeds: int,
    recall: float,
    seconds: float,
    skeletons: Artifact | None = None,
    intervals: Sequence[Interval] = (),
    files: Sequence[Path] = (),
) -> str:
    """Train both ways ``seeds`` times on ``clips`` rendered ones, and write ``falls.json`` and ``falls.md``.

    Returns the table. A killed run trains what is left.
    """
    real = None if skeletons is None else real_windows(skeletons, intervals, experiment.labels.positive)
    fps = experiment.mask.fps if real is None else real.fps
    tests = {HELD_OUT: _rendered_test(clips // 3, seconds, fps)}
    if real is not None:
        tests["real people"] = real
    tests |= {path.stem: others(path) for path in files}
    rows: list[dict[str, Any]] = []
    with Progress("falls", 2 * seeds, "training") as progress:
        for seed in range(seeds):
            for way, training in _training(clips, seconds, fps, seed).items():
                config = replace(experiment.train, seed=seed)
                work = out / "work" / f"{way}-{seed}"
                fit(training, config, work, positive=CLASSES[1])
                recogniser = load_checkpoint(work / CHECKPOINT)
                scores = {name: recogniser.score(test)[:, 1] for name, test in tests.items()}
                rows.append({"way": way, "seed": seed, "tests": measure(scores, tests, recall)})
                progress.advance(note=f"{way} everyday acts, seed {seed}")
    report = {
        "recall": recall, "clips": clips, "seconds": seconds,
        "acts": {name: _counts(test) for name, test in tests.items()}, "rows": rows,
    }  # fmt: skip
    write_atomically(out / REPORT, json.dumps(report, indent=1, sort_keys=True) + "\n")
    text = "\n".join(table(report)) + "\n"
    write_atomically(out / TABLE, text)
    return text


def _training(clips: int, seconds: float, fps: float, seed: int) -> dict[str, ClipSet]:
    """Way → its clips: a third are the falls of both."""
    third = clips // 3
    falls = rendered(FALL_KINDS, third, seconds, fps, seed, "fall")
    plain = rendered(ORDINARY_KINDS, 2 * third, seconds, fps, seed, "ordinary")
    everyday = rendered(EVERYDAY_KINDS, third, seconds, fps, seed, "everyday")
    return {
        "without": clip_set([*falls, *plain], fps),
        "with": clip_set([*falls, *plain[:third], *everyday], fps),
    }


def _rendered_test(each: int, seconds: float, fps: float) -> ClipSet:
    parts = (("fall", FALL_KINDS), ("ordinary", ORDINARY_KINDS), ("everyday", EVERYDAY_KINDS))
    made = [row for name, kinds in parts for row in rendered(kinds, each, seconds, fps, TEST_SEED, name)]
    return clip_set(made, fps)


def measure(
    scores: Mapping[str, NDArray[np.float32]], tests: Mapping[str, ClipSet], recall: float
) -> dict[str, dict[str, Any]]:
    """Test → AUC and, ``own`` and ``carried``, the recall and the false alarms by act: at the highest threshold that
    finds ``recall`` of its falls, where it has any, and at that of the first test."""
    out: dict[str, dict[str, Any]] = {}
    first: float | None = None
    for name, clips in tests.items():
        p, truth = scores[name], clips.labels == 1
        own = None
        if truth.any():
            own = float(np.sort(p[truth])[::-1][math.ceil(recall * truth.sum() - 1e-9) - 1])
        first = own if first is None else first
        out[name] = {"auc": class_areas(np.stack([1 - p, p], 1), clips.labels)[1]}
        for way, threshold in (("own", own), ("carried", first)):
            if threshold is not None:
                alarms = p >= threshold
                shares = alarms_by_act(alarms, truth, clips.acts)[FALSE]
                out[name][way] = {
                    "threshold": threshold,
                    "recall": float(alarms[truth].mean()) if truth.any() else None,
                    "all": float(alarms[~truth].mean()) if (~truth).any() else None,
                    "false_alarms": {act: row["share"] for act, row in shares.items()},
                }
    return out


def _counts(clips: ClipSet) -> dict[str, int]:
    return {act: clips.acts.count(act) for act in sorted(set(clips.acts))}


def table(report: Mapping[str, Any]) -> Iterator[str]:
    """A Markdown table for each test: share of false alarms by act, mean and deviation over the seeds."""
    first = next(iter(report["acts"]))
    for name, counts in report["acts"].items():
        falls = counts.get(CLASSES[1], 0)
        found = {way: [row["tests"][name] for row in report["rows"] if row["way"] == way] for way in WAYS}
        at = [*(["own"] if falls else []), *(["carried"] if name != first else [])]
        heads = [f"{how} everyday acts{', threshold carried' * (t == 'carried')}" for t in at for how in WAYS]
        yield f"| {name} | clips | " + " | ".join(heads) + " |"
        yield "|---|---:|" + "---:|" * len(heads)
        cells = [[m[t] for m in found[way]] for t in at for way in WAYS]
        if falls:
            yield (
                f"| AUC | {falls} | " + " | ".join(_cell([m["auc"] for m in found[w]]) for _ in at for w in WAYS) + " |"
            )
            yield (
                f"| falls found | {falls} | " + " | ".join(_cell([m["recall"] for m in cell]) for cell in cells) + " |"
            )
        total = sum(counts.values()) - falls
        yield f"| false alarms, all acts | {total} | " + " | ".join(_cell([m["all"] for m in c]) for c in cells) + " |"
        for act, count in counts.items():
            if act != CLASSES[1]:
                shares = [_cell([m["false_alarms"][act] for m in cell]) for cell in cells]
                yield f"| {act} | {count} | " + " | ".join(shares) + " |"
        yield ""


def _cell(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f} ± {np.std(values):.3f}"
