"""Every verb that writes, and the files that it would replace: none of somebody else, none of its inputs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.core import TyperGroup

from posewatch.cli import main as cli
from posewatch.cli.main import main
from posewatch.datasets.clipset import ClipSet
from posewatch.datasets.pyskl import write_pyskl

TABLE: dict[str, tuple[str, tuple[str, ...]]] = {
    # verb: its words ({i}: a folder with inputs), the names that it writes to --out; none: --out is the file
    "alarms": ("pull a --store {i}", ("a/alarm.json", "a/masked.mp4")),
    "bench absent": ("", ("absent.json", "absent.md", "everybody.onnx", "protogcn.onnx", "protogcn.pt")),
    "bench active-learning": ("--annotations {i}/clips.pkl", ("bench.json", "bench.png")),
    "bench cctv": ("--videos {i} --counts {i}/truth.csv", ("cctv.json",)),
    "bench falls": ("", ("falls.json", "falls.md")),
    "bench fewshot": ("--annotations {i}/clips.pkl", ("fewshot.json", "fewshot.md", "fewshot.png")),
    "bench joint-errors": ("{i}", ("joint_errors.json",)),
    "bench labeling-ui": ("", ("bench.json",)),
    "bench novelty": ("{i}/a.pt --annotations {i}/clips.pkl", ("novelty.json", "novelty.md")),
    "bench loop": ("--annotations {i}/clips.pkl", ("loop.json", "loop.png")),
    "bench paper": ("{i}/clips.pkl", ("paper.json", "paper.md", "skeletons.pkl")),
    "bench perception": ("{i}/hall.mp4", ("speed.json", "looped.mp4")),
    "bench gpu": ("--dry-run", ("gpu.json", "gpu.md", "throughput.png", "served.png")),
    "bench quality": ("", ("quality.json", "quality.html", "quality.png", "sheet.jpg", "footage/labels.csv")),
    "bench persons": ("", ("persons.json", "footage/labels.csv")),
    "bench rollout": ("--grpc grpc://h:1/m --http http://h:1/m", ("rollout.json", "rollout.png")),
    "bench scale": ("", ("scale.json", "scale.md", "labels.png")),
    "bench serving": ("", ("bench.json", "bench.md", "throughput.png", "latency.png", "open.png")),
    "bench soak": ("", ("soak.json", "soak.png")),
    "bench training": ("", ("bench_train.json", "bench_train.md")),
    "bench wire": ("", ("wire.json", "wire.md")),
    "bench watch": (
        "--videos {i}",
        ("watch.json", "watch.md", "videos/a.mp4", "footage/labels.csv", "cameras.json", "cameras.md", "skipping.json",
         "skipping.md"),
    ),
    "ensemble": ("{i}/a.pt {i}/b.pt", ()),
    "evaluate": (
        "{i}/a.pt --annotations {i}/clips.pkl",
        ("metrics.json", "confusion_matrix.png", "roc.png", "reliability.png", "risk_coverage.png"),
    ),
    "events": (
        "--intervals {i}/truth.csv --checkpoint {i}/a.pt --skeletons {i}/clips.pkl --window-s 1",
        ("events.json", "events.png", "windows.jsonl"),
    ),
    "experiment": ("{i}/grid.yaml", ("experiment.json", "experiment.md", "experiment.png")),
    "export": ("{i}/a.pt", ()),
    "footage": ("", ("labels.csv", "video-000.mp4", "truth/video-003.npz", "truth/video-003.json")),
    "import-checkpoint": ("{i}/a.pt", ()),
    "import-poses": ("{i}/a.pt", ()),
    "labels audit": ("", ()),
    "labels export": ("csv", ()),
    "pretrain": ("--annotations {i}/clips.pkl", ("checkpoint.pt", "history.jsonl")),
    "predict": ("{i}/a.pt {i}/hall.mp4", ()),
    "report": ("a b c d", ()),
    "robustness": ("{i}/a.pt --annotations {i}/clips.pkl", ("robustness.json", "robustness.png")),
    "train": (
        "--annotations {i}/clips.pkl",
        ("checkpoint.pt", "metrics.json", "config.yaml", "predictions.jsonl", "validation/checkpoint.pt"),
    ),
    "tune serving": ("--model {i}/a.onnx", ("tune.md", "serving.yaml", "models/tuned/config.pbtxt")),
    "threshold": ("{i}/a.pt --at f1", ()),
    "watch": ("{i}/hall.mp4 --model {i}/a.pt", ("hall.mp4", "hall.windows.jsonl")),
}  # fmt: skip
READS = {"up", "down", "status", "label"}
"""Verbs with a folder or file option that is no output: the stack's home holds its own state, --app is read."""


