"""What ``make test-images`` does in each image: the stages (``steps.py``), then the services.

The containers run as a cluster would run them: uid 10001, a read-only root, no capabilities. All but those that talk to
Triton or a camera have no network either. What they write lies in one folder that the next container reads.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from images import ROOT, BuildError
from steps import SMOKE, STAGES, kind_of, local, run_step

RUN = [
    "podman", "run", "--runtime", "runc", "--read-only", "--cap-drop", "ALL",
    "--security-opt", "no-new-privileges", "--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096",
    "--user", "10001:10001", "--tmpfs", "/tmp", "--tmpfs", "/minio",
    "--env", "OMP_NUM_THREADS=1", "--env", "POSEWATCH_WORKERS=1",
]  # fmt: skip
INSIDE = """
import json, os, pathlib, shutil, sys
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
cache = os.stat("/opt/posewatch/cache")
assert (cache.st_uid, cache.st_gid, cache.st_mode & 0o070) == (10001, 0, 0o070), "of the group 0, for OpenShift's uids"
bom = json.loads(pathlib.Path("/opt/venv/sbom.cdx.json").read_text())
if sys.argv[1] == "stage":
    import kfp.dsl.executor_main
print(f"uid 10001, read-only, {len(bom['components'])} components in its {bom['bomFormat']} {bom['specVersion']} list")
"""
SKELETONS = """
import json, sys
from posewatch.artifact import members
from posewatch.stages.contents import skeletons_of
from posewatch.stages.run import Run
made = [skeletons_of(video) for _, video in members(Run(sys.argv[1]).artifact(sys.argv[2]))]
print(json.dumps([list(skeleton.keypoints.shape) for video in made for skeleton in video.values()]))
"""
MMPOSE = "/opt/venv/lib/python3.11/site-packages/mmpose/.mim/configs/body_2d_keypoint"
RTMO = f"{MMPOSE}/rtmo/body7/rtmo-t_8xb32-600e_body7-416x416.py"
CHECKOUT = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
CAMERA = "import time; from perception.camera import Camera; print(Camera().url, flush=True); time.sleep(3600)"
GET = "import urllib.request as r; print(r.urlopen('{}', timeout=5).read().decode())"


@dataclass(frozen=True)
class Site:
    """Where the images are (``<repository>-<kind>:<tag>``) and the folder that their containers share, of uid 10001."""

    repository: str
    tag: str
    folder: Path
    footage: Path
    at: str = "/var/lib/posewatch"
    """Where the containers see the folder."""

    @property
    def store(self) -> str:
        return f"{self.at}/store"

    def container(self, kind: str, *flags: str, network: str = "none", env: dict[str, str] | None = None) -> list[str]:
        """The command line up to the container's own command."""
        home = {"POSEWATCH_STORE": self.store, "POSEWATCH_LABELS_URL": f"sqlite:///{self.at}/labels.db"}
        told = [part for item in {**home, **(env or {})}.items() for part in ("--env", "=".join(item))]
        volumes = ["--volume", f"{self.folder}:{self.at}", "--volume", f"{self.footage}:/in:ro"]
        return [*RUN, "--network", network, *volumes, *told, *flags, f"{self.repository}-{kind}:{self.tag}"]

    def inside(self, kind: str, *command: str, network: str = "none") -> str:
        """What the command says in a container of that image. Raises BuildError."""
        return shell(*self.container(kind, "--rm", network=network), *command).strip()


def shell(*command: str, **options: object) -> str:
    """The command's output. Raises BuildError with the last of what it said."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    if done.returncode:
        raise BuildError(f"{' '.join(command)[-160:]} failed: {(done.stderr or done.stdout).strip()[-600:]}")
    return str(done.stdout)


def try_stages(site: Site, kinds: list[str]) -> dict[str, str]:
    """The stages one after another, up to one whose image is not among ``kinds``; returns what they put out."""
    made: dict[str, str] = {}
    for component, values in STAGES:
        kind = kind_of(component, site)
        if kind not in kinds:
            print(f"stages: {component} and what follows left out: the image {kind} was not asked for", flush=True)
            break
        began = time.monotonic()
        made[component] = run_step(site, component, values, made)
        more = f" {_skeletons(site, kind, made[component])}" if component == "pose" else ""
        print(f"{kind}: {component} in {time.monotonic() - began:.0f} s{more}", flush=True)
    return made


def clips_of(site: Site) -> str:
    """The clips of the footage, made by this checkout where no container has made them."""
    store = site.folder / "store"
    uri = str(site.footage)
    for verb in (("ingest",), ("mask",), ("split", "--set", "split.length_s=2.0")):
        done = shell(
            sys.executable, "-m", "posewatch.cli", verb[0], uri, *verb[1:], "--store", str(store), env=CHECKOUT
        )
        uri = done.strip().splitlines()[-1]
    shell("chown", "--recursive", "10001:10001", str(store))
    return uri.replace(str(store), site.store)


def try_mmpose(site: Site, clips: str) -> str:
    """The pose stage by MMPose's own RTMO-t, of which the package holds the definition; its weights are random."""
    settings = ("pose.estimator=mmpose", f"pose.weights={RTMO}")
    kind = "pose-mmpose"
    made = run_step(site, "pose", {"clips": "@split"}, {"split": clips}, kind=kind, settings=settings)
    return f"pose with pose.estimator=mmpose {_skeletons(site, kind, made)}"


