"""Read YAML or JSON into frozen dataclasses: every value is converted to its field's type and checked against the rules
that stand beside the field, an unknown key is an error.

A field's rules are annotations: ``epochs: Annotated[int, Range(1, 100)] = 30``. A dataclass that derives from
``Section`` is checked however it is made. It lists the former names of its fields in ``RENAMED`` ({former: new}): an
error then gives the new name. A new name "field.key" is a key of a field that is a mapping.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import numbers
import types
import typing
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

import yaml

from posewatch.errors import ConfigError, did_you_mean
from posewatch.rules import Items, Like, OneOf, Rule
from posewatch.text import read_text

T = TypeVar("T")
_BOOLEANS = dict.fromkeys(("true", "yes", "on", "1"), True) | dict.fromkeys(("false", "no", "off", "0"), False)
_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
_NULLS = ("", "~", "null")


class Plain(str):
    """A scalar as it is written, without quotes: what it means follows from the type of its field."""


class _AsWritten(yaml.SafeLoader):
    """Keeps scalars as they are written, so that a class named ``no`` is no boolean; a key that is there twice is an
    error."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        keys: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in keys and key.value != "<<":
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is there twice", key.start_mark)
            keys.add(key.value if isinstance(key, yaml.ScalarNode) else "")
        return super().construct_mapping(node, deep)

    def scalar(self, node: yaml.ScalarNode) -> str:
        return str(node.value) if node.style else Plain(node.value)


for _tag in ("bool", "int", "float", "null", "timestamp", "str", "value"):
    _AsWritten.add_constructor(f"tag:yaml.org,2002:{_tag}", _AsWritten.scalar)


def parse_yaml(text: str, name: str) -> dict[str, Any]:
    """The mapping that a YAML text holds, its scalars as they are written; {} for an empty text.

    Raises ConfigError, which calls the text ``name``.
    """
    data = _yaml(text, name)
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(f"{name} must be a mapping, not {_shown(data)}")
    return data


