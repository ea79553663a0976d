"""The target ``embedded``: the version is loaded by the Triton that ``posewatch up`` started."""

from __future__ import annotations

import shutil

from posewatch.artifact import MANIFEST
from posewatch.deploy.gates import require_unit_served
from posewatch.deploy.proof import unit_published
from posewatch.deploy.target import DeployRequest
from posewatch.errors import InputError, ServingError, StackError

CONFIG = "config.pbtxt"


def deploy(request: DeployRequest) -> str:
    """See ``Target``. If the version cannot be loaded, the one before is loaded again."""
    from posewatch import stack
    from posewatch.inference.triton_admin import load_model, model_ready

    if request.percent not in (None, 100):
        raise InputError("the embedded Triton shares no traffic: --canary-percent needs serving.target=kserve")
    server = stack.current()
    if server is None:
        raise StackError("the embedded Triton is not running: start it with `posewatch up`")
    model, name = request.model, request.config.name
    endpoint = f"grpc://{server.triton_grpc}/{name}"
    live = server.model_repository / name
    digest = live / MANIFEST
    also = sorted({file.partition("/")[0] for file in model.files if "/" in file} - {name})
    loaded = digest.is_file() and digest.read_text() == model.digest
    if loaded and all(model_ready(server.triton_grpc, one) for one in (name, *also)):
        return endpoint
    if (live / CONFIG).is_file():
        new_unit = unit_published(model.read(f"{name}/{CONFIG}").decode())
        require_unit_served(new_unit, unit_published((live / CONFIG).read_text()), name, request.override)
    new, old = server.model_repository / f".{name}.new", server.model_repository / f".{name}.old"
    for folder in (new, old):
        shutil.rmtree(folder, ignore_errors=True)
    model.fetch_all(new)
    (new / name / MANIFEST).write_text(model.digest)
    if live.exists():
        live.rename(old)
    (new / name).rename(live)
    try:
        load_model(server.triton_grpc, name)
        for other in also:  # the same version for the paper's clients
            shutil.rmtree(server.model_repository / other, ignore_errors=True)
            (new / other).rename(server.model_repository / other)
            load_model(server.triton_grpc, other)
    except ServingError:
        shutil.rmtree(live)
        if old.exists():
            old.rename(live)
            load_model(server.triton_grpc, name)
        raise
    finally:
        for folder in (new, old):
            shutil.rmtree(folder, ignore_errors=True)
    return endpoint
