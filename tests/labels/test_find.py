"""Finding clips: filters, orders, pages by their ends, and what a person must not know yet; acts on many clips."""

from __future__ import annotations

import numpy as np
import pytest
import sqlalchemy as sa

from posewatch.config import LabelConfig
from posewatch.errors import LabelError, NotAllowed
from posewatch.labels import find as finding
from posewatch.labels.active import refresh
from posewatch.labels.db import projection, tables
from posewatch.labels.entries import ADJUDICATE, BAD
from posewatch.labels.find import Filter, find
from posewatch.labels.session import LabelingSession
from posewatch.labels.team import roles
from posewatch.records import Prediction

CLASSES = ("normal", "abnormal", "fight")


@pytest.fixture
def filled(store, make_clips):
    """Twelve clips of two videos and of one person; a model that says abnormal more surely from clip to clip."""
    clips = [*make_clips("cam1/a.mp4", 6), *make_clips("cam2/b.mp4", 4), *make_clips("cam2/b.mp4", 2, person=2)]
    store.register(clips)
    ids = [e.clip.id for e in clips]
    shares = np.array([[0.39 - i / 100, 0.6 + i / 100, 0.01] for i in range(len(ids))], np.float32)
    refresh(store, ids, Prediction(shares, CLASSES), "m/1", LabelConfig(CLASSES, random=0.0))
    store.set_labels(dict.fromkeys(ids[:4], "normal"), "ann", "human", classes=CLASSES)
    store.set_labels({ids[4]: "abnormal"}, "bob", "human", classes=CLASSES)
    store.set_labels({ids[5]: BAD}, "bob", "human", classes=CLASSES)
    store.set_labels({ids[3]: "fight"}, "bob", "human", classes=CLASSES)
    store.set_labels({ids[6]: "normal"}, "files", "import", classes=CLASSES)
    return store, ids


def ids_of(store, query, double=0.0, who="lead", size=50):
    return list(find(store, Filter.from_query(query), who, double, size).ids)


def test_filters_select_and_orders_sort(filled):
    store, ids = filled
    expected = {
        (("label", "normal"),): [*ids[:3], ids[6]],
        (("label", BAD),): [ids[5]],
        (("open", "1"),): ids[7:],
        (("who", "bob"),): [ids[3], ids[4], ids[5]],
        (("source", "import"),): [ids[6]],
        (("video", "CAM1"),): ids[:6],
        (("video", "cam2"), ("person", "2")): ids[10:],
        (("video", "none"),): [],
        (("model", "abnormal"), ("low", "0.7"),): ids[10:],
        (("high", "0.615"),): ids[:2],
        (("odd", "1"),): [ids[0], ids[1], ids[2], ids[3], ids[6]],
        (("differ", "1"),): [ids[3]],
        (("since", "2020-01-01"), ("until", "2020-01-02")): [],
        (("page", "7"), ("utm_source", "x")): ids,
    }  # fmt: skip
    for query, wanted in expected.items():
        assert sorted(ids_of(store, dict(query))) == sorted(wanted), query
        counted = finding.count(store, Filter.from_query(dict(query)), "lead", 0.0)
        assert counted == len(wanted), query
    assert ids_of(store, {"sort": "sure"}) == ids[::-1]
    assert ids_of(store, {"sort": "unsure", "label": "normal"}) == [ids[0], ids[1], ids[2], ids[6]]
    assert ids_of(store, {"sort": "new"})[:2] == [ids[6], ids[3]]
    assert ids_of(store, {"since": "2020-01-01", "sort": "old"})[-1] == ids[6]


def test_pages_follow_each_other_both_ways_in_every_order(filled):
    store, ids = filled
    for sort in finding.SORTS:
        wanted = Filter(sort=sort)
        whole = find(store, wanted, "lead", 0.0, 50).ids
        pages, page = [], find(store, wanted, "lead", 0.0, 5)
        assert not page.earlier
        pages.append(page)
        while page.later:
            page = find(store, wanted, "lead", 0.0, 5, after=page.last)
            pages.append(page)
        assert sum((page.ids for page in pages), ()) == whole
        for before, after in zip(pages[-2::-1], pages[:0:-1], strict=True):
            back = find(store, wanted, "lead", 0.0, 5, before=after.first)
            assert (back.ids, back.later, back.earlier) == (before.ids, True, before is not pages[0])
    for end in ("", "x", "a,b", "v,1.5", "v,none,c"):  # no end of a page: the first one
        assert len(find(store, Filter(), "lead", 0.0, 50, after=end).ids) == len(ids)


