"""Paths as URIs and back, whatever the name; names that are equal but for their Unicode form."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from posewatch import artifact
from posewatch.digests import canonical
from posewatch.files import home
from posewatch.labels.db.schema import default_url
from posewatch.labels.store import LabelStore
from posewatch.names import escaped, folded, known_as, path_of, readable, uri_of
from posewatch.store import FolderStore, local_copy, open_store

BYTES = os.fsdecode("복도".encode("cp949"))
NAMES = (
    "내 영상 100%",
    "a#b?c",
    "%41%",
    "%20",
    "emoji 🚶",
    "a+b&c=d;e",
    "quote'\"",
    unicodedata.normalize("NFD", "낙상"),
    BYTES,
)


@pytest.mark.parametrize("name", NAMES)
def test_a_path_comes_back_from_its_uri(name: str, tmp_path: Path) -> None:
    path = tmp_path / name / "x"
    assert path_of(uri_of(path)) == path
    assert uri_of(path).isascii()
    assert " " not in uri_of(path)
    assert path_of(uri_of(path, "sqlite:///")) == path


def test_a_uri_is_read_as_people_type_it(tmp_path: Path) -> None:
    assert path_of("file:///my videos/100%/a#b?c") == Path("/my videos/100%/a#b?c")
    assert path_of("file://localhost/a") == Path("/a")
    assert path_of("sqlite:///labels.db") == Path("labels.db")
    assert path_of("~/a b") == Path.home() / "a b"
    (tmp_path / "50%ab").mkdir()  # only what it spells literally exists
    assert path_of(f"file://{tmp_path}/50%ab") == tmp_path / "50%ab"


@pytest.mark.parametrize("name", NAMES)
def test_a_store_below_any_name_is_opened_by_its_own_uri(name: str, tmp_path: Path) -> None:
    store = FolderStore(tmp_path / name)
    store.put("raw/a.mp4", b"1")
    again = open_store(store.uri)
    assert again.get("raw/a.mp4") == b"1"
    assert again.uri == store.uri
    with local_copy(f"{store.uri}/raw") as folder:
        assert [p.name for p in folder.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize("name", NAMES[:5])
def test_an_artifact_is_found_by_its_uri_its_path_and_an_unencoded_uri(name: str, tmp_path: Path) -> None:
    store = FolderStore(tmp_path / name)
    made = artifact.produce(store, artifact.Job("x", "", {}), lambda folder: (folder / "a").write_text("1"))
    for reference in (made.uri, made.prefix, str(store.root / made.prefix), f"file://{store.root}/{made.prefix}"):
        assert artifact.get(open_store(store.uri), reference).digest == made.digest


@pytest.mark.parametrize("name", NAMES)
def test_the_label_store_opens_in_a_home_of_any_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSEWATCH_HOME", str(tmp_path / name))
    monkeypatch.delenv("POSEWATCH_LABELS_URL", raising=False)
    LabelStore(default_url()).close()
    assert (home() / "labels.db").is_file()
    assert [p for p in tmp_path.iterdir()] == [tmp_path / name]


def test_names_are_compared_without_their_unicode_form() -> None:
    nfd, nfc = (unicodedata.normalize(form, "낙상É") for form in ("NFD", "NFC"))
    assert nfd != nfc
    assert folded(nfd) == folded(nfc.lower())
    assert known_as(nfd, ["normal", nfc]) == nfc
    assert known_as("x", [nfc]) is None


def test_bytes_of_a_file_name_become_readable() -> None:
    assert readable("복도.mp4") == "복도.mp4"
    assert readable(f"b/{BYTES}.mp4") == "b/복도.mp4"
    assert readable("caf\udce9.mp4") == "caf%E9.mp4"
    assert escaped(BYTES) == "%BA%B9%B5%B5"
    canonical({"name": BYTES}).encode()  # JSON takes what was not made readable, too
