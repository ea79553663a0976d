"""What the chart's pods are told to run, run here: the S3 server, the backup, the check; an upgrade's credentials."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from labels.conftest import PostgresServer
from minio import Minio
from tiny_models import tiny_model

from posewatch.labels.store import LabelStore
from posewatch.stack.process import pick_ports, wait_until
from posewatch.stack.seaweed import find_weed
from posewatch.watch.service import Camera, Service, ServiceConfig, serve

from .chart import CHART, LOADER, NAMESPACE, Body, helm, named, pods, render, teach

LAPTOP = CHART / "examples" / "laptop.yaml"
CHECK = CHART / "files" / "check.py"


def container(objects: list[Body], name: str) -> Body:
    (found,) = [spec["containers"][0] for pod, _, spec in pods(objects) if pod == name]
    return dict(found)


def answers(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def test_the_object_store_starts_with_these_very_arguments(tmp_path: Path) -> None:
    told = container(render(LAPTOP), "StatefulSet/posewatch-store")
    s3, master, volume, filer, admin = pick_ports(5, 911, twin=True)
    inside = {
        "-dir=/data": f"-dir={tmp_path}",
        "-s3.port=8333": f"-s3.port={s3}",
        "-ip.bind=0.0.0.0": "-ip.bind=127.0.0.1",
    }
    assert set(inside) <= set(told["args"])
    command = [find_weed(), *(inside.get(word, word) for word in told["args"])]
    command += [f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}", f"-admin.port={admin}"]
    env = {**os.environ, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "HOME": str(tmp_path)}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=env)
    try:
        probe = told["readinessProbe"]["httpGet"]["path"]
        assert wait_until(lambda: answers(f"http://127.0.0.1:{s3}{probe}") == 200, 60), (tmp_path / "log").read_text()
        client = Minio(f"127.0.0.1:{s3}", "key", "secret", secure=False)
        assert wait_until(lambda: client.bucket_exists("posewatch"), 60)
        stranger = Minio(f"127.0.0.1:{s3}", "key", "wrong", secure=False)
        with pytest.raises(Exception, match="signature"):
            list(stranger.list_objects("posewatch"))
    finally:
        process.kill()
        process.wait(30)


@pytest.fixture(scope="module")
def database() -> Iterator[PostgresServer]:
    server = PostgresServer()
    try:
        server.start()
        yield server
        server.kill()
    finally:
        server.remove()


def test_the_backup_is_restored_to_the_same_labels(database: PostgresServer, tmp_path: Path, make_entries: Any) -> None:
    """backup.sh against a real PostgreSQL, then what docs/operations.md says of restoring."""
    store = LabelStore(database.database("labels"))
    entries = make_entries(12)
    store.register(entries)
    for i, entry in enumerate(entries[:7]):
        store.set_label(entry.clip.id, "abnormal" if i % 3 else "normal", "ann", "human")
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1]
    env = {**os.environ, "PATH": f"{binaries}:{os.environ['PATH']}", "PGHOST": "127.0.0.1", "PGUSER": "posewatch"}
    env |= {"PGPORT": str(database.port), "PGDATABASE": "labels"}
    folder = tmp_path / "backup"
    folder.mkdir()
    (folder / ".half-1").write_text("of a run that was killed")
    old = folder / "labels-20200101T000000Z.dump"
    old.write_text("old")
    os.utime(old, (time.time() - 30 * 86400,) * 2)
    script = container(render(LAPTOP, sets=("postgresql.backup.enabled=true",)), "CronJob/posewatch-backup")["command"]
    assert script == ["sh", "/etc/posewatch/backup.sh", "/backup", "14"]
    command = ["sh", str(CHART / "files" / "backup.sh"), str(folder), "14"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    (dump,) = folder.iterdir()
    assert "1 dumps kept" in done.stdout

    database.database("restored")
    restore = [binaries / "pg_restore", "--no-owner", "--exit-on-error", "--dbname=restored", str(dump)]
    subprocess.run(restore, env=env, check=True, timeout=60)
    again = LabelStore(f"{database.url}/restored")
    assert again.counts() == store.counts() == {"abnormal": 4, "normal": 3}
    assert [again.history(e.clip.id) for e in entries] == [store.history(e.clip.id) for e in entries]
    again.set_label(entries[8].clip.id, "normal", "ann", "human")  # and it goes on
    store.close()
    again.close()

    broken = subprocess.run(
        command, env={**env, "PGPORT": "1"}, capture_output=True, text=True, timeout=60, check=False
    )
    assert broken.returncode != 0
    assert list(folder.iterdir()) == [dump], "a failed backup leaves the last good one, and no half one"


@pytest.fixture
def make_entries() -> Callable[[int], list[Any]]:
    from posewatch.labels.entries import ClipEntry
    from posewatch.records import Clip, clip_id, video_id

    def make(count: int) -> list[Any]:
        video = video_id("a" * 64)
        clips = [Clip(clip_id(video, i, 1.0), video, float(i), 1.0, 10.0, 10, 64, 48, 1.0) for i in range(count)]
        return [ClipEntry(clip, ("a.mp4",), f"clips/{clip.id}.mp4", "memory://x") for clip in clips]

    return make


def _check(parts: list[Any], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    told = {**os.environ, **env, "POSEWATCH_CHECK": json.dumps(parts)}
    return subprocess.run(
        [sys.executable, str(CHECK)], env=told, capture_output=True, text=True, timeout=120, check=False
    )


def test_the_check_of_helm_test(s3_store: Any, tmp_path: Path) -> None:
    """What the one-GPU box's test pod checks, with real servers in their places; then with some of them away."""
    pytest.importorskip("streamlit", reason="the labeling extra is not installed")
    from labeling.conftest import serve as serve_page

    box = render(CHART / "examples" / "one-gpu-box.yaml")
    env = {e["name"]: e.get("value", "") for e in container(box, "Pod/posewatch-test")["env"]}
    parts = json.loads(env["POSEWATCH_CHECK"])
    assert parts == [
        {"page": "http://posewatch-labeling"},
        {"watcher": "http://posewatch-watcher-hall-0.posewatch-watcher:9100"},
        {"store": "s3://posewatch"},
        {"labels": True},
    ]
    labels = {"POSEWATCH_LABELS_URL": f"sqlite:///{tmp_path / 'labels.db'}", "HOME": str(tmp_path)}
    page, process = serve_page(labels, tmp_path / "page.log")
    tiny_model(tmp_path / "model.onnx")
    camera = Camera("door", "rtsp://127.0.0.1:9/x")
    service = Service(ServiceConfig(str(tmp_path / "model.onnx"), (camera,), str(tmp_path / "out")))
    (port,) = pick_ports(1, 4811)
    watcher = serve(service, port, "127.0.0.1")
    here = [{"page": page}, {"watcher": f"http://127.0.0.1:{port}"}, {"store": s3_store.uri}, {"labels": True}]
    try:
        done = _check(here, labels)
        assert done.returncode == 0, done.stdout + done.stderr
        assert [line.split()[:2] for line in done.stdout.splitlines()] == [
            ["ok", name] for name in ("page", "watcher", "store", "labels")
        ]
        assert s3_store.list() == [], "it leaves nothing behind"
    finally:
        process.terminate()
        process.wait(60)
        watcher.shutdown()
        watcher.server_close()
    done = _check(here, {**labels, "POSEWATCH_S3_SECRET_KEY": "wrong"})
    assert done.returncode == 1
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [
        ["FAILED", "page"], ["FAILED", "watcher"], ["FAILED", "store"], ["ok", "labels"],
    ]  # fmt: skip


