"""What a clip shows, the unit of labels and predictions: the ``scene`` with everybody in it, or one ``person`` alone.

A set of labels, a dataset, a checkpoint and a model have one unit, under the key ``unit`` of what describes them; one
that has none is of scenes. Units never mix.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from posewatch.errors import InputError

SCENE, PERSON = "scene", "person"
UNIT = "unit"
WORDS = {SCENE: "whole scenes", PERSON: "single persons"}
"""What a model of a unit recognises, for people to read."""


def unit_of(about: Mapping[str, Any]) -> str:
    """The unit that a description (``dataset.json``, a checkpoint, a model's metadata) names."""
    return str(about.get(UNIT) or SCENE)


def unit_entry(unit: str) -> dict[str, str]:
    """The key of a description; none for the scene, so that what is of scenes keeps its bytes and digests."""
    return {} if unit == SCENE else {UNIT: unit}


def unit_of_persons(persons: Iterable[int | None], what: str) -> str:
    """The unit of clips of these persons (None: the scene); that of no clips is the scene.

    Raises InputError, which calls the clips ``what``, when both kinds are among them.
    """
    units = {SCENE if person is None else PERSON for person in persons}
    if len(units) > 1:
        raise InputError(f"{what}: clips of whole scenes and of single persons do not mix: take one kind (mask.unit)")
    return next(iter(units), SCENE)


def require_unit(found: str, wanted: str, model: str, clips: str) -> None:
    """Raises InputError unless ``model``, of the unit ``found``, fits ``clips`` of the unit ``wanted``."""
    if found != wanted:
        raise InputError(
            f"{model} recognises {WORDS.get(found, found)} (unit {found}), {clips} shows {WORDS.get(wanted, wanted)}"
            f" (unit {wanted}): take a model of that unit, or set mask.unit={found}"
        )


def shown(video: str, person: int | None) -> str:
    """A video's name for people to read, with the person's number where a clip shows one: ``yard.mp4 #2``."""
    return video if person is None else f"{video} #{person}"
