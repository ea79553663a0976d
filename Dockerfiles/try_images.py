"""``make test-images``: build the images by buildah on a Debian base, and run each as a cluster would (``trials.py``).

Root, and ``apt-get install --no-install-recommends buildah podman runc catatonit debootstrap``. Rendered videos of
seconds go through every stage, each in the image that its component names, to a model of one epoch; that is served by
this checkout's Triton and watches a camera; the labeling page comes up. A machine's own pip.conf, wheels and
certificates are mounted for the build, never baked in.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from images import KINDS, BuildError, commit
from images import main as build
from trials import (
    CHECKOUT,
    INSIDE,
    Site,
    clips_of,
    shell,
    triton,
    try_labeling,
    try_mmpose,
    try_serving,
    try_stages,
    try_watcher,
)

from posewatch.errors import PosewatchError

BASE = "localhost/posewatch-debian"
REPOSITORY = "localhost/posewatch"
PACKAGES = "python3,python3-venv,ca-certificates"
CPU_TORCH = "https://download.pytorch.org/whl/cpu"
TRIED = [kind for kind in KINDS if kind != "masking-gpu"]
SERVICES = ("labeling", "watcher")


def debian(mirror: str) -> None:
    """The base image, made once: Debian with Python 3.11 and nothing to compile with."""
    if not subprocess.run(["buildah", "inspect", "--type", "image", BASE], capture_output=True, check=False).returncode:
        return
    with tempfile.TemporaryDirectory(prefix="posewatch-debian-") as temp:
        print(f"making {BASE} (minutes, once)", flush=True)
        shell("debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", f"{temp}/root", mirror)
        shutil.rmtree(f"{temp}/root/var/cache/apt", ignore_errors=True)
        made = shell("buildah", "from", "scratch").strip()
        shell("buildah", "add", made, f"{temp}/root", "/")
        shell("buildah", "config", "--env", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", made)
        shell("buildah", "commit", "--rm", made, BASE)


def build_all(kinds: list[str], flags: list[str], repository: str, version: tuple[str, str]) -> None:
    """Each image with its size and the minutes that it took. Raises BuildError."""
    for kind in kinds:
        began = time.monotonic()
        if build([kind, "--engine", "buildah", "--isolation", "chroot", "--repository", repository, *flags], version):
            raise BuildError("stopped")
        told = json.loads(shell("podman", "image", "inspect", f"{repository}-{kind}:{version[0]}"))
        minutes = (time.monotonic() - began) / 60
        print(f"{kind}: built in {minutes:.1f} min, {told[0]['Size'] / 1e9:.2f} GB", flush=True)


def try_all(site: Site, kinds: list[str]) -> None:
    """Run every kind. Raises BuildError naming what failed."""
    for kind in kinds:
        role = "service" if kind in SERVICES else "stage"
        print(f"{kind}: {site.inside(kind, 'python3', '-c', INSIDE, role)}", flush=True)
    if "labeling" in kinds:
        print(f"labeling: {try_labeling(site)}", flush=True)
    made = try_stages(site, kinds)
    if "pose-mmpose" in kinds:
        print(f"pose-mmpose: {try_mmpose(site, made.get('split') or clips_of(site))}", flush=True)
    if "publish" not in made:
        print("serving, watcher: left out, they need the model that the stages make", flush=True)
        return
    with triton(site, made["publish"]) as endpoint:
        print(f"serving: {try_serving(site, endpoint, made)}", flush=True)
        if "watcher" in kinds:
            print(f"watcher: {try_watcher(site, endpoint)}", flush=True)


def footage(folder: Path) -> None:
    """Six rendered videos of four seconds with their labels, made by this checkout."""
    told = ("--videos", "6", "--seconds", "4", "--seed", "3")
    shell(sys.executable, "-m", "posewatch.cli.main", "footage", "--out", str(folder), *told, env=CHECKOUT)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make test-images", description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(TRIED)} (default: all of them)")
    parser.add_argument("--tag", default="", help="run images that are there, with this tag, instead of building them")
    parser.add_argument("--repository", default=REPOSITORY, help="of the images, <repository>-<kind>:<tag>")
    parser.add_argument("--base-image", default="", help="a base that is there (default: made by debootstrap, once)")
    parser.add_argument("--mirror", default="http://deb.debian.org/debian")
    parser.add_argument("--pip-conf", type=Path, help="this machine's pip.conf, mounted for the build")
    parser.add_argument("--wheels", type=Path, help="a folder that it names in find-links, mounted at the same place")
    parser.add_argument("--ca", type=Path, help="this machine's certificates, mounted for the build")
    parser.add_argument("--torch-index", default=CPU_TORCH, help="index of torch's CPU builds; '' for none")
    told = parser.parse_args(argv)
    kinds = [kind for kind in TRIED if kind in told.kinds] if told.kinds else TRIED
    try:
        for kind in told.kinds:
            if kind not in TRIED:
                raise BuildError(f"no kind of image {kind!r} that is tried (there are: {', '.join(TRIED)})")
        if os.geteuid():
            raise BuildError("this needs root: debootstrap, and containers of another user")
        for tool in ("buildah", "podman", "runc", *([] if told.base_image or told.tag else ["debootstrap"])):
            if not shutil.which(tool):
                raise BuildError(f"no {tool} (apt-get install --no-install-recommends buildah podman runc debootstrap)")
        if not told.base_image and not told.tag:
            debian(told.mirror)
        flags = ["--base-image", told.base_image or BASE, "--torch-index", told.torch_index]
        places = ((told.pip_conf, "/etc/pip.conf"), (told.ca, "/etc/ssl/certs/ca-certificates.crt"))
        for source, place in (*places, (told.wheels, str(told.wheels))):
            flags += ["--volume", f"{source.resolve()}:{place}:ro"] if source else []
        version = (told.tag, "") if told.tag else commit()
        if not told.tag:
            build_all(kinds, flags, told.repository, version)
        with tempfile.TemporaryDirectory(prefix="posewatch-images-") as temp:
            folder = Path(temp)
            folder.chmod(0o755)
            site = Site(told.repository, version[0], folder / "home", folder / "footage")
            site.folder.mkdir()
            os.chown(site.folder, 10001, 10001)
            footage(site.footage)
            try_all(site, kinds)
    except (BuildError, PosewatchError) as error:
        print(f"test-images: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
