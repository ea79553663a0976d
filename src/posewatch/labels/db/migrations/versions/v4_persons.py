"""Clips of single persons: the person is a column of the clips, NULL for those of scenes."""

import sqlalchemy as sa
from alembic import op

revision = "4"
down_revision = "3"


def upgrade() -> None:
    op.add_column("clips", sa.Column("person", sa.Integer))
