"""Joint layouts as data: the joints of a skeleton, its bones, and the left/right pairs.

``get("coco17")`` returns a built-in one; ``from_yaml(path)`` reads a user's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from posewatch.errors import ConfigError, InputError, did_you_mean
from posewatch.sections import Plain, is_null, parse_yaml
from posewatch.text import read_text

KEYS = ("name", "joints", "edges", "centre", "pairs", "parents", "virtual")
OF_PERSON = OF_SCENE = 5
FLOW = OF_PERSON + OF_SCENE
"""Columns after the joints that tell how pixels move (``perception/flow.py``): the first of the person, the others of
where most moves in the scene."""
WITH_FLOW = "+flow"
"""How the name of a layout ends whose clips have them: ``coco17+flow``."""


@dataclass(frozen=True)
class Layout:
    """V joints and their bones; all numbers are indices into ``joints``.

    ``edges``    bones as (child, parent), pointing to the centre; they are drawn, and graph networks convolve over them
    ``centre``   the root of the body
    ``pairs``    (left, right), swapped in a mirror image
    ``parents``  V parents for the bone stream (a root is its own); default: by ``edges``
    ``virtual``  for each of the last joints, the joints that it is the mean of; estimators do not detect it
    ``flow``     columns of a clip after its joints which tell how pixels move: 0 or FLOW
    """

    name: str
    joints: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]
    centre: int
    pairs: tuple[tuple[int, int], ...]
    parents: tuple[int, ...] = ()
    virtual: tuple[tuple[int, ...], ...] = ()
    flow: int = 0

    def __post_init__(self) -> None:
        v = len(self.joints)

        def need(ok: bool, message: str) -> None:
            if not ok:
                raise InputError(f"joint layout {self.name!r}: {message}")

        need(v > 0 and len(set(self.joints)) == v, "joints must be given, each name once")
        told = self.name.endswith(WITH_FLOW)
        need(self.flow in (0, FLOW), f"{self.flow} columns of flow are of another version, not {FLOW}: train anew")
        need(told == (self.flow > 0), f"a name that ends with {WITH_FLOW} says that pixels were measured: take another")
        used = [*self.parents, self.centre, *(j for group in (*self.edges, *self.pairs, *self.virtual) for j in group)]
        bad = [j for j in used if not 0 <= j < v]
        need(not bad, f"joint {bad[0] if bad else ''} is not one of 0..{v - 1}")
        need(all(len(e) == 2 for e in (*self.edges, *self.pairs)), "edges and pairs are lists of two joints")
        sides = [j for pair in self.pairs for j in pair]
        need(len(set(sides)) == len(sides), "a joint is in two left/right pairs")
        need(all(j < self.observed for g in self.virtual for j in g), "a virtual joint must be a mean of observed ones")
        if not self.parents:
            object.__setattr__(self, "parents", _parents(v, self.edges, self.centre))
        need(len(self.parents) == v, f"parents must name {v} joints")
        for joint in range(v):
            seen = {joint}
            while (joint := self.parents[joint]) not in seen:
                seen.add(joint)
            need(self.parents[joint] == joint, "parents run in a circle")

    @property
    def observed(self) -> int:
        """The number of joints that an estimator detects: all but the virtual ones."""
        return len(self.joints) - len(self.virtual)

    @property
    def columns(self) -> int:
        """V of a clip's array: the observed joints, then those of ``flow``."""
        return self.observed + self.flow

    def with_flow(self, flow: int = FLOW) -> Layout:
        """The same joints with ``flow`` columns after them, or with 0 without."""
        return replace(self, name=self.name.removesuffix(WITH_FLOW) + (WITH_FLOW if flow else ""), flow=flow)

    @property
    def mirror(self) -> tuple[int, ...]:
        """Joint order of the mirror image: V indices."""
        order = list(range(len(self.joints)))
        for left, right in self.pairs:
            order[left], order[right] = right, left
        return tuple(order)

    @property
    def grandparents(self) -> tuple[int, ...]:
        """The parent's parent; the joint itself where its parent is a root."""
        up = self.parents
        return tuple(up[up[j]] if up[up[j]] != up[j] else j for j in range(len(up)))

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as ``from_dict`` and ``from_yaml`` take it."""
        return {
            "name": self.name,
            "joints": list(self.joints),
            "edges": [list(e) for e in self.edges],
            "centre": self.centre,
            "pairs": [list(p) for p in self.pairs],
            "parents": list(self.parents),
            "virtual": [list(g) for g in self.virtual],
            **({"flow": self.flow} if self.flow else {}),
        }

    @classmethod
    def from_dict(cls, data: Any) -> Layout:
        """Joints may be given by name or by number. Raises InputError."""
        if not isinstance(data, dict) or not {"name", "joints", "edges", "centre"} <= set(data):
            raise InputError(
                "a joint layout needs name, joints, edges and centre (pairs, parents, virtual are optional)"
            )
        if not isinstance(data["joints"], list | tuple):
            raise InputError(f"joint layout {data['name']!r}: joints must be a list of names")
        joints = tuple(str(j) for j in data["joints"])

        def index(joint: Any) -> int:
            if isinstance(joint, int):
                return joint
            if isinstance(joint, Plain) and joint not in joints and joint.isdigit():
                return int(joint)
            if joint not in joints:
                raise InputError(f"joint layout {data['name']!r} has no joint {joint!r}")
            return joints.index(joint)

        def groups(key: str) -> tuple[tuple[int, ...], ...]:
            given = data.get(key) or ()
            if isinstance(given, str) or any(isinstance(group, str) for group in given):
                raise TypeError
            return tuple(tuple(index(j) for j in group) for group in given)

        try:
            return cls(
                name=str(data["name"]),
                joints=joints,
                edges=groups("edges"),  # type: ignore[arg-type]
                centre=index(data["centre"]),
                pairs=groups("pairs"),  # type: ignore[arg-type]
                parents=tuple(index(j) for j in data.get("parents") or ()),
                virtual=groups("virtual"),
                flow=int(data.get("flow") or 0),
            )
        except TypeError:
            raise InputError(f"joint layout {data['name']!r}: edges, pairs and virtual are lists of lists") from None


def _parents(v: int, edges: tuple[tuple[int, int], ...], centre: int) -> tuple[int, ...]:
    """Each joint's neighbour on the way to the centre; joints without one are their own parents."""
    parents, front = {centre: centre}, [centre]
    while front:
        joint = front.pop(0)
        for a, b in edges:
            for child, parent in ((a, b), (b, a)):
                if parent == joint and child not in parents:
                    parents[child] = joint
                    front.append(child)
    return tuple(parents.get(j, j) for j in range(v))


