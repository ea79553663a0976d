"""Clips that look alike: the nearest of all are found although a search looks into a few cells only."""

from __future__ import annotations

import numpy as np
from sqlalchemy import func, select

from posewatch.config import LabelConfig
from posewatch.labels.active import refresh
from posewatch.labels.db import tables
from posewatch.labels.session import LabelingSession
from posewatch.labels.similar import similar
from posewatch.labels.team import roles
from posewatch.records import Prediction

CLASSES = ("normal", "abnormal")


def score(store, ids, vectors, version="m/1"):
    shares = np.full((len(ids), 2), 0.5, np.float32)
    refresh(store, ids, Prediction(shares, CLASSES, vectors), version, LabelConfig(CLASSES, random=0.0))


def test_the_nearest_clips_are_found(store, make_clips):
    clips = make_clips(count=600)
    store.register(clips)
    ids = [e.clip.id for e in clips]
    chance = np.random.default_rng(0)
    groups = chance.normal(size=(30, 8))
    vectors = (groups[np.arange(600) % 30] + 0.05 * chance.normal(size=(600, 8))).astype(np.float32)
    score(store, ids, vectors)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for i in (0, 7, 333):
        exact = [ids[j] for j in np.argsort(-(unit @ unit[i])) if j != i][:12]
        found = similar(store, ids[i])
        assert len(found) == 12
        assert len(set(found) & set(exact)) >= 11, "vectors are rounded to 16 bits"
        assert {ids.index(clip) % 30 for clip in found} == {i % 30}
    score(store, ids[:5], vectors[:5, :4], "m/2")  # a newer model with other embeddings: of its own clips only
    assert set(similar(store, ids[0])) == set(ids[1:5])
    assert not set(similar(store, ids[333])) & set(ids[:5])
    score(store, ids[:5], None, "m/3")
    assert similar(store, ids[0]) == [], "a model without embeddings"
    table = tables.embeddings
    assert store.database.rows(select(func.count()).select_from(table))[0][0] == 595


def test_all_alike_are_labelled_as_one_act_but_what_others_hold(sqlite_store, make_clips):
    clips = make_clips(count=6)
    sqlite_store.register(clips)
    ids = [e.clip.id for e in clips]
    for who, role in (("ann", "labeler"), ("bob", "labeler"), ("lead", "reviewer")):
        roles.set_role(sqlite_store, who, role, "test")
    ann, lead = LabelingSession(sqlite_store, "ann"), LabelingSession(sqlite_store, "lead")
    lead.adjudicate(ids[0], "normal")
    LabelingSession(sqlite_store, "bob", page_size=1).claim()
    held = next(iter(sqlite_store.database.rows(select(tables.claims.c.clip_id))))[0]
    sqlite_store.set_label(ids[5], "normal", "cat", "human")
    events = ann.label_several(ids, "abnormal", "alike", "one", seen={ids[5]})
    assert {e.clip_id for e in events} == set(ids) - {ids[0], held}
    assert {(e.clip_id == ids[5], e.act) for e in events} == {(False, "alike"), (True, "relabel")}
    assert ann.label_several(ids, "abnormal", "alike", "one", seen={ids[5]}) == events, "sent twice, done once"
    assert len(ann.step("undo")) == len(events)
    assert sqlite_store.counts() == {"normal": 2}


def test_an_interval_labels_what_it_covers(sqlite_store, make_clips):
    clips = make_clips(count=5, length=2.0)
    sqlite_store.register([*clips, *make_clips("b.mp4", 1)])
    roles.set_role(sqlite_store, "ann", "labeler", "test")
    ann, ids = LabelingSession(sqlite_store, "ann"), [e.clip.id for e in clips]
    assert [e.clip_id for e in ann.label_interval(ids, 1.4, 6.4, "normal")] == ids[:3], "0.6 s, all, all, 0.4 s"
    assert [e.clip_id for e in ann.label_interval(ids, 6.5, 6.7, "abnormal")] == [ids[3]], "a short one is in its clip"
