"""One round of active learning: score the unlabelled clips, order the labelers' queue by the model's uncertainty."""

from __future__ import annotations

import dataclasses

import numpy as np

from posewatch.artifact import Artifact
from posewatch.config import LabelConfig
from posewatch.inference.predictor import Predictor
from posewatch.labels.store import LabelStore
from posewatch.progress import Progress
from posewatch.recognition.sampling import fitting
from posewatch.records import Prediction
from posewatch.stages.contents import by_video, clips_of, clips_unit, skeletons_of, videos_of
from posewatch.units import require_unit


def refresh(
    clips: Artifact, skeletons: Artifact, labels: LabelStore, predictor: Predictor, version: str, config: LabelConfig
) -> dict[str, int]:
    """Score the unlabelled clips of a set with a model, and order the queue by its predictions.

    ``version`` is the model's name on the labeling page. Returns the numbers of clips scored, ordered, and placed at
    random. Clips in which nobody is visible stay at the end of the queue. Raises LabelError for a model of other
    classes.
    """
    from posewatch.labels import active

    require_unit(predictor.unit, clips_unit(clips), "the model", "the set of clips")
    skeletons_by_video = by_video(skeletons)
    done = {clip for clip, event in labels.current().items() if event.source != "model"}
    ids: list[str] = []
    parts: list[Prediction] = []
    videos = [item for item in videos_of(clips) if item.video in skeletons_by_video]
    with Progress("refresh", len(videos)) as progress:
        for item in videos:
            poses = skeletons_of(skeletons_by_video[item.video])
            chosen = [
                clip.id
                for clip in clips_of(item.artifact)
                if clip.id not in done and clip.id in poses and poses[clip.id].persons
            ]
            if chosen:
                keypoints = fitting([poses[c].columns for c in chosen], predictor)
                parts.append(predictor.predict(keypoints))
                ids += chosen
            progress.advance()
    if not ids:
        return {"scored": 0, "ordered": 0, "random": 0}
    embeddings = [part.embedding for part in parts if part.embedding is not None]
    novelty = [part.novelty for part in parts if part.novelty is not None]
    joined = Prediction(
        np.concatenate([part.probabilities for part in parts]),
        parts[0].labels,
        np.concatenate(embeddings) if len(embeddings) == len(parts) else None,
        np.concatenate(novelty) if len(novelty) == len(parts) else None,
    )
    return dataclasses.asdict(active.refresh(labels, ids, joined, version, config))