@cache
def _builtin() -> dict[str, Layout]:
    """The layouts of ``layouts.yaml``, by name."""
    import yaml

    text = (files(__package__) / "layouts.yaml").read_text(encoding="utf-8")
    return {layout["name"]: Layout.from_dict(layout) for layout in yaml.safe_load(text)}


def names() -> list[str]:
    """The names of the built-in layouts."""
    return list(_builtin())


def of_size(joints: int) -> list[str]:
    """The names of the built-in layouts with as many joints that an estimator gives."""
    return [name for name, layout in _builtin().items() if layout.observed == joints and not layout.virtual]


def named(joints: Sequence[Any]) -> str:
    """The built-in layout whose joints have these names, in this order; "" for none."""
    return next((name for name, layout in _builtin().items() if layout.joints == tuple(map(str, joints))), "")


def require_alike(given: str, wanted: Layout | str, whose: str) -> None:
    """Raises InputError where clips of the built-in layout ``given`` do not have the joints of the built-in ``wanted``:
    as many may be others. Who gave a layout of their own for a file knows better; ``whose`` layout is ``wanted``, in
    the message."""
    known, given = _builtin(), given.removesuffix(WITH_FLOW)
    other = known.get((wanted.name if isinstance(wanted, Layout) else wanted).removesuffix(WITH_FLOW))
    if given in known and other is not None and (isinstance(wanted, str) or wanted.joints == other.joints):
        mine, theirs = (one.joints[: one.observed] for one in (known[given], other))
        if mine != theirs:
            raise InputError(
                f"the clips' joints are those of {given}, {whose} those of {other.name} (correct the one that is wrong)"
            )


def get(name: str) -> Layout:
    """A built-in layout, ``name+flow`` with the columns of flow. Raises ConfigError naming the nearest one."""
    if name.endswith(WITH_FLOW):
        return get(name.removesuffix(WITH_FLOW)).with_flow()
    if name not in _builtin():
        raise ConfigError(f"unknown joint layout {name!r}: {did_you_mean(name, _builtin())}")
    return _builtin()[name]


def from_yaml(path: Path | str) -> Layout:
    """A user's own layout: YAML with name, joints, edges, centre and optionally pairs, parents, virtual.

    Joints may be named or numbered in all but ``joints``. Raises InputError, also for another key: a misspelt ``pairs``
    would give mirror images with the left hand for the right one, and nothing would say so.
    """
    data = parse_yaml(read_text(path), f"the joint layout {path}")
    for key in data:
        if str(key) not in KEYS:
            raise InputError(f"the joint layout {path} has no key {str(key)!r}: {did_you_mean(str(key), KEYS)}")
    data = {key: value for key, value in data.items() if not is_null(value)}
    return Layout.from_dict(data)
