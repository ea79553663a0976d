"""The chart's watchers: their cameras, groups, models and receivers, and the policies that let them reach these."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from posewatch.watch.service import read_config

from .chart import CHART, EXAMPLES, LOADER, NAMESPACE, Body, named, pods, render, watcher_group


@pytest.mark.parametrize("values", [p for p in EXAMPLES if p.stem != "laptop"], ids=lambda path: path.stem)
def test_the_watcher_reads_its_cameras(values: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DOOR_USER", "DOOR_PASSWORD", "CAMERA_USER", "CAMERA_PASSWORD"):
        monkeypatch.setenv(name, "x")
    groups = yaml.load(values.read_text(), LOADER)["watcher"]["groups"]
    first = next(iter(groups))
    objects = render(values, sets=("watcher.share=true", f"watcher.groups.{first}.share=false"))
    for group in groups:
        path = tmp_path / f"{group}.yaml"
        path.write_text(named(objects, "ConfigMap", f"posewatch-watcher-{group}")["data"]["cameras.yaml"])
        config = read_config(path)
        assert [camera.name for camera in config.cameras] == [c["name"] for c in groups[group]["cameras"]]
        assert config.model == f"grpc://abnormal.{NAMESPACE}.svc:9000/abnormal"
        assert config.route == "/etc/posewatch/route/route.json"
        assert config.out == "/var/lib/posewatch"
        assert config.share == (group != first)
        assert config.webhook.startswith("https://")
    box = next(path for path in EXAMPLES if path.stem == "one-gpu-box")
    if values == box:
        recorded = {"record": "true", "near-misses": "4", "samples": "1", "keep-days": "90"}
        assert dict(config.options) == {"on": "0.7", "merge-s": "3", **recorded}
        assert config.store == "s3://posewatch"
        assert dict(config.cameras[1].options) == {"on": "0.8"}, "on without quotes is true in YAML 1.1"


def test_what_a_group_says_for_itself_counts_also_when_it_is_nothing() -> None:
    common = ("options.hold-s=30", "options.smooth=3", "webhook=https://a.example/x", "frigate=mqtt://b", "share=true")
    own = ("options.hold-s=0", "webhook=", "frigate=", "share=false", "storage.size=1Gi")
    read, _, _ = watcher_group(*(f"watcher.{one}" for one in common), *(f"watcher.groups.one.{one}" for one in own))
    assert read["options"] == {"hold-s": 0, "smooth": 3}
    assert not {"webhook", "frigate", "share"} & set(read)
    _, pod, _ = watcher_group("watcher.nodeSelector.gpu=yes", "watcher.storage.className=fast")
    assert pod["spec"]["template"]["spec"]["nodeSelector"] == {"gpu": "yes"}
    assert pod["spec"]["volumeClaimTemplates"][0]["spec"]["storageClassName"] == "fast"


@pytest.mark.parametrize(
    ("model", "peer", "port"),
    [
        (
            "grpc://triton.serving.svc:8001/x",
            {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "serving"}}},
            8001,
        ),
        (
            "http://fall-predictor.team-b.svc.cluster.local:80/fall",
            {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "team-b"}}},
            8080,
        ),
        ("grpc://triton:8001/x", {"podSelector": {}}, 8001),
        ("grpc://10.9.8.7:8001/x", {"ipBlock": {"cidr": "10.9.8.7/32"}}, 8001),
        ("grpc://[fd00::1]:8001/x", {"ipBlock": {"cidr": "fd00::1/128"}}, 8001),
        ("grpc://gpu.example.org:8001/x", {"ipBlock": {"cidr": "0.0.0.0/0"}}, 8001),
        ("https://gpu.example.org/serving/team/x", {"ipBlock": {"cidr": "0.0.0.0/0"}}, 443),
        ("grpcs://gpu.example.org:8443/x", {"ipBlock": {"cidr": "0.0.0.0/0"}}, 8443),
    ],
)
def test_watchers_reach_a_model_that_somebody_else_serves(model: str, peer: Body, port: int) -> None:
    for key in ("watcher.model", "watcher.groups.one.model"):
        read, pod, egress = watcher_group(f"{key}={model}")
        assert [rule for rule in egress if peer in rule["to"] and {"port": port} in rule["ports"]], key
        assert "route" not in read, "the canary of another service is another model"
        assert "route" not in {v["name"] for v in pod["spec"]["template"]["spec"]["volumes"]}


def test_a_group_asks_the_canary_of_its_own_service() -> None:
    read, pod, _ = watcher_group(f"watcher.groups.one.model=grpc://fight.{NAMESPACE}.svc:9000/fight")
    assert read["route"] == "/etc/posewatch/route/route.json"
    (route,) = [v for v in pod["spec"]["template"]["spec"]["volumes"] if v["name"] == "route"]
    assert route["configMap"]["name"] == "fight-route"


@pytest.mark.parametrize(
    ("address", "port"),
    [
        ("https://alarms.example.org/x", {"port": 443}),
        ("https://alarms.example.org:8443/x", {"port": 8443}),
        ("mqtts://ann@broker.example.org", {"port": 8883}),
        ("mqtt://ann:a:1@broker:1884/here", {"port": 1884}),
        ("cloudevents+http://broker-ingress.knative/team", {"port": 80}),
        ("onvif+https://vms.site/notify", {"port": 443}),
        ("frigate+http://frigate.home:5000?camera=front_door", {"port": 5000}),
        ("frigate+https://nvr.example.org", {"port": 443}),
        ("syslog+tls://siem.example.org", {"port": 6514}),
        ("syslog://10.0.0.9", {"port": 514, "protocol": "UDP"}),
    ],
)
def test_watchers_reach_their_receiver(address: str, port: dict[str, Any]) -> None:
    box = CHART / "examples" / "one-gpu-box.yaml"
    policy = named(render(box, sets=(f"watcher.webhook={address}",)), "NetworkPolicy", "posewatch-watcher")
    assert port in [one for rule in policy["spec"]["egress"] for one in rule["ports"]]


def test_watchers_follow_frigate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DOOR_USER", "DOOR_PASSWORD", "CAMERA_USER", "CAMERA_PASSWORD", "MQTT_PASSWORD"):
        monkeypatch.setenv(name, "x")
    broker = "mqtt://ann:${MQTT_PASSWORD}@broker.home:1884/frigate"
    box = CHART / "examples" / "one-gpu-box.yaml"
    (group,) = yaml.load(box.read_text(), LOADER)["watcher"]["groups"]
    camera = yaml.load(box.read_text(), LOADER)["watcher"]["groups"][group]["cameras"][0]
    door = f"watcher.groups.{group}.cameras[0]"
    objects = render(
        box,
        sets=(
            f"watcher.frigate={broker}",
            f"{door}.name=door",
            f"{door}.url={camera['url']}",
            f"{door}.frigate=front_door",
        ),
    )
    egress = named(objects, "NetworkPolicy", "posewatch-watcher")["spec"]["egress"]
    assert {"port": 1884} in [one for rule in egress for one in rule["ports"]]
    path = tmp_path / "cameras.yaml"
    path.write_text(named(objects, "ConfigMap", f"posewatch-watcher-{group}")["data"]["cameras.yaml"])
    assert read_config(path).frigate == broker
    assert read_config(path).cameras[0].frigate == "front_door"


@pytest.mark.parametrize(
    ("sets", "secret"),
    [((), ""), (("watcher.tlsSecret=both",), "both"), (("watcher.tlsSecret=a", "watcher.groups.one.tlsSecret="), "")],
)
def test_a_certificate_of_the_watchers(sets: tuple[str, ...], secret: str) -> None:
    """For receivers, and models, that ask their clients for one."""
    _, body, _ = watcher_group(*sets)
    pod = body["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    given = {volume["name"]: volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume}
    assert given == ({"tls": secret} if secret else {})
    mounted = {volume["name"]: volume["mountPath"] for volume in container["volumeMounts"]}
    assert mounted.get("tls") == ("/etc/posewatch/tls" if secret else None)
    env = {one["name"]: one["value"] for one in container["env"] if one["name"].startswith("POSEWATCH_TRITON")}
    files = {"POSEWATCH_TRITON_CERT": "tls.crt", "POSEWATCH_TRITON_KEY": "tls.key"}
    assert env == ({name: f"/etc/posewatch/tls/{file}" for name, file in files.items()} if secret else {})


def test_a_change_of_cameras_starts_that_group_again_and_no_other() -> None:
    box = CHART / "examples" / "kubeflow-multi-tenant.yaml"

    def sums(*sets: str) -> dict[str, str]:
        return {
            name: meta["annotations"]["checksum/cameras"]
            for name, meta, _ in pods(render(box, sets=sets))
            if "checksum/cameras" in meta.get("annotations", {})
        }

    before, after = sums(), sums("watcher.groups.south.cameras[0].url=rtsp://10.21.0.12/stream")
    assert [name for name in before if before[name] != after[name]] == ["StatefulSet/posewatch-watcher-south"]
