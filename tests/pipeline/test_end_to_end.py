"""The whole way on two tiny videos: kfp.local, the real S3 server, the real Triton."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
import yaml
from support import CONFIG, ROOT, run

from posewatch import lineage, stack
from posewatch.artifact import get, members
from posewatch.errors import InputError, ServingError
from posewatch.store import open_store

OF_PERSONS = [
    "--set", "mask.unit=person",
    "--set", "labels.everybody=true",
    "--set", "serving.name=abnormal-persons",
    "--set", "train.model=stgcn",
]  # fmt: skip


@pytest.fixture(scope="module")
def ran(servers: Any, two_videos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    home = tmp_path_factory.mktemp("home")
    env = {
        **stack.env(servers),
        "POSEWATCH_STORE": "s3://posewatch/e2e",
        "POSEWATCH_LABELS_URL": f"sqlite:///{home}/labels.db",
        "POSEWATCH_HOME": str(servers.home),
    }
    arguments = ["run", "end_to_end", f"source={two_videos}", f"labels={two_videos}", "about=rendered", *CONFIG]
    done = run(*arguments, env=env, module="pipelines")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    outputs = dict(
        line.split(": ", 1) for line in done.stdout.splitlines() if line.startswith(("model", "endp", "rep"))
    )
    return {"env": env, "arguments": arguments, **outputs}


@pytest.fixture
def store(ran: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    for key, value in ran["env"].items():
        monkeypatch.setenv(key, value)
    return open_store(ran["env"]["POSEWATCH_STORE"])


def test_the_served_model_is_the_exported_one(ran: dict[str, Any], store: Any, tmp_path: Path) -> None:
    from posewatch.inference.onnx_runtime import OnnxPredictor
    from posewatch.inference.triton import TritonPredictor

    model = get(store, ran["model"])
    path = model.fetch(next(n for n in model.files if n.endswith("model.onnx")), tmp_path)
    local = OnnxPredictor(path)
    clips = np.random.default_rng(0).random((3, local.people, local.frames, 17, 3), np.float32)
    url, _, name = ran["endpoint"].partition("://")[2].partition("/")
    with TritonPredictor(url, name) as served:
        assert served.labels == ("normal", "abnormal")
        np.testing.assert_allclose(served.predict(clips).probabilities, local.predict(clips).probabilities, atol=1e-4)


def test_lineage_leads_from_the_model_to_both_videos(ran: dict[str, Any], store: Any, two_videos: Path) -> None:
    from posewatch.artifact import sha256_file

    found = [a.json("video.json")["sha256"] for a in lineage.raw_videos(get(store, ran["model"]))]
    assert sorted(found) == sorted(sha256_file(p) for p in two_videos.glob("*.mp4"))


def test_the_report_shows_what_it_promises(ran: dict[str, Any], store: Any) -> None:
    html = get(store, ran["report"]).read("report.html").decode()
    for part in ("raw video to skeletons", "Clips with their labels", "Recognition", "Serving", "Lineage", "rendered"):
        assert part in html
    assert html.count("data:video/mp4") >= 2
    assert html.count("data:image/png") >= 4


@pytest.fixture(scope="module")
def of_persons(ran: dict[str, Any], two_videos: Path) -> dict[str, str]:
    """The same in the unit of persons, with the same object store, label store and Triton: its outputs."""
    arguments = ["run", "end_to_end", f"source={two_videos}", f"labels={two_videos}", *CONFIG, *OF_PERSONS]
    done = run(*arguments, env=ran["env"], module="pipelines")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return dict(line.split(": ", 1) for line in done.stdout.splitlines() if line.startswith(("model", "endp", "rep")))


def test_in_the_unit_of_persons_the_same_videos_are_learnt_person_by_person(
    ran: dict[str, Any], of_persons: dict[str, str], store: Any, two_videos: Path
) -> None:
    from posewatch.config import load
    from posewatch.inference.open import open_predictor
    from posewatch.stages.contents import clips_of, dataset_part, persons_of, skeletons_of
    from posewatch.stages.ingest import ingest
    from posewatch.stages.mask import mask
    from posewatch.stages.report import report

    made = {node.lineage.unit: node.artifact for node in lineage.trace(get(store, of_persons["model"]))}
    clips = [clip for _, one in members(made["split"]) for clip in clips_of(one)]
    assert clips
    assert {clip.person for clip in clips} >= {1}
    assert not any(clip.person is None for clip in clips)
    shapes = {s.keypoints.shape[0] for _, one in members(made["pose"]) for s in skeletons_of(one).values()}
    assert shapes == {1}
    data = lineage.find_ancestor(get(store, of_persons["model"]), "datasets")
    assert data is not None
    assert data.json("dataset.json")["unit"] == "person"
    ids = {clip.id for clip in clips}
    learnt = {name for part in ("train", "validation", "test") for name in dataset_part(data, part).ids}
    assert learnt
    assert learnt <= ids, "no clip of a scene, though their labels lie in the same store"
    with open_predictor(of_persons["endpoint"]) as served:
        assert (served.unit, served.people) == ("person", 1)
    assert "Recognition" in get(store, of_persons["report"]).read("report.html").decode()

    masked = mask(store, ingest(store, str(two_videos)), load("default", ["mask.unit=person"]).mask)
    assert any(persons_of(one) for _, one in members(masked))
    page = get(store, ran["report"])
    parents = [lineage.parent(page, stage) for stage in ("evaluations", "benchmarks", "scores", "smoke")]
    html = report(store, *parents, about="both units", persons=masked).read("report.html").decode()
    assert "One person at a time" in html
    assert "One person at a time" not in page.read("report.html").decode()


def test_a_model_of_persons_does_not_follow_one_of_scenes_unasked(
    ran: dict[str, Any], of_persons: dict[str, str], store: Any
) -> None:
    from posewatch.config import load
    from posewatch.inference.open import open_predictor
    from posewatch.stages.deploy import deploy
    from posewatch.stages.publish import publish

    onnx = lineage.ancestor(get(store, of_persons["model"]), "onnx")
    config = load("default", ["mask.unit=person"]).serving
    model = publish(store, onnx, config, "person")
    with pytest.raises(ServingError, match=r"single persons .* what serves as abnormal now recognises whole scenes"):
        deploy(model, None, config)
    with open_predictor(ran["endpoint"]) as served:
        assert served.unit == "scene"


def test_a_refresh_orders_the_persons_and_leaves_the_scenes_of_the_same_store_alone(
    ran: dict[str, Any], of_persons: dict[str, str], store: Any, tmp_path: Path
) -> None:
    from posewatch.config import load
    from posewatch.inference.open import open_predictor
    from posewatch.labels.db import tables
    from posewatch.labels.queue import WorkQueue
    from posewatch.labels.store import LabelStore
    from posewatch.stages.contents import clip_ids
    from posewatch.stages.queue_clips import queue_clips
    from posewatch.stages.refresh import refresh

    scenes, persons = (_sets(store, uris["model"]) for uris in (ran, of_persons))
    url = f"sqlite:///{tmp_path}/labels.db"
    labels, settings = LabelStore(url), load("default").labels
    for clips, _ in (scenes, persons):
        queue_clips(clips, labels)
    with open_predictor(ran["endpoint"]) as model:
        assert refresh(*scenes, labels, model, "of scenes", settings)["scored"] > 0
        with pytest.raises(InputError, match=r"the model recognises whole scenes .* the set of clips shows single"):
            refresh(*persons, labels, model, "of scenes", settings)
    before = WorkQueue(labels, unit="scene").claim("ann", 100)
    items = [f"{name}={one.uri}" for name, one in zip(("clips", "skeletons"), persons, strict=True)]
    arguments = ["run", "refresh", *items, f"endpoint={of_persons['endpoint']}", *CONFIG, *OF_PERSONS]
    done = run(*arguments, env={**ran["env"], "POSEWATCH_LABELS_URL": url}, module="pipelines")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "verdicts: no verdict on an alarm to learn from: nothing is trained" in done.stdout
    assert WorkQueue(labels, unit="scene").claim("ann", 100) == before
    predicted = list(labels.database.rows(sa.select(tables.predictions.c.clip_id, tables.predictions.c.model_version)))
    for (clips, _), version in ((scenes, "of scenes"), (persons, "abnormal-persons")):
        assert {by for clip, by in predicted if clip in set(clip_ids(clips))} == {version}
    labels.close()


def _sets(store: Any, model: str) -> tuple[Any, Any]:
    """The sets of clips and of skeletons that a model was made of."""
    made = {node.lineage.unit: node.artifact for node in lineage.trace(get(store, model))}
    return made["split"], made["pose"]


def test_both_ways_of_triton_were_measured(ran: dict[str, Any], store: Any) -> None:
    page = get(store, ran["report"])
    bench = next(p.prefix for p in page.lineage().parents if p.prefix.startswith("benchmarks"))
    rows = get(store, bench).json("bench.json")["rows"]
    assert {r["system"] for r in rows} == {"pytorch", "onnxruntime", "triton", "triton+batching"}
    assert all(r["throughput_ips"] > 0 and r["p50_ms"] <= r["p95_ms"] for r in rows)


def test_labels_came_through_the_label_store_with_their_source(ran: dict[str, Any]) -> None:
    from posewatch.labels.store import LabelStore

    labels = LabelStore(ran["env"]["POSEWATCH_LABELS_URL"])
    current = labels.current()
    assert {e.source for e in current.values()} == {"import"}
    assert {e.new for e in current.values()} == {"normal", "abnormal"}
    labels.close()


def test_clips_are_h264_that_a_browser_plays(ran: dict[str, Any], store: Any, tmp_path: Path) -> None:
    import av

    clips = next(n.artifact for n in lineage.trace(get(store, ran["model"])) if n.lineage.unit == "split")
    _, first = members(clips)[0]
    path = first.fetch(next(n for n in first.files if n.endswith(".mp4")), tmp_path)
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
    head = path.read_bytes()
    assert head.index(b"moov") < head.index(b"mdat"), "the index must come first for playback while loading"


def test_a_second_run_does_nothing_again(ran: dict[str, Any], store: Any) -> None:
    def stamps() -> dict[str, Any]:
        found = store._client.list_objects(store.bucket, prefix="e2e/", recursive=True)
        return {o.object_name: o.last_modified for o in found}

    before = stamps()
    done = run(*ran["arguments"], env=ran["env"], module="pipelines")
    assert done.returncode == 0, done.stderr[-3000:]
    assert stamps() == before


def test_pipelines_compile_to_yaml(tmp_path: Path) -> None:
    done = run(
        "compile",
        "--out",
        str(tmp_path),
        env={"POSEWATCH_IMAGE": "registry.example/posewatch:abc123"},
        module="pipelines",
    )
    assert done.returncode == 0, done.stderr
    for name in ("prepare", "train", "end_to_end"):
        spec = next(iter(yaml.safe_load_all((tmp_path / f"{name}.yaml").read_text())))
        images = {e["container"]["image"] for e in spec["deploymentSpec"]["executors"].values()}
        assert images == {"registry.example/posewatch:abc123"}
        assert "POSEWATCH_S3_SECRET_KEY" not in json.dumps(spec["root"]), "secrets come from a Kubernetes secret"


def test_an_image_tag_that_moves_is_refused(tmp_path: Path) -> None:
    done = run("compile", "--out", str(tmp_path), env={"POSEWATCH_IMAGE": "posewatch:latest"}, module="pipelines")
    assert done.returncode != 0
    assert "fixed tag" in done.stderr


def test_components_are_thin_and_dependencies_point_one_way() -> None:
    for path in sorted(ROOT.glob("components/*/component.py")):
        assert len(path.read_text().splitlines()) < 40, path
    for path in sorted((ROOT / "src").rglob("*.py")):
        text = path.read_text()
        for above in ("import kfp", "from kfp", "from components", "from pipelines", "import streamlit"):
            assert above not in text, f"{path} must not use what stands above it: {above}"