def commands(group: Any = None, path: str = "") -> Iterator[tuple[str, Any]]:
    """(words, command) of every verb."""
    group = group or typer.main.get_command(cli.app)
    for name in group.commands:
        command = group.get_command(None, name)
        words = f"{path} {name}".strip()
        if isinstance(command, TyperGroup):
            yield from commands(command, words)
        else:
            yield words, command


def writes(command: Any) -> bool:
    """Whether an option names a file or folder to write, by its name or its help."""
    options = [p for p in command.params if (p.metavar or "") in ("DIR", "FILE", "PATH")]
    verbs = ("folder for", "write", "also write")
    return any(p.name == "out" or any(v in (p.help or "").lower() for v in verbs) for p in options)


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    folder = tmp_path / "inputs"
    folder.mkdir()
    for name in ("hall.mp4", "a.pt", "b.pt", "a.onnx", "truth.csv"):
        (folder / name).write_bytes(b"an input")
    (folder / "grid.yaml").write_text("annotations: clips.pkl\n")
    keypoints = tuple(np.random.default_rng(i).random((1, 4, 17, 3), np.float32) for i in range(8))
    names = tuple(f"v{i}" for i in range(8))
    clips = ClipSet(keypoints, np.arange(8) % 2, ("normal", "abnormal"), names, names, certain=True)
    write_pyskl(folder / "clips.pkl", clips, {"train": range(4), "test": range(4, 8)})
    return folder


