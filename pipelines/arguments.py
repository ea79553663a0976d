"""The command line of the pipelines: usage errors in one line, and ``name=value`` items in a pipeline's own types."""

from __future__ import annotations

import argparse
import json
from typing import Any, NoReturn

from posewatch import boundary
from posewatch.errors import InputError
from posewatch.redact import redact
from posewatch.video.capture import is_stream


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that says what is wrong in one line, without secrets; its subparsers do as well."""

    def error(self, message: str) -> NoReturn:
        boundary.tell(f"pipelines: {' '.join(redact(message).split())} ({self.prog} --help)")
        self.exit(2)


def typed(name: str, inputs: dict[str, Any], items: list[str], more: dict[str, str]) -> dict[str, Any]:
    """``name=value`` items, and ``more`` for what they leave out, as parameters of the pipeline ``name``.

    ``inputs`` is kfp's description of them. Raises InputError for a parameter that is unknown, missing or of another
    type, and for a camera as the source: its password would be shown wherever parameters are.
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
    if is_stream(given.get("source", "")):
        raise InputError(
            "source= takes files: record the camera with `posewatch ingest` (it keeps the password to itself)"
        )
    return {key: _typed(key, value, inputs[key].type) for key, value in given.items()}


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