def _skeletons(site: Site, kind: str, uri: str) -> str:
    shapes = json.loads(site.inside(kind, "python3", "-c", SKELETONS, site.store, uri))
    if not shapes or any(len(shape) != 4 or shape[2:] != [17, 3] for shape in shapes) or not any(s[0] for s in shapes):
        raise BuildError(f"the skeletons are not (persons, frames, 17, 3) with somebody in them: {shapes}")
    return f"({len(shapes)} clips with skeletons, e.g. {tuple(shapes[0])})"


@contextmanager
def triton(site: Site, model: str) -> Iterator[str]:
    """The published version served by this checkout's Triton on loopback; gives its endpoint."""
    from posewatch.inference.triton_admin import load_model
    from posewatch.stack import TritonServer

    repository = local(site, model)
    (name,) = [path.name for path in repository.iterdir() if path.is_dir()]
    with TritonServer.start(repository, log=site.folder / "triton.log") as server:
        load_model(server.grpc, name)
        yield f"grpc://{server.grpc}/{name}"


def try_serving(site: Site, endpoint: str, made: dict[str, str]) -> str:
    """The smoke test of the served model, from the serving image."""
    name, values = SMOKE
    uri = run_step(site, name, {**values, "endpoint": endpoint}, made, network="host")
    told = json.loads((local(site, uri) / "smoke.json").read_text(encoding="utf-8"))
    return f"smoke test against Triton: {told['clips']} clips, largest difference {told['max_abs_difference']:.1g}"


@contextmanager
def running(command: list[str]) -> Iterator[str]:
    """A container in the background; gives its name, and removes it in the end as Kubernetes does: SIGTERM first."""
    name = shell(*command[:2], "--detach", *command[2:]).strip()
    try:
        yield name
    finally:
        subprocess.run(["podman", "rm", "--force", "--time", "5", name], capture_output=True, check=False)


def answers(name: str, url: str, wanted: str = "", seconds: float = 90) -> str:
    """What ``url`` answers from within the container, as soon as ``wanted`` is in it. Raises BuildError."""
    said, until = "", time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            said = shell("podman", "exec", name, "python3", "-c", GET.format(url))
            if re.search(wanted, said):
                return said
        except BuildError as error:
            said = str(error)
        time.sleep(1)
    logs = subprocess.run(["podman", "logs", name], capture_output=True, text=True, check=False)
    raise BuildError(f"{url} does not answer with {wanted or 'anything'!r}: {said[-300:]} {logs.stderr[-600:]}")


def try_labeling(site: Site) -> str:
    """The page comes up and answers its probes and health check, and the chart's own check passes."""
    page = "http://127.0.0.1:8501"
    parts = json.dumps([{"page": page}, {"store": site.store}, {"labels": True}])
    # where the chart mounts the secret of OpenID Connect, over nothing in a root that is read-only
    secret = site.folder / "secrets.toml"
    secret.write_text("", encoding="utf-8")
    flags = ["--volume", f"{secret}:/opt/posewatch/labeling-service/.streamlit/secrets.toml:ro"]
    flags += ["--volume", f"{ROOT / 'helm/posewatch/files/check.py'}:/etc/posewatch/check.py:ro"]
    with running(site.container("labeling", *flags, env={"POSEWATCH_CHECK": parts})) as name:
        for path in ("/_stcore/health", "/ready"):
            answers(name, page + path)
        shell("podman", "healthcheck", "run", name)
        said = shell("podman", "exec", name, "python3", "/etc/posewatch/check.py")
        passed = re.findall(r"^ok +(\w+)", said, re.MULTILINE)
        return f"probes answer, healthy, the check of helm test passes: {', '.join(passed)}"


def try_watcher(site: Site, model: str) -> str:
    """A camera (RTSP) is watched with ``model`` by the image's own command; probes, figures and a clean end."""
    cameras = [{"name": "door", "url": "${DOOR}"}]
    config = {"model": model, "out": f"{site.at}/watch", "privacy": "skeleton", "cameras": cameras}
    (site.folder / "cameras.yaml").write_text(json.dumps(config), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'tests'}"}
    camera = subprocess.Popen([sys.executable, "-c", CAMERA], env=environment, stdout=subprocess.PIPE, text=True)
    assert camera.stdout is not None
    url = camera.stdout.readline().strip()
    flags = ["--volume", f"{site.folder / 'cameras.yaml'}:/etc/posewatch/cameras.yaml:ro"]
    try:
        with running(site.container("watcher", *flags, network="host", env={"DOOR": url})) as name:
            at = "http://127.0.0.1:9100"
            for path in ("/healthz", "/readyz"):
                answers(name, at + path, "ok")
            said = answers(name, f"{at}/metrics", r'posewatch_watch_windows_total\{camera="door"\} [1-9]')
            shell("podman", "healthcheck", "run", name)
            began = time.monotonic()
            shell("podman", "stop", "--time", "45", name)
            code = shell("podman", "inspect", "--format", "{{.State.ExitCode}}", name).strip()
            if code != "0":
                raise BuildError(f"the watcher ended with {code} after SIGTERM, not with 0")
            ended = time.monotonic() - began
    finally:
        camera.terminate()
        camera.wait()
    frames = re.search(r'posewatch_watch_frames_total\{camera="door"\} (\d+)', said)
    return f"probes and figures answer, healthy, {frames[1] if frames else 0} frames watched, ended in {ended:.0f} s"
