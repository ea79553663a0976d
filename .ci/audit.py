"""``make audit``: known vulnerabilities of what is pinned.

Packages by pip-audit, which says so where it could not look; container images by the floors in
``src/posewatch/deploy/images.py``. Exits with 1 where there is one.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
_NAMED = re.compile(
    r"^\s*(?:-\s+)?(?:image|default_image): *[\"']?([\w./:@-]+)|^FROM +([\w./:@-]+)|^ARG +\w*IMAGE=([\w./:@-]+)"
    r"|\b((?:nvcr|docker|ghcr|quay)\.io/[\w./-]+:[\w.-]+)",
    re.MULTILINE,
)
"""Images in YAML (chart, manifests, compose, workflows), in Dockerfiles, and by a registry's name anywhere."""
_OURS = re.compile(r"(^|/)posewatch(-\w+)?(:|$)|^registry\.example")


def images(root: Path = ROOT) -> Iterator[tuple[str, str]]:
    """(file, image) of every image of other people that a tracked file outside tests/ pins."""
    listed = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    for name in listed:
        if not name or name.startswith("tests/") or name == "CHANGELOG.md":
            continue
        try:
            text = (root / name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        for found in dict.fromkeys(next(filter(None, match), "") for match in _NAMED.findall(text)):
            if ":" in found and not _OURS.search(found):
                yield name, found


def floors() -> Any:
    """The package's table, read by its path: this environment has no posewatch."""
    spec = importlib.util.spec_from_file_location("image_floors", ROOT / "src/posewatch/deploy/images.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def below_floor(found: list[tuple[str, str]]) -> list[str]:
    """One line for each image below its floor."""
    table = floors()
    judged = [(name, image, table.below(image)) for name, image in found]
    return [f"{name}: {image} is below {f.version} ({f.why})" for name, image, f in judged if f is not None]


def verdict(report: str, said: str) -> tuple[int, list[str]]:
    """Exit status and lines for pip-audit's JSON report; a report that looked at nothing is no all-clear."""
    try:
        rows = json.loads(report)["dependencies"]
    except (ValueError, KeyError):
        why = (said.strip().splitlines() or ["no report"])[-1][:200]
        return 0, [f"audit skipped: the advisories cannot be asked from here ({why})"]
    bad = [(row, vuln) for row in rows for vuln in row.get("vulns", [])]
    lines = [
        f"{row['name']} {row['version']}: {vuln['id']} (fixed in {', '.join(vuln['fix_versions']) or 'no version'})"
        for row, vuln in bad
    ]
    skipped = [row["name"] for row in rows if "skip_reason" in row]
    if rows and len(skipped) == len(rows):
        return 0, ["audit skipped: this package index publishes no advisories (run it where pypi.org is reached)"]
    if skipped:
        lines.append(
            f"{len(skipped)} of {len(rows)} packages are unknown to the advisories: {', '.join(skipped)[:300]}"
        )
    lines.append(f"{len(rows) - len(skipped)} packages looked up, {len(bad)} advisories")
    return 1 if bad else 0, lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("requirements", type=Path, nargs="?", default=Path("constraints.txt"))
    told = parser.parse_args()
    command = ["-m", "pip_audit", "--requirement", str(told.requirements), "--no-deps", "--disable-pip"]
    done = subprocess.run(
        [sys.executable, *command, "--format", "json", "--progress-spinner", "off"], capture_output=True, text=True
    )
    status, lines = verdict(done.stdout, done.stderr)
    found = list(images())
    bad = below_floor(found)
    print("\n".join([*lines, *bad, f"{len(found)} pinned images looked at, {len(bad)} below their floor"]))
    return 1 if bad else status


if __name__ == "__main__":
    sys.exit(main())
