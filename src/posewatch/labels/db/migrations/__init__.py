"""Brings the tables of a label store up to date with alembic; see ``posewatch.labels.db.schema``."""
