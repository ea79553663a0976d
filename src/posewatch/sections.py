"""Read YAML or JSON into frozen dataclasses: every value is converted to its field's type, an unknown key is an error.

A dataclass lists the former names of its fields in ``RENAMED`` ({former: new}): an error then gives the new name. A new
name "field.key" is a key of a field that is a mapping.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from posewatch.errors import ConfigError, did_you_mean

T = TypeVar("T")
_BOOLEANS = {"true": True, "false": False, "1": True, "0": False}


def parse_yaml(text: str, name: str) -> dict[str, Any]:
    """The mapping that a YAML text holds, {} for an empty one. Raises ConfigError, which calls the text ``name``."""
    try:
        data = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: 2026-99-99 is no date
        raise ConfigError(f"{name} is not YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ConfigError(f"{name} is not YAML: it is nested too deeply") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(f"{name} must be a mapping, not {type(data).__name__}")
    return data


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises ConfigError."""
    try:
        return parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with the values of ``over``, section by section; an empty section of ``over`` changes nothing."""
    out = dict(base)
    for key, value in over.items():
        if isinstance(out.get(key), Mapping) and (value is None or isinstance(value, Mapping)):
            out[key] = merge(out[key], value or {})
        else:
            out[key] = value
    return out


def from_dict(cls: type[T], data: Any, where: str = "", *, former_names: bool = False) -> T:
    """Build the dataclass ``cls`` from plain data. ``where`` is the dotted key of the section, for error messages.

    With ``former_names`` the names of earlier versions are accepted, as checkpoints hold them; without it they are
    refused with the new name. Raises ConfigError for an unknown key, a missing one and a value of another type.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where or 'configuration'} must be a mapping, not {type(data).__name__}")
    kinds, dot = typing.get_type_hints(cls), f"{where}." if where else ""
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    renamed: Mapping[str, str] = getattr(cls, "RENAMED", {})
    values = {}
    for key, value in data.items():
        name = str(key)
        if name in renamed and name not in fields:
            if not former_names:
                raise ConfigError(f"unknown configuration key {dot + name!r}: it is now {dot + renamed[name]!r}")
            name, _, option = renamed[name].partition(".")
            value = {option: value} if option else value
        if name not in fields:
            raise ConfigError(f"unknown configuration key {dot + name!r}: {did_you_mean(name, fields)}")
        values[name] = convert(kinds[name], value, dot + name, former_names=former_names)
    for name, field in fields.items():
        if name not in values and field.default is field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"missing configuration key {dot + name!r}")
    return cls(**values)


def convert(kind: Any, value: Any, where: str, *, former_names: bool = False) -> Any:
    """``value`` as the annotated type ``kind``; texts are read as numbers, booleans and lists ("1,2") where needed."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        chosen = next(k for k in inner if k is not type(None))
        return None if value is None else convert(chosen, value, where, former_names=former_names)
    if dataclasses.is_dataclass(kind):
        return from_dict(typing.cast(type, kind), value, where, former_names=former_names)
    if origin in (tuple, list):
        if isinstance(value, str):
            value = [v for v in value.strip("[]() ").split(",") if v.strip()]
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where} must be a list, not {value!r}")
        return origin(convert(inner[0], v, f"{where}[{i}]") for i, v in enumerate(value))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where} must be a mapping, not {value!r}")
        return {str(k): convert(inner[1], v, f"{where}.{k}") for k, v in value.items()}
    try:
        if kind is bool:
            return _BOOLEANS[value.lower()] if isinstance(value, str) else bool(value)
        if kind in (int, float) and isinstance(value, bool):
            raise ValueError
        if kind is int:
            if float(value) != int(float(value)):
                raise ValueError
            return int(float(value))
        if kind is float:
            return float(value)
    except (TypeError, ValueError, KeyError, OverflowError):
        raise ConfigError(f"{where} must be {kind.__name__}, not {value!r}") from None
    if kind is Any and isinstance(value, str):
        return yaml.safe_load(value)
    return str(value).strip() if kind is str else value
