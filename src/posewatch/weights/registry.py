"""The table of published files: networks and sample videos, who published them, under which licence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from importlib.resources import files
from typing import Any

from posewatch.errors import WeightsError

DEFAULTS = ("blazepose", "movenet")
"""The weights of the offline default: fetched when no name is given."""


@dataclass(frozen=True)
class Weights:
    """One published file: ``file`` is its name below the cache, ``bytes`` its size (rounded where none is published).

    ``sha256`` is empty where the publisher gives none: then the sum of the first download is stored beside the file and
    later downloads must equal it. The file comes from a wheel (``requirement``; ``build`` chooses one of its builds, as
    options of pip) or a ``url``. ``member`` is its path in that archive, followed by the path in the archive found
    there, and so on; ``*.onnx`` is the only file with that suffix. ``also`` lists entries that are required as well.
    """

    name: str
    file: str
    sha256: str
    licence: str
    bytes: int
    source: str
    requirement: str = ""
    member: tuple[str, ...] = ()
    kind: str = "weights"
    url: str = ""
    also: tuple[str, ...] = ()
    build: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        """The cache's sub-folder."""
        return "samples" if self.kind == "samples" else "weights"


def _published() -> Iterator[Weights]:
    """The entries of ``registry.yaml``."""
    import yaml

    for group in yaml.safe_load((files(__package__) / "registry.yaml").read_text(encoding="utf-8")):
        rows = group.pop("rows")
        for name, row in rows.items():
            known = {"name": name, "sha256": "", **row, **group}
            used = {f.name: known[f.name] for f in fields(Weights) if f.name in known}
            yield Weights(**{key: _filled(value, known) for key, value in used.items()})


def _filled(value: Any, known: Mapping[str, Any]) -> Any:
    if isinstance(value, list):
        return tuple(_filled(part, known) for part in value)
    return value.format_map(known) if isinstance(value, str) else value


FILES: Mapping[str, Weights] = {w.name: w for w in _published()}


def listing() -> list[Weights]:
    """All known weights, by name."""
    return sorted((w for w in FILES.values() if w.kind == "weights"), key=lambda w: w.name)


def info(name: str) -> Weights:
    """The entry of a weights file or a sample video. Raises WeightsError for an unknown name."""
    if name not in FILES:
        known = ", ".join(sorted(w.name for w in FILES.values() if w.kind != "parts"))
        raise WeightsError(f"no weights named {name!r} (known: {known}; or the path of a file)")
    return FILES[name]
