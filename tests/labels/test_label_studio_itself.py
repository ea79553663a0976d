"""The real Label Studio: takes our bundle without accounts, plays its clips, gets labels, and its exports come back.

POSEWATCH_LABEL_STUDIO names its executable; without it, it is installed in an environment of its own (some minutes).
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from posewatch.config import LabelConfig
from posewatch.labels.formats.clip_labels import read_clip_labels
from posewatch.labels.formats.exporters import export
from posewatch.labels.formats.importers import import_clip_labels
from posewatch.labels.formats.snapshot import snapshot
from posewatch.labels.store import LabelStore
from posewatch.store import FolderStore

pytestmark = pytest.mark.slow
CONFIG = LabelConfig()
USER, TOKEN = "boss@example.org", "5" * 40


@pytest.fixture(scope="module")
def executable(tmp_path_factory: pytest.TempPathFactory) -> str:
    if given := os.environ.get("POSEWATCH_LABEL_STUDIO"):
        return given
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    subprocess.run([folder / "bin/pip", "install", "--quiet", "label-studio>=1.23"], check=True)
    return str(folder / "bin/label-studio")


@pytest.fixture
def studio(executable: str, tmp_path: Path) -> Iterator[httpx.Client]:
    """A client of a Label Studio whose local files are in ``tmp_path / "bundle"``."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = {**os.environ, "LOCAL_FILES_SERVING_ENABLED": "true", "LOCAL_FILES_DOCUMENT_ROOT": str(tmp_path / "bundle")}
    env |= {"COLLECT_ANALYTICS": "false", "SENTRY_DSN": "", "FRONTEND_SENTRY_DSN": "", "HOME": str(tmp_path)}
    command = [executable, "start", "--no-browser", "--data-dir", str(tmp_path / "data"), "--port", str(port)]
    command += ["--internal-host", "127.0.0.1", "--username", USER, "--password", "Pass-word-123"]
    command += ["--user-token", TOKEN, "--enable-legacy-api-token"]
    with (tmp_path / "studio.log").open("wb") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    client = httpx.Client(
        base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Token {TOKEN}"}, timeout=60, trust_env=False
    )
    try:
        end = time.monotonic() + 600  # its database is made first
        while not _answers(client):
            alive = process.poll() is None and time.monotonic() < end
            assert alive, (tmp_path / "studio.log").read_text()[-2000:]
            time.sleep(1)
        yield client
    finally:
        client.close()
        process.terminate()
        process.wait(timeout=60)


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/health").status_code == 200
    except httpx.HTTPError:
        return False


def _json(answer: httpx.Response) -> Any:
    assert answer.is_success, answer.text[:2000]
    return answer.json()


def exported(studio: httpx.Client, project: int, kind: str, path: Path) -> dict[str, tuple[str, str]]:
    """Clip → (label, author) of an export of this kind."""
    asked = {"exportType": kind, "download_all_tasks": "true"}
    answer = studio.get(f"/api/projects/{project}/export", params=asked)
    assert answer.is_success
    path.write_bytes(answer.content)
    return {clip: (given.label, given.who) for clip, given in read_clip_labels(path, CONFIG).items()}


def test_the_way_to_label_studio_and_back(
    studio: httpx.Client, sqlite_store: LabelStore, make_clips: Any, tmp_path: Path
) -> None:
    objects = FolderStore(tmp_path / "objects")
    clips = [type(e)(e.clip, e.names, e.key, objects.uri) for e in make_clips("a.mp4", 4)]
    for entry in clips:
        objects.put(entry.key, entry.clip.id.encode())
    sqlite_store.register(clips)
    ids = [entry.clip.id for entry in clips]
    sqlite_store.set_labels({ids[0]: "normal", ids[1]: "abnormal"}, "ann", "human")
    sqlite_store.set_label(ids[0], "normal", "bob", "human")
    assert export(sqlite_store, snapshot(sqlite_store), "labelstudio", tmp_path / "bundle", CONFIG) == 2

    interface = (tmp_path / "bundle/interface.xml").read_text()
    project = _json(studio.post("/api/projects", json={"title": "posewatch", "label_config": interface}))["id"]
    place = {"project": project, "title": "clips", "path": str(tmp_path / "bundle/clips"), "use_blob_urls": True}
    _json(studio.post("/api/storages/localfiles", json=place))
    tasks = json.loads((tmp_path / "bundle/tasks.json").read_text())
    taken = _json(studio.post(f"/api/projects/{project}/import", json=tasks))
    assert (taken["task_count"], taken["annotation_count"]) == (4, 3)

    there = {
        task["data"]["clip_id"]: task
        for task in _json(studio.get("/api/tasks", params={"project": project, "fields": "all"}))["tasks"]
    }
    assert set(there) == set(ids)
    for clip in ids:
        assert studio.get(there[clip]["data"]["video"]).content == clip.encode()

    result = json.loads(json.dumps(tasks[0]["annotations"][0]["result"]))
    for one in result:
        del one["meta"]
        one["value"]["choices"] = ["abnormal"]
    _json(studio.post(f"/api/tasks/{there[ids[2]]['id']}/annotations/", json={"result": result, "ground_truth": True}))
    changed = there[ids[1]]["annotations"][0]
    again = [{**one, "value": {"choices": ["normal"]}} for one in changed["result"]]
    _json(studio.patch(f"/api/annotations/{changed['id']}/", json={"result": again}))

    there_called = "label-studio 1"  # exports name annotators by number, unless they are asked for the addresses
    wanted = {ids[0]: ("normal", "bob"), ids[1]: ("normal", there_called), ids[2]: ("abnormal", there_called)}
    assert exported(studio, project, "JSON", tmp_path / "a.json") == wanted
    labels = {clip: label for clip, (label, _) in wanted.items()}
    for kind, name in (("JSON_MIN", "min.json"), ("CSV", "a.csv")):
        given = exported(studio, project, kind, tmp_path / name)
        assert {clip: label for clip, (label, _) in given.items()} == labels
    named = {"annotations__completed_by": {"only_id": False}}
    made = _json(studio.post(f"/api/projects/{project}/exports", json={"title": "a", "serialization_options": named}))
    answer = studio.get(f"/api/projects/{project}/exports/{made['id']}/download", params={"exportType": "JSON"})
    (tmp_path / "named.json").write_bytes(answer.content)
    wanted = {clip: (label, USER if who == there_called else who) for clip, (label, who) in wanted.items()}

    other = LabelStore(f"sqlite:///{tmp_path / 'other.db'}")
    other.register(clips)
    assert import_clip_labels(other, tmp_path / "named.json", CONFIG).set == 3
    assert {clip: (event.new, event.who) for clip, event in other.current().items()} == wanted
    other.close()
