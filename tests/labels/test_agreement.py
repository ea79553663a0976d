from __future__ import annotations

import numpy as np
import pytest

from posewatch.labels.entries import UNSURE
from posewatch.labels.session import LabelingSession
from posewatch.labels.team import roles
from posewatch.labels.team.agreement import agreement, cohen, fleiss, opinions
from posewatch.labels.team.statistics import per_class, per_labeler

# Fleiss' own example as everybody prints it: 10 subjects, 14 raters, 5 categories, kappa 0.210
TABLE = """
0 0 0 0 14   0 2 6 4 2   0 0 3 5 6   0 3 9 2 0   2 2 8 1 1
7 7 0 0 0    3 2 6 3 0   2 5 3 2 2   6 5 2 1 0   0 2 2 3 7
"""
EXAMPLE = np.array(TABLE.split(), int).reshape(10, 5)


def test_fleiss_kappa_of_the_published_example():
    assert fleiss(EXAMPLE) == pytest.approx(0.2099, abs=5e-5)
    assert fleiss(np.array([[2, 0], [0, 2], [2, 0]])) == pytest.approx(1)
    assert fleiss(np.array([[2, 0], [2, 0]])) is None, "chance alone agrees always"
    assert fleiss(np.array([[1, 0], [0, 1]])) is None, "nobody labelled the same clip"
    assert fleiss(np.array([[1, 1], [1, 1]])) == pytest.approx(-1)


@pytest.mark.parametrize("seed", range(4))
def test_cohens_kappa_is_scikit_learns(seed):
    metrics = pytest.importorskip("sklearn.metrics")
    chance = np.random.default_rng(seed)
    one = chance.choice(["a", "b", "c"], 40)
    other = np.where(chance.random(40) < 0.6, one, chance.choice(["a", "b", "d"], 40))
    assert cohen(list(one), list(other)) == pytest.approx(metrics.cohen_kappa_score(one, other))
    assert cohen([], []) is None
    assert cohen(["a", "a"], ["a", "a"]) is None


def test_agreement_counts_the_labels_before_decisions(store, make_clips):
    clips = make_clips(count=6)
    store.register(clips)
    ids = [e.clip.id for e in clips]
    for who, role in {"ann": "labeler", "bob": "labeler", "cat": "labeler", "rev": "reviewer"}.items():
        roles.set_role(store, who, role, "operator")
    labels = {"ann": "nnaan", "bob": "nnann", "cat": "n"}
    names = {"n": "normal", "a": "abnormal"}
    for who, letters in labels.items():
        for clip, letter in zip(ids, letters, strict=False):
            LabelingSession(store, who).label(clip, names[letter])
    LabelingSession(store, "cat").label(ids[1], UNSURE)
    LabelingSession(store, "rev").adjudicate(ids[3], "normal")
    found = agreement(opinions(store))
    assert (found.clips, found.differ) == (5, 1)
    assert [(p.one, p.other, p.clips) for p in found.pairs] == [("ann", "bob", 5), ("ann", "cat", 1), ("bob", "cat", 1)]
    assert found.pairs[0].kappa == pytest.approx(cohen(list("nnaan"), list("nnann")))
    assert found.pairs[0].per_class["normal"] == pytest.approx(found.pairs[0].kappa)
    assert found.per_class["normal"] == pytest.approx(found.per_class["abnormal"]) == pytest.approx(found.fleiss)
    assert agreement({}).fleiss is None
    assert per_class(store) == {"abnormal": {"human": 1}, "normal": {"human": 4}}
    people = {one.who: one for one in per_labeler(store)}
    assert (people["ann"].clips, people["ann"].acts) == (5, 5)
    assert people["cat"].per_minute is None


def test_what_was_undone_counts_for_no_speed(store, make_clips):
    clips = make_clips(count=8)
    store.register(clips)
    roles.set_role(store, "ann", "labeler", "operator")
    session = LabelingSession(store, "ann")
    for entry in clips:
        session.label(entry.clip.id, "normal")
    assert per_labeler(store)[0].acts == 8
    for _ in range(5):
        session.step("undo")
    assert (per_labeler(store)[0].acts, per_labeler(store)[0].per_minute) == (3, None)
    session.step("redo")
    assert per_labeler(store)[0].acts == 4


def test_a_label_given_in_sight_of_another_is_no_independent_opinion(store, make_clips):
    clip = make_clips(count=1)
    store.register(clip)
    for who in ("ann", "bob", "cat"):
        roles.set_role(store, who, "labeler", "operator")
    ids = [clip[0].clip.id]
    LabelingSession(store, "ann").label(ids[0], "normal", "key")
    LabelingSession(store, "bob").label(ids[0], "normal", "key", seen=True)
    assert opinions(store) == {}
    LabelingSession(store, "cat").label(ids[0], "abnormal", "key")
    assert opinions(store) == {ids[0]: {"ann": "normal", "cat": "abnormal"}}
