"""The scale benchmark at small sizes: real databases, real stages, valid files, and wrong input in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from label_stores import stale
from support import run, said

from posewatch.bench.scale import fanout, filling, labels, objects
from posewatch.labels.store import LabelStore


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path):
    from posewatch.bench.scale import postgres
    from posewatch.errors import StackError

    if request.param == "sqlite":
        opened = LabelStore(f"sqlite:///{tmp_path / 'labels.db'}")
        yield opened
        opened.close()
        return
    try:
        postgres.Postgres().remove()
    except StackError as error:
        pytest.skip(str(error))
    with postgres.served() as server:
        opened = LabelStore(server.database("scale"))
        yield opened
        opened.close()


def test_the_store_is_filled_as_stages_and_people_fill_it(store: LabelStore):
    filling.fill(store, 0, 600)
    filling.fill(store, 600, 1_000)
    assert filling.label_share(store, 0.5) == 500
    assert store.size() == len(store.clips()) == 1_000, "every record passes its own checks"
    assert len(store.videos()) == 50
    assert sum(v.labelled for v in store.videos()) == 500
    assert store.database.read(stale) == []
    sizes = labels.sizes(store)
    assert {n: sizes[n].rows for n in ("clips", "events", "status", "votes", "predictions", "waiting")} == {
        "clips": 1_000, "events": 500, "status": 500, "votes": 500, "predictions": 1_000, "waiting": 1_000,
    }  # fmt: skip
    assert (sizes["clips"].table is None) == (store.engine.dialect.name == "sqlite")
    assert labels.plan(store)["index"] == "ix_waiting_order"
    assert all(seconds > 0 for seconds in labels.calls(store).values())


def test_people_at_once_lose_nothing(store: LabelStore):
    filling.fill(store, 0, 1_000)
    result = labels.loop(store, 12, 4.0, 0.0)
    assert (result.lost, result.twice, result.errors) == (0, 0, 0)
    assert result.acts > 12
    assert 0 < result.act_p50_s <= result.act_p95_s
    assert sum(store.counts().values()) >= result.acts
    assert store.database.read(stale) == []


def test_objects_of_a_video_are_what_the_stages_write():
    result = objects.real_run(videos=1, seconds=6.0)
    assert result["clips"] == 2
    for stage, (fixed, each) in objects.PER_STAGE.items():
        assert result["stages"][stage]["objects"] == fixed + each * 2, stage
    assert sum(fixed for fixed, _ in objects.PER_STAGE.values()) == 22, "the formula in docs/scale.md is 22 + 3c"
    assert sum(each for _, each in objects.PER_STAGE.values()) == 3


def test_a_set_costs_in_proportion_to_its_videos():
    small, large = objects.sets((50, 500), clips=3)
    assert (small.requests, large.requests) == (51, 501)
    assert large.list_bytes / small.list_bytes == pytest.approx(10, rel=0.02)
    assert large.lineage_bytes / small.lineage_bytes == pytest.approx(10, rel=0.1)


def test_the_design_keeps_a_run_within_the_record():
    result = fanout.measure()
    assert result is not None
    assert result["steps_per_shard"] == 3
    most = next(r for r in result["runs"] if r["shards"] == result["most"])
    assert most["packed"] < fanout.RECORD_LIMIT < result["runs"][-1]["packed"], "five times the shards do not fit"
    drivers = 3  # of the exit handler, of the stages within, and of the loop
    assert most["pods"] == result["most"] * 7 + 2 * result["steps_outside"] + drivers
    assert result["most"] < result["fits"] < result["argument_fits"]


def test_the_longest_pipeline_fits_also_when_each_step_is_tried_twice(tmp_path: Path):
    found = fanout.compiled(tmp_path, "end_to_end")
    assert found is not None
    assert fanout.record(*found, fanout.MAX_SHARDS, tries=2).packed < fanout.RECORD_LIMIT


def test_the_verb_writes_figures_a_page_and_a_plot(tmp_path: Path):
    words = ["bench", "scale", "--out", str(tmp_path / "out"), "--clips", "1000,2000", "--people", "8",
             "--seconds", "1", "--database", "sqlite", "--no-video"]  # fmt: skip
    done = run(*words, env={})
    assert done.returncode == 0, done.stderr
    out = tmp_path / "out"
    result = json.loads((out / "scale.json").read_text())
    assert [row["clips"] for row in result["labels"]["sizes"]] == [1_000, 2_000]
    assert [loop["lost"] for loop in result["labels"]["loops"]] == [0, 0]
    page = (out / "scale.md").read_text()
    assert "| claim a page |" in page
    assert f"about {result['fanout']['fits']} shards" in page
    assert (out / "labels.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in out.iterdir()} == {"scale.json", "scale.md", "labels.png"}


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--database", "oracle"], "must be postgresql, sqlite or a URL"),
        (["--clips", "1000"], "--clips 1000 must name two sizes or more"),
        (["--people", "0"], "--people must be from 1 to 100,000, not 0"),
    ],
)
def test_wrong_input_is_one_line(tmp_path: Path, words: list[str], error: str):
    done = run("bench", "scale", "--out", str(tmp_path), "--clips", "500,1000", *words, env={})
    assert done.returncode == 2
    assert error in said(done)