def _yaml(text: str, name: str) -> Any:
    try:
        return yaml.load(text, _AsWritten)
    except yaml.YAMLError as error:
        raise ConfigError(f"{name} is not YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ConfigError(f"{name} is not YAML: it is nested too deeply") from None


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises ConfigError."""
    return parse_yaml(read_text(path, error=ConfigError), str(path))


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with the values of ``over``, section by section; an empty section of ``over`` changes nothing."""
    out = dict(base)
    for key, value in over.items():
        if isinstance(out.get(key), Mapping) and (is_null(value) or isinstance(value, Mapping)):
            out[key] = merge(out[key], {} if is_null(value) else value)
        else:
            out[key] = value
    return out


def is_null(value: Any) -> bool:
    """Whether a value is none, or written as null, ~ or nothing."""
    return value is None or (isinstance(value, Plain) and value.lower() in _NULLS)


@dataclass(frozen=True)
class Section:
    """A dataclass whose values are checked whenever one is made; ``SECTION`` is its key in the configuration.

    ``ADDED`` names the fields that came later than the first artifacts: at their default, they are no part of a
    fingerprint. Their default must never change. ``BEFORE`` holds what such a field stands for in artifacts that were
    made before there was one, where that is not its default.
    """

    SECTION: ClassVar[str] = ""
    ADDED: ClassVar[tuple[str, ...]] = ()
    BEFORE: ClassVar[Mapping[str, Any]] = {}

    def __post_init__(self) -> None:
        for name, kind in _hints(type(self)).items():  # type: ignore[arg-type]
            if not dataclasses.is_dataclass(kind):
                require(kind, getattr(self, name), f"{self.SECTION}.{name}" if self.SECTION else name)


@functools.cache
def _hints(cls: Hashable) -> dict[str, Any]:
    """Field → annotated type."""
    kind: Any = cls
    known = typing.get_type_hints(kind, include_extras=True)
    return {field.name: known[field.name] for field in dataclasses.fields(kind)}


def require(kind: Any, value: Any, where: str) -> None:
    """Raises ConfigError, naming what is allowed, for a value that is not of ``kind``."""
    bare, rules = _bare(kind)
    origin, inner = typing.get_origin(bare), typing.get_args(bare)
    if origin in (tuple, list):
        right = isinstance(value, list | tuple)
    elif bare in (int, float):
        number: Any = numbers.Integral if bare is int else numbers.Real
        right = isinstance(value, number) and not isinstance(value, bool)
    else:
        right = not isinstance(bare, type) or bare is Any or isinstance(value, bare)
    if not right or not all(rule.holds(value) for rule in rules):
        near = [difflib.get_close_matches(str(value), rule.names, 1) for rule in rules if isinstance(rule, OneOf)]
        hint = f" (did you mean {near[0][0]!r}?)" if near and near[0] else ""
        raise ConfigError(f"{where} must be {wanted(kind)}, not {_shown(value)}{hint}")
    if origin in (tuple, list):
        for i, one in enumerate(value):
            require(inner[0], one, f"{where}[{i}]")


def _bare(kind: Any) -> tuple[Any, tuple[Rule, ...]]:
    """An annotated type without its rules, and the rules."""
    if typing.get_origin(kind) is Annotated:
        return typing.get_args(kind)[0], kind.__metadata__
    return kind, ()


def wanted(kind: Any) -> str:
    """The words for what a field of ``kind`` may hold: "a whole number from 1 to 100"."""
    bare, rules = _bare(kind)
    words = [] if any(isinstance(rule, OneOf | Like | Items) for rule in rules) else [_WORDS.get(bare, "a list")]
    return " ".join([*words, *(rule.words for rule in rules)])


def _shown(value: Any) -> str:
    if value is None or value in ("", (), []):
        return "empty"
    text = f"{value:g}" if isinstance(value, float) else repr(str(value) if isinstance(value, str) else value)
    return text if len(text) < 80 else f"{text[:77]}..."


def from_dict(cls: type[T], data: Any, where: str = "", *, former_names: bool = False) -> T:
    """Build the dataclass ``cls`` from plain data. ``where`` is the dotted key of the section, for error messages.

    With ``former_names`` the names of earlier versions are accepted, as checkpoints hold them; without it they are
    refused with the new name. Raises ConfigError for an unknown key, a missing one and a value of another type.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where or 'configuration'} must be a mapping, not {_shown(data)}")
    kinds, dot = _hints(cls), f"{where}." if where else ""  # type: ignore[arg-type]
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
        if fields[name].default == "" and is_null(value):
            value = ""  # null where empty means none
        elif typing.get_origin(kinds[name]) is Annotated and typing.get_args(kinds[name])[0] is str and is_null(value):
            value = None  # no namespace is named null, but a class may be
        values[name] = convert(kinds[name], value, dot + name, former_names=former_names)
    for name, field in fields.items():
        if name not in values and field.default is field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"missing configuration key {dot + name!r}")
    for name, value in values.items() if issubclass(cls, Section) else ():
        require(kinds[name], value, dot + name)  # with the whole key, which the section does not know
    return cls(**values)


def convert(kind: Any, value: Any, where: str, *, former_names: bool = False) -> Any:
    """``value`` as the annotated type ``kind``; texts are read as numbers, booleans, lists ("1,2", "[a, b]") and
    mappings where needed."""
    bare, _ = _bare(kind)
    origin, inner = typing.get_origin(bare), typing.get_args(bare)
    if origin in (typing.Union, types.UnionType):
        chosen = next(k for k in inner if k is not type(None))
        return None if is_null(value) else convert(chosen, value, where, former_names=former_names)
    if dataclasses.is_dataclass(bare):
        return from_dict(typing.cast(type, bare), {} if is_null(value) else value, where, former_names=former_names)
    if origin in (tuple, list):
        if isinstance(value, str) and not is_null(value):
            value = _yaml(value, where) if value.lstrip().startswith("[") else _listed(value)
        value = () if is_null(value) else value
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where} must be {wanted(kind)}, not {_shown(value)}")
        return origin(convert(inner[0], v, f"{where}[{i}]") for i, v in enumerate(value))
    if origin is dict:
        if isinstance(value, str):
            value = _yaml(value, where) if value.lstrip().startswith("{") else {} if is_null(value) else value
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where} must be a mapping, not {_shown(value)}")
        return {str(k): convert(inner[1], v, f"{where}.{k}") for k, v in value.items()}
    if bare is Any:
        return yaml.safe_load(value) if isinstance(value, Plain) else value
    try:
        return _scalar(bare, value)
    except (TypeError, ValueError, KeyError, OverflowError, yaml.YAMLError):
        raise ConfigError(f"{where} must be {wanted(kind)}, not {_shown(value)}") from None


def _listed(text: str) -> list[str]:
    """The values of "a, b" or "(a, b)"; an empty one is only allowed at the end."""
    parts = text.strip("[]() ").split(",")
    return parts if parts[-1].strip() else parts[:-1]


def _scalar(kind: Any, value: Any) -> Any:
    """``value`` as bool, int, float or str. Raises ValueError, TypeError or KeyError."""
    if kind is bool:
        return _BOOLEANS[str(value).strip().lower()]
    if kind is str:
        if value is None or isinstance(value, list | tuple | Mapping):
            raise TypeError
        return str(value).strip()
    if kind not in (int, float):
        return value
    number = _number(value) if isinstance(value, str) else value
    if isinstance(number, bool) or not isinstance(number, int | float | numbers.Real):
        raise TypeError
    if kind is float:
        return float(number)
    whole = math.trunc(number)
    if whole != number:
        raise ValueError
    return whole


def _number(text: str) -> Any:
    readers: tuple[Any, ...] = (int, float, yaml.safe_load)
    for read in readers:  # YAML alone knows 0x10, .inf and 1:30
        try:
            return read(text)
        except (ValueError, yaml.YAMLError):
            pass
    raise ValueError
