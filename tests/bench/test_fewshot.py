"""F1 by the number of labels: what is drawn, what is kept, and what goes on after a kill."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from skeletons import clip_set  # noqa: E402

from posewatch.bench import fewshot  # noqa: E402
from posewatch.bench.fewshot import Bench, bench_fewshot, draw, sides, summary, table  # noqa: E402
from posewatch.config import Experiment, PretrainConfig, TrainConfig, load  # noqa: E402
from posewatch.datasets.pyskl import write_pyskl  # noqa: E402
from posewatch.errors import InputError  # noqa: E402

TINY = Experiment(
    train=TrainConfig(
        model="stgcn++", width=0.12, clip_frames=8, people=1, epochs=1, validation=0.0, batch=4, threads=1
    ),
    pretrain=PretrainConfig(epochs=1, batch=4),
)


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    made = clip_set(24)
    names = tuple(f"s{i // 4:02d}_clip_{i}" for i in range(24))
    write_pyskl(tmp_path / "a.pkl", dataclasses.replace(made, ids=names, groups=tuple(n[:3] for n in names)), {})
    return tmp_path / "a.pkl"


def test_more_labels_add_to_fewer_and_classes_keep_their_shares() -> None:
    labels = np.array([0] * 60 + [1] * 30)
    few, many = draw(labels, 12, 0), draw(labels, 30, 0)
    assert set(few) < set(many)
    assert np.bincount(labels[few]).tolist() == [8, 4]
    assert set(few) != set(draw(labels, 12, 1))
    assert np.bincount(labels[draw(np.array([0] * 88 + [1] * 2), 10, 0)]).min() >= 1


def test_nobody_is_on_both_sides(annotations: Path) -> None:
    from posewatch.datasets.pyskl import read_pyskl

    clips, splits = read_pyskl(annotations)
    training, test = sides(clips, splits)
    assert len(training) + len(test) == 24
    assert not set(training.groups) & set(test.groups)
    own, other = sides(clips, {"train": [0, 1, 2], "test": [8, 9]})
    assert (len(own), len(other)) == (3, 2)


def test_cells_are_kept_and_not_measured_again(annotations: Path, tmp_path: Path, monkeypatch) -> None:
    out = tmp_path / "out"
    given = {"numbers": (4, 300), "seeds": 1, "ways": ("statistics", "scratch", "motion")}
    text = bench_fewshot([annotations], out, TINY, **given)
    cells = json.loads((out / "fewshot.json").read_text())["cells"]
    assert {tuple(name.split("/")[1:3]) for name in cells} >= {
        *((way, "4") for way in ("scratch", "motion", "motion+statistics", "statistics", "logistic", "forest"))
    }
    sizes = {name.split("/")[2] for name in cells}
    assert len(sizes) == 2, "300 labels are as many as there are"
    assert "300" not in sizes
    assert "random forest" in text
    assert (out / "fewshot.png").stat().st_size < 100_000
    monkeypatch.setattr(Bench, "measure", lambda *a: pytest.fail("measured again"))
    assert bench_fewshot([annotations], out, TINY, **given) == text
    other = dataclasses.replace(TINY, train=dataclasses.replace(TINY.train, lr=0.001))
    with pytest.raises(pytest.fail.Exception):
        bench_fewshot([annotations], out, other, **given)


def test_a_shipped_configuration_is_measured_as_it_is_shipped(annotations: Path, tmp_path: Path, monkeypatch) -> None:
    fitted: list[TrainConfig] = []
    true_fit = fewshot.fit
    monkeypatch.setattr(fewshot, "fit", lambda c, how, *a, **k: (fitted.append(how), true_fit(c, TINY.train, *a, **k)))
    base = dataclasses.replace(TINY.train, threads=2)
    given = {"numbers": (4,), "seeds": 2, "ways": ("quick", "scratch")}
    bench_fewshot([annotations], tmp_path / "out", dataclasses.replace(TINY, train=base), **given)
    shipped = load("quick").train
    wanted = [dataclasses.replace(shipped, threads=2, seed=0), dataclasses.replace(base, seed=0)]
    assert fitted == [*wanted, *(dataclasses.replace(how, seed=1) for how in wanted)]
    other = Bench(tmp_path / "other", TINY, (4,), 1, ("scratch",))
    assert other.key == Bench(tmp_path / "other", TINY, (4,), 1, ("statistics",)).key
    assert other.key != Bench(tmp_path / "other", TINY, (4,), 1, ("scratch", "quick")).key


def test_the_baselines_see_the_people_that_the_network_sees(annotations: Path, tmp_path: Path, monkeypatch) -> None:
    from posewatch.datasets.pyskl import read_pyskl
    from posewatch.recognition.sampling import fitting

    training, test = sides(*read_pyskl(annotations))
    crowd = [dataclasses.replace(c, keypoints=tuple(map(_among_bystanders, c.keypoints))) for c in (training, test)]
    seen: list[np.ndarray] = []
    monkeypatch.setattr(
        fewshot, "baseline_scores", lambda train, labels, test, *a: (seen.extend((train, test)), ({}, ""))[1]
    )
    config = dataclasses.replace(TINY.train, people=2, people_by="contact")
    bench = Bench(tmp_path / "out", dataclasses.replace(TINY, train=config), (4,), 1, ("statistics",))
    bench.measure("statistics", *crowd, 0, None, tmp_path / "work")
    for given, clips in zip(seen, crowd, strict=True):
        taker = SimpleNamespace(frames=8, people=2, people_by="contact", joints=17, flow=0)
        assert np.array_equal(given, fitting(clips.keypoints, taker))
        taker.people_by = "presence"
        assert not np.array_equal(given, fitting(clips.keypoints, taker))


def _among_bystanders(clip: np.ndarray) -> np.ndarray:
    """A clip with two people in contact, seen in all frames but one, and a third far away who is seen in all."""
    one = clip[:1].copy()
    other, far = one + np.float32([20, 0, 0]), one[:, :1].repeat(one.shape[1], 1) + np.float32([5000, 0, 0])
    one[:, 0], other[:, 0] = 0, 0
    far[..., 2] = 1
    return np.concatenate([one, other, far])


def test_the_motion_of_test_clips_is_not_pretrained_on(annotations: Path, tmp_path: Path, monkeypatch) -> None:
    seen = []
    monkeypatch.setattr(fewshot, "pretrain", lambda source, *more: seen.append(source.clips.ids))
    from posewatch.datasets.pyskl import read_pyskl

    training, test = sides(*read_pyskl(annotations))
    bench = Bench(tmp_path / "out", TINY, (4,), 1, ("motion",))
    bench.begin("motion", training, tmp_path)
    assert not set(seen[0]) & set(test.ids)
    assert set(seen[0]) == set(training.ids)


def test_the_table_has_mean_and_deviation() -> None:
    cells = {f"a/scratch/10/{s}": {"f1": f, "accuracy": f, "auc": None} for s, f in enumerate((0.5, 0.7))}
    cells |= {"a/forest/10/0": {"f1": 0.4, "accuracy": 0.4, "auc": 0.6}}
    assert summary(cells)["a"]["scratch"][10]["f1"] == [0.6, 0.1, 2]
    lines = list(table(cells))
    assert "| network from scratch | 0.600 ± 0.100 |" in lines
    assert "| random forest | 0.400 ± 0.000 (0.600) |" in lines


def test_files_of_one_name_are_refused(annotations: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the same name"):
        bench_fewshot([annotations, tmp_path / "b" / "a.pkl"], tmp_path, TINY, numbers=(4,), seeds=1, ways=("scratch",))
