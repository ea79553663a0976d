from __future__ import annotations

import pytest

from posewatch.errors import NotAllowed
from posewatch.labels.session import LabelingSession
from posewatch.labels.team.roles import set_role


def test_pages_show_the_clips_in_order_and_open_where_work_is_left(sqlite_store, make_clips):
    clips = make_clips(count=7)
    sqlite_store.register(clips)
    set_role(sqlite_store, "ann", "labeler", "test")
    session = LabelingSession(sqlite_store, " ann ", page_size=3)
    video = clips[0].clip.video_id
    page = session.page(video)
    assert (page.number, page.pages, page.labelled, page.clips) == (0, 3, 0, 7)
    assert [card.entry for card in page.cards] == clips[:3]
    for entry in clips[:4]:
        session.label(entry.clip.id, "normal")
    assert session.page(video).number == 1
    assert session.page(video, 99).number == 2
    assert [card.label for card in session.page(video, 1).cards] == ["normal", None, None]
    assert session.page(video, 0).cards[0].who == "ann"
    assert session.videos()[0].labelled == 4
    assert session.page("v-none").cards == ()


def test_a_models_suggestion_is_no_label_until_a_person_says_so(sqlite_store, make_clips):
    entry = make_clips(count=1)[0]
    sqlite_store.register([entry])
    sqlite_store.set_label(entry.clip.id, "abnormal", "net", "model", "m/1")
    set_role(sqlite_store, "ann", "labeler", "test")
    session = LabelingSession(sqlite_store, "ann")
    card = session.page(entry.clip.video_id).cards[0]
    assert (card.label, card.suggestion) == (None, "abnormal")
    assert session.label(entry.clip.id, None) is None, "there is no label to take back"
    session.label(entry.clip.id, "abnormal")
    card = session.page(entry.clip.video_id).cards[0]
    assert (card.label, card.suggestion, card.source) == ("abnormal", None, "human")
    session.label(entry.clip.id, None)
    assert session.page(entry.clip.video_id).cards[0].suggestion == "abnormal"


def test_nobody_labels_without_a_name(sqlite_store):
    with pytest.raises(NotAllowed, match="enter your name first"):
        LabelingSession(sqlite_store, "  ")
