"""The image that every component runs in: POSEWATCH_IMAGE, else the repository's image tagged with the git commit."""

import os
import subprocess
from pathlib import Path

REPOSITORY = "ghcr.io/posewatch/posewatch"


def image() -> str:
    """``name:tag``, never ``latest``: the engine's cache key holds the image's name and not its content."""
    asked = os.environ.get("POSEWATCH_IMAGE", "")
    if not asked:
        git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short=12", "HEAD"]
        found = subprocess.run(git, capture_output=True, text=True, check=False)
        asked = f"{REPOSITORY}:{found.stdout.strip() or 'unversioned'}"
    name = asked.rsplit("/", 1)[-1]
    if ":" not in name or name.endswith(":latest"):
        raise ValueError(f"POSEWATCH_IMAGE={asked!r} needs a fixed tag other than 'latest' (the git commit, say)")
    return asked


IMAGE = image()
