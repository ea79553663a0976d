"""What the chart runs in our images, against the Dockerfile: commands, users, ports, probes, paths."""

from __future__ import annotations

import ast
import json
import re
import shlex
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath as Path

import pytest
import yaml
from support import ROOT, parsed

from posewatch.watch import service

from .chart import EXAMPLES, Body, load_script, named, pods, render

images = load_script(ROOT / "Dockerfiles" / "images.py")
OURS = re.compile(r"/posewatch-(\w+):")
SERVICES = {"labeling": "posewatch-labeling", "watcher": "posewatch-watcher-hall"}
"""The kind of each image that is a service, and a workload of it."""
WRITTEN = ("HOME", "MPLCONFIGDIR", "POSEWATCH_HOME")
"""Variables that name a place to write to."""
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
Found = list[tuple[str, str, Body, Body, list[Body]]]


@dataclass
class Image:
    """A target of the Dockerfile with what it takes over from the stages that it is made from."""

    user: str = ""
    workdir: str = "/"
    cmd: list[str] = field(default_factory=list)
    healthcheck: str = ""
    ports: set[int] = field(default_factory=set)
    env: dict[str, str] = field(default_factory=dict)
    copied: list[Path] = field(default_factory=list)


def targets() -> dict[str, Image]:
    """Every target by its name."""
    lines = [x for x in (ROOT / "Dockerfiles/posewatch.Dockerfile").read_text().splitlines() if not x.startswith("#")]
    text = re.sub(r"\\\n\s*", "", "\n".join(lines))
    found: dict[str, Image] = {}
    image = Image()
    for line in filter(None, map(str.strip, text.splitlines())):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            parent, _, name = rest.partition(" AS ")
            before = found.get(parent, Image())
            image = Image(**{k: v.copy() if hasattr(v, "copy") else v for k, v in vars(before).items()})
            found[name or "last"] = image
        elif word == "USER":
            image.user = rest
        elif word == "WORKDIR":
            image.workdir = rest
        elif word == "EXPOSE":
            image.ports |= {int(port) for port in rest.split()}
        elif word == "ENV":
            image.env |= dict(pair.split("=", 1) for pair in shlex.split(rest))
        elif word == "CMD":
            image.cmd = json.loads(rest)
        elif word == "HEALTHCHECK":
            image.healthcheck = json.loads(rest.partition("CMD ")[2])[-1]
        elif word == "COPY":
            image.copied.append(Path(rest.split()[-1]))
        elif word == "ENTRYPOINT":
            raise AssertionError("an ENTRYPOINT would stand before the command that Kubeflow Pipelines brings")
    return found


TARGETS = targets()


@pytest.fixture(scope="module")
def ours() -> Found:
    """(name, kind of image, pod's spec, container, objects) for every container that runs one of our images."""

    def look() -> Iterator[tuple[str, str, Body, Body, list[Body]]]:
        for values in ((), *((path,) for path in EXAMPLES)):
            objects = render(*values)
            for name, _, spec in pods(objects):
                for container in [*spec.get("initContainers", ()), *spec["containers"]]:
                    if kind := OURS.search(container["image"]):
                        yield name, kind[1], spec, container, objects

    return list(look())


def image_of(kind: str) -> Image:
    return TARGETS[images.KINDS[kind].target]


def workload(kind: str) -> tuple[Body, Body, list[Body]]:
    """The pod of a service, its container and all objects of the example that has cameras."""
    objects = render(next(path for path in EXAMPLES if path.stem == "one-gpu-box"))
    for name, _, spec in pods(objects):
        if name.endswith(f"/{SERVICES[kind]}"):
            return spec, spec["containers"][0], objects
    raise AssertionError(f"the chart has no {SERVICES[kind]}")


def test_each_container_asks_for_an_image_that_is_built(ours: Found) -> None:
    kinds = {kind for _, kind, _, _, _ in ours}
    assert kinds == set(SERVICES), "helm test runs in the labeling image"
    assert kinds <= set(images.KINDS)


def test_each_container_runs_as_the_images_user(ours: Found) -> None:
    for name, kind, spec, _, _ in ours:
        security = spec["securityContext"]
        assert f"{security['runAsUser']}:{security['runAsGroup']}" == image_of(kind).user, name
        assert security["fsGroup"] == security["runAsGroup"], "else a volume cannot be written"


@pytest.mark.parametrize("kind", SERVICES)
def test_a_service_is_started_as_the_image_would_start_it(kind: str) -> None:
    """Who runs the image without Kubernetes gets the same process in the same folder, on the same port."""
    _, container, _ = workload(kind)
    image = image_of(kind)
    assert container["command"] + container["args"] == image.cmd
    assert container.get("workingDir", image.workdir) == image.workdir
    assert {port["containerPort"] for port in container["ports"]} == image.ports
    ((port),) = image.ports
    assert str(port) in image.cmd


@pytest.mark.parametrize("kind", SERVICES)
def test_the_health_check_is_the_liveness_probe(kind: str) -> None:
    _, container, _ = workload(kind)
    image = image_of(kind)
    address = re.search(r"http://127\.0\.0\.1:(\d+)(/\w[\w/-]*)", image.healthcheck)
    assert address is not None
    live = container["livenessProbe"]["httpGet"]
    assert live["path"] == address[2]
    assert {int(address[1])} == image.ports
    names = {port["name"] for port in container["ports"]}
    for probe in PROBES:
        assert container[probe]["httpGet"]["port"] in names, probe


