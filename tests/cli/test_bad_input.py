"""Every verb with every class of bad input: one line that names the thing and the remedy, the documented exit code,
nothing half-written. A new verb needs a row in ``ROWS``."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli.test_command_line import verbs
from skeletons import clip_set
from tiny_models import tiny_model

from posewatch.cli import main as cli
from posewatch.cli.train import pairs_of
from posewatch.errors import InputError

CODES = range(1, 9)
"""The exit codes of ``posewatch.errors``."""
SLOWEST_S = 20
"""A command with bad input that takes longer is interrupted: its exit code is then 130."""
PORT = "127.0.0.1:9"
"""Where nothing listens."""

ROWS: dict[str, list[str]] = {
    "ingest": ["VIDEO --store STORE"],
    "mask": ["URI --store STORE"],
    "split": ["URI --store STORE"],
    "pose": ["URI --store STORE"],
    "prepare": ["VIDEO --store STORE --labels-url DB"],
    "footage": ["--out OUTDIR --videos 0"],
    "labels queue": ["URI --store STORE --labels-url DB --skeletons =URI"],
    "labels import": ["URI VIDEOLABELS --store STORE --labels-url DB"],
    "labels verdicts": ["URI =URI --store STORE --labels-url DB"],
    "labels wait": ["URI --store STORE --labels-url DB"],
    "labels snapshot": ["URI --store STORE --labels-url DB"],
    "labels set": ["c-0 normal --labels-url DB --config CONFIG"],
    "labels role": ["somebody no-such-role --labels-url DB"],
    "labels audit": ["--out OUTFILE.csv --labels-url DB"],
    "labels agreement": ["--labels-url DB"],
    "labels export": [
        "csv --out OUTFILE.csv --labels-url DB",
        "pyskl --out OUTFILE.pkl --labels-url =DB --skeletons URI",
    ],
    "labels refresh": [
        "URI =URI --checkpoint PT --store STORE --labels-url DB",
        "=URI =URI --endpoint ENDPOINT --store =STORE --labels-url =DB",
    ],
    "label": ["--app PAGE"],
    "dataset": ["URI =URI --store STORE --config CONFIG"],
    "pretrain": ["--annotations PKL --out OUTDIR --config CONFIG", "URI --store STORE"],
    "train": [
        "--annotations PKL --out OUTDIR --config CONFIG",
        "--annotations =PKL --out =OUTDIR --config =CONFIG --layout LAYOUT",
        "URI --store STORE",
    ],
    "evaluate": ["PT --annotations PKL --out OUTDIR", "URI =URI --store STORE"],
    "robustness": ["PT --annotations PKL --out OUTDIR --draws 1"],
    "threshold": ["PT --at f1 --out OUTFILE.pt"],
    "ensemble": ["PT =PT --out OUTFILE.pt"],
    "events": [
        "--windows WINDOWS --intervals CSV --out OUTDIR",
        "--checkpoint PT --skeletons PKL --window-s 5 --intervals =CSV --out =OUTDIR",
    ],
    "experiment": ["GRID --out OUTDIR"],
    "import-clips": ["VIDEO --store STORE --labels-url DB"],
    "import-checkpoint": ["PT --out OUTFILE.pt", "=PT --store STORE"],
    "import-poses": ["FOLDER --out OUTFILE.pkl", "=FOLDER --out =OUTFILE.pkl --layout LAYOUT"],
    "export": ["PT --out OUTFILE.onnx", "URI --store STORE"],
    "onnx inspect": ["ONNX"],
    "publish": ["URI --store STORE"],
    "deploy": ["URI --store STORE --evaluation =URI"],
    "smoke-test": ["ENDPOINT URI =URI =URI --store STORE"],
    "promote": ["--store STORE --config CONFIG --set serving.target=kserve"],
    "rollback": ["--store STORE --config =CONFIG --set serving.target=kserve"],
    "history": ["--store STORE --config CONFIG"],
    "predict": ["ONNX NPZ --out OUTFILE.jsonl", "PT VIDEO", "ENDPOINT NPY"],
    "score": ["ENDPOINT URI =URI =URI =URI --store STORE"],
    "watch": ["VIDEO --model ONNX --out OUTDIR --status OUTFILE.json", "=VIDEO --model ENDPOINT --out =OUTDIR"],
    "watch-service": ["--config CAMERAS --port 0"],
    "alarms": ["list --store STORE", "pull x --store =STORE --out OUTDIR"],
    "pipeline": ["run no-such-pipeline"],
    "report": ["URI =URI =URI =URI --store STORE --out OUTFILE.html"],
    "lineage": ["URI --store STORE"],
    "bench serving": ["--model ONNX --annotations PKL --tuned YAML --out OUTDIR", "URI =URI =URI --store STORE"],
    "bench paper": ["PKL --out OUTDIR --seeds 0"],
    "bench soak": ["--model ONNX --annotations PKL --out OUTDIR --minutes 0"],
    "bench gpu": ["--out OUTDIR --only x", "--out OUTDIR --report YAML"],
    "bench persons": ["--out OUTDIR --videos 0 --config CONFIG"],
    "bench absent": ["--out OUTDIR --rounds 0"],
    "bench novelty": ["PT --annotations PKL --out OUTDIR"],
    "bench wire": ["--out OUTDIR --clips 0"],
    "bench rollout": ["--grpc =ENDPOINT --http =ENDPOINT --out OUTDIR --minutes 0"],
    "bench scale": ["--out OUTDIR --clips x"],
    "bench training": ["--out OUTDIR --layout CHOICE"],
    "bench perception": ["VIDEO --out OUTDIR"],
    "bench quality": ["--out OUTDIR --videos 0 --config CONFIG"],
    "bench cctv": ["--videos FOLDER --counts CSV --out OUTDIR"],
    "bench active-learning": ["--annotations PKL --out OUTDIR"],
    "bench loop": ["--annotations PKL --out OUTDIR"],
    "bench fewshot": ["--annotations PKL --out OUTDIR --labels 0"],
    "bench falls": ["--out OUTDIR --clips 0", "--out OUTDIR --intervals FOLDER"],
    "bench joint-errors": ["FOLDER --out OUTDIR"],
    "bench watch": [
        "--videos FOLDER --out OUTDIR",
        "--videos FOLDER --out OUTDIR --cameras 0",
        "--videos FOLDER --out OUTDIR --skipping",
    ],
    "bench model-sizes": ["extra"],
    "bench labeling-ui": ["--out OUTDIR --clips x"],
    "tune serving": ["--model ONNX --out OUTDIR --annotations PKL --runtime onnxruntime"],
    "up": ["--home HOME"],
    "down": ["--home HOME"],
    "status": ["--home HOME"],
    "install": ["no-such-accelerator"],
    "weights": ["fetch CHOICE", "where CHOICE", "verify CHOICE", "mirror --store STORE"],
}
"""Verb -> command lines, in which a word in capitals stands for a thing that each class of bad input spoils in turn;
with "=" before it the thing is a good one."""

FILES = [
    "VIDEO",
    "VIDEOLABELS",
    "PKL",
    "PT",
    "ONNX",
    "NPZ",
    "NPY",
    "CSV",
    "YAML",
    "LAYOUT",
    "CONFIG",
    "WINDOWS",
    "CAMERAS",
    "GRID",
    "FILE",
]
SUFFIX = {"VIDEO": ".mp4", "VIDEOLABELS": ".csv", "LAYOUT": ".yaml", "CONFIG": ".yaml", "CAMERAS": ".yaml",
          "GRID": ".yaml", "WINDOWS": ".jsonl", "FILE": ".py"}  # fmt: skip
GARBAGE = {
    "empty": b"",
    "one byte": b"\x80",
    "binary": bytes(range(256)) * 4,
    "text": b"this is no such file\n",
    "not UTF-8": "복도,정상\n".encode("cp949"),
    "UTF-16": "video,start_s\n".encode("utf-16"),
    "nested": b"[" * 3000,
    "JSON list": b"[1, [2], null]",
    "JSON": b'{"a": {"b": null}}',
    "YAML with a fault": b"a: [1\nb: :",
    "zip": b"PK\x03\x04" + bytes(60),
    "pickle": b"\x80\x04}q\x00.",
}


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """One good thing of each kind."""
    import torch

    from posewatch.config import TrainConfig
    from posewatch.datasets import layouts
    from posewatch.datasets.pyskl import write_pyskl
    from posewatch.recognition.recogniser import Recogniser, save
    from posewatch.video import Writer

    torch.set_num_threads(1)  # threads that wait for each other cost more than these tiny networks
    folder = tmp_path_factory.mktemp("good")
    with Writer(folder / "VIDEO.mp4", 10, (64, 48)) as out:
        for _ in range(10):
            out.write(np.zeros((48, 64, 3), np.uint8))
    clips = clip_set(4)
    write_pyskl(folder / "PKL.pkl", clips, {"train": [0, 1], "test": [2, 3]})
    net = Recogniser(
        TrainConfig(width=0.1, clip_frames=12), layouts.get("coco17"), ("normal", "abnormal"), "abnormal", 10.0
    )
    save(folder / "PT.pt", net, net.state_dict())
    tiny_model(folder / "ONNX.onnx")
    np.savez(folder / "NPZ.npz", keypoints=clips.keypoints[0])
    np.save(folder / "NPY.npy", clips.keypoints[0])
    texts = {
        "VIDEOLABELS.csv": "file,start_s,end_s,label\nVIDEO.mp4,0,1,normal\n",
        "CSV.csv": "video,start_s,end_s,label\na,0,1,abnormal\n",
        "WINDOWS.jsonl": '{"video": "a", "start_s": 0, "end_s": 1, "p": 0.5}\n',
        "YAML.yaml": "serving: {max_batch: 4}\n",
        "CONFIG.yaml": "train: {epochs: 1, width: 0.1, clip_frames: 12, batch: 4}\n",
        "LAYOUT.yaml": "extends: no-such-layout\n",
        "CAMERAS.yaml": f"model: grpc://{PORT}/m\ncameras: []\n",
        "GRID.yaml": f"grid: {{epochs: 1, width: 0.1, clip_frames: 12, batch: 4}}\nannotations: {folder}/PKL.pkl\n",
        "FILE.py": "",
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    words = {path.stem: str(path) for path in folder.iterdir()}
    (folder / "videos").mkdir()
    return {
        **words, "URI": "sets/ingest/0123", "STORE": str(folder / "store"), "DB": f"sqlite:///{folder}/labels.db",
        "ENDPOINT": f"grpc://{PORT}/m", "CHOICE": "movenet", "FOLDER": str(folder / "videos"),
        "HOME": str(folder / "home"),
    }  # fmt: skip


def spoiled(kind: str, good: str, folder: Path) -> Iterator[tuple[str, str]]:
    """(class of bad input, word) for a thing of this kind."""
    file = folder / "a file"
    file.write_bytes(b"")
    (folder / "a folder").mkdir(exist_ok=True)
    long = "n" * 300
    if kind in FILES:
        suffix = SUFFIX.get(kind, "." + kind.lower())
        yield "missing", str(folder / f"no such{suffix}")
        yield "a folder", str(folder / "a folder")
        yield "below a file", str(file / f"x{suffix}")
        yield "too long a name", str(folder / f"{long}{suffix}")
        if kind != "LAYOUT":
            yield "an empty word", ""
        yield "a circle of links", str(circle(folder / f"circle{suffix}"))
        yield "bytes that are no UTF-8", os.fsdecode(os.fsencode(folder) + b"/\xba\xb9" + suffix.encode())
        whole = Path(good).read_bytes()
        for name, data in {**GARBAGE, "cut": whole[: len(whole) // 2]}.items():
            path = folder / f"{name}{suffix}"
            path.write_bytes(data)
            yield name, str(path)
    elif kind.startswith("OUT"):
        suffix = kind.partition(".")[2]
        if kind == "OUTDIR":
            yield "a file in place of the folder", str(file)
        else:
            yield "a folder in place of the file", str(folder / "a folder")
            yield "a device", "/dev/null"
        yield "below a file", str(file / f"sub.{suffix}")
        yield "too long a name", str(folder / f"{long}.{suffix}")
        yield "a circle of links", str(circle(folder / "circle") / f"x.{suffix}")
        yield "a full disk", str(folder / f"full.{suffix}")
    elif kind == "URI":
        yield from {
            "no artifact": "sets/ingest/none", "another store": "s3://other/sets/x", "empty": "", "upward": "../../etc",
            "odd signs": "sets//%00?#\\", "a camera": "rtsp://me:hunter2@cam/x", "a long one": long,
            "no UTF-8": "sets/\udcba",
        }.items()  # fmt: skip
    elif kind == "STORE":
        yield from {
            "below a file": f"{file}/x", "a file": str(file), "no scheme of ours": "ftp://me:hunter2@h/x",
            "no bucket": "s3://", "no bucket's name": "s3://A_B/x", "too long a name": str(folder / long),
            "a circle": str(circle(folder / "circle")), "unreachable": "s3://bucket/x",
            "a full disk": str(folder / "full store"),
        }.items()  # fmt: skip
    elif kind == "DB":
        yield from {
            "below a file": f"sqlite:///{file}/x.db", "a folder": f"sqlite:///{folder}/a folder", "no URL": "labels.db",
            "memory": "sqlite://", "another database": "mysql://me:hunter2@h/x", "unreachable": f"postgresql://me:hunter2@{PORT}/x",
            "a bad port": "postgresql://me:hunter2@h:99999999/x", "too long a name": f"sqlite:///{folder}/{long}.db",
            "no database": f"sqlite:///{text_file(folder / 'text.db')}", "a full disk": f"sqlite:///{folder}/full.db",
        }.items()  # fmt: skip
    elif kind == "ENDPOINT":
        yield from {
            "unreachable": f"grpc://{PORT}/m", "unreachable by HTTP": f"http://{PORT}/m", "no model": f"grpc://{PORT}",
            "no port": "grpc://host/m", "another scheme": "ftp://h:1/m", "a password": "http://me:hunter2@h:1/m",
            "a bad port": "grpc://127.0.0.1:99999999/m", "a bad host": "http://[::/m", "empty": "",
        }.items()  # fmt: skip
    elif kind == "CHOICE":
        yield from {"unknown": "no-such-name", "empty": "", "a path": str(file), "no UTF-8": "\udcba"}.items()
    elif kind == "FOLDER":
        yield from {"missing": str(folder / "none"), "a file": str(file), "empty": str(folder / "a folder")}.items()
    elif kind == "PAGE":
        yield from {
            "missing": str(folder / "none"), "a folder": str(folder / "a folder"), "below a file": f"{file}/x",
            "too long a name": str(folder / long), "no UTF-8": "\udcba",
        }.items()  # fmt: skip
    elif kind == "HOME":
        yield from {"below a file": str(file / "x"), "a file": str(file), "too long a name": str(folder / long)}.items()


def circle(path: Path) -> Path:
    if not path.is_symlink():
        path.symlink_to(path.name)
    return path


def text_file(path: Path) -> Path:
    path.write_text("this is no database " * 100)
    return path


def kind_of(word: str) -> str:
    return word if word.partition(".")[0].isupper() else ""


SLOW = {
    ("train", "CONFIG empty"), ("pretrain", "CONFIG empty"), ("bench quality", "CONFIG empty"),
    ("export", "OUTFILE.onnx a full disk"), ("bench serving", "OUTDIR a full disk"), ("bench serving", "YAML empty"),
}  # fmt: skip
"""Left out: a whole export and a benchmark would run; they write through the same functions as the others."""


def cases(row: str, good: dict[str, str], folder: Path) -> Iterator[tuple[str, list[str], bool]]:
    """(name, command line, whether the disk is full) of each way to spoil one thing of a row."""
    words = row.split(" ")
    kept = [word.startswith("=") for word in words]
    words = [word.removeprefix("=") for word in words]
    outs = {
        w: str(folder / f"out{i}.{w.partition('.')[2]}") for i, w in enumerate(words) if kind_of(w).startswith("OUT")
    }
    fine = [outs.get(w) or good.get(kind_of(w), w) for w in words]
    if not any(kind_of(word) for word in words):
        yield "as it is", fine, False
    for i, word in enumerate(words):
        if kind_of(word) and not kept[i]:
            for name, bad in spoiled(word, good.get(word, ""), folder):
                yield f"{word} {name}", [*fine[:i], bad, *fine[i + 1 :]], name == "a full disk"


def told_wrong(code: int, out: str, err: str) -> str:
    """What is wrong with the way in which a command ended; "" where nothing is."""
    said = [line for line in err.splitlines() if not line.startswith(("{", "posewatch: note"))]
    if "Traceback" in out + err or "a fault of posewatch" in err:
        return "a fault of ours"
    if "hunter2" in out + err:
        return "a secret is shown"
    if code not in CODES:
        return f"exit code {code}"
    return "" if len(said) == 1 and said[0].startswith("posewatch: ") else f"{len(said)} lines"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No second attempt at what does not answer, and no server of this machine."""
    import posewatch.store.s3 as s3

    monkeypatch.setattr(s3.S3Store.__init__, "__defaults__", ("", 1))
    monkeypatch.setenv("POSEWATCH_S3_ENDPOINT", f"http://{PORT}")
    monkeypatch.setenv("POSEWATCH_S3_ACCESS_KEY", "a")
    monkeypatch.setenv("POSEWATCH_S3_SECRET_KEY", "hunter2")
    monkeypatch.setenv("POSEWATCH_WORKERS", "1")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "no kubeconfig"))
    for name in ("POSEWATCH_STORE", "POSEWATCH_LABELS_URL", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("POSEWATCH_HOME", str(tmp_path / "home"))


FINE = {
    ("history", "STORE below a file"), ("history", "STORE a file"), ("history", "STORE too long a name"),
    ("history", "STORE a full disk"), ("alarms", "STORE a full disk"), ("history", "CONFIG empty"),
    ("events", "CSV cut"), ("events", "CSV UTF-16"),
    ("down", "HOME below a file"), ("down", "HOME a file"), ("status", "HOME below a file"),
    ("status", "HOME a file"), ("weights", "CHOICE a path"),
}  # fmt: skip
"""Where there is nothing wrong: nothing is written or read there, or the half of the file is a whole one."""


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("words", list(verbs()), ids=" ".join)
def test_bad_input(
    words: tuple[str, ...], good: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    name = " ".join(words)
    assert name in ROWS, f"{name} is a new verb: give it a row in ROWS of {__file__}"
    folder = tmp_path / "in"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    wrong = []
    for row in ROWS[name]:
        for case, line, full in cases(row, good, folder):
            if (name, case) in SLOW:
                continue
            code, out, err = run([*words, *line], full, capsys)
            if code == 0 and (name, case) in FINE:
                continue
            problem = told_wrong(code, out, err) or half_written(tmp_path)
            if problem:
                wrong.append(f"{case}: {problem}: {code} {out[-200:]!r} {err[-300:]!r}")
    assert not wrong, "\n".join(wrong)


def run(line: list[str], full: bool, capsys: Any) -> tuple[int, str, str]:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
    signal.alarm(SLOWEST_S)
    try:
        if full:  # the next write of any file fails, as on a full disk
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
        code = cli.main(line)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    return code, *capsys.readouterr()


def half_written(folder: Path) -> str:
    left = [str(path) for path in folder.rglob(".*.part")]
    return f"left behind: {left}" if left else ""


def test_every_row_is_of_a_verb() -> None:
    assert set(ROWS) == {" ".join(words) for words in verbs()}


@pytest.mark.parametrize(
    ("splits", "told"),
    [
        (
            {"xsub_train": [0], "xsub_val": [1]},
            r"no split is named 'train'.*xsub_train, xsub_val \(choose one by --train",
        ),
        (
            {"train": [0], "val": [1]},
            r"no split is named 'test'; the file has train, val \(choose one by --test-split\)",
        ),
        ({}, "--resplit or --cross-validate choose"),
    ],
)
def test_a_file_whose_splits_have_other_names_says_how_to_choose(splits: dict[str, list[int]], told: str) -> None:
    with pytest.raises(InputError, match=told):
        pairs_of(splits, "train", "test")
