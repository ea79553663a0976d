"""The images that components run in: one per kind of stage, tagged with the git commit (`Dockerfiles/README.md`).

POSEWATCH_IMAGES is the images' common name (``registry/posewatch`` gives ``registry/posewatch-pose:<tag>``),
POSEWATCH_TAG their tag; POSEWATCH_IMAGE names one image that holds everything, for every stage.
"""

import functools
import os

REPOSITORY = "ghcr.io/posewatch/posewatch"
KINDS = ("base", "masking", "pose", "train", "serving")
"""Kinds of image for a pipeline's stages; labeling and watcher are services."""


def image(kind: str) -> str:
    """``name:tag`` for a kind of stage, never ``latest``: the engine's cache key holds only the image's name.

    Raises InputError for a tag that moves, or where there is neither a tag nor a git commit.
    """
    from posewatch.errors import InputError

    if kind not in KINDS:
        raise InputError(f"no kind of image {kind!r} (there are: {', '.join(KINDS)})")
    name = os.environ.get("POSEWATCH_IMAGE", "")
    if not name:
        tag = os.environ.get("POSEWATCH_TAG", "") or _commit()
        name = f"{os.environ.get('POSEWATCH_IMAGES') or REPOSITORY}-{kind}:{tag}"
    last = name.rsplit("/", 1)[-1]
    if "@sha256:" not in last and (":" not in last or last.endswith((":latest", ":"))):
        raise InputError(f"the image {name!r} needs a fixed tag other than 'latest' (the git commit, say)")
    return name


@functools.cache
def _commit() -> str:
    """The tag that ``make images`` gives: the commit, with -dirty for changes that it does not hold."""

    from posewatch.artifact import git

    commit = git(__file__, "rev-parse", "--short=12", "HEAD")
    if not commit:
        return "unversioned"
    return f"{commit}-dirty" if git(__file__, "status", "--porcelain", "--untracked-files=no") else commit
