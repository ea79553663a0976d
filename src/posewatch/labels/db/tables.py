"""The tables of the label store; ``migrations`` updates older databases to them.

``clips`` and ``events`` are the source of truth. Events, comments, examples and looks are append-only: the database
itself refuses to change or delete one. ``status``, ``votes`` and ``waiting`` are derived from the events, so that a
page of ten thousand clips is one query and the queue finds the next clip without reading those that are done.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from posewatch.units import SCENE

metadata = sa.MetaData()


def of_unit(unit: str) -> sa.Select[Any]:
    """The ids of the clips that show whole scenes ("scene") or single persons ("person")."""
    return sa.select(clips.c.id).where(clips.c.person.is_(None) if unit == SCENE else clips.c.person.is_not(None))


def is_of_unit(clip: sa.ColumnElement[Any], unit: str) -> sa.ColumnElement[bool]:
    """Whether a column with the id of a clip names one of this unit; true where no unit is given."""
    return clip.in_(of_unit(unit)) if unit else sa.true()


UNRANKED = 2**31 - 1
"""The rank of a clip that no model has ranked: after all others."""

clips = sa.Table(
    "clips",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("video_id", sa.String(32), nullable=False, index=True),
    sa.Column("names", sa.JSON, nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("store", sa.Text, nullable=False),
    sa.Column("start_s", sa.Double, nullable=False),
    sa.Column("length_s", sa.Double, nullable=False),
    sa.Column("fps", sa.Double, nullable=False),
    sa.Column("frames", sa.Integer, nullable=False),
    sa.Column("width", sa.Integer, nullable=False),
    sa.Column("height", sa.Integer, nullable=False),
    sa.Column("people", sa.Double, nullable=False),
    sa.Column("preview", sa.Text),
    sa.Column("skeleton", sa.Text),
    sa.Column("double_draw", sa.Double, nullable=False, server_default="1"),
    sa.Column("random_draw", sa.Double, nullable=False, server_default="1"),
    sa.Column("person", sa.Integer, index=True),
)
"""``person`` is the tracked person of the video that a clip shows alone, NULL for a clip of the scene."""

events = sa.Table(
    "events",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("clip_id", sa.String(32), sa.ForeignKey("clips.id"), nullable=False, index=True),
    sa.Column("old", sa.Text),
    sa.Column("new", sa.Text),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("when", sa.String(40), nullable=False),
    sa.Column("source", sa.String(16), nullable=False),
    sa.Column("model_version", sa.Text),
    sa.Column("act", sa.String(32), nullable=False, server_default="label"),
    sa.Column("batch", sa.String(64)),
    sa.Column("undoes", sa.Integer),
    sa.Index("ix_events_who", "who"),
    sa.Index("ux_events_batch", "batch", "clip_id", unique=True),
    sqlite_autoincrement=True,
)

verdicts = sa.Table(
    "verdicts",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("alarm", sa.String(64), nullable=False, index=True),
    sa.Column("verdict", sa.String(16)),
    sa.Column("note", sa.Text, nullable=False, server_default=""),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("when", sa.String(40), nullable=False),
    sa.Column("undoes", sa.Integer),
    sa.Column("batch", sa.String(64), nullable=False, unique=True),
    sa.Column("record", sa.Text, nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("camera", sa.Text, nullable=False),
    sa.Column("began", sa.String(40), nullable=False),
    sa.Column("version", sa.Text, nullable=False),
    sqlite_autoincrement=True,
)
"""Verdicts on alarm records, append-only as the label events are; NULL takes one back. The last five columns say which
alarm it was, without the object store: its URI, kind, camera, beginning (or when it was stored) and model version."""

status = sa.Table(
    "status",
    metadata,
    sa.Column("clip_id", sa.String(32), sa.ForeignKey("clips.id"), primary_key=True),
    sa.Column("event_id", sa.Integer, nullable=False),
    sa.Column("label", sa.Text, nullable=False),
    sa.Column("source", sa.String(16), nullable=False),
    sa.Column("opinions", sa.Integer, nullable=False),
    sa.Column("differ", sa.Boolean, nullable=False),
    sa.Column("settled", sa.Boolean, nullable=False),
)

votes = sa.Table(
    "votes",
    metadata,
    sa.Column("clip_id", sa.String(32), sa.ForeignKey("clips.id"), primary_key=True),
    sa.Column("who", sa.Text, primary_key=True),
    sa.Column("label", sa.Text, nullable=False),
    sa.Column("source", sa.String(16), nullable=False),
    sa.Column("event_id", sa.Integer, nullable=False),
    sa.Index("ix_votes_who", "who"),
)

waiting = sa.Table(
    "waiting",
    metadata,
    sa.Column("clip_id", sa.String(32), sa.ForeignKey("clips.id"), primary_key=True),
    sa.Column("state", sa.Integer, nullable=False, server_default="0"),
    sa.Column("rank", sa.Integer, nullable=False, server_default=str(UNRANKED)),
    sa.Column("video_id", sa.String(32), nullable=False),
    sa.Column("start_s", sa.Double, nullable=False),
    sa.Column("double_draw", sa.Double, nullable=False),
    sa.Column("label", sa.Text),
    sa.Column("source", sa.String(16)),
    sa.Column("when", sa.String(40)),
    sa.Column("differ", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("predicted", sa.Text),
    sa.Column("score", sa.Double),
    sa.Column("odd", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Index("ix_waiting_order", "state", "rank", "video_id", "start_s", "clip_id"),
    sa.Index("ix_waiting_second", "state", "double_draw", "clip_id"),
    sa.Index("ix_waiting_video", "video_id", "start_s", "clip_id"),
    sa.Index("ix_waiting_when", "when", "clip_id"),
    sa.Index("ix_waiting_score", "score", "clip_id"),
    sa.Index("ix_waiting_label_video", "label", "video_id", "start_s", "clip_id"),
    sa.Index("ix_waiting_label_when", "label", "when", "clip_id"),
    sa.Index("ix_waiting_label_score", "label", "score", "clip_id"),
    sa.Index("ix_waiting_odd", "odd", "score", "clip_id"),
    sa.Index("ix_waiting_source_video", "source", "video_id", "start_s", "clip_id"),
    sa.Index("ix_waiting_source_when", "source", "when", "clip_id"),
    sa.Index("ix_waiting_differ", "differ", "clip_id"),
)
"""One row per clip: the queue, and what clips are found by, in one place so that an index gives each order.

