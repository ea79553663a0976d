"""The page's wiring: Streamlit's own test driver for what Streamlit draws, and the acts that the browser sends."""

from __future__ import annotations

import json
import sys
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("streamlit", reason="the labeling extra is not installed")

import streamlit as st
from labeling.conftest import SERVICE, make_clips
from streamlit.testing.v1 import AppTest

from posewatch.config import LabelConfig
from posewatch.labels.session import LabelingSession
from posewatch.labels.store import LabelStore
from posewatch.labels.team import roles
from posewatch.labels.team.identity import SECRET_HEADER

PAGE = SERVICE / "page.py"


@pytest.fixture(autouse=True)
def service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SERVICE))
    # Streamlit puts the page in the place of __main__, and every process that is spawned later would run it
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LabelStore:
    """14 clips of a video with a hostile name, and one of another, without files, in a store that the page opens."""
    url = f"sqlite:///{tmp_path / 'labels.db'}"
    monkeypatch.setenv("POSEWATCH_LABELS_URL", url)
    monkeypatch.setenv("POSEWATCH_USER", "ann")
    monkeypatch.delenv("POSEWATCH_CONFIG", raising=False)
    st.cache_resource.clear()
    opened = LabelStore(url)
    opened.register(make_clips(tmp_path, {"<b>hall*way*</b>.mp4": 14, "yard.mp4": 1}, files=False))
    yield opened
    opened.close()


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streamlit's test driver reports a remote address."""
    monkeypatch.setattr("posewatch.labels.team.identity.is_local", lambda peer: True)


def run() -> AppTest:
    page = AppTest.from_file(str(PAGE), default_timeout=30).run()
    assert not page.exception
    return page


def test_the_list_of_videos_shows_their_progress_and_hostile_names_as_text(store, local):
    clips = store.clips()
    store.set_label(clips[14].clip.id, "normal", "cat", "human")
    page = run()
    assert roles.all_roles(store) == {"ann": "admin"}, "the first user of a laptop runs it"
    assert "1 of 15 clips" in page.sidebar.get("progress")[0].proto.text
    captions = list(page.radio(key="video").proto.captions)
    assert captions[0] == "14 clips wait for you"
    assert [caption[-6:].strip() for caption in captions[1:]] == ["0 / 14", "1 / 1"]
    assert page.radio(key="video").options[1] == r"\<b\>hall\*way\*\</b\>\.mp4"
    page.radio(key="video").set_value(clips[0].clip.video_id).run()
    assert page.subheader[0].value == r"\<b\>hall\*way\*\</b\>\.mp4"
    assert not page.exception


def test_nobody_labels_without_a_name_or_a_role(store, local):
    page = run()
    page.text_input(key="who").set_value(" ").run()
    assert page.error[0].value.startswith("enter your name first")
    page.text_input(key="who").set_value("bob").run()
    assert page.error[0].value.startswith("bob has no role here")
    assert not page.exception
    assert len(page.radio) == 0, "not even the list of videos is shown"


def test_a_development_user_from_elsewhere_is_refused(store):
    assert run().error[0].value == "this page runs for a development user on its own machine only"


def test_an_empty_store_says_what_to_do(tmp_path, monkeypatch, local):
    monkeypatch.setenv("POSEWATCH_LABELS_URL", f"sqlite:///{tmp_path / 'empty.db'}")
    monkeypatch.setenv("POSEWATCH_USER", "ann")
    assert "posewatch prepare" in run().info[0].value


def test_clips_of_a_broken_experiment_are_not_called_missing(store, local, tmp_path, monkeypatch):
    config = tmp_path / "team.yaml"
    config.write_text("extends: default\nlabels: {classes: [calm, fight], default: calm}\n")  # no "abnormal" any more
    monkeypatch.setenv("POSEWATCH_CONFIG", str(config))
    page = run()
    assert "labels.positive" in page.main.error[0].value.replace("\\", "")
    assert not page.info


def test_a_database_that_is_away_is_one_line_on_the_page(monkeypatch, local):
    monkeypatch.setenv("POSEWATCH_LABELS_URL", "postgresql://ann:secret@127.0.0.1:1/labels")
    page = run()
    assert "cannot open the label store" in page.error[0].value.replace("\\", "")
    assert "secret" not in page.error[0].value