def test_an_address_holds_a_filter_and_wrong_ones_say_what_is_wrong():
    wanted = Filter(label="fight", odd=True, low=0.5, since="2026-01-01", zone=540, sort="sure", person=2)
    assert Filter.from_query(wanted.query()) == wanted
    for query, message in (
        ({"low": "much"}, "the filter 'low' is a number, not 'much'"),
        ({"low": "0.9", "high": "0.1"}, "numbers from 0 to 1"),
        ({"low": "nan"}, "numbers from 0 to 1"),
        ({"sort": "beauty"}, "one of video, new, old"),
        ({"source": "god"}, "one of human, bulk"),
        ({"until": "yesterday"}, "'until' is a day like"),
    ):
        with pytest.raises(LabelError, match=message):
            Filter.from_query(query)


def test_a_clip_that_waits_for_a_second_opinion_is_found_by_nothing_that_tells_the_first(filled):
    store, ids = filled
    for query in (
        {"label": "normal"},
        {"who": "ann"},
        {"odd": "1"},
        {"source": "human"},
        {"sort": "new"},
        {"low": "0.1"},
    ):
        assert not set(ids[:3]) & set(ids_of(store, query, double=1.0)), query
        assert set(ids[:3]) <= set(ids_of(store, query, double=1.0, who="ann")), "their own label is no secret to ann"
    assert set(ids[:3]) <= set(ids_of(store, {}, double=1.0))
    assert ids[3] in ids_of(store, {"differ": "1"}, double=1.0), "two opinions are there"


def test_a_reviewer_relabels_many_as_one_act_and_a_labeler_does_not(filled):
    store, ids = filled
    for who, role in (("lead", "reviewer"), ("low", "labeler")):
        roles.set_role(store, who, role, "test")
    lead, low = (LabelingSession(store, who, LabelConfig(CLASSES)) for who in ("lead", "low"))
    events = lead.relabel(ids[:8], "fight", "batch-1")
    assert {(e.act, e.source, e.batch, e.new) for e in events} == {(ADJUDICATE, "bulk", "batch-1", "fight")}
    assert lead.relabel(ids[:8], "fight", "batch-1") == events, "sent twice, done once"
    assert lead.relabel(ids[:8], "fight") == [], "settled so already"
    assert sorted(ids_of(store, {"label": "fight"})) == sorted(ids[:8])
    assert {e.new for e in lead.step("undo")} == {None}
    assert ids_of(store, {"label": "fight"}) == [ids[3]]
    stamp = store.current()[ids[6]].when
    store.set_label(ids[0], "abnormal", "ann", "human")
    done = lead.relabel_found(Filter(video="cam1"), stamp, "normal")
    assert [e.clip_id for e in done] == sorted(ids[1:6]), "what has changed since is left out"
    for refused in (lambda: low.relabel(ids[:1], "fight"), lambda: low.find(Filter(), 5), lambda: low.count(Filter())):
        with pytest.raises(NotAllowed):
            refused()
    cards = lead.found_cards(ids[:2])
    assert [(card.label, card.suggestion) for card in cards] == [("abnormal", "abnormal"), ("normal", "abnormal")]


def test_a_large_act_is_undone_and_done_again_whole(sqlite_store, make_clips):
    clips = make_clips(count=900)
    sqlite_store.register(clips)
    roles.set_role(sqlite_store, "lead", "reviewer", "test")
    lead, ids = LabelingSession(sqlite_store, "lead"), [e.clip.id for e in clips]
    lead.label(ids[0], "normal", "key")
    lead.relabel(ids, "abnormal")
    assert len(lead.step("undo")) == 900
    assert sqlite_store.counts() == {"normal": 1}
    assert len(lead.step("redo")) == 900
    lead.step("undo")
    assert len(lead.step("undo")) == 1, "and then the act before it"
    assert sqlite_store.counts() == {}


def test_what_clips_are_found_by_is_rebuilt_from_labels_and_predictions(filled):
    store, _ = filled
    rows = sa.select(tables.waiting).order_by(tables.waiting.c.clip_id)
    before = store.database.rows(rows)
    store.database.write(projection.rebuild)
    assert store.database.rows(rows) == before
