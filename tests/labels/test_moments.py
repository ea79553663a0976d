"""Clips of single persons: everybody at a moment, the person's own neighbours, the queue, and no mix with scenes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import sqlalchemy as sa

from posewatch.config import LabelConfig
from posewatch.errors import LabelError
from posewatch.labels.active import refresh, together
from posewatch.labels.entries import timestamp
from posewatch.labels.find import Filter
from posewatch.labels.session import LabelingSession
from posewatch.labels.slow_counts import SlowCounts
from posewatch.labels.team import roles
from posewatch.labels.team.agreement import opinions
from posewatch.labels.team.statistics import per_class
from posewatch.records import Prediction


@pytest.fixture
def yard(store, make_clips):
    """Clips by (person, number): persons 1 and 2 are there for four clips, person 3 for two."""
    clips = {(p, i): e for p, n in ((1, 4), (2, 4), (3, 2)) for i, e in enumerate(make_clips(count=n, person=p))}
    store.register(clips.values())
    roles.set_role(store, "ann", "labeler", "operator")
    return clips


def persons(cards):
    return [(card.entry.clip.person, card.entry.clip.start_s) for card in cards]


def test_a_moment_is_everybody_there_and_leads_to_the_next(store, yard):
    session = LabelingSession(store, "ann")
    first = session.moment(yard[2, 0].clip.id)
    assert persons(first.cards) == [(1, 0.0), (2, 0.0), (3, 0.0)]
    assert first.previous is None
    second = session.moment(first.next)
    assert persons(second.cards) == [(1, 3.0), (2, 3.0), (3, 3.0)]
    third = session.moment(second.next)
    assert persons(third.cards) == [(1, 6.0), (2, 6.0)]
    last = session.moment(third.next)
    assert (persons(last.cards), last.next) == ([(1, 9.0), (2, 9.0)], None)
    assert persons(session.moment(third.previous).cards) == persons(second.cards)
    assert [card.entry.shown for card in session.neighbours(yard[2, 1].clip.id)] == ["a.mp4 #2"] * 4
    assert persons(session.page(yard[1, 0].clip.video_id).cards)[:4] == [(1, 0.0), (2, 0.0), (3, 0.0), (1, 3.0)]
    assert persons(session.claim())[:6] == [(p, s) for s in (0.0, 3.0) for p in (1, 2, 3)]
    assert store.persons_by_video() == {yard[1, 0].clip.video_id: 3}


def test_a_moment_of_persons_who_come_at_other_times(sqlite_store, make_clips):
    from dataclasses import replace

    from posewatch.records import clip_id

    one, two = make_clips(count=3, person=1), make_clips(count=3, person=2)
    later = []
    for entry in two:  # the second person comes a second later
        clip = replace(entry.clip, id=clip_id(entry.clip.video_id, s := entry.clip.start_s + 1, 3.0, 2), start_s=s)
        later.append(replace(entry, clip=clip))
    sqlite_store.register([*one, *later])
    roles.set_role(sqlite_store, "ann", "labeler", "operator")
    session = LabelingSession(sqlite_store, "ann")
    assert persons(session.moment(one[1].clip.id).cards) == [(1, 3.0), (2, 4.0)]
    assert persons(session.moment(later[0].clip.id).cards) == [(1, 0.0), (2, 1.0)]


def test_everybody_here_is_normal_is_one_act_with_one_undo(store, yard):
    session = LabelingSession(store, "ann")
    here = [card.entry.clip.id for card in session.moment(yard[1, 0].clip.id).cards]
    session.label(here[1], "abnormal")
    events = session.label_remaining(here, "act")
    assert [(e.clip_id, e.source) for e in events] == [(here[0], "bulk"), (here[2], "bulk")]
    assert len(session.step("undo")) == 2
    assert {clip: e.new for clip, e in store.current().items()} == {here[1]: "abnormal"}


def test_the_queue_offers_the_persons_of_a_moment_together(store, yard):
    ids = [entry.clip.id for entry in yard.values()]
    odds = {(1, 2): 0.5, (3, 0): 0.45, (2, 3): 0.4}  # uncertain; all others are clear
    shares = np.array([[1 - odds.get(key, 0.01), odds.get(key, 0.01)] for key in yard], np.float32)
    config = LabelConfig(random=0.0)
    refresh(store, ids, Prediction(shares, config.classes), "m/1", config)
    claimed = LabelingSession(store, "ann", config).claim()
    assert persons(claimed)[:7] == [(1, 6.0), (2, 6.0), (1, 0.0), (2, 0.0), (3, 0.0), (1, 9.0), (2, 9.0)]


def test_scenes_keep_the_order_of_the_queue(store, make_clips):
    clips = make_clips(count=4)
    store.register(clips)
    assert together([2, 0, 3, 1], [entry.clip.id for entry in clips], store) == [2, 0, 3, 1]


def test_in_a_store_of_both_only_the_unit_of_the_experiment_is_offered_and_labelled(store, yard, make_clips):
    scenes = make_clips(count=3)
    assert store.units() == {"person"}
    assert LabelingSession(store, "ann", unit="scene").remaining() == 10, "one kind alone is what there is"
    store.register(scenes)
    store.register(make_clips(name="b.mp4", count=1))
    assert store.units() == {"scene", "person"}
    person, scene = (LabelingSession(store, "ann", unit=unit) for unit in ("person", "scene"))
    assert (person.remaining(), scene.remaining()) == (10, 4)
    assert [(v.name, v.clips) for v in person.videos()] == [("a.mp4", 10)]
    assert [(v.name, v.clips) for v in scene.videos()] == [("a.mp4", 3), ("b.mp4", 1)]
    video = scenes[0].clip.video_id
    assert (person.page(video).clips, scene.page(video).clips) == (10, 3)
    assert {card.entry.clip.person for card in person.claim()} == {1, 2, 3}
    assert len(person.moment(yard[1, 0].clip.id).cards) == 3, "the scene is none of the persons"
    assert [card.entry.clip.person for card in scene.claim()] == [None] * 4
    with pytest.raises(LabelError, match=r"shows a whole scene, and this experiment labels single persons"):
        person.label(scenes[0].clip.id, "normal")
    with pytest.raises(LabelError, match="shows one person, and this experiment labels whole scenes"):
        scene.label_remaining([scenes[0].clip.id, yard[1, 0].clip.id])
    assert store.current() == {}
    for who, label in (("a1", "normal"), ("a2", "abnormal")):
        store.set_labels({scenes[0].clip.id: label, yard[1, 0].clip.id: label}, who, "human")
    roles.set_role(store, "ann", "reviewer", "operator")
    assert [card.entry.clip.id for card in person.disagreements()] == [yard[1, 0].clip.id]
    assert [card.entry.clip.id for card in scene.disagreements()] == [scenes[0].clip.id]


def test_a_large_store_that_has_just_become_mixed_is_known_for_one(store, yard, make_clips):
    """Counts that take long are up to twenty times as old: this one takes two looks into an index, and is never old."""
    assert LabelingSession(store, "ann", unit="person").unit == ""
    times = itertools.count()
    store.slow_counts = SlowCounts(lambda: float(next(times)))  # each count takes a second
    assert LabelingSession(store, "ann", unit="person").unit == ""
    store.register(make_clips(count=1))
    assert LabelingSession(store, "ann", unit="person").unit == "person"
    asked = []
    sa.event.listen(
        store.engine, "before_cursor_execute", lambda c, cursor, text, values, *_: asked.append((text, values))
    )
    assert store.units() == {"scene", "person"}
    looks = [one for one in asked if one[0].startswith("SELECT")]
    explain = "EXPLAIN QUERY PLAN " if store.engine.dialect.name == "sqlite" else "EXPLAIN "
    with store.engine.connect() as connection:
        if explain == "EXPLAIN ":
            connection.exec_driver_sql("SET enable_seqscan = off")  # these tables have one page
        plans = [str(connection.exec_driver_sql(explain + text, values).all()) for text, values in looks]
    assert len(plans) == 2
    assert all("ix_clips_person" in plan and "Sort" not in plan and "TEMP B-TREE" not in plan for plan in plans), plans


def test_find_and_bulk_acceptance_keep_to_the_unit(store, yard, make_clips):
    scenes = make_clips(count=3)
    store.register(scenes)
    config, ids = (
        LabelConfig(random=0.0),
        {"scene": [e.clip.id for e in scenes], "person": [e.clip.id for e in yard.values()]},
    )
    for number, (_, some) in enumerate(ids.items()):
        shares = np.tile(np.array([0.02, 0.98], np.float32), (len(some), 1))
        refresh(
            store, some, Prediction(shares, config.classes, np.ones((len(some), 2), np.float32)), f"m/{number}", config
        )
    roles.set_role(store, "ann", "reviewer", "operator")
    for unit, other in (("scene", "person"), ("person", "scene")):
        mine, session = set(ids[unit]), LabelingSession(store, "ann", config, unit=unit)
        for query in ({}, {"sort": "sure"}, {"video": "a.mp4", "open": "1"}, {"model": "abnormal"}):
            wanted = Filter.from_query(query)
            assert set(session.find(wanted, 50).ids) == mine, query
            assert session.count(wanted) == len(mine), query
        assert session.found_cards(ids[other]) == (), "nor by the address of a clip"
        assert {one.clip_id for one in session.acceptable(0.9)} == mine
        assert session.accept(0.9, ids[other]) == []
        assert {event.clip_id for event in session.accept(0.9)} == mine
        assert {event.clip_id for event in session.relabel_found(Filter(), timestamp(), "normal")} == mine
        assert {card.entry.clip.id for card in session.similar(ids[unit][0])} == mine - {ids[unit][0]}
        assert per_class(store, unit) == {"normal": {"bulk": len(mine)}}
        for _ in range(2):
            session.step("undo")
        assert store.current(mine) == {}
        with pytest.raises(LabelError, match=r"mask\.unit"):
            session.relabel(ids[other], "normal")
        with pytest.raises(LabelError, match=r"mask\.unit"):
            session.label_several(ids[other], "normal", "alike")


def test_agreement_is_of_one_unit(sqlite_store, make_clips):
    one, two = make_clips(count=1)[0].clip.id, make_clips(count=1, person=1)[0].clip.id
    sqlite_store.register([*make_clips(count=1), *make_clips(count=1, person=1)])
    for who in ("a1", "a2"):
        sqlite_store.set_labels({one: "normal", two: "normal"}, who, "human", act="key")
    assert [set(opinions(sqlite_store, unit)) for unit in ("scene", "person", "")] == [{one}, {two}, {one, two}]
