"""Shards of a set, and the set joined from them."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from kfp.dsl import PipelineTaskFinalStatus

from posewatch.artifact import Job, collect, members, produce
from posewatch.errors import InputError
from posewatch.stages import shards as stage
from posewatch.stages.gather import gather
from posewatch.stages.notify import notify
from posewatch.stages.shards import shards
from posewatch.store import open_store


def set_of(store, count, stage="ingest"):
    made = [
        produce(store, Job("raw", f"v{i}", {}), lambda folder, i=i: (folder / "a.txt").write_text(str(i)) and None)
        for i in range(count)
    ]
    return collect(store, stage, [{"video": f"v{i}", "names": [f"{i}.mp4"]} for i in range(count)], made)


@pytest.mark.parametrize(("count", "size", "sizes"), [(5, 2, [2, 2, 1]), (4, 50, [4]), (3, 1, [1, 1, 1]), (0, 5, [])])
def test_shards_hold_everything_once_in_order(tmp_path: Path, count: int, size: int, sizes: list[int]) -> None:
    store = open_store(str(tmp_path))
    whole = set_of(store, count)
    parts = shards(store, whole, size)
    assert [len(members(part)) for part in parts] == sizes
    if parts:
        assert gather(store, parts) == whole, "byte for byte the set that was divided"
        assert shards(store, whole, size) == parts


def test_there_are_never_more_shards_than_a_run_can_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "MAX_SHARDS", 3)
    store = open_store(str(tmp_path))
    assert [len(members(p)) for p in shards(store, set_of(store, 10), 1)] == [4, 4, 2]


def test_wrong_shards_are_one_line(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    whole = set_of(store, 2)
    with pytest.raises(InputError, match="at least 1 video, not 0"):
        shards(store, whole, 0)
    with pytest.raises(InputError, match="there is no shard"):
        gather(store, [])
    with pytest.raises(InputError, match="different stages: ingest, mask"):
        gather(store, [whole, set_of(store, 1, "mask")])
    with pytest.raises(InputError, match="is not a set"):
        shards(store, members(whole)[0][1], 1)


@pytest.fixture
def webhook():
    """A real server that answers with ``answers`` in turn and keeps what it was told."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(answers.pop(0) if answers else 200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    told: list[dict[str, str]] = []
    answers: list[int] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/secret-path", told, answers
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_webhook_hears_how_a_run_ended(webhook) -> None:
    url, told, answers = webhook
    answers += [503, 429]
    assert notify(url, "train", "FAILED", "run-1", "out of\nmemory", wait_s=0)
    assert len(told) == 3
    assert told[-1] == {
        "text": "posewatch train: failed - out of memory (run run-1)",
        "pipeline": "train", "state": "FAILED", "run": "run-1", "workflow": "run-1", "error": "out of memory",
    }  # fmt: skip


def test_a_webhook_hears_what_to_type_to_see_the_run(webhook, monkeypatch: pytest.MonkeyPatch) -> None:
    from components.notify.component import notify as step

    url, told, _ = webhook
    monkeypatch.setenv("POSEWATCH_RUN", "0a1b2c3d-0000")
    status = PipelineTaskFinalStatus("FAILED", "posewatch-train-x7k2p", "exit-handler-1", None, None)
    step.python_func(pipeline="train", webhook=url, status=status)
    unknown = PipelineTaskFinalStatus("UNKNOWN", None, None, None, None)  # what servers before 2.14 are given
    step.python_func(pipeline="train", webhook=url, status=unknown)
    assert told[0]["text"] == "posewatch train: failed (posewatch pipeline logs 0a1b2c3d-0000)"
    assert (told[0]["run"], told[0]["workflow"]) == ("0a1b2c3d-0000", "posewatch-train-x7k2p")
    assert (told[1]["run"], told[1]["workflow"], told[1]["state"]) == ("0a1b2c3d-0000", "", "UNKNOWN")


@pytest.mark.parametrize(
    ("said", "state", "words"),
    [
        ("COMPLETE", "SUCCEEDED", "succeeded"), ("CACHED", "SUCCEEDED", "succeeded"), ("FAILED", "FAILED", "failed"),
        # of a run whose last step came from the cache, or was killed
        ("RUNNING", "UNKNOWN", "has ended, and Kubeflow does not say how: see the run"),
    ],
)  # fmt: skip
def test_a_webhook_hears_in_our_words_what_a_cluster_says(webhook, said: str, state: str, words: str) -> None:
    url, told, _ = webhook
    assert notify(url, "prepare", said, "run-1", wait_s=0)
    assert (told[0]["state"], told[0]["text"]) == (state, f"posewatch prepare: {words} (run run-1)")


def test_a_webhook_that_refuses_fails_no_run_and_its_secret_is_not_logged(webhook, caplog) -> None:
    url, told, answers = webhook
    answers += [404]
    assert not notify(url, "train", "SUCCEEDED", "run-1", wait_s=0)
    assert len(told) == 1, "what is refused is not sent again"
    assert not notify("http://127.0.0.1:9/secret-path", "train", "SUCCEEDED", "run-1", wait_s=0)
    assert "HTTP 404" in caplog.text
    assert "refused" in caplog.text
    assert "secret-path" not in caplog.text
    with pytest.raises(InputError, match="must be an http"):
        notify("ftp://x", "train", "SUCCEEDED", "run-1")


def test_no_webhook_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POSEWATCH_WEBHOOK", raising=False)
    assert not notify("", "train", "SUCCEEDED", "run-1")


def test_the_environment_may_name_the_webhook(webhook, monkeypatch: pytest.MonkeyPatch) -> None:
    url, told, _ = webhook
    monkeypatch.setenv("POSEWATCH_WEBHOOK", url)
    assert notify("", "refresh", "SUCCEEDED", "r")
    assert told[0]["text"] == "posewatch refresh: succeeded (run r)"