def test_an_upgrade_keeps_what_was_generated(mortal_api: Any) -> None:
    """helm renders against the stand-in API server, where `lookup` finds what an earlier installation made.

    It cannot install there: helm writes its releases in a form that the stand-in does not read.
    """
    for body in render(LAPTOP, sets=("labeling.replicas=2",)):
        teach(mortal_api, body)
    env = {**os.environ, "KUBECONFIG": str(mortal_api.kubeconfig)}
    words = ("template", "posewatch", str(CHART), "-n", NAMESPACE, "--values", str(LAPTOP), "--dry-run=server")
    where = f"/api/v1/namespaces/{NAMESPACE}/secrets"

    def secrets(*more: str) -> dict[str, Body]:
        text = helm(*words, "--disable-openapi-validation", *more, env=env).stdout
        objects = [body for body in yaml.load_all(text, LOADER) if body]
        return {b["metadata"]["name"]: b for b in objects if b["kind"] == "Secret"}

    first = secrets()
    assert set(first) == {"posewatch", "posewatch-labeling", "posewatch-postgresql", "posewatch-s3"}
    assert secrets()["posewatch"]["data"] != first["posewatch"]["data"], "random, as nothing is there yet"

    def install(body: Body, **more: Any) -> None:
        owner = {
            "meta.helm.sh/release-name": "posewatch",
            "meta.helm.sh/release-namespace": NAMESPACE,
        }  # as helm notes it
        meta = body["metadata"]
        meta = {**meta, "annotations": {**meta["annotations"], **owner}}
        mortal_api("POST", where, {**body, "metadata": meta, **more})

    for body in first.values():
        install(body)
    assert secrets() == first
    assert secrets("--set", "labeling.replicas=2") == first

    # One that lost a key gets that one anew, and keeps the others.
    mortal_api("DELETE", f"{where}/posewatch-labeling")
    kept = base64.b64encode(b"mine").decode()
    install(first["posewatch-labeling"], data={"POSEWATCH_MEDIA_SECRET": kept})
    now = secrets()
    made = now.pop("posewatch-labeling")["data"]
    assert made["POSEWATCH_MEDIA_SECRET"] == kept
    assert len(base64.b64decode(made["POSEWATCH_PROXY_SECRET"])) == 48
    assert now == {name: body for name, body in first.items() if name != "posewatch-labeling"}


def test_values_of_the_examples_are_yaml_that_people_can_read() -> None:
    for path in sorted((CHART / "examples").glob("*.yaml")):
        assert path.read_text().startswith("# "), "an example says what it is for"
        assert yaml.load(path.read_text(), LOADER)
    assert named(render(LAPTOP), "Deployment", "posewatch-labeling")["spec"]["replicas"] == 1
