"""One round of active learning: score the unlabelled clips, order the labeling queue by doubt."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from posewatch.artifact import Artifact, members
from posewatch.config import LabelConfig
from posewatch.inference.open import open_predictor
from posewatch.labels.store import LabelStore
from posewatch.progress import Progress
from posewatch.recognition.sampling import resample
from posewatch.stages.contents import clips_of, skeletons_of

if TYPE_CHECKING:
    from posewatch.inference.predictor import Predictor


def refresh(
    clips: Artifact, skeletons: Artifact, labels: LabelStore, predictor: Predictor, version: str, config: LabelConfig
) -> dict[str, int]:
    """Score the clips of a set that nobody has labelled with a model, and order the queue by what it says.

    Clips in which nobody was seen keep their place at the end of the queue. Raises LabelError for a
    model of other classes.
    """

    from posewatch.labels import active
    from posewatch.records import Prediction

    poses = {row["video"]: artifact for row, artifact in members(skeletons)}
    done = {clip for clip, event in labels.current().items() if event.source != "model"}
    ids: list[str] = []
    parts: list[Prediction] = []
    rows = [(row, artifact) for row, artifact in members(clips) if row["video"] in poses]
    with Progress("refresh", len(rows)) as progress:
        for row, artifact in rows:
            found = skeletons_of(poses[row["video"]])
            waiting = [c.id for c in clips_of(artifact) if c.id not in done and c.id in found and found[c.id].persons]
            if waiting:
                keypoints = resample([found[c].keypoints for c in waiting], predictor.frames, predictor.people)
                parts.append(predictor.predict(keypoints))
                ids += waiting
            progress.advance()
    if not ids:
        return {"scored": 0, "ordered": 0, "random": 0}
    embeddings = [part.embedding for part in parts if part.embedding is not None]
    joined = Prediction(
        np.concatenate([part.probabilities for part in parts]),
        parts[0].labels,
        np.concatenate(embeddings) if len(embeddings) == len(parts) else None,
    )
    return dataclasses.asdict(active.refresh(labels, ids, joined, version, config))


def ask_again(
    clips: Artifact, skeletons: Artifact, labels: LabelStore, endpoint: str, version: str, config: LabelConfig
) -> dict[str, int]:
    """One round of active learning with a served model: score what nobody has labelled, order the queue by its doubt.

    ``version`` is what the labeling page calls the model (empty: the endpoint's last part). Returns the numbers of
    clips scored, ordered and left to chance.
    """
    with open_predictor(endpoint) as predictor:
        return refresh(clips, skeletons, labels, predictor, version or endpoint.rsplit("/", 1)[-1], config)
