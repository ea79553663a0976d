"""A published version, loaded by the embedded Triton."""

from __future__ import annotations

import shutil

from posewatch.artifact import MANIFEST, Artifact
from posewatch.errors import ServingError, StackError


def deploy_embedded(model: Artifact, name: str) -> str:
    from posewatch import stack
    from posewatch.inference import triton_admin

    info = stack.current()
    if info is None:
        raise StackError("the embedded Triton is not running: start it with `posewatch up`")
    endpoint = f"grpc://{info.triton_grpc}/{name}"
    stamp = info.model_repository / name / MANIFEST
    if stamp.is_file() and stamp.read_text() == model.digest and triton_admin.model_ready(info.triton_grpc, name):
        return endpoint
    new, old = info.model_repository / f".{name}.new", info.model_repository / f".{name}.old"
    for folder in (new, old):
        shutil.rmtree(folder, ignore_errors=True)
    model.fetch_all(new)
    (new / name / MANIFEST).write_text(model.digest)
    here = info.model_repository / name
    if here.exists():
        here.rename(old)
    (new / name).rename(here)
    try:
        triton_admin.load_model(info.triton_grpc, name)
    except ServingError:
        shutil.rmtree(here)
        if old.exists():
            old.rename(here)
            triton_admin.load_model(info.triton_grpc, name)
        raise
    finally:
        for folder in (new, old):
            shutil.rmtree(folder, ignore_errors=True)
    return endpoint
