"""``make secrets``: no credential in the repository that `secrets.json` does not know as harmless (detect-secrets).

A new finding is an error with its file and line. One that is harmless (a password of a test) is accepted by
``python .ci/secrets.py --accept``, which a reviewer sees in the difference; only hashes are written.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KNOWN = Path(__file__).with_name("secrets.json")
GENERATED = ("tests/pipeline/golden/", "constraints.txt", ".ci/secrets.json")


def found() -> list[tuple[str, str, str, int]]:
    """(file, kind, hash, line) of everything that looks like a secret in the files that git holds."""
    from detect_secrets import SecretsCollection
    from detect_secrets.settings import default_settings

    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    secrets = SecretsCollection(root=str(ROOT))
    with default_settings():
        for name in sorted(filter(None, listed.split("\0"))):
            if not name.startswith(GENERATED) and (ROOT / name).is_file():
                secrets.scan_file(name)
    return sorted((name, s.type, s.secret_hash, s.line_number) for name, s in secrets)


def main() -> int:
    rows = found()
    if "--accept" in sys.argv[1:]:
        told = [{"file": f, "kind": kind, "hash": sha} for f, kind, sha in sorted({row[:3] for row in rows})]
        KNOWN.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
        print(f"{len(told)} findings accepted in {KNOWN.relative_to(ROOT)}")
        return 0
    known = {(row["file"], row["hash"]) for row in json.loads(KNOWN.read_text(encoding="utf-8"))}
    new = [row for row in rows if (row[0], row[2]) not in known]
    for name, kind, _, line in new:
        print(f"{name}:{line}: {kind} (remove it and change it where it is used; harmless: .ci/secrets.py --accept)")
    return 1 if new else 0


if __name__ == "__main__":
    sys.exit(main())
