"""``name=value`` items as a pipeline's parameters, in its own types."""

from __future__ import annotations

import json
import re
from typing import Any

from posewatch.addresses import Address, without_secrets
from posewatch.errors import InputError
from posewatch.video.capture import is_stream


def typed(name: str, inputs: dict[str, Any], items: list[str], more: dict[str, str]) -> dict[str, Any]:
    """``name=value`` items, and ``more`` for what they leave out, as parameters of the pipeline ``name``.

    ``inputs`` is kfp's description of them. Raises InputError for a parameter that is unknown, missing or of another
    type, for a camera without ``source_seconds``, and for one with a password: parameters are shown to everybody.
    """
    given: dict[str, str] = {}
    for item in items:
        key, sep, value = item.partition("=")
        if not sep:
            raise InputError(f"argument {item!r} must look like name=value")
        if key in given:
            raise InputError(f"{key} is given twice")
        given[key] = value
    given = {**{key: value for key, value in more.items() if value}, **given}
    for key in given:
        if key not in inputs:
            raise InputError(f"{name} has no parameter {key!r} (it has: {', '.join(sorted(inputs))})")
    missing = [key for key, about in inputs.items() if not about.optional and not given.get(key)]
    if missing:
        raise InputError(f"{name} needs {', '.join(f'{key}=…' for key in missing)}")
    found = {key: _typed(key, value, inputs[key].type) for key, value in given.items()}
    source = given.get("source", "")
    if is_stream(source):
        _check_camera(source, found.get("source_seconds", 0.0))
    return found


def _check_camera(source: str, seconds: float) -> None:
    address = Address.parse(source)
    if any(not re.fullmatch(r"(\$\{\w+\})+", part) for part in address.secrets if part != address.user):
        raise InputError(
            f"source={without_secrets(source)} holds a password, and everybody sees a run's parameters: write"
            " ${POSEWATCH_CAMERA_USER}:${POSEWATCH_CAMERA_PASSWORD}@ there, and both into the Secret posewatch (without"
            " a cluster: into the environment), or record the camera with `posewatch ingest` first"
        )
    if not seconds > 0:
        raise InputError(f"give the time to record {without_secrets(source)}: source_seconds=SECONDS")


_TYPES: dict[str, tuple[type, str]] = {
    "Integer": (int, "a whole number"),
    "Float": (float, "a number"),
    "Boolean": (bool, "true or false"),
    "List": (list, 'a JSON list such as ["a", "b"]'),
    "Dict": (dict, 'a JSON object such as {"a": 1}'),
}
"""kfp's types of parameters; all others are texts."""


def _typed(key: str, text: str, kind: str) -> Any:
    wanted, words = _TYPES.get(kind, (str, ""))
    if wanted is str:
        return text
    try:
        value = json.loads(text.strip().lower() if wanted is bool else text)
        if wanted is float and type(value) is int:
            value = float(value)
    except ValueError:
        value = None
    if type(value) is not wanted or (wanted is int and not -(2**63) <= value < 2**63):
        raise InputError(f"{key} must be {words}, not {text!r}")
    return value
