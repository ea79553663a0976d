"""Several people at once: claims, second opinions, roles, decisions, undo."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from label_stores import stale, undo

from posewatch.config import LabelConfig
from posewatch.errors import LabelError, NotAllowed
from posewatch.labels.db import projection, tables
from posewatch.labels.entries import BAD, UNSURE, hash_fraction
from posewatch.labels.queue import ORDER, WorkQueue
from posewatch.labels.session import LabelingSession
from posewatch.labels.team import roles


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def team(store, make_clips):
    """A store with 12 clips, and a session per person: ann, bob, cat (labelers), rev (reviewer), boss (admin)."""
    clips = make_clips(count=12)
    store.register(clips)
    for who, role in {"ann": "labeler", "bob": "labeler", "cat": "labeler", "rev": "reviewer", "boss": "admin"}.items():
        roles.set_role(store, who, role, "operator")

    def session(who: str, **config) -> LabelingSession:
        return LabelingSession(store, who, LabelConfig(**{"page_size": 4, **config}))

    return session, [e.clip.id for e in clips]


def test_the_queue_gives_each_clip_to_one_person(team, store):
    session, ids = team
    ann, bob = session("ann"), session("bob")
    hers = [card.entry.clip.id for card in ann.claim()]
    his = [card.entry.clip.id for card in bob.claim()]
    assert (hers, his) == (ids[:4], ids[4:8])
    assert [card.entry.clip.id for card in ann.claim()] == hers, "a reload gives the same clips"
    ann.label(hers[0], "normal", "key", queued=True)
    assert [card.entry.clip.id for card in ann.claim()] == [*hers[1:], ids[8]]
    assert [card.entry.clip.id for card in ann.claim(keep=hers[:1])] == [hers[0], *hers[1:]]
    assert bob.queue.remaining("bob") == 7  # his four, and what nobody has in hand
    ann.queue.release("ann")
    assert bob.queue.remaining("bob") == 11


def test_a_claim_that_ran_out_goes_to_the_next(team, store):
    session, _ = team
    clock = Clock()
    ann, bob = session("ann", claim_s=60), session("bob", claim_s=60)
    ann.queue.clock = bob.queue.clock = clock
    hers = ann.queue.claim("ann", 2)
    clock.now += 61
    assert bob.queue.claim("bob", 1) == hers[:1]
    with pytest.raises(LabelError, match="bob is labelling clip"):
        ann.label(hers[0], "abnormal", queued=True)
    bob.label(hers[0], "normal", queued=True)
    with pytest.raises(LabelError, match=r"your claim on clip .* expired, and bob labelled it"):
        ann.label(hers[0], "abnormal", queued=True)
    assert ann.label(hers[1], "abnormal", queued=True).new == "abnormal", "nobody else claimed it: the work is saved"
    assert store.current([hers[0]])[hers[0]].who == "bob"


def test_second_opinions_are_blind_and_disagreements_go_to_a_reviewer(team, store):
    session, ids = team
    config = {"double": 1.0, "page_size": 12}
    ann, bob, cat, rev = (session(who, **config) for who in ("ann", "bob", "cat", "rev"))
    assert len(ann.claim()) == len(bob.claim()) == 12
    assert cat.claim() == (), "two are enough"
    for clip in ids:
        ann.label(clip, "normal", queued=True)
    assert {card.label for card in bob.claim()} == {None}, "bob does not see the label of ann"
    assert {card.label for card in cat.cards(ids)} == {None}
    assert [card.second for card in bob.cards(ids[:1])] == [True]
    bob.label(ids[0], "abnormal", queued=True)
    for clip in ids[1:]:
        bob.label(clip, "normal", queued=True)
    assert bob.claim() == ()
    with pytest.raises(NotAllowed, match="bob is a labeler, and this needs the role reviewer"):
        bob.disagreements()
    open_ = rev.disagreements()
    assert [card.entry.clip.id for card in open_] == [ids[0]]
    assert open_[0].votes == (("ann", "normal"), ("bob", "abnormal"))
    with pytest.raises(NotAllowed, match="this needs the role reviewer"):
        ann.adjudicate(ids[0], "normal")
    rev.adjudicate(ids[0], "abnormal")
    assert rev.disagreements() == ()
    assert store.current([ids[0]])[ids[0]].who == "rev"
    with pytest.raises(LabelError, match="was settled by rev"):
        ann.label(ids[0], "normal")
    assert ann.cards(ids[:1])[0].label == "abnormal", "settled labels are visible"
    rev.step("undo")
    assert len(rev.disagreements()) == 1, "a decision can be taken back like any act"


def test_the_share_of_double_labels_is_what_was_asked_for(store, make_clips):
    clips = make_clips(count=1000, length=1.0)
    store.register(clips)
    queue = WorkQueue(store, LabelConfig(double=0.2))
    first = queue.claim("ann", 1000)
    second = queue.claim("bob", 1000)
    assert len(first) == 1000
    assert set(second) == {clip for clip in first if hash_fraction(clip, "double") < 0.2}
    assert 150 < len(second) < 250


def test_the_rest_of_the_page_is_one_act_and_one_undo(team, store):
    session, ids = team
    ann, bob = session("ann"), session("bob")
    page = ann.page(store.videos()[0].video_id, 0)
    shown = [card.entry.clip.id for card in page.cards]
    ann.label(shown[0], "abnormal", "key")
    bob.label(shown[1], "abnormal", "key")
    bob.queue.claim("bob", 1)  # takes shown[2]
    events = ann.label_remaining(shown, batch="b-1")
    assert [(e.clip_id, e.new, e.source, e.act) for e in events] == [(shown[3], "normal", "bulk", "rest")]
    assert ann.label_remaining(shown, batch="b-1") == events, "sent twice, done once"
    bob.queue.release("bob")
    assert [e.clip_id for e in ann.label_remaining(shown)] == [shown[2]]
    assert [e.clip_id for e in ann.step("undo")] == [shown[2]]
    assert set(store.current()) == {shown[0], shown[1], shown[3]}
    everything = ann.label_remaining(ids)
    assert len(everything) == 9
    assert len(ann.step("undo")) == 9
    assert len(ann.step("redo", batch="r")) == 9
    assert len(ann.step("redo", batch="r")) == 9, "the same step, sent again"
    assert ann.step("redo") == []
    assert len(store.current()) == 12
    assert {event.source for event in store.current().values()} == {"human", "bulk"}


def test_the_rest_of_the_page_is_a_second_opinion_too_where_one_is_wanted(team, store):
    session, ids = team
    ann, bob, cat = (session(who, double=1.0) for who in ("ann", "bob", "cat"))
    ann.label(ids[0], "abnormal")
    store.set_label(ids[1], "abnormal", "file", "import")
    assert {e.clip_id for e in bob.label_remaining(ids)} == {*ids} - {ids[1]}, (
        "a label of a file needs no second opinion"
    )
    assert {e.clip_id for e in cat.label_remaining(ids)} == {*ids} - {ids[0], ids[1]}
    assert store.disagreements(ids) == [ids[0]]


def test_undo_and_redo_go_back_and_forth_and_leave_others_alone(team, store):
    session, ids = team
    ann, bob = session("ann"), session("bob")
    clip = ids[0]
    for label in ("normal", "abnormal", UNSURE):
        ann.label(clip, label)
    bob.label(ids[1], "normal")

    def label_of_ann() -> str | None:
        found = store.states([clip])[clip].votes.get("ann")
        return found.new if found else None

    back = []
    for _ in range(4):
        ann.step("undo")
        back.append(label_of_ann())
    assert back == ["abnormal", "normal", None, None]
    ann.step("redo")
    assert label_of_ann() == "normal"
    ann.step("redo")
    ann.step("undo")
    ann.step("redo")
    assert label_of_ann() == "abnormal"
    ann.label(clip, BAD)
    assert ann.step("redo") == [], "a new act ends what could be redone"
    assert store.current([ids[1]])[ids[1]].who == "bob"
    ann.label(clip, None)
    assert label_of_ann() == "abnormal", "the label before counts again"


def test_marks_stay_out_of_counts_and_unsure_goes_to_somebody_else(team, store):
    session, ids = team
    ann, bob, rev = session("ann"), session("bob"), session("rev")
    ann.claim()
    ann.label(ids[0], UNSURE, "key", queued=True)
    ann.label(ids[1], BAD, "key", queued=True)
    assert store.counts() == {}
    assert store.videos()[0].labelled == 1, "a bad clip is done, an unsure one is not"
    assert [card.entry.clip.id for card in rev.disagreements()] == [ids[0]]
    assert ids[0] not in ann.queue.claim("ann", 12)
    ann.queue.release("ann")
    assert ids[0] in bob.queue.claim("bob", 12)
    assert ids[1] not in bob.queue.claim("bob", 12)
    bob.label(ids[0], "normal", queued=True)
    assert store.current([ids[0]])[ids[0]].new == "normal"
    assert rev.disagreements() == (), "unsure is not a disagreement"


def test_roles_are_looked_up_each_time(team, store):
    session, ids = team
    with pytest.raises(NotAllowed, match=r"zoe has no role here: an admin can give one \(posewatch labels role zoe"):
        session("zoe")
    boss, ann = session("boss"), session("ann")
    with pytest.raises(NotAllowed, match="needs the role admin"):
        ann.set_role("zoe", "labeler")
    boss.set_role("zoe", "labeler")
    boss.set_role("zoe", "labeler")
    zoe = session("zoe")
    zoe.label(ids[0], "normal")
    boss.set_role("zoe", "none")
    with pytest.raises(NotAllowed, match="zoe has no role"):
        zoe.label(ids[1], "normal")
    with pytest.raises(NotAllowed, match="nobody changes their own role"):
        boss.set_role("boss", "labeler")
    with pytest.raises(LabelError, match="unknown role 'king'"):
        boss.set_role("zoe", "king")
    assert roles.all_roles(store)["zoe"] == "none"


def test_a_label_set_that_changed_is_refused_and_the_old_labels_stay(team, store):
    session, ids = team
    ann = session("ann", classes=("normal", "abnormal", "fight"))
    ann.label(ids[0], "fight")
    later = session("ann")  # the experiment lost a class meanwhile
    with pytest.raises(LabelError, match=r"unknown class 'fight' \(known: normal, abnormal\)"):
        later.label(ids[1], "fight")
    assert store.current()[ids[0]].new == "fight"
    assert later.cards(ids[:1])[0].label == "fight"


def test_neighbours_are_in_the_order_of_time(team, store):
    session, ids = team
    assert [card.entry.clip.id for card in session("ann").neighbours(ids[0])] == ids[:3]
    assert [card.entry.clip.id for card in session("ann").neighbours(ids[5], 1)] == ids[4:7]
    with pytest.raises(LabelError, match="no such clip: c-x"):
        session("ann").neighbours("c-x")


def ranked(store, ranks):
    """Make a model's ranking of clips count, as `active.refresh` does."""
    rows = [
        {"clip_id": c, "model_version": "1", "probabilities": {}, "uncertainty": 0.5, "rank": r, "random": r is None}
        for c, r in ranks.items()
    ]

    def work(connection):
        connection.execute(tables.predictions.insert(), rows)
        projection.update_ranks(connection, ranks)

    store.database.write(work)


