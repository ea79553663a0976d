from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from posewatch.config import LabelConfig
from posewatch.errors import LabelError
from posewatch.labels.acceptance import Acceptable, sample
from posewatch.labels.active import interleave, order, refresh, uncertainty
from posewatch.labels.entries import hash_fraction
from posewatch.labels.formats.snapshot import snapshot
from posewatch.labels.queue import WorkQueue
from posewatch.labels.session import LabelingSession
from posewatch.labels.team import roles
from posewatch.records import Prediction

CONFIG = LabelConfig(random=0.2, double=0.0)


def test_uncertainty_is_nothing_where_sure_and_one_where_all_is_equal():
    p = np.array([[1, 0, 0], [1 / 3, 1 / 3, 1 / 3], [0.5, 0.5, 0]])
    assert uncertainty(p) == pytest.approx([0, 1, np.log(2) / np.log(3)])


def test_a_batch_is_unsure_and_does_not_look_alike():
    doubt = np.array([0.9, 0.89, 0.88, 0.5, 0.1])
    points = np.array([[0.0, 0], [0.01, 0], [5, 5], [0, 5], [9, 9]])
    assert order(doubt).tolist() == [0, 1, 2, 3, 4]
    first = order(doubt, points, batch=2, pool=2).tolist()
    assert first[:2] == [0, 2], "the twin of the first waits, however unsure"
    assert sorted(first) == [0, 1, 2, 3, 4]
    assert order(np.zeros(0), np.zeros((0, 2))).tolist() == []


def test_chance_keeps_its_share_of_every_stretch():
    merged = interleave(list(range(100, 180)), list(range(20)), 0.2)
    assert sorted(merged) == [*range(20), *range(100, 180)]
    for start in range(0, 100, 10):
        assert sum(i < 100 for i in merged[start : start + 10]) == 2
    assert interleave([1, 2, 3], [], 0.5) == [1, 2, 3]
    assert interleave([], [1, 2], 0.0) == [1, 2]
    assert len(interleave(list(range(50_000)), list(range(50_000, 55_000)), 0.1)) == 55_000


def predict(ids: list[str], sure: float = 0.9) -> Prediction:
    p = np.array([[1 - sure * (i % 7) / 6, sure * (i % 7) / 6] for i in range(len(ids))], np.float32)
    return Prediction(p, ("normal", "abnormal"), np.random.default_rng(0).normal(size=(len(ids), 4)).astype(np.float32))


def test_the_queue_goes_by_doubt_and_the_random_share_does_not(store, make_clips):
    clips = make_clips(count=200, length=1.0)
    store.register(clips)
    ids = [e.clip.id for e in clips]
    result = refresh(store, ids, predict(ids), "m/1", CONFIG)
    assert (result.scored, result.ordered + result.random) == (200, 200)
    assert 20 < result.random < 60
    first = WorkQueue(store, CONFIG).claim("ann", 40)
    chance = [clip for clip in first if hash_fraction(clip, "random") < 0.2]
    assert len(chance) == 8
    assert chance == sorted(chance, key=lambda clip: hash_fraction(clip, "random")), "in an order that no model knows"
    doubt = dict(zip(ids, uncertainty(predict(ids).probabilities), strict=True))
    led = [doubt[clip] for clip in first if clip not in chance]
    assert np.mean(led) > np.mean(list(doubt.values())) + 0.2
    assert store.current() == {}, "a prediction is not a label"
    refresh(store, ids[:10], predict(ids[:10]), "m/2", CONFIG)
    assert LabelConfig().random == 0.1


def test_the_queue_asks_first_about_what_is_like_nothing_the_model_knows(store, make_clips):
    clips = make_clips(count=100, length=1.0)
    store.register(clips)
    ids = [e.clip.id for e in clips]
    novelty = np.where(np.arange(100) % 10 == 0, 1.5, 0.5).astype(np.float32)
    prediction = dataclasses.replace(predict(ids), novelty=novelty)
    strange = set(ids[::10])
    sure = dataclasses.replace(CONFIG, random=0.0)
    refresh(store, ids, prediction, "m/1", sure)
    assert not strange <= set(WorkQueue(store, sure).claim("ann", 20))
    WorkQueue(store, sure).release("ann")
    refresh(store, ids, prediction, "m/1", dataclasses.replace(sure, strange_first=True))
    assert set(WorkQueue(store, sure).claim("bob", 10)) == strange


def test_predictions_show_on_cards_but_lead_nobody_whose_label_judges_them(store, make_clips):
    clips = make_clips(count=60, length=1.0)
    store.register(clips)
    ids = [e.clip.id for e in clips]
    refresh(store, ids, predict(ids), "m/1", CONFIG)
    roles.set_role(store, "ann", "labeler", "operator")
    for card in LabelingSession(store, "ann", CONFIG).cards(ids):
        assert card.label is None
        assert (card.suggestion is None) == card.random == (hash_fraction(card.entry.clip.id, "random") < 0.2)
        assert card.random or card.model == "m/1"
    blind = LabelingSession(store, "ann", LabelConfig(double=1.0, random=0.2))
    assert {card.suggestion for card in blind.cards(ids)} == {None}


