"""Raw → masked: the people of every video on black, as H.264 at the pipeline's frame rate, detections beside it."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

from posewatch.artifact import Artifact, Job
from posewatch.config import MaskConfig
from posewatch.digests import canonical
from posewatch.stages import per_video
from posewatch.stages.contents import MASK_REPORT, MASKED, raw_file, videos_of
from posewatch.store import ObjectStore


def mask(store: ObjectStore, raw: Artifact, config: MaskConfig) -> Artifact:
    """Mask every video of a raw set; returns the set of ``masked.mp4``, ``detections.npz`` and ``report.json``."""
    from posewatch.perception.networks import NETWORKS, weights_of

    videos, weights = list(videos_of(raw)), weights_of(config)
    # 2: people are followed both ways, by all but ByteTrack
    revision = 1 if NETWORKS[config.detector].bytetrack else 2
    # the device changes nothing that masking promises
    settings = {k: v for k, v in dataclasses.asdict(config).items() if k != "device"}
    jobs = [Job("masked", v.video, settings, (v.artifact,), weights, revision, v.names[0]) for v in videos]
    return per_video.run(store, "mask", videos, jobs, config, _write, share=True)


def _write(job: Job, config: MaskConfig, folder: Path, workers: int = 1) -> None:
    from posewatch.perception.masking import mask_video

    with tempfile.TemporaryDirectory(prefix="posewatch-raw-") as temp:
        report = mask_video(raw_file(job.parents[0], Path(temp)), folder / MASKED, config, workers=workers)
    (folder / MASK_REPORT).write_text(canonical(report.to_dict()) + "\n", encoding="utf-8")
