"""An official ProtoGCN checkpoint → a checkpoint artifact, exported, evaluated and served like a trained one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from posewatch.artifact import Artifact, Job, produce, sha256_file
from posewatch.stages.contents import CHECKPOINT
from posewatch.store import ObjectStore


def import_checkpoint(store: ObjectStore, path: Path, options: dict[str, Any]) -> tuple[Artifact, list[str]]:
    """Write ``checkpoint.pt`` of the recogniser that ``imported.import_official(path, **options)`` makes.

    Returns the artifact and the notes. Raises InputError, LabelError or ConfigError.
    """
    from posewatch.recognition.imported import import_official
    from posewatch.recognition.recogniser import save

    recogniser, notes = import_official(path, **options)
    sha = sha256_file(path)
    settings = {"recipe": recogniser.description()}
    job = Job("checkpoints", "", settings, weights={"imported": {"sha256": sha, "licence": ""}}, source=f"sha256 {sha}")

    def write(folder: Path) -> None:
        save(folder / CHECKPOINT, recogniser, recogniser.state_dict(), {"imported": sha})

    return produce(store, job, write), notes
