"""Write README.md and metadata.yaml of every component from its code: ``make components``."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import docstring_parser
import yaml

HERE = Path(__file__).parent
NAMES = tuple(sorted(path.parent.name for path in HERE.glob("*/component.py")))


def readme(name: str) -> str:
    """What the component does, its inputs and its outputs, as Markdown."""
    about = docstring_parser.parse(_function(name).python_func.__doc__)
    described = {param.arg_name: param.description for param in about.params}
    lines = [f"# {name}", "", about.short_description]
    if about.long_description:
        lines += ["", about.long_description.replace("``", "`")]
    lines += ["", "| input | what |", "|---|---|"]
    lines += [f"| `{key}` | {_cell(described[key])} |" for key in _spec(name).inputs or {}]
    outputs = _spec(name).outputs or {}
    if outputs:
        lines += ["", "| output | what |", "|---|---|"]
    for key, output in outputs.items():
        kind = output.type.removeprefix("system.").partition("@")[0]
        value = _cell(about.returns.description) if about.returns else "URI of the artifact"
        artifact = _cell(described[key]) if key in described else f"KFP artifact `{kind}`"
        lines.append(f"| `{key}` | {value if key == 'Output' else artifact} |")
    return "\n".join(lines) + "\n"


def metadata(name: str) -> str:
    """Name, description, stage, inputs and outputs, as YAML."""
    about = docstring_parser.parse(_function(name).python_func.__doc__)
    data = {
        "name": name,
        "description": about.short_description,
        "stability": "alpha",
        "stage": f"src/posewatch/stages/{name}.py",
        "inputs": list(_spec(name).inputs or {}),
        "outputs": list(_spec(name).outputs or {}),
    }
    return yaml.safe_dump(data, sort_keys=False, default_flow_style=None, width=200)


def _function(name: str) -> Any:
    return getattr(importlib.import_module(f"components.{name}.component"), name)


def _spec(name: str) -> Any:
    return _function(name).component_spec


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).removesuffix(".")


def main() -> int:
    for name in NAMES:
        (HERE / name / "README.md").write_text(readme(name), encoding="utf-8")
        (HERE / name / "metadata.yaml").write_text(metadata(name), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
