"""Comments on clips, and clips that are examples of a class: both append-only. Clips are found by their unit."""

import sqlalchemy as sa
from alembic import op

revision = "5"
down_revision = "4"


def upgrade() -> None:
    op.create_index("ix_clips_person", "clips", ["person"])
    if op.get_context().dialect.name != "sqlite":
        op.execute(
            "CREATE OR REPLACE FUNCTION posewatch_notes_append_only() RETURNS trigger AS "
            "$$ BEGIN RAISE EXCEPTION 'comments and examples are append-only'; END $$ LANGUAGE plpgsql"
        )
    for name, column in (
        ("comments", sa.Column("text", sa.Text, nullable=False)),
        ("examples", sa.Column("label", sa.Text)),
    ):
        op.create_table(
            name,
            sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
            sa.Column("clip_id", sa.String(32), sa.ForeignKey("clips.id"), nullable=False, index=True),
            sa.Column("who", sa.Text, nullable=False),
            sa.Column("when", sa.String(40), nullable=False),
            column,
            sa.Column("batch", sa.String(64), nullable=False, unique=True),
            sqlite_autoincrement=True,
        )
        if op.get_context().dialect.name == "sqlite":
            for act in ("UPDATE", "DELETE"):
                op.execute(
                    f"CREATE TRIGGER {name}_no_{act.lower()} BEFORE {act} ON {name} "
                    f"BEGIN SELECT RAISE(ABORT, '{name} are append-only'); END"
                )
        else:
            op.execute(
                f"CREATE TRIGGER {name}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {name} "
                "FOR EACH STATEMENT EXECUTE FUNCTION posewatch_notes_append_only()"
            )
