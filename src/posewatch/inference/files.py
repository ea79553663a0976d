"""``posewatch predict``: predictions for the clips in files: videos, skeletons, or folders of both.

| file | holds |
|---|---|
| .npy | float32 keypoints (M, T, V, 3), or (N, M, T, V, 3) |
| .npz | such arrays by name, as ``posewatch pose`` writes them |
| .pkl | skeletons in pyskl's annotation format |
| .mp4, .avi, ... | a video: skeletons are estimated and cut into windows |
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from posewatch.datasets.layouts import FLOW, WITH_FLOW, require_alike
from posewatch.errors import InputError, first_line
from posewatch.names import readable
from posewatch.progress import say
from posewatch.units import PERSON, require_unit, shown
from posewatch.video.files import SUFFIXES, find_videos

if TYPE_CHECKING:
    from posewatch.config import Experiment
    from posewatch.inference.predictor import Predictor

SKELETONS = (".npy", ".npz", ".pkl")
BATCH = 32
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Item:
    """One clip of a file: ``keypoints`` float32 (M, T, V, 3); ``start_s`` and ``end_s`` in a video, else None;
    ``relative``: they are about the hips, no pixels; ``person``: the only one it shows, by number in the file."""

    file: str
    clip: str
    keypoints: NDArray[np.float32]
    start_s: float | None = None
    end_s: float | None = None
    relative: bool = False
    person: int | None = None
    layout: str = ""
    """The joint layout that the file names, if it does."""

    @property
    def joints(self) -> int:
        """V, without the columns of flow."""
        return self.keypoints.shape[2] - (FLOW if self.layout.endswith(WITH_FLOW) else 0)


def predict_files(
    model: str,
    sources: Sequence[str | Path],
    experiment: Experiment,
    window_s: float | None = None,
    stride_s: float | None = None,
    **connection: Any,
) -> list[dict[str, Any]]:
    """One row per clip of ``sources``, as ``predicted`` gives it; ``connection`` are options of ``open_predictor``.

    Videos are cut into windows of ``window_s`` (default: the length of the experiment's clips), ``stride_s`` apart
    (default: without overlap). Raises InputError, VideoError, ServingError.
    """
    from posewatch.inference.open import open_predictor
    from posewatch.video import require_pictures

    window = window_s or experiment.split.length_s
    stride = stride_s or window
    files = files_of(sources)
    with open_predictor(model, **connection) as predictor:
        require_unit(predictor.unit, experiment.mask.unit, model, "the configuration")
        require_pictures([path for path in files if path.suffix.lower() in SUFFIXES])
        # flow is measured where the model wants it, whatever the configuration says
        experiment = replace(experiment, pose=replace(experiment.pose, flow=predictor.flow > 0))
        rows = []
        for path in files:
            items = read(path, experiment, window, stride)
            rows += predicted(predictor, list(_apart(items) if predictor.unit == PERSON else items))
        return rows


def files_of(sources: Sequence[str | Path]) -> list[Path]:
    """The files to predict on, those of a folder in order. Raises InputError for a missing, empty or unknown one."""
    files: list[Path] = []
    for source in map(Path, sources):
        if source.is_file() and source.suffix.lower() not in (*SKELETONS, *SUFFIXES):
            kinds = ", ".join((*SKELETONS, *SUFFIXES))
            raise InputError(f"{source} is neither a video nor a skeleton file ({kinds})")
        files += [path for _, path in find_videos(source, also=SKELETONS)]
    return files


def read(path: Path, experiment: Experiment, window_s: float, stride_s: float) -> Iterator[Item]:
    """The clips of one file. Raises InputError or VideoError naming it."""
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        yield from _video(path, experiment, window_s, stride_s)
    elif suffix == ".pkl":
        from posewatch.datasets.pyskl import read_pyskl

        clips, _ = read_pyskl(path, for_model=True)
        for note in clips.notes:
            say(f"posewatch: note: {path.name}: {note}")
        for name, keypoints in zip(clips.ids, clips.keypoints, strict=True):
            yield Item(readable(str(path)), name, keypoints, relative=clips.relative, layout=clips.layout)
    else:
        for name, array in _arrays(path).items():
            if array.ndim not in (4, 5) or array.shape[-1] != 3 or not all(array.shape[1:]):
                raise InputError(f"{path}: {name} must be (M, T, V, 3) or (N, M, T, V, 3), not {array.shape}")
            if array.dtype.kind not in "iuf":
                raise InputError(f"{path}: {name} must hold numbers, not {array.dtype}")
            many = array.astype(np.float32) if array.ndim == 5 else array.astype(np.float32)[None]
            many[many[..., 2] <= 0] = 0  # a missing joint, whatever its place
            if not np.isfinite(many).all():
                raise InputError(f"{path}: {name} must hold finite numbers (give missing joints a score of 0)")
            for i, keypoints in enumerate(many):
                yield Item(readable(str(path)), name if array.ndim == 4 else f"{name}[{i}]", keypoints)


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with path.open("rb") as file:
            content = np.load(file, allow_pickle=False)
            if isinstance(content, np.ndarray):
                arrays = {readable(path.stem): content}
            else:
                arrays = {name: content[name] for name in content.files}
    except Exception as error:  # a damaged archive or header can raise nearly anything
        why = first_line(error)
        why = "it holds something other than numbers" if "pickle" in why else why  # numpy's remedy is to run its code
        raise InputError(f"{path} is not a numpy file of keypoints: {why}") from None
    if not any(array.ndim != 5 or len(array) for array in arrays.values()):
        raise InputError(f"{path} holds no clip")
    return arrays


def _video(path: Path, experiment: Experiment, window_s: float, stride_s: float) -> Iterator[Item]:
    """Windows of a video at the pipeline's frame rate; the last window ends with the video, or before a gap of it. With
    ``mask.unit`` person one for each person who is there."""
    from posewatch import video
    from posewatch.perception import one_person
    from posewatch.perception.skeletons import estimate_stretches, follow, skeleton

    fps, max_side = experiment.mask.fps, experiment.mask.max_side
    config = replace(experiment.pose, source="raw")  # the frames of the file, dark ones too
    info = video.probe(path)
    for note in (*info.notes, *([info.trouble] if info.trouble else [])):
        _LOG.warning("%s: %s", readable(path.name), note)
    width, height = video.fit(info.width, info.height, max_side)
    span, step = max(2, round(window_s * fps)), max(1, round(stride_s * fps))
    least, number = max(1, round(experiment.mask.min_presence_s * fps)), 0
    items: list[Item] = []
    for start_s, found in estimate_stretches(path, config, fps=fps, max_side=max_side):
        frames = follow(found, config)
        last = max(0, len(frames) - span)
        windows = [(first, min(span, len(frames))) for first in sorted({*range(0, last, step), last})]
        clips: list[tuple[int, int, int | None, NDArray[np.float32]]] = []
        if experiment.mask.unit == PERSON:
            for own in one_person.apart(frames, config):
                number += 1
                of_person = one_person.in_windows(own, windows, least, config.hold)
                clips += [(first, count, number, keypoints) for first, count, keypoints in of_person]
        else:
            for first, count in windows:
                of_scene = skeleton(frames[first : first + count], config, fps, width, height)
                clips.append((first, count, None, of_scene.keypoints))
        for first, count, person, keypoints in sorted(clips, key=lambda clip: clip[0]):
            begin, end = round(start_s + first / fps, 3), round(start_s + (first + count) / fps, 3)
            name = f"{shown(readable(path.stem), person)}@{begin:g}"
            items.append(Item(readable(str(path)), name, keypoints, begin, end, person=person))
    if (config.steady or config.flow) and items:
        from posewatch.perception.flow import Meter, by_pixels
        from posewatch.perception.pictures import over_clips

        meter, alone = Meter(fps) if config.flow else None, experiment.mask.unit == PERSON
        with closing(video.ahead(video.read(path, fps, max_side))) as again:  # type: ignore[type-var]
            numbered = ((frame.index, frame.image) for frame in again)
            seen = over_clips(
                numbered,
                [(round((one.start_s or 0.0) * fps), one.keypoints) for one in items],
                lambda first, keypoints, pictures: by_pixels(first, keypoints, pictures, config, meter, alone),
            )
        layout = f"coco17{WITH_FLOW}" if config.flow else ""
        items = [replace(one, keypoints=keypoints, layout=layout) for one, keypoints in zip(items, seen, strict=True)]
    yield from items


def _apart(items: Iterable[Item]) -> Iterator[Item]:
    """The persons of each clip of a file as clips of their own."""
    for item in items:
        people = [m for m in range(len(item.keypoints)) if item.keypoints[m, ..., 2].any()]
        if len(people) < 2:
            yield item
            continue
        for m in people:
            yield replace(item, clip=shown(item.clip, m + 1), keypoints=item.keypoints[m : m + 1], person=m + 1)


def predicted(predictor: Predictor, items: Sequence[Item]) -> list[dict[str, Any]]:
    """One row per clip. A clip without people has people 0, no label and no probabilities."""
    from posewatch.recognition.sampling import fitting
    from posewatch.recognition.threshold import decide

    joints = predictor.joints - predictor.flow
    for item in items:
        if item.joints != joints and item.keypoints.shape[2] != predictor.joints:
            raise InputError(
                f"{item.file}: {item.clip} has {item.joints} joints, the model takes {joints} "
                f"({predictor.layout or 'its own layout'})"
            )
        require_alike(item.layout, predictor.layout, "the model's")
        if item.relative and predictor.metadata.get("features") != "hips":
            raise InputError(
                f"{item.file}: its coordinates are relative to the hips, the model takes pixels: train one with "
                "train.features=hips"
            )
    people = [int((item.keypoints[..., 2] > 0).any(axis=(1, 2)).sum()) for item in items]
    rows: list[dict[str, Any]] = [
        {"file": item.file, "clip": item.clip, "people": count, "label": None, "probabilities": {}}
        for item, count in zip(items, people, strict=True)
    ]
    occupied = [i for i, count in enumerate(people) if count]
    for at in range(0, len(occupied), BATCH):
        part = occupied[at : at + BATCH]
        keypoints = fitting([items[i].keypoints for i in part], predictor)
        prediction = predictor.predict(keypoints)
        probabilities = prediction.probabilities
        if predictor.positive in predictor.labels:
            chosen = decide(probabilities, predictor.labels.index(predictor.positive), predictor.threshold)
        else:
            chosen = probabilities.argmax(1)
        for i, values, k in zip(part, probabilities.tolist(), chosen.tolist(), strict=True):
            rows[i]["label"] = predictor.labels[k]
            rows[i]["probabilities"] = {name: round(p, 5) for name, p in zip(predictor.labels, values, strict=True)}
        if prediction.novelty is not None:
            for i, novelty in zip(part, prediction.novelty.tolist(), strict=True):
                rows[i]["novelty"] = round(novelty, 4)
    for item, row in zip(items, rows, strict=True):
        if item.person is not None:
            row["person"] = item.person
        if item.start_s is not None:
            row |= {"start_s": item.start_s, "end_s": item.end_s}
    return rows
