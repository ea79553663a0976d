"""The rooms of ``src/posewatch`` stand in an order, and imports run downward only (docs/architecture.md)."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from support import ROOT

FLOORS = (
    "cli",
    "bench",
    "stages",
    "report",
    "serving",
    "deploy",
    "watch",
    "export",
    "inference",
    "perception",
    "events",
    "labels",
    "recognition",
    "kube",
    "datasets",
    "footage",
    "weights",
    "video",
    "stack",
    "lineage alarms",
    "artifact",
    "store",
    "records",
    "config fingerprints",
    "sections",
    "rules text units files names outputs digests retry progress errors quiet addresses posts redact faults boundary "
    "cores",
)
"""From top to bottom; rooms that share a floor may import each other."""
LARGEST = 0.155
"""Share of the code that one room may hold."""


def sources(root: Path) -> dict[str, str]:
    """Module name → text of every module below ``root``/posewatch."""
    found = {}
    for path in sorted((root / "posewatch").rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text(encoding="utf-8")
    return found


def imports(module: str, text: str, known: Mapping[str, str]) -> Iterator[tuple[int, str]]:
    """(line, module) of every import of the package in a module, those inside functions too."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}:{node.lineno}: imports are absolute"
            if (node.module or "").partition(".")[0] == "posewatch":
                for alias in node.names:
                    full = f"{node.module}.{alias.name}"
                    yield node.lineno, full if full in known else str(node.module)
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, a.name) for a in node.names if a.name.partition(".")[0] == "posewatch")


def upward(files: Mapping[str, str]) -> list[str]:
    """Every import that runs upward, as "module:line imports module"."""
    floor = {room: i for i, rooms in enumerate(FLOORS) for room in rooms.split()}
    found = []
    for module, text in files.items():
        if module == "posewatch":
            continue
        room = module.split(".")[1]
        assert room in floor, f"src/posewatch/{room} stands on no floor: add it to FLOORS"
        for line, target in imports(module, text, files):
            if target != "posewatch" and floor[target.split(".")[1]] < floor[room]:
                found.append(f"{module}:{line} imports {target}")
    return found


def circles(files: Mapping[str, str]) -> list[str]:
    """Files that import each other, directly or around corners, as "a -> b -> a"."""
    arrows = {m: {t for _, t in imports(m, text, files) if t != m} for m, text in files.items()}
    done: set[str] = set()
    found = []

    def visit(module: str, path: tuple[str, ...]) -> None:
        if module in path:
            found.append(" -> ".join((*path[path.index(module) :], module)))
            return
        if module in done:
            return
        for target in sorted(arrows.get(module, ())):
            visit(target, (*path, module))
        done.add(module)

    for module in arrows:
        visit(module, ())
    return found


def test_imports_run_downward() -> None:
    assert upward(sources(ROOT / "src")) == []


def test_no_two_files_import_each_other() -> None:
    assert circles(sources(ROOT / "src")) == []


def test_an_import_that_runs_upward_is_named_with_its_line() -> None:
    files = {**sources(ROOT / "src"), "posewatch.store": "def f():\n    from posewatch.stages.mask import mask\n"}
    assert upward(files) == ["posewatch.store:2 imports posewatch.stages.mask"]


def test_a_circle_is_found() -> None:
    files = {"posewatch.a": "from posewatch.b import x", "posewatch.b": "import posewatch.a", "posewatch.c": ""}
    assert circles(files) == ["posewatch.a -> posewatch.b -> posewatch.a"]


def test_no_room_holds_too_much() -> None:
    lines: dict[str, int] = {}
    for module, text in sources(ROOT / "src").items():
        room = module.split(".")[1] if "." in module else ""
        lines[room] = lines.get(room, 0) + text.count("\n")
    whole = sum(lines.values())
    assert {room: n for room, n in lines.items() if n > LARGEST * whole} == {}


def test_only_the_command_line_parses_arguments() -> None:
    found = [
        f"{module}: {name}"
        for module, text in sources(ROOT / "src").items()
        if not module.startswith(("posewatch.cli", "posewatch.progress"))
        for node in ast.walk(ast.parse(text))
        for name in (
            [a.name for a in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else ["print"]
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
            else []
        )
        if name.split(".")[0] in ("argparse", "typer", "click", "print")
    ]
    assert found == []


def test_temporary_folders_say_whose_they_are() -> None:
    nameless = re.compile(r"(TemporaryDirectory|mkdtemp|mkstemp|NamedTemporaryFile|TemporaryFile)\((?!.*prefix=)")
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in (ROOT / "src").rglob("*.py")
        for line in path.read_text().splitlines()
        if nameless.search(line) and "TemporaryFile()" not in line
    ]
    assert found == [], "give them prefix='posewatch-...': what a killed program leaves is then known as ours"
