"""Raw → masked: the people of every video on black, as H.264 at the pipeline's frame rate, detections beside it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from posewatch.artifact import Artifact, Job, collect, members
from posewatch.config import MaskConfig
from posewatch.digests import canonical
from posewatch.stages.contents import row_of
from posewatch.stages.parallel import each
from posewatch.store import ObjectStore


def _make(job: Job, config: MaskConfig, folder: Path, workers: int = 1) -> None:
    import tempfile

    from posewatch.perception.masking import mask_video

    raw = job.parents[0]
    name = next(n for n in raw.files if n.startswith("video.") and n != "video.json")
    with tempfile.TemporaryDirectory(prefix="posewatch-raw-") as temp:
        report = mask_video(raw.fetch(name, Path(temp)), folder / "masked.mp4", config, workers=workers)
    (folder / "report.json").write_text(canonical(dataclasses.asdict(report)) + "\n", encoding="utf-8")


def mask(store: ObjectStore, raw: Artifact, config: MaskConfig) -> Artifact:
    """Mask every video of a raw set; returns the set of ``masked.mp4``, ``detections.npz`` and ``report.json``."""
    from posewatch.perception.networks import weights_of

    rows = members(raw)
    weights = weights_of(config)
    # where it ran changes nothing that masking promises
    about = {k: v for k, v in dataclasses.asdict(config).items() if k != "device"}
    jobs = [Job("masked", row["video"], about, (artifact,), weights, source=row["names"][0]) for row, artifact in rows]
    names = [row["names"][0] for row, _ in rows]
    return collect(
        store, "mask", [row_of(row) for row, _ in rows], each(store, "mask", jobs, names, config, _make, share=True)
    )