def test_accepting_in_bulk_is_an_act_of_its_own_and_reaches_the_snapshot(store, make_clips):
    clips = make_clips(count=60, length=1.0)
    store.register(clips)
    ids = [e.clip.id for e in clips]
    refresh(store, ids, predict(ids, 0.96), "m/1", CONFIG)
    for who, role in {"ann": "labeler", "rev": "reviewer"}.items():
        roles.set_role(store, who, role, "operator")
    ann, rev = (LabelingSession(store, who, CONFIG) for who in ("ann", "rev"))
    ann.label(ids[0], "abnormal")
    with pytest.raises(Exception, match="needs the role reviewer"):
        ann.accept(0.9)
    with pytest.raises(LabelError, match=r"between 0\.5 and 1"):
        rev.accept(0.2)
    events = rev.accept(0.95, batch="x")
    assert rev.accept(0.95, batch="x") == events
    assert {(e.source, e.act, e.model_version, e.who) for e in events} == {("bulk", "accept", "m/1", "rev")}
    accepted = {e.clip_id for e in events}
    assert ids[0] not in accepted
    assert not any(hash_fraction(clip, "random") < 0.2 for clip in accepted)
    assert accepted == {c for i, c in enumerate(ids) if i and i % 7 in (0, 6) and hash_fraction(c, "random") >= 0.2}
    rows = {row["clip_id"]: row for row in snapshot(store).rows}
    assert rows[events[0].clip_id]["source"] == "bulk"
    assert rows[events[0].clip_id]["model_version"] == "m/1"
    assert rows[ids[0]]["source"] == "human"
    assert len(rev.step("undo")) == len(events)
    assert set(store.current()) == {ids[0]}


def test_a_sample_of_what_would_be_accepted_spreads_over_class_and_score(store, make_clips):
    clips = make_clips(count=60, length=1.0)
    store.register(clips)
    ids = [e.clip.id for e in clips]
    refresh(store, ids, predict(ids, 0.96), "m/1", CONFIG)
    roles.set_role(store, "rev", "reviewer", "operator")
    rev = LabelingSession(store, "rev", CONFIG)
    found = rev.acceptable(0.5)
    assert {one.clip_id for one in found} == {event.clip_id for event in rev.accept(0.5)}
    assert rev.acceptable(0.5) == [], "nothing is left"
    some = sample([Acceptable(f"c{i}", "ab"[i % 2], i / 100, "m/1") for i in range(50, 100)], 4)
    assert {label: [one.confidence for one in rows] for label, rows in some.items()} == {
        "a": [0.5, 0.66, 0.82, 0.98],
        "b": [0.51, 0.67, 0.83, 0.99],
    }
    assert sample([]) == {}


def test_a_model_of_other_classes_and_unknown_clips_are_refused(sqlite_store, make_clips):
    clips = make_clips(count=2)
    sqlite_store.register(clips)
    ids = [e.clip.id for e in clips]
    with pytest.raises(LabelError, match="the model has the classes normal, abnormal, the experiment a, b"):
        refresh(sqlite_store, ids, predict(ids), "m/1", LabelConfig(("a", "b"), "b", "a"))
    with pytest.raises(LabelError, match="no such clip: c-x"):
        refresh(sqlite_store, [*ids, "c-x"], predict([*ids, "c-x"]), "m/1", CONFIG)


SBU = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "skeletons" / "sbu_violence_coco17.pkl"


@pytest.mark.skipif(not SBU.is_file(), reason=f"the labelled skeletons {SBU} are not here")
def test_half_of_the_labels_are_enough_when_the_queue_goes_by_doubt(tmp_path, capsys):
    pytest.importorskip("sklearn")
    from posewatch.cli.main import main

    assert main(["bench", "active-learning", "--annotations", str(SBU), "--out", str(tmp_path)]) == 0
    result = json.loads((tmp_path / "bench.json").read_text())
    assert result["uncertain"]["share_needed"] <= 0.5
    assert result["uncertain"]["f1_at_half"] >= result["full_f1"] - 0.01
    assert result["uncertain"]["share_needed"] < result["random"]["share_needed"]
    assert (tmp_path / "bench.png").stat().st_size > 10_000
    assert "uncertain first" in capsys.readouterr().out


def test_the_benchmark_says_what_is_wrong_in_one_line(tmp_path, capsys):
    from posewatch.cli.main import main

    assert main(["bench", "active-learning", "--annotations", str(tmp_path / "none.pkl"), "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_window_of_the_least_sure_is_that_of_all_clips_that_are_left() -> None:
    """The order is the one that a search through the whole rest gives, batch by batch."""
    random = np.random.default_rng(3)
    doubt, points = random.random(317).round(2), random.normal(size=(317, 5))

    def slowly(batch: int, pool: int) -> list[int]:
        scaled = (points - points.mean(0)) / points.std(0)
        left, out = list(np.argsort(-doubt, kind="stable")), []
        while left:
            near = np.array(left[: pool * batch])
            distance, taken = np.full(len(near), np.inf), []
            for _ in range(min(batch, len(near))):
                score = (doubt[near] + 1e-9) * (1 if np.isinf(distance).all() else distance)
                score[taken] = -1
                taken.append(int(score.argmax()))
                distance = np.minimum(distance, np.linalg.norm(scaled[near] - scaled[near[taken[-1]]], axis=1))
            out += [int(near[i]) for i in taken]
            left = [i for i in left if i not in {int(near[j]) for j in taken}]
        return out

    for batch, pool in ((24, 4), (1, 1), (7, 3), (400, 2)):
        assert order(doubt, points, batch=batch, pool=pool).tolist() == slowly(batch, pool)