def test_acts_are_done_once_and_refusals_say_why(store):
    from labeling_ui import acts

    roles.set_role(store, "ann", "labeler", "operator")
    clips = [e.clip.id for e in store.clips()]
    answers, turned = acts.Answers(), []
    sent = [
        {"id": "a", "kind": "label", "clip": clips[0], "label": "abnormal", "how": "key"},
        {"id": "b", "kind": "label", "clip": clips[1], "label": "dance", "how": "key"},
        {"id": "c", "kind": "label", "clip": "c-none", "label": "normal", "how": "key"},
        {"id": "d", "kind": "adjudicate", "clip": clips[0], "label": "normal"},
        {"id": "e", "kind": "label", "clip": clips[2], "label": "normal", "how": "telepathy"},
        {"id": "f", "kind": "next", "page": "x"},
        {"id": "g", "kind": "rest", "clips": [clips[0], clips[3]]},
        {"id": "h", "kind": "rest", "clips": 7},
        {"id": "i", "kind": {"a": 1}, "clip": ["x"]},
    ]

    def handle(some):
        acts.handle(lambda: LabelingSession(store, "ann", LabelConfig()), some, answers, turned.append, False)

    handle(sent)
    handle(sent)  # the answer was lost on the way
    assert answers.saved == ["a", "f", "g", "h", "i"]
    reasons = {row["id"]: row["message"] for row in answers.refused}
    assert reasons["b"] == "unknown class 'dance' (known: normal, abnormal)"
    assert reasons["c"].startswith("no such clip: c-none")
    assert reasons["d"] == "ann is a labeler, and this needs the role reviewer: ask an admin for it"
    assert "telepathy" in reasons["e"]
    assert turned == [sent[5], sent[8]]
    assert {c: e.new for c, e in store.current().items()} == {clips[0]: "abnormal", clips[3]: "normal"}
    assert len(store.history(clips[0])) == 1
    handle(sent[7:8])
    assert answers.ids() == {"h"}, "answers that the browser has seen are forgotten"
    answers = acts.Answers()
    handle(sent[:1])  # the page was reloaded, and sends its outbox again: the store knows the act
    assert answers.saved == ["a"]
    assert len(store.history(clips[0])) == 1


def test_text_that_no_database_takes_is_put_right(store):
    """Half of an emoji, or NUL: refused by the database, it would stay in the browser's outbox for ever."""
    from labeling_ui import acts
    from posewatch.labels.notes import comments

    roles.set_role(store, "ann", "labeler", "operator")
    clip = store.clips()[0].clip.id
    sent = [
        {"id": "a", "kind": "comment", "clip": clip, "text": "falls \ud83d\ude31, half of it \ud83d and \0"},
        {"id": "b", "kind": "label", "clip": clip, "label": "\udc00", "how": "key", "x": [{"\udc00": 1}]},
        {"id": "c", "kind": "label", "clip": clip, "label": "normal", "how": "key"},
    ]
    sent[0]["text"] = json.loads(json.dumps(sent[0]["text"]))  # as a browser sends it
    answers = acts.Answers()
    acts.handle(lambda: LabelingSession(store, "ann", LabelConfig()), sent, answers, lambda act: None, False)
    assert (answers.saved, [row["id"] for row in answers.refused]) == (["a", "c"], ["b"])
    (said,) = comments(store)[clip]
    assert said.text == "falls \N{FACE SCREAMING IN FEAR}, half of it \ufffd and \ufffd"


def test_a_card_holds_no_key_and_no_credential(store):
    from labeling_ui import acts

    roles.set_role(store, "ann", "labeler", "operator")
    session = LabelingSession(store, "ann")
    shown = acts.payload(session.cards([store.clips()[0].clip.id])[0], "")
    assert "key" not in shown
    assert "store" not in shown
    assert shown["url"] == "", "there is no such file"


def test_every_language_has_all_texts():
    from labeling_ui.texts import LANGUAGES, catalogue, language_of

    known = catalogue("en")
    for language in LANGUAGES:
        texts = catalogue(language)
        assert texts.keys() == known.keys()
        assert [keys for keys, _ in texts["keys"]] == [keys for keys, _ in known["keys"]]
        for name, text in known.items():
            if isinstance(text, str):
                holes = {part.split("}")[0] for part in text.split("{")[1:]}
                assert holes == {part.split("}")[0] for part in texts[name].split("{")[1:]}, name
    assert [language_of(one) for one in ("ko-KR", "ko", "en-GB", "fr", None)] == ["ko", "ko", "en", "en", "en"]


