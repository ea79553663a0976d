"""`posewatch experiment`: a grid in one table, nothing trained twice, each row made again by its command."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from posewatch.cli.main import main  # noqa: E402
from posewatch.errors import ConfigError  # noqa: E402
from posewatch.recognition.evaluation import baselines  # noqa: E402
from posewatch.recognition.training import experiment as experiments  # noqa: E402
from posewatch.recognition.training import grid as grids  # noqa: E402
from posewatch.recognition.training.grid_report import table  # noqa: E402

FIXED = """
  width: .1
  clip_frames: 12
  people: 1
  batch: 8
  threads: 1
  epochs: 1
  refit: false
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small forests, few runs to time, and no plots of single trainings."""
    monkeypatch.setattr(baselines, "TREES", 4)
    monkeypatch.setattr(grids, "TIMED", 3)
    monkeypatch.setattr(experiments, "plots", lambda *_: [])


def write(folder: Path, grid: str, more: str = "", name: str = "grid.yaml") -> Path:
    file = folder / name
    file.write_text(f"annotations: skeletons.pkl\n{more}grid:\n  {grid}{FIXED}")
    return file


def run(file: Path, out: Path) -> dict[str, Any]:
    assert main(["experiment", str(file), "--out", str(out)]) == 0
    read: dict[str, Any] = json.loads((out / "experiment.json").read_text())
    return read


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders of the cells that are trained or evaluated."""
    folders, real = [], experiments.run

    def noted(*args: Any, **more: Any) -> dict[str, Any]:
        folders.append(Path(args[3]).parent.name + "/" + Path(args[3]).name)
        return real(*args, **more)

    monkeypatch.setattr(experiments, "run", noted)
    return folders


