"""The ``posewatch`` command: help, usage errors, several values, exit codes; and every command in the docs."""

from __future__ import annotations

import json
import os
import re
import resource
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from support import ROOT, parsed
from typer.core import TyperGroup
from typer.exceptions import TyperException

from posewatch.cli import main as cli
from posewatch.cli.context import Context, topic, verb
from posewatch.errors import StoreError


def verbs() -> Iterator[tuple[str, ...]]:
    """Every verb, as the words that name it."""
    root: Any = typer.main.get_command(cli.app)

    def walk(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        if not isinstance(command, TyperGroup):
            yield words
            return
        context = typer.Context(command)
        for name in command.list_commands(context):
            yield from walk(command.get_command(context, name), (*words, name))

    return walk(root, ())


def test_help_is_quick_fits_on_a_screen_and_imports_no_numpy() -> None:
    def cpu() -> float:
        spent = resource.getrusage(resource.RUSAGE_CHILDREN)
        return spent.ru_utime + spent.ru_stime

    before = cpu()
    command = [sys.executable, "-X", "importtime", "-m", "posewatch.cli", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "80"})
    assert cpu() - before < 0.5
    assert not re.search(r"\| +(numpy|torch|yaml|posewatch\.config)$", done.stderr, re.M)
    lines = done.stdout.splitlines()
    assert 24 <= len(lines) <= 50
    listed = {word for line in lines for word in line.split()[:2]}
    assert listed >= {words[0] for words in verbs()}
    sections = [line.split()[0] for line in lines if line and line[0] != " "]
    assert sections[1:-2] == list(dict.fromkeys(section for section, _, _ in cli.TOPICS))


def test_a_verb_loads_its_topic_only() -> None:
    script = "import sys; from posewatch.cli.main import main; main(['split', '--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = {name.rpartition(".")[2] for name in done.stdout.split() if name.startswith("posewatch.cli.")}
    assert loaded == {"main", "context", "data"}


@pytest.mark.parametrize("words", list(verbs()), ids=" ".join)
def test_every_verb_has_help(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*words, "--help"]) == 0
    page = capsys.readouterr().out
    assert f"posewatch {' '.join(words)} [OPTIONS]" in page
    assert "--verbose" in page
    assert "<bool>" not in page


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("", "Missing command. (posewatch --help)"),
        ("trian", "No such command 'trian'. Did you mean 'train', 'pretrain'? (posewatch --help)"),
        ("labels rol", "No such command 'rol'. Did you mean 'role'? (posewatch labels --help)"),
        ("train --annotatons x", "No such option: --annotatons. Did you mean --annotations? (posewatch train --help)"),
        ("export a --max-loss 1", "No such option: --max-loss. Did you mean --max-drop? (posewatch export --help)"),
        ("train --seed", "Option '--seed' requires an argument. (posewatch train --help)"),
        ("footage", "Missing option '--out'. (posewatch footage --help)"),
        ("mask", "Missing argument 'raw'. (posewatch mask --help)"),
        ("mask a b", "Got unexpected extra argument(s) (b) (posewatch mask --help)"),
        ("weights lst", "Invalid value for 'act': 'lst' is not one of 'list', 'fetch', 'verify', 'where', 'mirror'."),
        ("up --s3-port x", "Invalid value for '--s3-port': Input should be a valid integer"),
    ],
)
def test_a_usage_error_is_one_line_with_the_remedy(words: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words.split()) == 2
    found = capsys.readouterr()
    assert found.out == ""
    assert found.err.startswith(f"posewatch: {line}")
    assert found.err.count("\n") == 1


def test_an_option_takes_several_values() -> None:
    options = parsed(["train", "--seed", "0", "1", "-2", "--set", "train.epochs=2", "uri", "--set=train.width=1"])
    assert options["seed"] == [0, 1, -2]
    assert options["dataset"] == "uri"
    assert options["set"] == ["train.epochs=2", "train.width=1"]
    options = parsed(["ensemble", "a.pt", "b.pt", "--weights", "1", ".5", "--out", "c.pt"])
    assert (options["checkpoints"], options["weights"]) == ([Path("a.pt"), Path("b.pt")], [1, 0.5])
    options = parsed(["ensemble", "--out", "c.pt", "--weights", "1", "2", "--", "a.pt", "b.pt"])
    assert (options["checkpoints"], options["weights"]) == ([Path("a.pt"), Path("b.pt")], [1, 2])
    assert parsed(["tune", "serving", "--model", "a", "b", "--out", "o"])["model"] == [Path("a"), Path("b")]
    with pytest.raises(TyperException):
        parsed(["train", "--set", "a=1", "b", "c"])


