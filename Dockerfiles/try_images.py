"""``make test-images``: build base, pose and labeling by buildah on a Debian base, and run each as a cluster would.

Root, and ``apt-get install --no-install-recommends buildah podman runc catatonit debootstrap``. Each container runs as
uid 10001 with a read-only root, no capabilities and no network but loopback: a clip goes in and skeletons come out, the
labeling page answers its probe. A machine's own pip.conf and certificates are mounted for the build, never baked in.
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

from images import ROOT, BuildError, commit
from images import main as build

BASE = "localhost/posewatch-debian"
REPOSITORY = "localhost/posewatch"
PACKAGES = "python3,python3-venv,ca-certificates"
RUN = [
    "podman", "run", "--runtime", "runc", "--read-only", "--network", "none", "--cap-drop", "ALL",
    "--security-opt", "no-new-privileges", "--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096",
    "--user", "10001:10001", "--env", "OMP_NUM_THREADS=1", "--env", "POSEWATCH_WORKERS=1",
]  # fmt: skip
INSIDE = """
import json, os, pathlib, shutil
assert os.getuid() == 10001, os.getuid()
try:
    pathlib.Path("/written").write_text("")
except OSError:
    pass
else:
    raise SystemExit("the root file system can be written")
for tool in ("gcc", "cc", "g++", "make"):
    assert not shutil.which(tool), f"{tool} is in the image"
for file in ("/etc/pip.conf", "/opt/venv/pip.conf"):
    path = pathlib.Path(file)
    assert not path.exists() or not path.read_text().strip(), f"{file} was baked in"
bom = json.loads(pathlib.Path("/opt/venv/sbom.cdx.json").read_text())
print(json.dumps({"components": len(bom["components"]), "format": bom["bomFormat"] + " " + bom["specVersion"]}))
"""
SKELETONS = """
import io, json, sys, numpy as np
from posewatch.artifact import get, members
from posewatch.store import open_store
set_of = get(open_store("/var/lib/posewatch/store"), sys.argv[1])
found = np.load(io.BytesIO(members(set_of)[0][1].read("skeletons.npz")))
print(json.dumps({name: list(found[name].shape) for name in found}))
"""
PROBE = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8501{}', timeout=5).status)"


def shell(*command: str, **options: object) -> str:
    """The command's output. Raises BuildError with the last of what it said."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    if done.returncode:
        raise BuildError(f"{' '.join(command)[:120]} … failed: {(done.stderr or done.stdout).strip()[-400:]}")
    return str(done.stdout)


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
        shell("buildah", "config", "--env", "PATH=/usr/local/bin:/usr/bin:/bin", made)
        shell("buildah", "commit", "--rm", made, BASE)


def inside(image: str, *command: str, mounts: tuple[str, ...] = ()) -> str:
    volumes = [part for mount in mounts for part in ("--volume", mount)]
    return shell(*RUN, "--rm", "--tmpfs", "/tmp", *volumes, image, *command)


def try_pose(image: str, video: Path, folder: Path) -> str:
    """A clip in, skeletons out: masking, splitting and pose in the container."""
    mounts = (f"{video}:/in/clip.mp4:ro", f"{folder}:/var/lib/posewatch")
    at = "/var/lib/posewatch"
    command = ["posewatch", "prepare", "/in/clip.mp4", "--store", f"{at}/store", "--labels-url", f"sqlite:///{at}/l.db"]
    made = json.loads(inside(image, *command, "--set", "split.length_s=1.0", mounts=mounts))
    shapes = json.loads(inside(image, "python3", "-c", SKELETONS, made["skeletons"], mounts=mounts))
    if not shapes or any(len(shape) != 4 or shape[2:] != [17, 3] or shape[0] < 1 for shape in shapes.values()):
        raise BuildError(f"the skeletons are not (persons, frames, 17, 3) with somebody in them: {shapes}")
    return f"{len(shapes)} clips with skeletons, e.g. {next(iter(shapes.values()))}"


