"""What all verbs share: common options, groups of options, how results and errors are printed.

A handler is a function whose parameters are typer options. A parameter whose type is a dataclass stands for a group of
options, one for each field; its ``PANEL`` is their title in the help. Most verbs take the group ``Context``.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, cast, get_type_hints

import typer
from typer import Option
from typer.core import TyperCommand, TyperOption
from typer.exceptions import TyperException

from posewatch import boundary, outputs
from posewatch.boundary import INTERRUPTED as INTERRUPTED
from posewatch.errors import InputError
from posewatch.names import path_of
from posewatch.redact import redact
from posewatch.rules import Range
from posewatch.stages.run import Run

if TYPE_CHECKING:
    from posewatch.labels.store import LabelStore

F = TypeVar("F", bound=Callable[..., Any])
Force = Annotated[bool, Option("--force", help="Replace files that posewatch did not write, or that were changed.")]


class Writes:
    """Beside an option: the names of what the verb writes into the folder that the option gives; none of them: the
    option is the file itself. A function gets the values of all options and gives the paths. ``here`` is False where
    the handler calls ``outputs.check`` itself.

    An option that stands for an output needs this: the verb gets ``--force``, and refuses to destroy what is there.
    """

    def __init__(
        self, *names: str, paths: Callable[[dict[str, Any]], Iterable[Path]] | None = None, here: bool = True
    ) -> None:
        self.names, self.paths, self.here = names, paths, here

    def __call__(self, option: str, values: dict[str, Any]) -> list[Path]:
        """The paths that the verb writes, given the values of its options."""
        place = values[option]
        if place is None or not self.here:
            return []
        if self.paths is not None:
            return list(self.paths(values))
        return [Path(place) / name for name in self.names] or [Path(place)]


@dataclass(frozen=True)
class Context(Run):
    """The common options: the object store and the experiment's configuration."""

    store: Annotated[
        str | None,
        Option(help="s3://bucket/prefix or a folder (default: POSEWATCH_STORE, else the embedded stack)."),
    ] = None
    config: Annotated[str, Option(help="Experiment: a shipped name, a YAML file, or JSON.")] = "default"
    set: Annotated[
        list[str] | None, Option(metavar="SECTION.KEY=VALUE", help="Override one value; may be repeated.")
    ] = None


@dataclass(frozen=True)
class LabelContext(Context):
    """The common options and the label store."""

    labels_url: Annotated[str | None, Option(help="Label store (default: POSEWATCH_LABELS_URL, else SQLite).")] = None

    @cached_property
    def labels(self) -> LabelStore:
        from posewatch.labels.store import LabelStore

        return LabelStore(self.labels_url)

    @property
    def label_files(self) -> list[Path]:
        """The files of a label store in SQLite: the verb reads them, so that no output may replace them."""
        from posewatch.labels.db.schema import default_url

        url = self.labels_url or default_url()
        if not url.startswith("sqlite"):
            return []
        file = path_of(url.partition("?")[0])
        return [Path(f"{file}{end}") for end in ("", "-wal", "-shm")]


class Verb(TyperCommand):
    """A command whose options may take several values, as in ``--seed 0 1 2``, or none.

    The metavar says so: with ``N...`` an option takes every value up to the next option, and with ``[PATH]`` its value
    may be left out (it is "" then).
    """

    def get_params(self, ctx: Any) -> list[Any]:
        params: list[Any] = super().get_params(ctx)
        for option in params:
            if getattr(option, "is_flag", False):
                option.metavar = ""  # no <bool> in the help
        return params

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        options = [p for p in self.params if isinstance(p, TyperOption)]
        several = {name for p in options if (p.metavar or "").endswith("...") for name in p.opts}
        optional = {name for p in options if (p.metavar or "").startswith("[") for name in p.opts}
        try:
            return super().parse_args(ctx, list(_spread(args, several, optional)))
        except TyperException as error:
            error.ctx = getattr(error, "ctx", None) or ctx  # type: ignore[attr-defined]
            raise


def _spread(args: list[str], several: set[str], optional: set[str]) -> Iterator[str]:
    """``args`` with options of several values repeated for each value, and "" for values that were left out."""
    flag, first = "", False
    for i, word in enumerate(args):
        if word == "--":
            yield from args[i:]
            return
        if _is_option(word):
            flag, first = word if word in several else "", True
            yield word
            if word in optional and (i + 1 == len(args) or _is_option(args[i + 1])):
                yield ""
            continue
        if flag and not first:
            yield flag
        first = False
        yield word


def _is_option(word: str) -> bool:
    return len(word) > 1 and word[0] == "-" and not word[1].isdigit() and word[1] != "."


def topic(**settings: Any) -> typer.Typer:
    """The verbs of one topic, or a verb with verbs of its own."""
    return typer.Typer(add_completion=False, rich_markup_mode="rich", subcommand_metavar="VERB ...", **settings)


