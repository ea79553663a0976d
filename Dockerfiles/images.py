"""Build the images, one per kind of stage: by docker, podman or buildah. ``python Dockerfiles/images.py [KIND]``."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REPOSITORY = "ghcr.io/posewatch/posewatch"
ENGINES = ("docker", "podman", "buildah")


@dataclass(frozen=True)
class Kind:
    """What an image holds (``extras`` of pyproject.toml, ``weights`` by name, ``packages`` that a file of this folder
    lists and that are installed without their dependencies) and its target in the Dockerfile."""

    extras: str
    target: str = "stage"
    weights: str = ""
    packages: str = ""


KINDS = {
    "base": Kind("video,pipelines"),
    "masking": Kind("masking,pipelines", weights="movenet blazepose"),
    "masking-gpu": Kind("masking,yolo,yolox,detr,sam2,pipelines"),
    "pose": Kind("pose,rtmo,pipelines", weights="movenet blazepose"),
    "pose-mmpose": Kind("pose,rtmo,mmpose,pipelines", weights="movenet blazepose", packages="mmpose.txt"),
    "train": Kind("train,pipelines"),
    "serving": Kind("video,train,serving,pipelines"),
    "labeling": Kind("labeling,serving", target="labeling"),
    "watcher": Kind("watch", target="watcher", weights="movenet blazepose"),
}
"""masking-gpu is YOLO11 (AGPL-3.0: `docs/licences.md`), YOLOX, DETR, SAM 2; tag it as masking where wanted. pose-mmpose
is pose with MMPose; tag it as pose."""
CHOSEN = ("masking-gpu", "pose-mmpose")
"""Kinds that are built only when they are named."""


class BuildError(Exception):
    """One line for the user."""


def engine(asked: str = "") -> str:
    """The engine to build with: ``asked``, else the first that is there. Raises BuildError."""
    for name in [asked] if asked else ENGINES:
        if shutil.which(name):
            return name
    raise BuildError(f"no {asked or 'docker, podman or buildah'} on the PATH (Debian: apt-get install buildah)")


def commit() -> tuple[str, str]:
    """The commit's short hash, with -dirty for changes that it does not hold, and its time."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            raise BuildError("images are tagged with the git commit: build them in a checkout")
        return done.stdout.strip()

    dirty = "-dirty" if git("status", "--porcelain", "--untracked-files=no") else ""
    return git("rev-parse", "--short=12", "HEAD") + dirty, git("show", "-s", "--format=%cI", "HEAD")


def command(kind: str, with_: str, told: argparse.Namespace, sha: str, created: str) -> list[str]:
    """The engine's command that builds ``<repository>-<kind>:<sha>``."""
    about = KINDS[kind]
    arguments = {
        "EXTRAS": about.extras,
        "WEIGHTS": about.weights,
        "PACKAGES": about.packages,
        "KIND": kind,
        "GIT_SHA": sha,
        "CREATED": created,
        "BASE_IMAGE": told.base_image,
        "TORCH_INDEX": told.torch_index,
    }
    made = [with_, "bud" if with_ == "buildah" else "build", "--file", "Dockerfiles/posewatch.Dockerfile"]
    if with_ != "docker":
        # layers make a second build short; the OCI format has no health check
        made += ["--layers", "--format", "docker", "--ignorefile", "Dockerfiles/posewatch.Dockerfile.dockerignore"]
        made += ["--isolation", told.isolation] if told.isolation else []
        made += [part for volume in told.volume for part in ("--volume", volume)]
    for name, value in arguments.items():
        made += ["--build-arg", f"{name}={value}"] if value else []
    return [*made, "--target", about.target, "--tag", f"{told.repository}-{kind}:{sha}", "."]


def main(argv: list[str] | None = None, version: tuple[str, str] | None = None) -> int:
    """The command line; ``version`` is the ``commit`` to tag with, where the caller has to know it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "kinds", nargs="*", metavar="KIND", help=f"{', '.join(KINDS)} (default: all but {', '.join(CHOSEN)})"
    )
    parser.add_argument("--engine", default="", help="docker, podman or buildah (default: the first that is there)")
    parser.add_argument("--repository", default=os.environ.get("POSEWATCH_IMAGES") or REPOSITORY)
    parser.add_argument("--base-image", default="", help="any image with Python 3.11 and its venv module")
    parser.add_argument("--torch-index", default="", help="a further index for torch, e.g. that of its CPU builds")
    parser.add_argument("--volume", action="append", default=[], help="HOST:PLACE:ro for the build only (not docker)")
    parser.add_argument("--isolation", default="", help="buildah's and podman's: chroot works without privileges")
    parser.add_argument("--print", action="store_true", help="say what would be run, and stop")
    told = parser.parse_args(argv)
    try:
        for kind in told.kinds:
            if kind not in KINDS:
                raise BuildError(f"no kind of image {kind!r} (there are: {', '.join(KINDS)})")
        with_ = told.engine or "docker" if told.print else engine(told.engine)
        if told.volume and with_ == "docker":
            raise BuildError("docker build mounts no volumes: use --engine podman or buildah")
        sha, created = version or commit()
        for kind in told.kinds or [k for k in KINDS if k not in CHOSEN]:
            line = command(kind, with_, told, sha, created)
            print(" ".join(line), flush=True)
            if not told.print and subprocess.run(line, cwd=ROOT, check=False).returncode:
                raise BuildError(f"the image {kind} was not built: {with_}'s message is above")
    except BuildError as error:
        print(f"images: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
