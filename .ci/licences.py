"""``make licences``: write docs/licences.md, every pinned dependency with its licence as its metadata says."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HEAD = """# Licences of the dependencies

posewatch itself is Apache-2.0. This is what the packages in `constraints.txt` say of themselves, and those in
`Dockerfiles/mmpose.txt`, which are in the image `pose-mmpose` only; `make licences` writes the page anew. It is a list,
not legal advice. Weights have licences of their own: `posewatch weights list`.

{copyleft}

## All packages

| package | version | licence |
|---|---|---|
{rows}
"""
LISTS = ("constraints.txt", "Dockerfiles/mmpose.txt")
WHERE = {
    "ultralytics-opencv-headless": "extra `yolo` only (YOLO11); images: `masking-gpu` only",
    "ultralytics-thop": "extra `yolo` only",
    "ultralytics-platform": "extra `yolo` only",
}


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(text: str) -> dict[str, str]:
    """Package names of constraints.txt, normalised, with their versions."""
    return {plain(n): v for n, v in re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", text, re.MULTILINE)}


def page(rows: list[dict[str, str]], wanted: dict[str, str]) -> str:
    """The page for pip-licenses' rows. A package that is pinned and not installed is said to be unknown."""
    said = {"UNKNOWN": "its metadata does not say"}
    licences = {plain(row["Name"]): said.get(row["License"], " ".join(row["License"].split())) for row in rows}
    strong = {n: licences[n] for n in wanted if re.search("GPL|Affero|General Public", licences.get(n, ""))}
    lines = ["## To be known before anything is handed on", ""]
    lines += [
        f"- **{name}**: {licence}" + (f": {WHERE[name]}" if name in WHERE else "")
        for name, licence in sorted(strong.items())
    ]
    agpl = "The AGPL covers who offers the software over a network: without the extra `yolo` none of it is installed."
    lines += ["", agpl] if any("AGPL" in x or "Affero" in x for x in strong.values()) else []
    table = [
        f"| {n} | {wanted[n]} | {licences.get(n, 'not installed where this was written')} |" for n in sorted(wanted)
    ]
    return HEAD.format(copyleft="\n".join(lines), rows="\n".join(table))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", default=str(ROOT / ".venv/bin/python"), help="of the environment to look at")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/licences.md")
    told = parser.parse_args()
    command = [sys.executable, "-m", "piplicenses", "--python", told.python, "--from", "mixed", "--format", "json"]
    done = subprocess.run([*command, "--with-system"], capture_output=True, text=True)
    if done.returncode:
        print(f"licences: {(done.stderr.strip().splitlines() or ['pip-licenses failed'])[-1]}", file=sys.stderr)
        return 1
    lists = "".join((ROOT / name).read_text(encoding="utf-8") for name in LISTS)
    text = page(json.loads(done.stdout), pinned(lists))
    told.out.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
