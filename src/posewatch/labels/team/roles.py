"""Who may do what. Roles are granted by events of their own, in the label store, and the last one counts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

import sqlalchemy as sa

from posewatch.errors import LabelError, NotAllowed
from posewatch.labels.db import tables

if TYPE_CHECKING:
    from posewatch.labels.store import LabelStore

Role = Literal["none", "labeler", "reviewer", "admin"]
ROLES: tuple[Role, ...] = ("none", "labeler", "reviewer", "admin")
_NEEDED: dict[str, Role] = {
    "label": "labeler",
    "see others": "reviewer",
    "adjudicate": "reviewer",
    "accept": "reviewer",
    "audit": "reviewer",
    "grant": "admin",
}
"""The least role that may do each thing; every role may do what those below it may."""


def role_of(store: LabelStore, who: str) -> Role:
    """The role of a person, "none" when nobody gave them one."""
    table = tables.grants
    query = sa.select(table.c.role).where(table.c.who == who).order_by(table.c.id.desc()).limit(1)
    return store.database.read(lambda connection: connection.execute(query).scalar()) or "none"


def everybody(store: LabelStore) -> dict[str, Role]:
    """The role of everybody who ever got one, by name."""
    table = tables.grants
    query = sa.select(table.c.who, table.c.role).order_by(table.c.id)
    rows = store.database.read(lambda connection: connection.execute(query).all())
    return dict(sorted((str(who), role) for who, role in {row[0]: row[1] for row in rows}.items()))


def appoint(store: LabelStore, who: str, role: str, by: str) -> None:
    """Give ``who`` a role. Whoever reaches the database may: a page asks `require` first. Raises LabelError."""
    if role not in ROLES:
        raise LabelError(f"unknown role {role!r} (known: {', '.join(ROLES)})")
    if not who.strip():
        raise LabelError("say who gets the role")
    row = {"who": who.strip(), "role": role, "by": by, "when": datetime.now(UTC).isoformat(timespec="milliseconds")}
    if role_of(store, row["who"]) != role:  # so that a second try writes nothing
        store.database.write(lambda connection: connection.execute(tables.grants.insert(), row) and None)


def may(role: Role, what: str) -> bool:
    """Whether a role may do ``what`` (label, see others, adjudicate, accept, audit, grant)."""
    return ROLES.index(role) >= ROLES.index(_NEEDED[what])


def require(role: Role, who: str, what: str) -> None:
    """Raises NotAllowed when the role of ``who`` does not reach."""
    if may(role, what):
        return
    if role == "none":
        raise NotAllowed(f"{who} has no role here: an admin can give one (posewatch labels role {who} labeler)")
    raise NotAllowed(f"{who} is a {role}, and this needs the role {_NEEDED[what]}: ask an admin for it")