def test_the_queue_goes_by_rank_then_by_video_and_time(store, make_clips):
    clips = [e for name in ("a.mp4", "b.mp4", "c.mp4") for e in make_clips(name, 40)]
    store.register(clips)
    ranks = {e.clip.id: (i * 7) % 20 for i, e in enumerate(clips) if i % 3 == 0}  # ranks of two refreshes may be equal
    ranked(store, {**ranks, clips[1].clip.id: None})
    for e in clips[5:20]:
        store.set_label(e.clip.id, "normal", "cat", "human")
    left = [e.clip for e in clips[:5] + clips[20:]]
    left.sort(key=lambda c: (ranks.get(c.id, tables.UNRANKED), c.video_id, c.start_s, c.id))
    queue = WorkQueue(store)
    given = [clip for who in ("ann", "bob", "dan", "eve", "fay") for clip in queue.claim(who, 21)]
    assert given == [clip.id for clip in left]


def test_labels_of_a_version_that_knows_no_queue_are_not_given_out_again(store, make_clips):
    """As during an upgrade, when pods of the old version are still at work on the migrated database."""
    clips = make_clips(count=12)
    store.register(clips)
    ids = [e.clip.id for e in clips]
    for clip in ids[:8]:
        store.set_label(clip, "normal", "cat", "human")
    behind = tables.waiting.update().where(tables.waiting.c.clip_id.in_(ids[2:8])).values(state=0)
    store.database.write(lambda connection: connection.execute(behind) and None)
    assert WorkQueue(store).claim("ann", 3) == ids[8:11]
    left = sa.select(sa.func.count()).where(tables.waiting.c.state == 0)
    assert store.database.read(lambda connection: connection.execute(left).scalar()) == 4, "the queue has caught up"