def verb(app: typer.Typer, name: str, *, stack: bool = True, **settings: Any) -> Callable[[F], F]:
    """Make a handler the verb ``name``. Its docstring is the help; what it returns is printed.

    Text is printed as it is, other values as JSON; an int is the exit code. ``stack``: an embedded stack that is up
    gives the defaults of whatever the environment leaves open.
    """

    def register(handler: F) -> F:
        parameters, groups, writes = _expanded(handler)
        own_force = any(p.name == "force" for p in parameters)
        if writes and not own_force:
            parameters.append(inspect.Parameter("force", _KIND, default=False, annotation=Force))
        rules = {p.name: ranges for p in parameters if (ranges := _rules(p.annotation))}
        verbose = Annotated[bool, Option("--verbose", "-v", help="Show the whole trace of an error.")]
        parameters.append(inspect.Parameter("verbose", _KIND, default=False, annotation=verbose))

        kinds = {p.name: p.annotation.__metadata__[0].metavar for p in parameters if p.name in ("out", "status")}

        def run(**values: Any) -> None:
            show_trace = values.pop("verbose")
            given = dict(values)
            numbers = {name: (rules[name], value) for name, value in values.items() if name in rules}
            if writes and not own_force:
                values.pop("force")
            for group, (kind, names) in groups.items():
                values[group] = kind(**{name: values.pop(name) for name in names})

            def checked() -> Any:
                _check(numbers)
                for group in values.values():
                    if isinstance(group, Context) and (group.set or group.config != "default"):
                        _ = group.experiment  # a wrong setting is told also by a verb that does not need it
                for name, metavar in kinds.items():  # before the work, which may take hours
                    if (path := given[name]) is not None:
                        outputs.check_place(path, path.is_dir() if metavar == "PATH" else metavar == "DIR")
                stores = [group for group in values.values() if writes and isinstance(group, LabelContext)]
                labels = [path for store in stores for path in store.label_files]
                outputs.check(
                    [path for option, of in writes.items() for path in of(option, given)],
                    [*_inputs(given, writes), *labels],
                    force=bool(writes) and given["force"],
                )
                return handler(**values)

            _exit(checked, stack, show_trace)

        run.__doc__ = handler.__doc__
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        app.command(name, cls=Verb, **settings)(run)
        return handler

    return register


_KIND = inspect.Parameter.KEYWORD_ONLY


def _inputs(values: dict[str, Any], writes: Iterable[str]) -> list[Path]:
    """Every value that may be a file or folder to read: all texts and paths but those of outputs."""
    named = [value for name, value in values.items() if name not in writes and name not in ("set", "store")]
    several = [one for value in named for one in (value if isinstance(value, list) else [value])]
    return [Path(one) for one in several if isinstance(one, Path | str) and str(one) not in ("", ".")]


def _expanded(
    handler: Callable[..., Any],
) -> tuple[list[inspect.Parameter], dict[str, tuple[type, list[str]]], dict[str, Writes]]:
    """The options of a handler, those of its groups one by one; the type and the field names of each group; and what
    is written by name of the option."""
    writes: dict[str, Writes] = {}

    def note(name: str, annotation: Any) -> None:
        for of in getattr(annotation, "__metadata__", ()):
            if isinstance(of, Writes):
                writes[name] = of

    parameters: list[inspect.Parameter] = []
    common: list[inspect.Parameter] = []
    groups: dict[str, tuple[type, list[str]]] = {}
    for p in inspect.signature(handler, eval_str=True).parameters.values():
        if not dataclasses.is_dataclass(p.annotation):
            note(p.name, p.annotation)
            parameters.append(p.replace(kind=_KIND))
            continue
        kind: Any = p.annotation
        fields = dataclasses.fields(kind)
        groups[p.name] = (kind, [field.name for field in fields])
        hints = get_type_hints(kind, include_extras=True)
        panels = {name: c.__dict__.get("PANEL") for c in reversed(kind.__mro__) for name in inspect.get_annotations(c)}
        into = common if issubclass(kind, Context) else parameters
        for field in fields:
            hint = hints[field.name]
            note(field.name, hint)
            option = copy.copy(hint.__metadata__[0])
            option.rich_help_panel = panels[field.name]
            annotation = cast(Any, Annotated)[(hint.__origin__, option, *hint.__metadata__[1:])]
            into.append(inspect.Parameter(field.name, _KIND, default=field.default, annotation=annotation))
    return [*parameters, *common], groups, writes


def _rules(annotation: Any) -> list[Range]:
    """The ranges of an option that is a number."""
    return [rule for rule in getattr(annotation, "__metadata__", ()) if isinstance(rule, Range)]


def _check(values: Mapping[str, tuple[list[Range], Any]]) -> None:
    """Raises InputError for a number out of its range; options that are not given have none."""
    for name, (rules, value) in values.items():
        for one in value if isinstance(value, list | tuple) else [value]:
            for rule in rules:
                if one is not None and not rule.holds(one):
                    raise InputError(f"--{name.replace('_', '-')} must be {rule.words}, not {one}")


def _exit(call: Callable[[], Any], stack: bool, show_trace: bool) -> None:
    """Run a verb and print its result, or its error in one line. Raises typer.Exit for an exit code other than 0."""
    try:
        if stack:
            from posewatch.stack import use

            use()
        result = call()
        if not isinstance(result, int) and result not in ("", None):  # "": another process of the training prints it
            text = result if isinstance(result, str) else json.dumps(result, indent=2, ensure_ascii=False)
            boundary.written(f"{text}\n")
    except typer.Exit:
        raise
    except (Exception, KeyboardInterrupt) as error:
        raise typer.Exit(boundary.failed(error, "posewatch", verbose=show_trace)) from None
    if isinstance(result, int):
        raise typer.Exit(result)


def say(line: str) -> None:
    """A message on stderr; stdout holds results only."""
    boundary.tell(redact(line))


def notes(lines: Iterable[str]) -> None:
    """Notes on stderr. Of the processes that torchrun starts, only the first one prints them."""
    if os.environ.get("RANK", "0") == "0":
        for line in lines:
            say(f"posewatch: note: {line}")
