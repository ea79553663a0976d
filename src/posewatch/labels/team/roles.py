"""Roles and their permissions. Each grant of a role is an event in the label store; a person's last grant counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import sqlalchemy as sa

from posewatch.errors import LabelError, NotAllowed
from posewatch.labels.db import tables
from posewatch.labels.entries import timestamp

if TYPE_CHECKING:
    from posewatch.labels.store import LabelStore

Role = Literal["none", "labeler", "reviewer", "admin", "operator"]
ROLES: tuple[Role, ...] = ("none", "labeler", "reviewer", "admin", "operator")
_RANKS = ("none", "labeler", "reviewer", "admin")
_NEEDED: dict[str, Role] = {
    "label": "labeler",
    "see others": "reviewer",
    "adjudicate": "reviewer",
    "accept": "reviewer",
    "guide": "reviewer",
    "audit": "reviewer",
    "grant": "admin",
}
"""The lowest role with each permission; every role has the permissions of those below it. Operators stand aside: they
judge alarms, as reviewers and admins do, and label nothing."""
JUDGE = "judge"
_JUDGES: tuple[Role, ...] = ("operator", "reviewer", "admin")


def role_of(store: LabelStore, who: str) -> Role:
    """The role of a person, "none" without a grant. Names are compared without case."""
    table = tables.grants
    query = sa.select(table.c.role).where(_is(who)).order_by(table.c.id.desc()).limit(1)
    return next((role for (role,) in store.database.rows(query)), "none")


def known_as(store: LabelStore, who: str) -> str:
    """The name of a person as it was granted a role first, whatever its case here, so that nobody is two people."""
    query = sa.select(tables.grants.c.who).where(_is(who)).order_by(tables.grants.c.id).limit(1)
    return next((name for (name,) in store.database.rows(query)), who)


def _is(who: str) -> sa.ColumnElement[bool]:
    # SQLite's lower() knows ASCII only
    return sa.or_(tables.grants.c.who == who, sa.func.lower(tables.grants.c.who) == who.lower())


def all_roles(store: LabelStore) -> dict[str, Role]:
    """The role of everybody who was ever granted one, by name."""
    table = tables.grants
    rows = store.database.rows(sa.select(table.c.who, table.c.role).order_by(table.c.id))
    return dict(sorted({who: role for who, role in rows}.items()))


def set_role(store: LabelStore, who: str, role: str, by: str) -> None:
    """Grant ``who`` a role, without checking permissions: a page calls `require` first. Raises LabelError."""
    if role not in ROLES:
        raise LabelError(f"unknown role {role!r} (known: {', '.join(ROLES)})")
    if not who.strip():
        raise LabelError("enter the name of the person who gets the role")
    row = {"who": known_as(store, who.strip()), "role": role, "by": by, "when": timestamp()}
    if role_of(store, row["who"]) != role:  # so that a repeated call writes nothing
        store.database.execute(tables.grants.insert(), row)


def may(role: Role, what: str) -> bool:
    """Whether a role has the permission ``what`` (label, see others, adjudicate, accept, guide, audit, grant,
    judge)."""
    if what == JUDGE:
        return role in _JUDGES
    return role in _RANKS and _RANKS.index(role) >= _RANKS.index(_NEEDED[what])


def at_least(role: Role, needed: str) -> bool:
    """Whether a role has all permissions of the role ``needed``; no role has those of "nobody"."""
    if needed == "operator":
        return role in _JUDGES
    return role in _RANKS and needed in _RANKS and _RANKS.index(role) >= _RANKS.index(needed)


def require(role: Role, who: str, what: str) -> None:
    """Raises NotAllowed when ``role``, the role of ``who``, lacks the permission ``what``."""
    if may(role, what):
        return
    needed = "operator" if what == JUDGE else _NEEDED[what]
    if role == "none":
        given = "operator" if what == JUDGE else "labeler"
        raise NotAllowed(f"{who} has no role here: an admin can give one (posewatch labels role {who} {given})")
    raise NotAllowed(f"{who} is a {role}, and this needs the role {needed}: ask an admin for it")
