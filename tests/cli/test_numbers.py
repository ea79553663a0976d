"""Every option that is a number has a range, and says it in one line before anything is done."""

from __future__ import annotations

import importlib
import typing
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from posewatch.cli.main import TOPICS, main


def commands() -> Iterator[tuple[list[str], Any]]:
    """The words and the command of every verb."""

    def below(words: list[str], command: Any) -> Iterator[tuple[list[str], Any]]:
        if hasattr(command, "commands"):
            for name, inner in command.commands.items():
                yield from below([*words, name], inner)
        else:
            yield words, command

    for _, topic, names in TOPICS:
        group = typer.main.get_group(importlib.import_module(f"posewatch.cli.{topic}").app)
        for name in names.split():
            yield from below([name], group.commands[name])


NUMBERS = [
    (" ".join(words), option.opts[-1], option.type_descriptor.annotation, command)
    for words, command in commands()
    for option in command.params
    if option.type_descriptor.annotation in (int, float)
]


def test_there_are_numbers() -> None:
    assert len(NUMBERS) > 50


@pytest.mark.parametrize(
    ("verb", "option", "kind"), [row[:3] for row in NUMBERS], ids=[" ".join(row[:2]) for row in NUMBERS]
)
def test_a_number_out_of_range_is_one_line(
    verb: str, option: str, kind: type, capsys: pytest.CaptureFixture[str], tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POSEWATCH_HOME", str(tmp_path / "home"))
    command = next(row[3] for row in NUMBERS if row[:2] == (verb, option))
    needed = [
        word
        for one in command.params
        if one.required and one.opts[-1] != option
        for word in ([one.opts[-1], "x"] if one.opts[-1].startswith("-") else [_choice(one)])
    ]
    for value in ("nan", "inf", "-1", "1e12") if kind is float else ("-1", "1000000000000"):
        assert main([*verb.split(), *needed, option, value]) == 2, value
        said = capsys.readouterr().err
        assert said.startswith(f"posewatch: {option} must be "), (value, said)
        assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def _choice(argument: Any) -> str:
    kind = argument.type_descriptor.annotation
    return str(typing.get_args(kind)[0]) if typing.get_origin(kind) is typing.Literal else "x"


def test_a_wrong_setting_is_told_by_a_verb_that_does_not_need_it(capsys: pytest.CaptureFixture[str], tmp_path) -> None:
    assert main(["ingest", str(tmp_path), "--store", str(tmp_path / "s"), "--set", "train.epochs=inf"]) == 2
    assert "train.epochs must be a whole number from 1 to 100,000, not 'inf'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["serving", "--concurrency", "1,0"], "--concurrency: each number must be from 1 to 10,000, not 0"),
        (["serving", "--open-loop", "nan"], "--open-loop: each number must be above 0 and at most 100, not nan"),
        (["scale", "--clips", "-5"], "--clips: each number must be from 1 to 100,000,000, not -5"),
    ],
)
def test_lists_of_numbers_have_ranges_too(words: list[str], says: str, capsys, tmp_path) -> None:
    assert main(["bench", *words, "--out", str(tmp_path / "out")]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
