"""Artifacts are complete or absent, found again by what they are made of, and traceable to their parents."""

from pathlib import Path

import pytest

from posewatch import lineage
from posewatch.artifact import MANIFEST, Job, collect, find, get, members, produce, walk
from posewatch.errors import NotFound, StoreError
from posewatch.store import FolderStore, ObjectStore


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return FolderStore(tmp_path / "store")


def writes(**files: str):
    def make(folder: Path) -> None:
        for name, text in files.items():
            (folder / name).write_text(text)

    return make


def test_produce_writes_once(store: ObjectStore) -> None:
    job = Job("stage", "unit", {"a": 1})
    first = produce(store, job, writes(x="1"))

    def never(_: Path) -> None:
        raise AssertionError("finished work was done again")

    again = produce(store, job, never)
    assert again == first
    assert again.read("x") == b"1"


def test_a_crash_before_the_manifest_leaves_nothing_visible(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job("stage", "unit", {})
    put = store.put
    monkeypatch.setattr(store, "put", lambda *_: (_ for _ in ()).throw(RuntimeError("killed")))
    with pytest.raises(RuntimeError):
        produce(store, job, writes(x="1"))
    assert find(store, job.prefix) is None
    monkeypatch.setattr(store, "put", put)
    assert produce(store, job, writes(x="1")).read("x") == b"1"


def test_config_parents_weights_and_revision_change_the_place(store: ObjectStore) -> None:
    parent = produce(store, Job("p", "", {}), writes(x="1"))
    base = Job("s", "u", {"a": 1})
    others = [
        Job("s", "u", {"a": 2}),
        Job("s", "u", {"a": 1}, (parent,)),
        Job("s", "u", {"a": 1}, weights={"w": {"sha256": "0", "licence": "x"}}),
        Job("s", "u", {"a": 1}, revision=2),
    ]
    assert len({job.prefix for job in [base, *others]}) == 5


def test_the_recipe_ignores_the_version_of_the_code(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    recipes = []
    for version in ("1", "2"):
        monkeypatch.setattr("posewatch.artifact.code_version", lambda v=version: v)
        parent = produce(store, Job("p", version, {}, fixed_prefix=f"p/{version}"), writes(x="same"))
        recipes.append(Job("s", "u", {}, (parent,)).fingerprint)
    assert recipes[0] == recipes[1]


@pytest.mark.parametrize("left", [0, 30])
def test_an_artifact_whose_manifest_was_cut_is_made_again(
    tmp_path: Path, left: int, capsys: pytest.CaptureFixture[str]
) -> None:
    store = FolderStore(tmp_path)
    made = produce(store, Job("s", "u", {}), writes(x="1"))
    store.put(f"{made.prefix}/manifest.jsonl", store.get(f"{made.prefix}/manifest.jsonl")[:left])
    assert produce(store, Job("s", "u", {}), writes(x="1")).digest == made.digest
    assert "damaged" in capsys.readouterr().err


def test_damage_is_noticed(store: ObjectStore, tmp_path: Path) -> None:
    made = produce(store, Job("s", "u", {}), writes(x="1"))
    store.put(f"{made.prefix}/x", b"2")
    with pytest.raises(StoreError, match="damaged"):
        made.read("x")
    with pytest.raises(StoreError, match="damaged"):
        made.fetch("x", tmp_path)


def test_missing_artifact_and_file_are_named(store: ObjectStore) -> None:
    with pytest.raises(NotFound, match=r"no such artifact: .*/a/b"):
        get(store, "a/b")
    with pytest.raises(NotFound, match="is not in the store"):
        get(store, "s3://elsewhere/a/b")
    with pytest.raises(NotFound, match="is not in the store"):
        get(store, f"{store.uri}x/a/b")
    with pytest.raises(NotFound, match="is the store, not an artifact in it"):
        get(store, store.uri)
    made = produce(store, Job("s", "u", {}), writes(x="1"))
    with pytest.raises(NotFound, match="holds no 'y'"):
        made.read("y")


def test_lineage_leads_back_to_the_raw_video(store: ObjectStore) -> None:
    raw = [
        produce(store, Job("raw", n, {}, fixed_prefix=f"raw/{n}", source=f"video {n}"), writes(v=n))
        for n in ("v-1", "v-2")
    ]
    raws = collect(store, "ingest", [{"video": "v-1"}, {"video": "v-2"}], raw)
    model = produce(store, Job("models", "m", {}, (raws, raw[0])), writes(w="0"))
    assert [a.prefix for a in lineage.raw_videos(model)] == ["raw/v-1", "raw/v-2"]
    text = lineage.text(model)
    assert "video v-2" in text
    assert "2 raw videos" in text
    assert [row["video"] for row, _ in members(raws)] == ["v-1", "v-2"]


def test_a_replaced_parent_breaks_the_chain_loudly(store: ObjectStore) -> None:
    raw = produce(store, Job("raw", "v", {}, fixed_prefix="raw/v"), writes(v="1"))
    model = produce(store, Job("models", "m", {}, (raw,)), writes(w="0"))
    store.put(
        f"raw/v/{MANIFEST}", store.get(f"raw/v/{MANIFEST}") + b'{"key":"extra","bytes":0,"sha256":"","parent":""}\n'
    )
    with pytest.raises(StoreError, match="was built from"):
        list(lineage.trace(model))


def test_a_set_is_walked_in_order_and_one_that_changed_is_named(store):
    made = [produce(store, Job("raw", f"v{i:02}", {}), writes(text=str(i))) for i in range(40)]
    whole = collect(store, "ingest", [{"video": f"v{i:02}", "names": ["a"]} for i in range(40)], made)
    assert [row["video"] for row, _ in walk(whole)] == [f"v{i:02}" for i in range(40)]
    assert [found for _, found in walk(whole)] == made
    assert members(whole) == list(walk(whole))
    started = walk(whole)
    assert next(started)[0]["video"] == "v00"
    started.close()  # whoever stops early waits for nothing
    store.put(f"{made[30].prefix}/{MANIFEST}", b"")
    seen = []
    with pytest.raises(StoreError, match=r"v30.* is not the one that"):
        seen.extend(row["video"] for row, _ in walk(whole))
    assert seen[:30] == [f"v{i:02}" for i in range(len(seen))], "what lies before it was given"
    store.delete(f"{made[3].prefix}/{MANIFEST}")
    with pytest.raises(NotFound, match="v03"):
        members(whole)
