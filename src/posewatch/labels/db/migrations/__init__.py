"""Alembic migrations of the label store's tables, run by ``posewatch.labels.db.schema``."""
