"""Who looked at the unmasked video around a clip: events, which are never changed."""

import sqlalchemy as sa
from alembic import op

revision = "8"
down_revision = "7"

MESSAGE = "looks are append-only"


def upgrade() -> None:
    op.create_table(
        "looks",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("clip_id", sa.String(32), sa.ForeignKey("clips.id"), nullable=False, index=True),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("when", sa.String(40), nullable=False),
        sa.Column("batch", sa.String(64), nullable=False, unique=True),
        sqlite_autoincrement=True,
    )
    if op.get_context().dialect.name == "sqlite":
        for act in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER looks_no_{act.lower()} BEFORE {act} ON looks "
                f"BEGIN SELECT RAISE(ABORT, '{MESSAGE}'); END"
            )
        return
    op.execute(
        "CREATE OR REPLACE FUNCTION posewatch_keep_looks() RETURNS trigger AS "
        f"$$ BEGIN RAISE EXCEPTION '{MESSAGE}'; END $$ LANGUAGE plpgsql"
    )
    op.execute(
        "CREATE TRIGGER looks_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON looks "
        "FOR EACH STATEMENT EXECUTE FUNCTION posewatch_keep_looks()"
    )
