"""What the served model predicts for the clips that nobody labelled."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from posewatch.artifact import Artifact, Job, members, produce
from posewatch.digests import canonical
from posewatch.inference.open import open_predictor
from posewatch.progress import Progress
from posewatch.recognition.sampling import resample
from posewatch.stages.contents import clips_of, labels_of, skeletons_of
from posewatch.store import ObjectStore


def score(
    store: ObjectStore, endpoint: str, clips: Artifact, skeletons: Artifact, snapshot: Artifact, model: Artifact
) -> Artifact:
    """What the served model says of the clips without a label; writes ``predictions.jsonl``, one row per clip.

    A clip in which nobody was seen is passed on with ``people`` 0 and no probability.
    """
    job = Job("scores", "", {"endpoint": endpoint}, (clips, skeletons, snapshot, model))

    def make(folder: Path) -> None:
        with tempfile.TemporaryDirectory() as temp:
            labelled = {row["clip_id"] for row in labels_of(snapshot, Path(temp))}
        rows: list[dict[str, Any]] = []
        found = dict(zip((r["video"] for r, _ in members(skeletons)), (a for _, a in members(skeletons)), strict=True))
        served = open_predictor(endpoint)
        try:
            with Progress("score", len(found)) as progress:
                for member, artifact in members(clips):
                    waiting = [c for c in clips_of(artifact) if c.id not in labelled]
                    poses = skeletons_of(found[member["video"]]) if waiting else {}
                    for clip in waiting:
                        row = {
                            "clip": clip.id,
                            "video": clip.video_id,
                            "names": member["names"],
                            "start_s": clip.start_s,
                        }
                        row["people"] = poses[clip.id].persons
                        if row["people"]:
                            batch = resample([poses[clip.id].keypoints], served.frames, served.people)
                            answer = served.predict(batch)
                            row["probabilities"] = {
                                label: round(float(p), 5)
                                for label, p in zip(answer.labels, answer.probabilities[0], strict=True)
                            }
                        rows.append(row)
                    progress.advance()
        finally:
            served.close()
        text = "".join(canonical(row) + "\n" for row in rows)
        (folder / "predictions.jsonl").write_text(text, encoding="utf-8")

    return produce(store, job, make)
