"""Unlabelled clips → predictions of the served model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from posewatch.artifact import Artifact, Job, produce
from posewatch.digests import canonical
from posewatch.inference.open import open_predictor
from posewatch.progress import Progress
from posewatch.recognition.sampling import fitting
from posewatch.stages.contents import PREDICTIONS, by_video, clips_of, clips_unit, label_rows, skeletons_of, videos_of
from posewatch.store import ObjectStore
from posewatch.units import require_unit


def score(
    store: ObjectStore, endpoint: str, clips: Artifact, skeletons: Artifact, snapshot: Artifact, model: Artifact
) -> Artifact:
    """Predict the clips without a label with the served model; writes ``predictions.jsonl``, one row per clip.

    A clip in which nobody is visible has ``people`` 0 and no probabilities.
    """
    job = Job("scores", "", {"endpoint": endpoint}, (clips, skeletons, snapshot, model))

    def write(folder: Path) -> None:
        labelled = {row["clip_id"] for row in label_rows(snapshot)}
        rows: list[dict[str, Any]] = []
        skeletons_by_video = by_video(skeletons)
        with open_predictor(endpoint) as served, Progress("score", len(skeletons_by_video)) as progress:
            require_unit(served.unit, clips_unit(clips), endpoint, "the set of clips")
            for item in videos_of(clips):
                unlabelled = [c for c in clips_of(item.artifact) if c.id not in labelled]
                poses = skeletons_of(skeletons_by_video[item.video]) if unlabelled else {}
                for clip in unlabelled:
                    row = {"clip": clip.id, "video": clip.video_id, "names": list(item.names), "start_s": clip.start_s}
                    row |= {} if clip.person is None else {"person": clip.person}
                    row["people"] = poses[clip.id].persons
                    if row["people"]:
                        answer = served.predict(fitting([poses[clip.id].columns], served))
                        row["probabilities"] = {
                            label: round(float(p), 5)
                            for label, p in zip(answer.labels, answer.probabilities[0], strict=True)
                        }
                        if answer.novelty is not None:
                            row["novelty"] = round(float(answer.novelty[0]), 4)
                    rows.append(row)
                progress.advance()
        text = "".join(canonical(row) + "\n" for row in rows)
        (folder / PREDICTIONS).write_text(text, encoding="utf-8")

    return produce(store, job, write)
