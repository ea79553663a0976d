"""Comments on clips, and examples of classes: append-only, once per act, and blind where labels are blind."""

from __future__ import annotations

import csv

import pytest
import sqlalchemy as sa

from posewatch.config import ClassGuide, LabelConfig
from posewatch.errors import LabelError, NotAllowed
from posewatch.labels.db import tables
from posewatch.labels.entries import hash_fraction
from posewatch.labels.formats.exporters import export
from posewatch.labels.formats.snapshot import snapshot
from posewatch.labels.notes import comments, examples
from posewatch.labels.session import LabelingSession
from posewatch.labels.team import audit, roles


@pytest.fixture
def team(store, make_clips):
    """A store with clips, and a function that gives the session of a labeler (ann, bob) or a reviewer (rev)."""
    clips = make_clips(count=4)
    store.register(clips)
    for who, role in (("ann", "labeler"), ("bob", "labeler"), ("rev", "reviewer")):
        roles.set_role(store, who, role, "operator")
    return clips, lambda who, **config: LabelingSession(store, who, LabelConfig(**config))


def test_a_comment_is_kept_once_with_its_author_and_exported(store, team, tmp_path):
    (one, two, *_), of = team
    ann = of("ann")
    for _ in range(2):  # sent again after a lost answer
        ann.comment(one.clip.id, " she is only tired\n", "act1")
    of("rev").comment(one.clip.id, "agreed", "act2")
    with pytest.raises(LabelError, match="needs a text"):
        ann.comment(one.clip.id, "  \n", "act3")
    with pytest.raises(LabelError, match="at most 2000"):
        ann.comment(one.clip.id, "x" * 2001, "act4")
    with pytest.raises(LabelError, match="no such clip"):
        ann.comment("c-0000000000000000", "hello", "act5")
    said = comments(store)[one.clip.id]
    assert [(c.who, c.text) for c in said] == [("ann", "she is only tired"), ("rev", "agreed")]
    assert said[0].when <= said[1].when
    card, other = of("bob").cards([one.clip.id, two.clip.id])
    assert [c.text for c in card.comments] == ["she is only tired", "agreed"]
    assert other.comments == ()
    for table in (tables.comments, tables.examples):
        of("rev").label(two.clip.id, "abnormal")
        of("rev").example(two.clip.id, "abnormal")
        for statement in (table.update().values(who="x"), table.delete()):
            with pytest.raises(LabelError, match="append-only"):
                store.database.execute(statement)

    ann.label(one.clip.id, "normal")
    export(store, snapshot(store), "csv", tmp_path / "labels.csv", LabelConfig())
    with (tmp_path / "labels.csv").open(newline="", encoding="utf-8-sig") as file:
        rows = {row["clip_id"]: row["comments"] for row in csv.DictReader(file)}
    assert rows == {one.clip.id: "ann: she is only tired\nrev: agreed", two.clip.id: ""}
    trail = [(row["act"], row["who"], row["new"]) for row in audit.trail(store) if row["act"] in ("comment", "example")]
    assert ("comment", "ann", "she is only tired") in trail
    assert ("example", "rev", "abnormal") in trail


def test_looks_at_unmasked_video_need_the_role_that_the_experiment_names_and_are_recorded(store, team):
    (one, *_), of = team
    for who, role in (("ann", "nobody"), ("rev", "nobody"), ("ann", "reviewer")):
        assert not of(who, raw_scene=role).may_see_raw
        with pytest.raises(NotAllowed, match=f"may not look at unmasked video: labels.raw_scene is {role}"):
            of(who, raw_scene=role).look(one.clip.id)
    for _ in range(2):  # the page is drawn again
        of("rev", raw_scene="reviewer").look(one.clip.id, "act1")
    of("ann", raw_scene="labeler").look(one.clip.id, "act2")
    trail = [(row["act"], row["who"], row["clip_id"]) for row in audit.trail(store) if row["act"] == "raw"]
    assert trail == [("raw", "rev", one.clip.id), ("raw", "ann", one.clip.id)]
    for statement in (tables.looks.update().values(who="x"), tables.looks.delete()):
        with pytest.raises(LabelError, match="append-only"):
            store.database.execute(statement)


def test_comments_of_others_are_hidden_while_a_clip_is_labelled_twice(store, team):
    clips, of = team
    clip = clips[0].clip.id
    of("ann", double=1.0).comment(clip, "clearly abnormal")
    assert of("bob", double=1.0).cards([clip])[0].comments == ()
    assert of("rev", double=1.0).cards([clip])[0].comments == (), "a reviewer who labels is blind, too"
    assert len(of("ann", double=1.0).cards([clip])[0].comments) == 1
    of("ann", double=1.0).label(clip, "abnormal")
    of("bob", double=1.0).label(clip, "normal")
    rev = of("rev", double=1.0)
    assert [c.text for c in rev.disagreements()[0].comments] == ["clearly abnormal"], "who decides reads it"
    rev.adjudicate(clip, "abnormal")
    assert len(of("bob", double=1.0).cards([clip])[0].comments) == 1


def test_an_example_shows_its_label_and_a_reviewer_names_it(store, team):
    (one, two, three, _), of = team
    guide = {"abnormal": ClassGuide("hits, kicks", (three.clip.id,))}
    rev = of("rev", guide=guide)
    with pytest.raises(LabelError, match="is not labelled 'abnormal'"):
        rev.example(one.clip.id, "abnormal")
    rev.label(one.clip.id, "abnormal")
    with pytest.raises(NotAllowed, match="needs the role reviewer"):
        of("ann", guide=guide).example(one.clip.id, "abnormal")
    for _ in range(2):
        rev.example(one.clip.id, "abnormal", "act1")
    assert rev.examples() == {"abnormal": [three.clip.id, one.clip.id]}
    rev.example(three.clip.id, None)  # also where the configuration names it
    assert rev.examples() == {"abnormal": [one.clip.id]}
    assert examples(store, LabelConfig(("normal", "fight"), "fight")) == {}, "a class that is gone has none"
    draw = hash_fraction(two.clip.id, "double")
    blind = of("rev", double=min(1.0, draw + 0.01))
    blind.label(two.clip.id, "normal")
    with pytest.raises(LabelError, match="labelled by two people: settle it"):
        blind.example(two.clip.id, "normal")
    blind.adjudicate(two.clip.id, "normal")
    blind.example(two.clip.id, "normal")
    rows = store.database.rows(sa.select(tables.examples.c.clip_id, tables.examples.c.label))
    assert len(rows) == 3