@pytest.mark.parametrize("double", [0.0, 0.4, 1.0])
def test_what_is_left_is_what_the_queue_still_gives(store, make_clips, double):
    clips = make_clips(count=40)
    store.register(clips)
    ids = [e.clip.id for e in clips]
    for who in ("ann", "bob"):
        roles.set_role(store, who, "labeler", "operator")
    ann, bob = (LabelingSession(store, who, LabelConfig(double=double)) for who in ("ann", "bob"))
    for clip, label in ((ids[0], "normal"), (ids[1], UNSURE), (ids[2], BAD), (ids[3], "abnormal")):
        ann.label(clip, label)
    bob.label(ids[4], UNSURE)
    bob.queue.claim("bob", 6)
    for session in (ann, bob):
        left = session.queue.remaining(session.who)  # session.remaining() may be the other's, where counting took long
        assert left == len(session.queue.claim(session.who, 100))
        session.queue.release(session.who)


def test_what_is_done_is_not_in_the_way_of_the_queue(store, make_clips):
    """The plans walk the index of what waits, and a clip comes back to its place when its label is taken back."""
    clips = make_clips(count=60)
    store.register(clips)
    ids = [e.clip.id for e in clips]
    ranked(store, {clip: i for i, clip in enumerate(ids)})
    for clip in ids[:30]:
        store.set_label(clip, "normal", "cat", "human")
    queue = WorkQueue(store, LabelConfig(double=0.5))
    twice = [e.clip.id for e in clips[:30] if hash_fraction(e.clip.id, "double") < 0.5]
    assert 0 < len(twice) < 30
    assert queue.claim("ann", len(twice)) == twice, "second opinions come first where their ranks do"
    queue.release("ann")
    assert WorkQueue(store).claim("ann", 2) == ids[30:32]
    WorkQueue(store).release("ann")
    undo(store, ids[7], "cat")
    assert WorkQueue(store).claim("ann", 2) == [ids[7], ids[30]]
    before = store.database.read(
        lambda c: dict(c.execute(sa.select(tables.waiting.c.clip_id, tables.waiting.c.state)).all())
    )
    store.database.write(projection.refill)
    assert before == store.database.read(
        lambda c: dict(c.execute(sa.select(tables.waiting.c.clip_id, tables.waiting.c.state)).all())
    )
    for stage, order, index in zip(
        queue._stages("bob", 0.0), (ORDER, (tables.waiting.c.double_draw, tables.waiting.c.clip_id)),
        ("ix_waiting_order", "ix_waiting_second"), strict=True,
    ):  # fmt: skip
        text = str(stage.order_by(*order).limit(24).compile(store.engine, compile_kwargs={"literal_binds": True}))
        with store.engine.connect() as connection, connection.begin():
            if store.engine.dialect.name == "sqlite":
                plan = [row[3] for row in connection.execute(sa.text(f"EXPLAIN QUERY PLAN {text}"))]
                assert "USE TEMP B-TREE FOR ORDER BY" not in plan
            else:
                # small tables are faster sorted: ask what it does when it must not
                for way in ("seqscan", "sort", "bitmapscan"):
                    connection.execute(sa.text(f"SET LOCAL enable_{way} = off"))
                plan = [row[0] for row in connection.execute(sa.text(f"EXPLAIN {text}"))]
                assert not any("Sort Key" in line for line in plan), plan
        assert any(index in line for line in plan), plan