def test_the_watchers_probes_are_answered() -> None:
    """The probes' paths and the one that Prometheus asks, against the real server."""
    _, container, objects = workload("watcher")
    paths = {container[probe]["httpGet"]["path"] for probe in PROBES}
    paths |= {e["path"] for e in named(objects, "ServiceMonitor", "posewatch-watcher")["spec"]["endpoints"]}
    assert paths == {"/healthz", "/readyz", "/metrics"}
    server = service.serve(
        service.Service(service.ServiceConfig("grpc://h:1/m", (service.Camera("door", "rtsp://h/s"),))), 0, "127.0.0.1"
    )
    try:
        for path in sorted(paths):
            with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}{path}", timeout=10) as answer:
                assert answer.status == 200, path
        with pytest.raises(urllib.error.HTTPError, match="404") as refused:
            urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/health", timeout=10)
        refused.value.close()
    finally:
        server.shutdown()
        server.server_close()


def test_the_pages_probes_are_open_to_all() -> None:
    """Neither a probe nor Prometheus brings an identity: their paths are among those that the page's gate lets by."""
    _, container, objects = workload("labeling")
    source = (ROOT / "labeling-service/labeling_ui/server.py").read_text()
    (line,) = re.findall(r"^OPEN = (\(.+\))$", source, re.MULTILINE)
    paths = {container[probe]["httpGet"]["path"] for probe in PROBES}
    paths |= {e["path"] for e in named(objects, "ServiceMonitor", "posewatch-labeling")["spec"]["endpoints"]}
    assert paths <= set(ast.literal_eval(line))


@pytest.mark.parametrize("kind", SERVICES)
def test_what_is_started_is_there(kind: str) -> None:
    """The command's program, page and options exist."""
    words = image_of(kind).cmd
    assert words[0] == "posewatch"
    options = parsed(words[1:])
    if kind == "watcher":
        assert str(options["config"]) == "/etc/posewatch/cameras.yaml"
    else:
        inside = Path(options["app"]).relative_to("/opt/posewatch")
        assert (ROOT / inside).is_file()
        assert Path("/opt/posewatch") / inside.parts[0] in image_of(kind).copied


def test_what_is_read_is_mounted(ours: Found) -> None:
    """A file below /etc/posewatch that a command or a variable names comes from a ConfigMap that holds it."""
    seen = 0
    for name, _, spec, container, objects in ours:
        told = [*container["command"], *container.get("args", ())]
        told += [str(e["value"]) for e in container["env"] if "value" in e]
        for path in (Path(word) for word in told if word.startswith("/etc/posewatch/")):
            (mount,) = [m for m in container["volumeMounts"] if m["mountPath"] == str(path.parent)]
            (volume,) = [v for v in spec["volumes"] if v["name"] == mount["name"]]
            assert path.name in named(objects, "ConfigMap", volume["configMap"]["name"])["data"], name
            assert mount["readOnly"] is True, name
            seen += 1
    assert seen


def test_what_is_written_is_mounted_and_the_image_stays_visible(ours: Found) -> None:
    """The root is read-only: every place that the image writes to is a volume, and none lies over the image's own."""
    for name, kind, spec, container, _ in ours:
        image = image_of(kind)
        fixed = {v["name"] for v in spec["volumes"] if {"configMap", "secret"} & set(v)}
        writable = [
            Path(m["mountPath"]) for m in container["volumeMounts"] if m["name"] not in fixed and not m.get("readOnly")
        ]
        needed = {Path(image.env[variable]) for variable in WRITTEN}
        if kind in SERVICES and not name.startswith("Pod/"):
            for path in sorted(needed):
                assert any(path.is_relative_to(place) for place in writable), f"{name} cannot write {path}"
        for mount in container["volumeMounts"]:
            at = Path(mount["mountPath"])
            hidden = [p for p in image.copied if p.is_relative_to(at)]
            hidden += [p for p in image.copied if at.is_relative_to(p) and "subPath" not in mount]
            assert not hidden, f"{name}: {at} hides {hidden}"
        assert not any(Path(image.env["POSEWATCH_CACHE"]).is_relative_to(place) for place in writable), "holds weights"


def test_a_uid_that_the_cluster_draws_can_write_where_ours_does() -> None:
    """OpenShift runs a pod that names no user (a pipeline's step) as one of the namespace's range, with the group 0."""
    text = (ROOT / "Dockerfiles/posewatch.Dockerfile").read_text()
    (state,) = re.findall(r"install --directory (.*) /var/lib/posewatch\n", text)
    assert state == "--owner=10001 --group=0 --mode=0775"
    assert "COPY --from=build --chown=10001:0 /opt/posewatch /opt/posewatch\n" in text
    assert "posewatch weights fetch $WEIGHTS; fi \\\n    && chmod --recursive g=u /opt/posewatch\n" in text


def test_the_watcher_writes_where_its_volume_is() -> None:
    spec, container, objects = workload("watcher")
    config = yaml.safe_load(named(objects, "ConfigMap", "posewatch-watcher-hall")["data"]["cameras.yaml"])
    (state,) = [m for m in container["volumeMounts"] if m["name"] == "state"]
    assert Path(config["out"]).is_relative_to(state["mountPath"])
    assert spec["terminationGracePeriodSeconds"] > service.STOP_S, "its processes are given so long to end"
