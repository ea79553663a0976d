"""The whole way on two tiny videos: kfp.local, the real S3 server, the real Triton."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from support import CONFIG, ROOT, run

from posewatch import lineage, stack
from posewatch.artifact import get, members
from posewatch.store import open_store


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


def test_in_the_unit_of_persons_the_same_videos_are_prepared_and_shown_person_by_person(
    ran: dict[str, Any], store: Any, two_videos: Path, tmp_path: Path
) -> None:
    from posewatch.config import load
    from posewatch.stages.contents import clips_of, persons_of, skeletons_of
    from posewatch.stages.ingest import ingest
    from posewatch.stages.mask import mask
    from posewatch.stages.report import report

    labels = {"POSEWATCH_LABELS_URL": f"sqlite:///{tmp_path}/persons.db"}
    arguments = ["run", "prepare", f"source={two_videos}", *CONFIG, "--set", "mask.unit=person"]
    done = run(*arguments, env={**ran["env"], **labels}, module="pipelines")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    uris = dict(line.split(": ", 1) for line in done.stdout.splitlines() if ": s3://" in line)
    clips = [clip for _, one in members(get(store, uris["clips"])) for clip in clips_of(one)]
    assert clips
    assert {clip.person for clip in clips} >= {1}
    assert not any(clip.person is None for clip in clips)
    shapes = [
        s.keypoints.shape for _, one in members(get(store, uris["skeletons"])) for s in skeletons_of(one).values()
    ]
    assert {shape[0] for shape in shapes} == {1}

    masked = mask(store, ingest(store, str(two_videos)), load("default", ["mask.unit=person"]).mask)
    assert any(persons_of(one) for _, one in members(masked))
    page = get(store, ran["report"])
    parents = [lineage.parent(page, stage) for stage in ("evaluations", "benchmarks", "scores", "smoke")]
    html = report(store, *parents, about="both units", persons=masked).read("report.html").decode()
    assert "One person at a time" in html
    assert "One person at a time" not in page.read("report.html").decode()


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