def test_names_are_compared_without_case(team, store):
    session, ids = team
    roles.set_role(store, "Bob", "reviewer", "operator")
    assert roles.role_of(store, "bob") == roles.role_of(store, "BOB") == "reviewer"
    assert "Bob" not in roles.all_roles(store)
    session("BOB").label(ids[0], "normal")
    session("bob").label(ids[0], "abnormal")
    assert [(who, e.new) for who, e in store.states(ids[:1])[ids[0]].votes.items()] == [("bob", "abnormal")]


def test_an_undo_can_name_its_act_and_brings_back_a_label_that_was_removed(team, store):
    session, ids = team
    ann = session("ann")
    ann.label(ids[0], "normal", batch="one")
    ann.label(ids[1], "abnormal", batch="two")
    assert [e.clip_id for e in ann.step("undo", act="one")] == [ids[0]]
    assert ann.step("undo", act="one") == [], "not the act before it instead"
    assert set(store.current()) == {ids[1]}
    ann.label(ids[1], None, batch="three")
    assert store.current() == {}
    assert [(e.clip_id, e.new) for e in ann.step("undo")] == [(ids[1], "abnormal")]
    assert store.current()[ids[1]].new == "abnormal"
    ann.step("redo")
    assert store.current() == {}
    ann.step("undo")
    ann.step("undo")
    assert store.current() == {}, "the label itself"
    assert store.database.read(stale) == []
