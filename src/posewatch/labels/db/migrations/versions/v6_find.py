"""What clips are found by, beside the queue and in the order of an index; how a model sees each clip."""

import sqlalchemy as sa
from alembic import op

revision = "6"
down_revision = "5"


def upgrade() -> None:
    for column in (
        sa.Column("label", sa.Text),
        sa.Column("source", sa.String(16)),
        sa.Column("when", sa.String(40)),
        sa.Column("differ", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("predicted", sa.Text),
        sa.Column("score", sa.Double),
        sa.Column("odd", sa.Boolean, nullable=False, server_default=sa.false()),
    ):
        op.add_column("waiting", column)
    # filled before it has the indexes, which is faster
    from posewatch.labels.db.projection import refill

    refill(op.get_bind())
    for name, columns in {
        "ix_waiting_video": ["video_id", "start_s", "clip_id"],
        "ix_waiting_when": ["when", "clip_id"],
        "ix_waiting_score": ["score", "clip_id"],
        "ix_waiting_label_video": ["label", "video_id", "start_s", "clip_id"],
        "ix_waiting_label_when": ["label", "when", "clip_id"],
        "ix_waiting_label_score": ["label", "score", "clip_id"],
        "ix_waiting_odd": ["odd", "score", "clip_id"],
        "ix_waiting_source_video": ["source", "video_id", "start_s", "clip_id"],
        "ix_waiting_source_when": ["source", "when", "clip_id"],
        "ix_waiting_differ": ["differ", "clip_id"],
    }.items():
        op.create_index(name, "waiting", columns)
    op.create_table(
        "embeddings",
        sa.Column("clip_id", sa.String(32), sa.ForeignKey("clips.id"), primary_key=True),
        sa.Column("model_version", sa.Text, nullable=False),
        sa.Column("cell", sa.String(32), nullable=False),
        sa.Column("vector", sa.LargeBinary, nullable=False),
        sa.Index("ix_embeddings_cell", "model_version", "cell"),
    )