def test_signed_addresses_end_and_cannot_be_made_up(tmp_path):
    from urllib.parse import parse_qs, urlsplit

    from labeling_ui import media

    now = 1_000_000.0
    url = media.signed(tmp_path.as_uri(), "clips/a b.mp4", "/base", now=now)
    assert url.startswith("/base/clips/clips/a%20b.mp4?")
    query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    good = (query["store"], "clips/a b.mp4", query["until"], query["token"])
    assert media.check(*good, now=now + media.URL_S)
    assert not media.check(*good, now=now + 2 * media.URL_S)
    assert not media.check(query["store"], "clips/other.mp4", query["until"], query["token"], now=now)
    assert not media.check("file:///etc", "clips/a b.mp4", query["until"], query["token"], now=now)
    assert not media.check(query["store"], "clips/a b.mp4", "soon", query["token"], now=now)
    assert media.signed(tmp_path.as_uri(), "clips/a b.mp4", "/base", now=now + 1) == url, "browsers cache by address"


def get(url: str, **headers: str) -> tuple[int, str]:
    request = urllib.request.Request(url, headers={name.replace("_", "-"): value for name, value in headers.items()})
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_probes_answer_without_identity_and_nothing_else_does(start, monkeypatch):
    server = start({"yard.mp4": 2}, POSEWATCH_AUTH="proxy", POSEWATCH_PROXY_SECRET="s3cret")
    server.store.set_label(server.clips[0].clip.id, "normal", "ann", "human")
    assert get(f"{server.url}/_stcore/health") == (200, "ok")
    assert get(f"{server.url}/ready") == (200, "ready\n")
    status, text = get(f"{server.url}/metrics")
    assert status == 200
    assert 'posewatch_labeling_clips{state="labelled"} 1' in text
    assert "posewatch_labeling_database_up 1" in text
    assert get(f"{server.url}/_stcore/metrics")[0] == 200
    for path in ("/", "/review", "/_stcore/host-config", "/clips/x.mp4", "/static/index.html"):
        assert get(f"{server.url}{path}", kubeflow_userid="ann")[0] == 403, path
    known = {SECRET_HEADER.replace("-", "_"): "s3cret", "kubeflow_userid": "ann"}
    assert get(f"{server.url}/", **known)[0] == 200
    assert get(f"{server.url}/clips/x.mp4", **known)[0] == 403, "a clip needs a signed address besides"


def test_a_name_from_a_proxy_that_is_not_ascii(start):
    server = start({"yard.mp4": 2}, {"김철수": "labeler"}, POSEWATCH_AUTH="proxy", POSEWATCH_PROXY_SECRET="s3cret")
    sent = "김철수".encode().decode("latin-1")  # the bytes that proxies write, as http.client takes them
    known = {SECRET_HEADER.replace("-", "_"): "s3cret", "kubeflow_userid": sent, "accept": "text/html"}
    status, text = get(f"{server.url}/", **known)
    assert (status, '"who": "김철수"' in text) == (200, True)


def test_a_server_without_its_database_is_not_ready(start, tmp_path):
    from labeling.conftest import serve

    env = {"POSEWATCH_LABELS_URL": "postgresql://ann@127.0.0.1:1/labels", "HOME": str(tmp_path)}
    url, process = serve(env, tmp_path / "log")
    try:
        assert get(f"{url}/_stcore/health") == (200, "ok"), "the process lives"
        status, text = get(f"{url}/ready")
        assert status == 503
        assert "cannot open the label store" in text
        assert "posewatch_labeling_database_up 0" in get(f"{url}/metrics")[1]
    finally:
        process.terminate()
        process.wait(timeout=60)


def test_refusals_are_said_in_korean(store):
    import re

    from labeling_ui.refusals import translated
    from posewatch.errors import PosewatchError
    from posewatch.labels.tickets import Tickets

    for who, role in {"ann": "labeler", "bob": "reviewer"}.items():
        roles.set_role(store, who, role, "operator")
    one, two = (e.clip.id for e in store.clips()[:2])
    ann, bob, tickets = LabelingSession(store, "ann"), LabelingSession(store, "bob"), Tickets(store, "ann")
    bob.adjudicate(one, "normal")
    bob.queue.claim("bob", 20)
    refused = [
        lambda: LabelingSession(store, " "),
        lambda: LabelingSession(store, "zoe"),
        lambda: ann.adjudicate(one, "normal"),
        lambda: ann.label(one, "abnormal"),
        lambda: ann.label(two, "abnormal"),
        lambda: ann.label("c-none", "normal"),
        lambda: ann.label(two, "dance"),
        lambda: ann.label(two, "normal", "telepathy"),
        lambda: bob.adjudicate(two, "(unsure)"),
        lambda: bob.accept(0.1),
        lambda: tickets.check(one, "s.made-up"),
        lambda: tickets.check(one, tickets.issue(one, missing=True), "normal"),
    ]
    for act in refused:
        with pytest.raises(PosewatchError) as caught:
            act()
        said = translated(str(caught.value), "ko")
        assert re.search("[가-힣]", said), said
        assert not re.search("[a-z]+ [a-z]+ [a-z]+", said), said
        assert translated(str(caught.value), "en") == str(caught.value)


