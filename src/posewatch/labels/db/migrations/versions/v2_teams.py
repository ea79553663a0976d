"""Several labelers: votes, claims, roles, predictions, and acts that can be undone as a whole."""

import sqlalchemy as sa
from alembic import op

from posewatch.labels.entries import hash_fraction

revision = "2"
down_revision = "1"


def upgrade() -> None:
    for column in (
        sa.Column("preview", sa.Text),
        sa.Column("skeleton", sa.Text),
        sa.Column("double_draw", sa.Double, nullable=False, server_default="1"),
        sa.Column("random_draw", sa.Double, nullable=False, server_default="1"),
    ):
        op.add_column("clips", column)
    for column in (
        sa.Column("act", sa.String(32), nullable=False, server_default="label"),
        sa.Column("batch", sa.String(64)),
        sa.Column("undoes", sa.Integer),
    ):
        op.add_column("events", column)
    op.create_index("ix_events_who", "events", ["who"])
    op.create_index("ux_events_batch", "events", ["batch", "clip_id"], unique=True)
    op.create_table(
        "status",
        sa.Column("clip_id", sa.String(32), sa.ForeignKey("clips.id"), primary_key=True),
        sa.Column("event_id", sa.Integer, nullable=False),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("source", sa.String(16), nullable=False),
        sa.Column("opinions", sa.Integer, nullable=False),
        sa.Column("differ", sa.Boolean, nullable=False),
        sa.Column("settled", sa.Boolean, nullable=False),
    )
    op.create_table(
        "votes",
        sa.Column("clip_id", sa.String(32), sa.ForeignKey("clips.id"), primary_key=True),
        sa.Column("who", sa.Text, primary_key=True),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("source", sa.String(16), nullable=False),
        sa.Column("event_id", sa.Integer, nullable=False),
        sa.Index("ix_votes_who", "who"),
    )
    op.create_table(
        "claims",
        sa.Column("clip_id", sa.String(32), sa.ForeignKey("clips.id"), primary_key=True),
        sa.Column("who", sa.Text, primary_key=True),
        sa.Column("until", sa.Double, nullable=False),
    )
    op.create_table(
        "grants",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("who", sa.Text, nullable=False, index=True),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("when", sa.String(40), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "predictions",
        sa.Column("clip_id", sa.String(32), sa.ForeignKey("clips.id"), primary_key=True),
        sa.Column("model_version", sa.Text, nullable=False),
        sa.Column("probabilities", sa.JSON, nullable=False),
        sa.Column("uncertainty", sa.Double, nullable=False),
        sa.Column("rank", sa.Integer, index=True),
        sa.Column("random", sa.Boolean, nullable=False, server_default=sa.false()),
    )
    _fill(op.get_bind())


def _fill(connection: sa.Connection) -> None:
    clips = sa.table("clips", sa.column("id"), sa.column("double_draw"), sa.column("random_draw"))
    rows = [
        {"c": clip, "d": hash_fraction(clip, "double"), "r": hash_fraction(clip, "random")}
        for clip in connection.execute(sa.select(clips.c.id)).scalars()
    ]
    if rows:
        change = clips.update().where(clips.c.id == sa.bindparam("c"))
        connection.execute(change.values(double_draw=sa.bindparam("d"), random_draw=sa.bindparam("r")), rows)
    # the first version of the store had only events: derive the state of each clip
    from posewatch.labels.db.projection import rebuild

    rebuild(connection, waiting=False)
