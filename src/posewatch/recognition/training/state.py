"""The state file from which a killed training goes on, and whether a checkpoint is the result of a training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from posewatch.errors import first_line
from posewatch.files import write_atomically
from posewatch.progress import say
from posewatch.recognition import distributed as parallel
from posewatch.recognition.recogniser import dump

STATE, BEFORE = ".state.pt", ".state.pt.before"
"""The state after the last epoch, and after the one before it: a power loss may cut the newer file."""


def write(out: Path, state: dict[str, Any]) -> None:
    """Write the state of an epoch, with the ``key`` of its training, and keep the one before it."""
    if (out / STATE).exists():
        (out / STATE).replace(out / BEFORE)
    write_atomically(out / STATE, dump(state))


def read(out: Path, key: str, device: torch.device) -> dict[str, Any] | None:
    """The newest state of the training ``key``. States that are damaged, or of a training with other settings or clips,
    are told and put aside: nothing replaces them."""
    for suffix in ("", ".before", f".{key[:8]}"):
        path = out / f"{STATE}{suffix}"
        if not path.exists():
            continue
        try:
            state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
            own = str(state["key"])
        except Exception as error:
            aside = path.with_name(f"{path.name}.damaged")
            reason = f"{path} is damaged ({first_line(error)})"
        else:
            if own == key:
                return state
            aside = path.with_name(f"{STATE}.{own[:8]}")
            reason = f"{path} is of a training with other settings or clips"
        if parallel.writer():
            say(f"posewatch: note: {reason}; kept as {aside.name}")
            path.replace(aside)
    return None


def remove(out: Path) -> None:
    """Remove the states of a training that is finished."""
    for name in (STATE, BEFORE):
        (out / name).unlink(missing_ok=True)


def finished(path: Path, key: str) -> bool:
    """Whether a checkpoint is the result of the training ``key``."""
    if not path.exists():
        return False
    try:
        return torch.load(path, map_location="cpu", weights_only=True).get("run") == key
    except Exception as error:
        if parallel.rank() == 0:
            say(f"posewatch: note: {path} is damaged ({first_line(error)}): it is trained again")
        return False
