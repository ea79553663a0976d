"""Who looked at the unmasked clip of an alarm: events, which are never changed."""

import sqlalchemy as sa
from alembic import op

revision = "9"
down_revision = "8"

MESSAGE = "looks at alarms are append-only"


def upgrade() -> None:
    op.create_table(
        "alarm_looks",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("alarm", sa.String(64), nullable=False, index=True),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("when", sa.String(40), nullable=False),
        sa.Column("batch", sa.String(64), nullable=False, unique=True),
        sqlite_autoincrement=True,
    )
    if op.get_context().dialect.name == "sqlite":
        for act in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER alarm_looks_no_{act.lower()} BEFORE {act} ON alarm_looks "
                f"BEGIN SELECT RAISE(ABORT, '{MESSAGE}'); END"
            )
        return
    op.execute(
        "CREATE OR REPLACE FUNCTION posewatch_keep_alarm_looks() RETURNS trigger AS "
        f"$$ BEGIN RAISE EXCEPTION '{MESSAGE}'; END $$ LANGUAGE plpgsql"
    )
    op.execute(
        "CREATE TRIGGER alarm_looks_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON alarm_looks "
        "FOR EACH STATEMENT EXECUTE FUNCTION posewatch_keep_alarm_looks()"
    )