def test_a_grid_is_one_table_that_grows_and_trains_nothing_twice(
    annotations: Path, tmp_path: Path, trained: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    report = run(write(tmp_path, "model: stgcn\n  stream: j\n  seed: [0, 1]"), out)
    assert len(trained) == 2
    assert "| random forest" in capsys.readouterr().out
    [row] = report["rows"]
    each = [cell["metrics"]["auc"] for cell in row["cells"]]
    assert row["metrics"]["auc"] == pytest.approx(np.mean(each), abs=1e-6)
    assert row["metrics"]["auc_std"] == pytest.approx(np.std(each), abs=1e-6)
    own = out / row["name"]
    before = (own / "seed0" / "checkpoint.pt").stat().st_mtime_ns

    # a grid that grows trains the new cells only; what came from an earlier run is as it was
    del trained[:]
    grown = run(write(tmp_path, "model: stgcn\n  stream: ['j,b', j]\n  seed: [0, 1]"), out)
    assert [folder[:10] for folder in trained] == ["stgcn-j-b-"] * 2
    second, first = grown["rows"]
    assert first == row
    assert second["settings"]["stream"] == "j,b"
    assert second["parameters"] > 1.9 * first["parameters"], "two networks"
    assert 0 < first["cpu_ms"] < second["cpu_ms"]
    text = (out / "experiment.md").read_text()
    assert text.count("2 of 2") == 2
    assert f"{first['metrics']['auc']:.3f} ± {first['metrics']['auc_std']:.3f}" in text
    assert (out / "experiment.png").stat().st_size > 1000

    # each row's command reads what is there, and makes the same of what is not
    assert first["command"] in text
    command = shlex.split(first["command"])
    assert command[-1] == str(own)
    summary = (own / "metrics.json").read_bytes()
    shutil.rmtree(own / "seed1")
    (own / "metrics.json").unlink()
    assert main(command[1:]) == 0
    assert (own / "metrics.json").read_bytes() == summary
    assert (own / "seed0" / "checkpoint.pt").stat().st_mtime_ns == before


def test_one_seed_keeps_its_folder_when_others_join(annotations: Path, tmp_path: Path, trained: list[str]) -> None:
    [row] = run(write(tmp_path, "model: stgcn\n  seed: 3"), tmp_path / "out")["rows"]
    assert shlex.split(row["command"])[-1].endswith("/seed3")
    assert " ± " not in (tmp_path / "out" / "experiment.md").read_text()
    run(write(tmp_path, "model: stgcn\n  seed: [3, 4]"), tmp_path / "out")
    assert [folder.rpartition("/")[2] for folder in trained] == ["seed3", "seed4"]


def test_pretrained_weights_and_options_are_part_of_the_command(annotations: Path, tmp_path: Path) -> None:
    weights = tmp_path / "first" / "checkpoint.pt"
    [row] = run(write(tmp_path, "model: stgcn"), tmp_path / "out")["rows"]
    weights.parent.mkdir()
    weights.write_bytes((tmp_path / "out" / row["cells"][0]["folder"] / "checkpoint.pt").read_bytes())
    file = write(
        tmp_path,
        "model: stgcn\n  pretrained: [null, first/checkpoint.pt]\n  augment.flip: false",
        "positive: normal\ntest_split: other\n",
    )
    plain, begun = run(file, tmp_path / "pretrained")["rows"]
    assert "--pretrained" not in plain["command"]
    words = shlex.split(begun["command"])
    assert words[words.index("--pretrained") + 1] == str(weights)
    for option, value in (("--positive", "normal"), ("--test-split", "other"), ("--set", "train.augment.flip=false")):
        assert f"{option} {value}" in begun["command"]
    assert plain["cells"][0]["run"] != begun["cells"][0]["run"]


@pytest.mark.parametrize(
    ("grid", "more", "words"),
    [
        ("modle: stgcn", "", ("train.modle", "did you mean 'model'")),
        ("model: [stgcn, stgcm]", "", ("train.model", "stgcm", "did you mean 'stgcn'")),
        ("model: []", "", ("grid.model", "a list of values")),
        ("augment: {flip: true}", "", ("grid.augment", "augment.flip")),
        ("model: [stgcn, stgcn]", "", ("twice",)),
        ("seed: [1, 1]", "", ("grid.seed", "1 twice")),
        ("seed: [0, -1]", "", ("train.seed", "-1")),
        ("lr: [0.001, 9]", "", ("train.lr", "at most 1, not 9")),
        (f"lr_warmup: [{', '.join(f'{k / 2000}' for k in range(1001))}]", "", ("1001 rows",)),
        ("pretrained: nothing.pt", "", ("nothing.pt",)),
        ("layout: ntu25", "", ("17", "25")),
        ("model: stgcn", "anotations: x\n", ("anotations", "did you mean 'annotations'")),
        ("model: stgcn", "train_split: trian\n", ("trian", "train")),
        ("model: stgcn", "config: smal\n", ("did you mean 'small'",)),
        ("model: stgcn", "positive: fall\n", ("fall", "normal, abnormal")),
    ],
)
def test_bad_values_are_one_line_before_any_training(
    grid: str, more: str, words: tuple[str, ...], annotations: Path, tmp_path: Path, trained: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert main(["experiment", str(write(tmp_path, grid, more)), "--out", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1, err
    for word in words:
        assert word in err
    assert not (tmp_path / "out").exists()
    assert not trained


def test_a_cell_that_fails_leaves_the_others(
    annotations: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, real = write(tmp_path, "model: stgcn\n  lr: [.001, .002]"), experiments.run

    def diverged(*args: Any, **more: Any) -> dict[str, Any]:
        if args[2].lr == 0.001:
            raise ConfigError("training diverged in epoch 1")
        return real(*args, **more)

    with monkeypatch.context() as patched:
        patched.setattr(experiments, "run", diverged)
        assert main(["experiment", str(file), "--out", str(tmp_path / "out")]) == 2
    assert "1 trainings failed" in capsys.readouterr().err
    text = (tmp_path / "out" / "experiment.md").read_text()
    assert "training diverged" in text
    assert text.count("1 of 1") == 1
    report = run(file, tmp_path / "out")
    assert "error" not in str(report)
    assert table(report).count("1 of 1") == 2


def test_folds_by_subject_need_no_splits_in_the_file(annotations: Path, tmp_path: Path, trained: list[str]) -> None:
    file = write(tmp_path, "model: stgcn\n  seed: [0, 1]", "cross_validate: 2\ntrain_split: none\n")
    [row] = run(file, tmp_path / "out")["rows"]
    assert len(trained) == row["n"] == 4
    own = tmp_path / "out" / row["name"]
    folds: dict[str, list[set[str]]] = {"seed0": [], "seed1": []}
    for cell in row["cells"]:
        path = tmp_path / "out" / cell["folder"]
        tested = {json.loads(line)["clip"] for line in (path / "predictions.jsonl").read_text().splitlines()}
        folds[path.parent.name].append(tested)
    assert folds["seed0"] == folds["seed1"], "seeds are compared on the same folds"
    assert sum(map(len, folds["seed0"])) == len(set.union(*folds["seed0"])) == 28
    people = [{clip[:3] for clip in fold} for fold in folds["seed0"]]
    assert sum(map(len, people)) == len(set.union(*people)), "nobody is in two folds"

    summary = (own / "metrics.json").read_bytes()
    (own / "metrics.json").unlink()
    command = shlex.split(row["command"])
    assert command[command.index("--cross-validate") + 1] == "2"
    assert main(command[1:]) == 0
    assert (own / "metrics.json").read_bytes() == summary