def test_a_broken_configuration_keeps_the_last_good_one_and_says_so(tmp_path, monkeypatch):
    import os

    from labeling_ui import wiring

    path = tmp_path / "labels.yaml"
    monkeypatch.setenv("POSEWATCH_CONFIG", str(path))
    path.write_text("extends: default\nlabels: {classes: [normal, abnormal, fight]}\n")
    assert (wiring.label_config().classes, wiring.config_problem()) == (("normal", "abnormal", "fight"), "")
    path.write_text("extends: default\nlabels: {clases: [normal]}\n")
    os.utime(path, (1, 1))
    assert wiring.label_config().classes == ("normal", "abnormal", "fight")
    assert "clases" in wiring.config_problem()
    path.unlink()
    assert wiring.label_config().classes == ("normal", "abnormal", "fight")
    path.write_text("extends: default\n")
    assert (wiring.label_config().classes, wiring.config_problem()) == (("normal", "abnormal"), "")


def test_acts_wait_while_the_database_is_away(store, monkeypatch):
    from labeling_ui import acts
    from posewatch.errors import LabelStoreDown

    roles.set_role(store, "ann", "labeler", "operator")
    clips = [e.clip.id for e in store.clips()]
    sent = [
        {"id": str(i), "kind": "label", "clip": clip, "label": "normal", "how": "key"}
        for i, clip in enumerate(clips[:2])
    ]
    answers = acts.Answers()

    def away() -> LabelingSession:
        raise LabelStoreDown("the label store at postgresql://x failed: no route")

    acts.handle(away, sent, answers, lambda act: None, False)
    assert answers.ids() == set(), "neither saved nor refused: the browser keeps them"
    assert answers.kept
    acts.handle(lambda: LabelingSession(store, "ann"), sent, answers, lambda act: None, False)
    assert (answers.saved, answers.kept) == (["0", "1"], "")


@pytest.mark.parametrize("encoding", ["br", "gzip"])
def test_scripts_are_sent_compressed_and_only_once_compressed(encoding):
    from starlette.applications import Starlette
    from starlette.responses import Response
    from starlette.routing import Route
    from starlette.testclient import TestClient

    from labeling_ui.compression import Compressed

    kinds = {"a.js": "text/javascript", "a.woff2": "font/woff2"}
    data = b"const a = 1;" * 500

    def answer(request):
        name = request.path_params["name"]
        return Response(data, media_type=kinds[name], headers={"etag": name})

    app = Compressed(Starlette(routes=[Route("/base/static/js/{name}", answer)]))
    with TestClient(app, headers={"Accept-Encoding": {"br": "gzip, deflate, br", "gzip": "gzip"}[encoding]}) as client:
        found = client.get("/base/static/js/a.js")
        assert (found.content, found.headers["content-encoding"]) == (data, encoding)
        assert int(found.headers["content-length"]) == len(next(iter(app.done.values()))[1]) < len(data) / 10
        assert client.get("/base/static/js/a.js").content == data
        assert len(app.done) == 1
        plain = client.get("/base/static/js/a.js", headers={"Accept-Encoding": "identity"})
        assert (plain.content, plain.headers.get("content-encoding")) == (data, None)
        assert "content-encoding" not in client.get("/base/static/js/a.woff2").headers


def test_progress_before_anything_is_labelled_has_no_empty_table(store, local):
    def view() -> None:
        from labeling_ui import progress_view
        from labeling_ui.common import Viewer
        from labeling_ui.texts import catalogue

        progress_view.show(Viewer("ann", catalogue("en")))

    roles.set_role(store, "ann", "admin", "operator")
    page = AppTest.from_function(view, default_timeout=30).run()
    assert not page.exception
    assert [len(one.value) for one in page.dataframe] == [2], "the videos"
    assert [one.value for one in page.caption].count("Nothing yet.") == 2
    store.set_label(store.clips()[0].clip.id, "normal", "ann", "human")
    assert [len(one.value) for one in page.run().dataframe] == [1, 1, 2]
