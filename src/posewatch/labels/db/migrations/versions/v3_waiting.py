"""The queue as a table of its own, in the order of the work, so that finished clips cost no time."""

import sqlalchemy as sa
from alembic import op

revision = "3"
down_revision = "2"


def upgrade() -> None:
    op.create_table(
        "waiting",
        sa.Column("clip_id", sa.String(32), sa.ForeignKey("clips.id"), primary_key=True),
        sa.Column("state", sa.Integer, nullable=False, server_default="0"),
        sa.Column("rank", sa.Integer, nullable=False, server_default="2147483647"),
        sa.Column("video_id", sa.String(32), nullable=False),
        sa.Column("start_s", sa.Double, nullable=False),
        sa.Column("double_draw", sa.Double, nullable=False),
    )
    # filled before it has indexes, which is faster
    from posewatch.labels.db.projection import refill_queue

    refill_queue(op.get_bind())
    op.create_index("ix_waiting_order", "waiting", ["state", "rank", "video_id", "start_s", "clip_id"])
    op.create_index("ix_waiting_second", "waiting", ["state", "double_draw", "clip_id"])
    op.drop_index("ix_predictions_rank", "predictions")
