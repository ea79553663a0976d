"""``make audit``: known vulnerabilities of the pinned dependencies, by pip-audit; says so where it could not look."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path


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
    print("\n".join(lines))
    return status


if __name__ == "__main__":
    sys.exit(main())