def run(verb: str, words: str, inputs: Path, out: Path, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    """What a verb says that must refuse."""
    given = [word.replace("{i}", str(inputs)) for word in words.split()]
    code = main([*verb.split(), *given, "--out", str(out), *more])
    err = capsys.readouterr().err
    assert code == 2, err
    assert err.count("\n") == 1, err
    return err


def test_every_verb_that_writes_has_a_row() -> None:
    found = {words: command for words, command in commands() if writes(command)}
    assert set(found) == set(TABLE)
    for words, command in found.items():
        assert any("--force" in option.opts for option in command.params), words
    others = {words for words, command in commands() for p in command.params if p.metavar in ("DIR", "PATH")}
    assert others <= set(TABLE) | READS


@pytest.mark.parametrize(
    ("verb", "name"), [(verb, name) for verb, (_, names) in TABLE.items() for name in names or ("",)]
)
def test_a_file_of_somebody_else_is_left_alone(
    verb: str, name: str, inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    own = out / name if name else tmp_path / "out.csv"
    own.parent.mkdir(parents=True, exist_ok=True)
    own.write_bytes(b"years of work")
    err = run(verb, TABLE[verb][0], inputs, out if name else own, capsys)
    assert "--force" in err
    assert own.read_bytes() == b"years of work"
    assert [p for p in tmp_path.rglob("*") if p.is_file() and inputs not in p.parents] == [own]


@pytest.mark.parametrize("verb", [verb for verb, (words, names) in TABLE.items() if not names and "{i}" in words])
@pytest.mark.parametrize("force", [(), ("--force",)])
def test_an_input_is_left_alone_also_with_force(
    verb: str, force: tuple[str, ...], inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "link").symlink_to(inputs / "a.pt")
    for out in (inputs / "a.pt", tmp_path / "link", inputs / ".." / "inputs" / "a.pt"):
        assert "is an input" in run(verb, TABLE[verb][0], inputs, out, capsys, *force)
    assert (inputs / "a.pt").read_bytes() == b"an input"


@pytest.mark.parametrize("force", [(), ("--force",)])
@pytest.mark.parametrize("source", ["hall.mp4", "link.mp4", "."])
def test_watch_never_replaces_a_recording(
    source: str, force: tuple[str, ...], inputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (inputs / "link.mp4").symlink_to(inputs / "hall.mp4")
    words = f"{{i}}/{source} --model {{i}}/a.pt"
    if source == ".":
        (inputs / "link.mp4").unlink()
    out = inputs / "sub" / ".."
    (inputs / "sub").mkdir()
    if source == "link.mp4":  # the result would be link.mp4, the link itself
        assert "link.mp4 is an input" in run("watch", words, inputs, out, capsys, *force)
    else:
        assert "hall.mp4 is an input" in run("watch", words, inputs, out, capsys, *force)
    assert (inputs / "hall.mp4").read_bytes() == b"an input"


def test_watch_never_replaces_the_neighbour_of_a_recording(inputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(inputs / "hall.mp4", inputs / "hall.avi")
    err = run("watch", "{i}/hall.avi --model {i}/a.pt", inputs, inputs, capsys)
    assert "hall.mp4 exists" in err
    shutil.copy(inputs / "hall.mp4", inputs / "status.json")
    words = "{i}/hall.avi --model {i}/a.pt --no-video --status {i}/status.json"
    assert "status.json exists" in run("watch", words, inputs, inputs / "new", capsys)
    words = "{i}/hall.avi --model {i}/a.pt --no-video --status {i}/hall.avi"
    assert "hall.avi is an input" in run("watch", words, inputs, inputs / "new", capsys)


@pytest.mark.parametrize("option", ["--route", "--config"])
def test_the_status_never_replaces_what_watch_reads(
    option: str, inputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (inputs / "read.yaml").write_text("extends: default\n")
    words = f"{{i}}/hall.mp4 --model {{i}}/a.pt --no-video {option} {{i}}/read.yaml --status {{i}}/read.yaml --force"
    assert "read.yaml is an input" in run("watch", words, inputs, inputs / "new", capsys)
    assert (inputs / "read.yaml").read_text() == "extends: default\n"


@pytest.mark.parametrize("verb", ["labels export csv", "labels audit"])
def test_no_output_replaces_the_label_store(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSEWATCH_HOME", str(tmp_path))
    monkeypatch.delenv("POSEWATCH_LABELS_URL", raising=False)
    assert main(["labels", "role"]) == 0
    store = tmp_path / "labels.db"
    for url in ((), ("--labels-url", f"sqlite:///{store}")):
        assert "is an input" in run(verb, "", tmp_path, store, capsys, "--force", *url)
    assert store.read_bytes().startswith(b"SQLite format 3")


def test_a_verb_runs_again_on_its_own_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "windows.csv").write_text("video,start_s,end_s,p\na,0,2,0.9\na,1,3,0.8\n")
    (tmp_path / "truth.csv").write_text("video,start_s,end_s\na,0,2\n")
    words = ["events", "--intervals", str(tmp_path / "truth.csv"), "--windows", str(tmp_path / "windows.csv")]
    for _ in range(2):
        assert main([*words, "--out", str(tmp_path / "out")]) == 0, capsys.readouterr().err
    (tmp_path / "out" / "events.json").write_text("edited")
    assert main([*words, "--out", str(tmp_path / "out")]) == 2
    assert main([*words, "--out", str(tmp_path / "out"), "--force"]) == 0