``state``: 0 nobody has labelled it, 1 one person has, 2 done. ``label``, ``source``, ``when`` and ``differ`` are those
of ``status`` and its event. ``predicted`` is the model's likeliest class and ``score`` its probability, empty for the
random share, which evaluates models. ``odd``: the label is another class than the predicted one."""

claims = sa.Table(
    "claims",
    metadata,
    sa.Column("clip_id", sa.String(32), sa.ForeignKey("clips.id"), primary_key=True),
    sa.Column("who", sa.Text, primary_key=True),
    sa.Column("until", sa.Double, nullable=False),
)

grants = sa.Table(
    "grants",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("who", sa.Text, nullable=False, index=True),
    sa.Column("role", sa.String(16), nullable=False),
    sa.Column("by", sa.Text, nullable=False),
    sa.Column("when", sa.String(40), nullable=False),
    sqlite_autoincrement=True,
)

predictions = sa.Table(
    "predictions",
    metadata,
    sa.Column("clip_id", sa.String(32), sa.ForeignKey("clips.id"), primary_key=True),
    sa.Column("model_version", sa.Text, nullable=False),
    sa.Column("probabilities", sa.JSON, nullable=False),
    sa.Column("uncertainty", sa.Double, nullable=False),
    sa.Column("rank", sa.Integer),
    sa.Column("random", sa.Boolean, nullable=False, server_default=sa.false()),
)

embeddings = sa.Table(
    "embeddings",
    metadata,
    sa.Column("clip_id", sa.String(32), sa.ForeignKey("clips.id"), primary_key=True),
    sa.Column("model_version", sa.Text, nullable=False),
    sa.Column("cell", sa.String(32), nullable=False),
    sa.Column("vector", sa.LargeBinary, nullable=False),
    sa.Index("ix_embeddings_cell", "model_version", "cell"),
)
"""How a model sees a clip: ``vector`` of length 1, float16. ``cell`` is the clip of the same model near which it is."""

comments = sa.Table(
    "comments",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("clip_id", sa.String(32), sa.ForeignKey("clips.id"), nullable=False, index=True),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("when", sa.String(40), nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("batch", sa.String(64), nullable=False, unique=True),
    sqlite_autoincrement=True,
)

alarm_looks = sa.Table(
    "alarm_looks",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("alarm", sa.String(64), nullable=False, index=True),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("when", sa.String(40), nullable=False),
    sa.Column("batch", sa.String(64), nullable=False, unique=True),
    sqlite_autoincrement=True,
)
"""Who looked at the clip of an alarm as it was recorded; append-only."""

looks = sa.Table(
    "looks",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("clip_id", sa.String(32), sa.ForeignKey("clips.id"), nullable=False, index=True),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("when", sa.String(40), nullable=False),
    sa.Column("batch", sa.String(64), nullable=False, unique=True),
    sqlite_autoincrement=True,
)
"""Who looked at the unmasked video around a clip; append-only."""

examples = sa.Table(
    "examples",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("clip_id", sa.String(32), sa.ForeignKey("clips.id"), nullable=False, index=True),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("when", sa.String(40), nullable=False),
    sa.Column("label", sa.Text),
    sa.Column("batch", sa.String(64), nullable=False, unique=True),
    sqlite_autoincrement=True,
)
"""The class of which a clip is an example from now on; ``label`` is empty for "no example any more"."""