def try_labeling(image: str, folder: Path) -> str:
    """The page comes up on a read-only root and answers its liveness and readiness probes, and its health check."""
    volume = f"{folder}:/var/lib/posewatch"
    where = ["--env", "POSEWATCH_STORE=/var/lib/posewatch/store", "--tmpfs", "/tmp", "--volume", volume]
    where += ["--env", "POSEWATCH_LABELS_URL=sqlite:////var/lib/posewatch/labels.db"]
    name = shell(*RUN, "--detach", *where, image).strip()
    try:
        said = ""
        for _ in range(60):
            try:
                for path in ("/_stcore/health", "/ready"):
                    said = shell("podman", "exec", name, "python3", "-c", PROBE.format(path)).strip()
                shell("podman", "healthcheck", "run", name)
                return f"probes answer {said}, healthy"
            except BuildError as error:
                said = str(error)
                time.sleep(1)
        raise BuildError(f"the labeling page does not answer: {said[-200:]} {shell('podman', 'logs', name)[-400:]}")
    finally:
        subprocess.run(["podman", "rm", "--force", "--time", "5", name], capture_output=True, check=False)


def footage(folder: Path) -> Path:
    """A rendered clip of two seconds, made by this checkout."""
    code = f"from posewatch.footage import make_footage; from pathlib import Path; make_footage(Path({str(folder)!r}), "
    code += "videos=1, seconds=2.0, size=(320, 240), seed=3)"
    python = ROOT / ".venv/bin/python"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    shell(str(python if python.exists() else sys.executable), "-c", code, env=environment)
    return next(folder.glob("*.mp4"))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make test-images", description=__doc__)
    parser.add_argument("--base-image", default="", help="a base that is there (default: made by debootstrap, once)")
    parser.add_argument("--mirror", default="http://deb.debian.org/debian")
    parser.add_argument("--pip-conf", type=Path, help="this machine's pip.conf, mounted for the build")
    parser.add_argument("--ca", type=Path, help="this machine's certificates, mounted for the build")
    told = parser.parse_args(argv)
    try:
        for tool in ("buildah", "podman", "runc", *([] if told.base_image else ["debootstrap"])):
            if not shutil.which(tool):
                raise BuildError(f"no {tool} (apt-get install --no-install-recommends buildah podman runc debootstrap)")
        if not told.base_image:
            debian(told.mirror)
        flags = ["--engine", "buildah", "--isolation", "chroot", "--repository", REPOSITORY]
        flags += ["--base-image", told.base_image or BASE]
        for source, place in ((told.pip_conf, "/etc/pip.conf"), (told.ca, "/etc/ssl/certs/ca-certificates.crt")):
            flags += ["--volume", f"{source}:{place}:ro"] if source else []
        if build(["base", "pose", "labeling", *flags]):
            return 1
        sha, _ = commit()
        with tempfile.TemporaryDirectory(prefix="posewatch-images-") as temp:
            folder = Path(temp)
            for name in ("pose", "labeling"):
                (folder / name).mkdir()
                os.chown(folder / name, 10001, 10001)
            folder.chmod(0o755)
            for kind in ("base", "pose", "labeling"):
                print(f"{kind}: {inside(f'{REPOSITORY}-{kind}:{sha}', 'python3', '-c', INSIDE).strip()}", flush=True)
            video = footage(folder / "footage")
            print(f"pose: {try_pose(f'{REPOSITORY}-pose:{sha}', video, folder / 'pose')}", flush=True)
            print(f"labeling: {try_labeling(f'{REPOSITORY}-labeling:{sha}', folder / 'labeling')}", flush=True)
            run = f"{REPOSITORY}-base:{sha}"
            print(f"base: {inside(run, 'python3', '-c', 'import kfp.dsl.executor_main; print(0)').strip()}", flush=True)
    except BuildError as error:
        print(f"test-images: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