def test_a_value_may_be_left_out() -> None:
    assert parsed(["bench", "serving"])["perf_analyzer"] is None
    assert parsed(["bench", "serving", "--perf-analyzer"])["perf_analyzer"] == ""
    assert parsed(["bench", "serving", "--perf-analyzer", "--seconds", "1"])["perf_analyzer"] == ""
    assert parsed(["bench", "serving", "--perf-analyzer", "x"])["perf_analyzer"] == "x"


def test_words_of_the_pipelines_are_passed_on() -> None:
    assert parsed(["pipeline", "submit", "prepare", "a=b", "--wait", "--help"])["words"] == [
        "submit", "prepare", "a=b", "--wait", "--help"
    ]  # fmt: skip


def commands() -> list[str]:
    """Every whole line of a posewatch command in the docs and the Makefile."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted(ROOT.glob("*/README.md"))]
    found = []
    for page in pages:
        for block in re.findall(r"^```\w*\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S):
            lines = block.replace("\\\n", " ").splitlines()
            found += [line for line in lines if re.match(r"posewatch [a-z]", line) and "|" not in line]
    return found


def test_commands_of_the_docs_are_understood() -> None:
    assert len(commands()) > 20
    for command in commands():
        words = shlex.split(re.split(r"\s#|\s&& |;|\$\(|<|>", command)[0])
        try:
            parsed([word for word in words[1:] if word not in ("...", "…")])
        except TyperException as error:
            pytest.fail(f"{command}: {error.format_message()}")


def run(handler: Any, *words: str) -> int:
    """The exit code of a verb that is made of ``handler``."""
    app = topic()
    verb(app, "verb", stack=False)(handler)
    return int(typer.main.get_command(app).main(args=list(words), standalone_mode=False) or 0)


def test_results_go_to_stdout_and_errors_to_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def result(kind: Annotated[str, typer.Argument()], context: Context) -> Any:
        """A verb."""
        return {"text": "a [b] c", "json": {"store": context.store, "clips": context.experiment.split.length_s}}[kind]

    assert run(result, "text") == 0
    assert capsys.readouterr() == ("a [b] c\n", "")
    assert run(result, "json", "--store", "x", "--set", "split.length_s=2") == 0
    assert json.loads(capsys.readouterr().out) == {"store": "x", "clips": 2}
    assert run(result, "json", "--set", "split.lenght_s=2") == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n"), "length_s" in err) == ("", 1, True)


def test_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(how: Annotated[str, typer.Argument()]) -> int:
        """A verb."""
        if how == "store":
            raise StoreError("the store\nis down")
        if how == "extra":
            import posewatch.no_such_module  # noqa: F401
        if how == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch.nn")
        if how == "interrupt":
            raise KeyboardInterrupt
        return 9

    assert run(fail, "number") == 9
    assert run(fail, "store") == 3
    assert capsys.readouterr().err == "posewatch: the store is down\n"
    assert run(fail, "store", "-v") == 3
    assert "Traceback" in capsys.readouterr().err
    assert run(fail, "interrupt") == 130
    assert capsys.readouterr().err == "posewatch: stopped; finished work is saved\n"
    assert run(fail, "torch") == 1
    assert capsys.readouterr().err == "posewatch: torch is not installed: pip install 'posewatch[train]'\n"
    assert run(fail, "extra") == 1  # a fault of ours, not an extra that is missing
    assert "unexpected ModuleNotFoundError: No module named 'posewatch.no_such_module'" in capsys.readouterr().err


def test_the_choices_are_those_of_the_library() -> None:
    pytest.importorskip("numpy")
    from posewatch.events.alarms import Hysteresis
    from posewatch.export.precision import PRECISIONS

    for precision in PRECISIONS:
        assert parsed(["export", "a", "--precision", precision])["precision"] == precision
    defaults, options = Hysteresis(), parsed(["events", "--intervals", "a", "--out", "b"])
    assert (options["on"], options["min_s"], options["merge_s"]) == (defaults.on, defaults.min_s, defaults.merge_s)
