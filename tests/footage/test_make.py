"""Files, labels, determinism, resume and bad input of the footage maker."""

from __future__ import annotations

import csv
import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import pytest
from footage.conftest import SETTINGS

from posewatch.errors import ConfigError
from posewatch.footage import FootageVideo, make_footage


def _bytes(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_browser_can_play_every_video(footage: list[FootageVideo]) -> None:
    for video in footage:
        with av.open(str(video.path)) as file:
            stream = file.streams.video[0]
            assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
            assert (stream.width, stream.height, float(stream.average_rate)) == (320, 240, 5.0)
            assert sum(1 for _ in file.decode(stream)) == 30
        data = video.path.read_bytes()
        assert data.index(b"moov") < data.index(b"mdat"), "the index must come first (+faststart)"


def test_labels_cover_every_second(footage: list[FootageVideo]) -> None:
    with (footage[0].path.parent / "labels.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["file", "start_s", "end_s", "label"]
    for number, video in enumerate(footage):
        mine = [(float(a), float(b), label) for name, a, b, label in rows[1:] if name == video.path.name]
        assert mine == list(video.labels)
        assert mine[0][0] == 0
        assert mine[-1][1] == 6
        assert all(a[1] == b[0] for a, b in itertools.pairwise(mine))
        assert {label for *_, label in mine} == ({"normal", "abnormal"} if number % 2 else {"normal"})


def test_abnormal_seconds_are_those_of_the_actions(footage: list[FootageVideo]) -> None:
    for video in footage:
        actions = json.loads(video.truth.with_suffix(".json").read_text())["actions"]
        for start, stop, label in video.labels:
            middle = (start + stop) / 2
            now = {a["action"] for a in actions if a["start"] <= middle < a["stop"]}
            assert now, "somebody always does something"
            assert bool(now & {"punch", "kick", "spinkick", "fall", "lie"}) == (label == "abnormal")


def test_a_video_depends_on_its_number_only(footage: list[FootageVideo], tmp_path: Path) -> None:
    make_footage(tmp_path, videos=2, workers=1, **SETTINGS)
    again, whole = _bytes(tmp_path), _bytes(footage[0].path.parent)
    del again["labels.csv"]
    assert len(again) == 6
    assert again == {name: whole[name] for name in again}


def test_another_seed_gives_another_video(footage: list[FootageVideo], tmp_path: Path) -> None:
    (other,) = make_footage(tmp_path, videos=1, workers=1, **{**SETTINGS, "seed": 4})
    assert other.path.read_bytes() != footage[0].path.read_bytes()


def test_finished_videos_are_kept_and_lost_ones_come_back_equal(footage: list[FootageVideo]) -> None:
    folder = footage[0].path.parent
    before = _bytes(folder)
    kept = footage[0].path.stat().st_mtime_ns
    footage[1].truth.with_suffix(".json").unlink()  # what a crash before the last write leaves
    (folder / "labels.csv").unlink()
    calls: list[None] = []
    made = make_footage(folder, videos=4, workers=1, progress=lambda: calls.append(None), **SETTINGS)
    assert made == footage
    assert len(calls) == 4
    assert footage[0].path.stat().st_mtime_ns == kept
    assert _bytes(folder) == before


def test_nothing_half_written_stays(footage: list[FootageVideo]) -> None:
    assert not list(footage[0].path.parent.rglob("*.part"))


@pytest.mark.parametrize(
    "wrong",
    [{"size": (321, 240)}, {"size": (32, 32)}],
)
def test_settings_out_of_range_are_named(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="cannot render") as caught:
        make_footage(tmp_path / "new", **wrong)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "new").exists()


def test_stdout_stays_clean(tmp_path: Path) -> None:
    pytest.importorskip("pybullet")
    code = (
        "import sys; from pathlib import Path; from posewatch.footage import make_footage\n"
        "make_footage(Path(sys.argv[1]), videos=1, seconds=2, fps=2, size=(64, 64), workers=1); print('done')"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout == "done\n"
