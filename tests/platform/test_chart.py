"""The chart with its defaults and each example: valid for each Kubernetes, restricted, closed, consistent."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

import posewatch
from posewatch.config import ServingConfig, load
from posewatch.deploy import manifests as deploy
from posewatch.deploy.runtime import RUNTIME, serving_runtime
from posewatch.deploy.target import Release
from posewatch.kube.rbac import rules
from posewatch.kube.trainjob import STORE

from .chart import CHART, EXAMPLES, LOADER, NAMESPACE, ROOT, Body, helm, named, pods, render, watcher_group
from .foreign import SCHEMAS

VERSIONS = ("1.33", "1.34", "1.35", "1.36", "1.37")
SHIPPED = sorted(path.stem for path in (Path(posewatch.__file__).parent / "configs").glob("*.yaml"))
ROUTE = (
    "labeling.auth.mode=proxy",
    "labeling.httpRoute.enabled=true",
    "labeling.httpRoute.parentRefs[0].name=gateway",
    "labeling.httpRoute.hostnames[0]=labels.example.org",
    "labeling.experimentFile=labels: {classes: [calm\\, fight]\\, positive: fight\\, default: calm}",
)
CASES = {
    "defaults": ((), ()),
    **{path.stem: ((path,), ()) for path in EXAMPLES},
    "route": ((), ROUTE),
    "nothing": ((), ("labeling.enabled=false", "serving.runtime.enabled=false", "rbac.enabled=false")),
}


@pytest.fixture(params=CASES)
def objects(request: pytest.FixtureRequest) -> list[Body]:
    files, sets = CASES[request.param]
    return render(*files, sets=sets)


@pytest.mark.parametrize("sets", [(), ("postgresql.backup.enabled=true",)])
def test_every_volume_has_a_pod_that_starts_at_once(sets: tuple[str, ...]) -> None:
    """Most clusters bind a volume when its first pod starts; helm waits for it: a CronJob's first night is too late."""
    for path in EXAMPLES:
        objects = render(path, sets=sets)
        now = [b for b in objects if b["kind"] != "CronJob"]
        mounted = {v["persistentVolumeClaim"]["claimName"] for _, _, s in pods(now) for v in s.get("volumes", ())
                   if "persistentVolumeClaim" in v}  # fmt: skip
        assert {b["metadata"]["name"] for b in objects if b["kind"] == "PersistentVolumeClaim"} <= mounted, path.name


def test_the_first_dump_is_made_as_every_night() -> None:
    objects = render(CHART / "examples" / "one-gpu-box.yaml")
    (first,) = [b for b in objects if b["kind"] == "Job"]
    nightly = named(objects, "CronJob", "posewatch-backup")["spec"]["jobTemplate"]["spec"]
    assert first["spec"]["template"] == nightly["template"]
    other = render(CHART / "examples" / "one-gpu-box.yaml", sets=("images.tag=other",))
    (again,) = [b for b in other if b["kind"] == "Job"]
    assert again["metadata"]["name"] != first["metadata"]["name"], (
        "a Job cannot be changed: another one has another name"
    )


def test_the_examples_are_those_that_are_promised() -> None:
    assert [path.stem for path in EXAMPLES] == ["kubeflow-multi-tenant", "laptop", "one-gpu-box"]


@pytest.mark.parametrize("values", [None, *EXAMPLES], ids=lambda path: path.stem if path else "defaults")
def test_helm_lints_it_strictly(values: Path | None) -> None:
    helm("lint", "--strict", str(CHART), *(["--values", str(values)] if values else []))


def test_every_object_is_valid(objects: list[Body], crd_errors: Callable[[Body], list[str]]) -> None:
    for body in objects:
        kind = (body["apiVersion"], body["kind"])
        if body["apiVersion"].startswith("serving.kserve.io"):
            assert crd_errors(body) == [], kind
        elif kind in SCHEMAS:
            schema = {"type": "object", "required": ["spec"], "properties": {"spec": SCHEMAS[kind]}}
            jsonschema.validate(body, schema)
        else:
            for version in VERSIONS:
                kubernetes_validate.validate(body, version, strict=True)


def test_names_that_yaml_takes_for_something_else_stay_names(
    tmp_path: Path, crd_errors: Callable[[Body], list[str]]
) -> None:
    """Kubernetes allows a namespace 123, and a Secret 1e3; unquoted, its API would be sent numbers."""
    values = {
        "images": {"pullSecrets": ["456"]},
        "secrets": {name: f"{i}e3" for i, name in enumerate(("main", "labeling", "kserve", "postgresql"), 1)},
        "watcher": {
            "webhookSecret": "12",
            "tlsSecret": "14",
            "groups": {
                name: {"cameras": [{"name": f"c-{name}", "url": "rtsp://h/1"}], "envSecret": "13"}
                for name in ("1", "on", "null", "1e3")
            },
        },
    }
    path = tmp_path / "values.json"
    path.write_text(json.dumps(values))
    for example in EXAMPLES:
        given = ["--values", str(example), "--values", str(path)]
        text = helm("template", "777", str(CHART), "--namespace", "12345", *given).stdout
        for body in (body for body in yaml.load_all(text, LOADER) if body):
            assert body["metadata"].get("namespace", "12345") == "12345", body["kind"]
            if body["apiVersion"].startswith("serving.kserve.io"):
                assert crd_errors(body) == []
            elif (body["apiVersion"], body["kind"]) not in SCHEMAS:
                kubernetes_validate.validate(body, VERSIONS[0], strict=True)


def test_strict_validation_sees_a_field_that_is_none() -> None:
    for body in render(EXAMPLES[0]):
        spec = {**body.get("spec", {}), "nonsense": 1}
        wrong = {**body, "spec": spec} if "spec" in body else {**body, "nonsense": 1}
        if (body["apiVersion"], body["kind"]) in SCHEMAS:
            with pytest.raises(jsonschema.ValidationError, match="nonsense"):
                jsonschema.validate(wrong["spec"], SCHEMAS[body["apiVersion"], body["kind"]])
        elif not body["apiVersion"].startswith("serving.kserve.io"):
            with pytest.raises(kubernetes_validate.ValidationError, match="nonsense"):
                kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)


def test_no_two_objects_have_one_name(objects: list[Body]) -> None:
    names = [(b["apiVersion"], b["kind"], b["metadata"]["name"]) for b in objects]
    assert len(names) == len(set(names))
    assert {b["metadata"]["namespace"] for b in objects} <= {NAMESPACE}


def test_every_pod_is_restricted(objects: list[Body]) -> None:
    """What the pod security standard `restricted` asks for, and a read-only root besides."""
    for name, _, spec in pods(objects):
        security = spec["securityContext"]
        assert security["runAsNonRoot"] is True, name
        assert security["runAsUser"] >= 999, name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["enableServiceLinks"] is False, "variables of services end in POSEWATCH_..._PORT"
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), name
        assert all(
            {"emptyDir", "configMap", "secret", "persistentVolumeClaim"} & set(v) for v in spec.get("volumes", ())
        )
        for container in spec["containers"] + spec.get("initContainers", []):
            own = container["securityContext"]
            assert own["readOnlyRootFilesystem"] is True, name
            assert own["allowPrivilegeEscalation"] is False, name
            assert own["capabilities"] == {"drop": ["ALL"]}, name
            assert set(container["resources"]) == {"requests", "limits"}, name
            assert re.fullmatch(r"[^\s@]+:[\w.-]+", container["image"]), name
            assert not container["image"].endswith(":latest"), name
            assert all(port["containerPort"] > 1023 for port in container.get("ports", ())), name


def test_every_pod_is_denied_first_and_no_rule_is_open(objects: list[Body]) -> None:
    policies = [b for b in objects if b["kind"] == "NetworkPolicy"]
    deny = named(objects, "NetworkPolicy", "posewatch-deny")["spec"]
    assert deny["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in deny
    assert "egress" not in deny
    for name, meta, _ in pods(objects):
        assert _selects(deny["podSelector"], meta["labels"]), name
    for policy in policies:
        for direction, peers in (("ingress", "from"), ("egress", "to")):
            for rule in policy["spec"].get(direction, ()):
                assert rule.get(peers), f"{policy['metadata']['name']}: a rule without {peers} lets everybody through"
                assert rule.get("ports"), f"{policy['metadata']['name']}: a rule without ports opens all of them"
                assert {} not in rule[peers]


def _selects(selector: Body, labels: dict[str, str]) -> bool:
    exist = [one["key"] in labels for one in selector.get("matchExpressions", ()) if one["operator"] == "Exists"]
    told = selector.get("matchLabels", {})
    return bool(told or exist) and all(exist) and told.items() <= labels.items()


def test_names_lead_to_what_is_there(objects: list[Body]) -> None:
    """Services find pods and their ports, pods find their ConfigMaps, accounts and Secrets, scalers their targets."""
    there = {(b["kind"], b["metadata"]["name"]) for b in objects}
    made = list(pods(objects))
    for body in objects:
        spec, name = body.get("spec", {}), body["metadata"]["name"]
        if body["kind"] == "Service":
            found = [s for _, meta, s in made if _selects({"matchLabels": spec["selector"]}, meta["labels"])]
            assert found, name
            ports = {port["name"] for s in found for c in s["containers"] for port in c.get("ports", ())}
            assert {port["targetPort"] for port in spec["ports"]} <= ports, name
        if body["kind"] == "PodDisruptionBudget" and name != "posewatch-serving":
            assert any(_selects(spec["selector"], meta["labels"]) for _, meta, _ in made), name
        if body["kind"] == "HorizontalPodAutoscaler":
            assert (spec["scaleTargetRef"]["kind"], spec["scaleTargetRef"]["name"]) in there
            assert "replicas" not in named(objects, "Deployment", spec["scaleTargetRef"]["name"])["spec"]
        if body["kind"] == "ServiceMonitor":
            services = [
                b for b in objects if b["kind"] == "Service" and _selects(spec["selector"], b["metadata"]["labels"])
            ]
            assert len(services) == 1, name
            assert {e["port"] for e in spec["endpoints"]} <= {p["name"] for p in services[0]["spec"]["ports"]}
    generated = {name for kind, name in there if kind == "Secret"}
    for name, _, spec in made:
        account = spec.get("serviceAccountName")
        assert account is None or ("ServiceAccount", account) in there, name
        for volume in spec.get("volumes", ()):
            if "configMap" in volume and not volume["configMap"].get("optional"):
                assert ("ConfigMap", volume["configMap"]["name"]) in there, name
        mounts = {m["name"] for c in spec["containers"] for m in c["volumeMounts"]}
        volumes = {v["name"] for v in spec.get("volumes", ())}
        assert volumes <= mounts, name
        keys = [
            e["valueFrom"]["secretKeyRef"] for c in spec["containers"] for e in c.get("env", ()) if "valueFrom" in e
        ]
        for key in keys:
            if key["name"] in generated and not key.get("optional"):
                assert key["key"] in named(objects, "Secret", key["name"])["data"], name


def test_only_the_examples_that_generate_hold_secrets() -> None:
    assert [b["metadata"]["name"] for b in render() if b["kind"] == "Secret"] == ["posewatch-labeling"]
    tenant = next(path for path in EXAMPLES if path.stem == "kubeflow-multi-tenant")
    assert not [b for b in render(tenant) if b["kind"] == "Secret"]


def test_the_generated_credentials_fit_together() -> None:
    objects = render(CHART / "examples" / "laptop.yaml")

    def secret(name: str) -> dict[str, str]:
        body = named(objects, "Secret", name)
        assert body["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
        return {key: base64.b64decode(value).decode() for key, value in body["data"].items()}

    main, password = secret("posewatch"), secret("posewatch-postgresql")["password"]
    assert set(main) == {*STORE, "POSEWATCH_LABELS_URL"}, "what pipelines and TrainJobs read"
    host = f"posewatch-postgresql.{NAMESPACE}.svc:5432"
    assert main["POSEWATCH_LABELS_URL"] == f"postgresql://posewatch:{password}@{host}/labels"
    assert main["POSEWATCH_S3_ENDPOINT"] == f"http://posewatch-store.{NAMESPACE}.svc:8333"
    kserve = secret("posewatch-s3")
    assert kserve["AWS_ACCESS_KEY_ID"] == main["POSEWATCH_S3_ACCESS_KEY"]
    assert kserve["AWS_SECRET_ACCESS_KEY"] == main["POSEWATCH_S3_SECRET_KEY"]
    random = [password, *secret("posewatch-labeling").values(), main["POSEWATCH_S3_SECRET_KEY"]]
    assert len(set(random)) == 4
    assert min(map(len, random)) >= 40
    notes = named(objects, "Secret", "posewatch-s3")["metadata"]["annotations"]
    assert notes["serving.kserve.io/s3-endpoint"] == f"posewatch-store.{NAMESPACE}.svc:8333"


def test_a_bucket_in_another_region_is_found_by_every_pod_that_has_its_keys() -> None:
    found = 0
    for name, _, spec in pods(render(CHART / "examples" / "one-gpu-box.yaml")):
        for container in spec["containers"]:
            env = {e["name"]: e for e in container.get("env", ())}
            if "POSEWATCH_S3_ENDPOINT" in env:
                told = env["POSEWATCH_S3_REGION"]["valueFrom"]["secretKeyRef"]
                assert told == {"name": "posewatch", "key": "POSEWATCH_S3_REGION", "optional": True}, name
                found += 1
    assert found == 3, "page, watcher and test"


def test_an_authority_of_ones_own_is_trusted_by_every_pod_that_asks_other_servers() -> None:
    example = CHART / "examples" / "one-gpu-box.yaml"
    found = set()
    for name, _, spec in pods(render(example, sets=("caBundle.configMap=internal-ca", "caBundle.key=bundle.pem"))):
        (container,) = spec["containers"]
        env = {e["name"]: e.get("value") for e in container.get("env", ())}
        if "SSL_CERT_FILE" not in env:
            assert "POSEWATCH_S3_ENDPOINT" not in env, name
            continue
        (mount,) = [m for m in container["volumeMounts"] if m["name"] == "ca"]
        (volume,) = [v for v in spec["volumes"] if v["name"] == "ca"]
        assert volume["configMap"] == {"name": "internal-ca", "items": [{"key": "bundle.pem", "path": "ca.crt"}]}
        assert env["SSL_CERT_FILE"] == f"{mount['mountPath']}/ca.crt"
        found.add(name)
    assert found == {"Deployment/posewatch-labeling", "StatefulSet/posewatch-watcher-hall", "Pod/posewatch-test"}
    for name, _, spec in pods(render(example)):
        assert "SSL_CERT_FILE" not in str(spec), name


def test_the_runtime_is_the_one_that_deploy_makes_without_it() -> None:
    assert named(render(), "ServingRuntime", RUNTIME) == serving_runtime(ServingConfig())  # 900 s to load, by default
    account = named(render(), "ServiceAccount", deploy.SERVICE_ACCOUNT)
    assert account["secrets"] == [{"name": "posewatch-s3"}]


def test_triton_comes_from_a_registry_with_a_password_to_nodes_with_a_taint(
    tmp_path: Path, crd_errors: Callable[[Body], list[str]]
) -> None:
    """As the page and the watchers do: KServe hands on what the runtime says of its pods (MergePodSpec)."""
    taint = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    runtime = {"image": "mirror.example/tritonserver:26.09-py3", "nodeSelector": {"gpu": "l4"}, "tolerations": [taint]}
    values = {"images": {"pullSecrets": ["mirror"]}, "serving": {"runtime": runtime}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(values))
    body = named(render(tmp_path / "mine.yaml"), "ServingRuntime", RUNTIME)
    assert crd_errors(body) == []
    spec = body["spec"]
    assert spec["imagePullSecrets"] == [{"name": "mirror"}]
    assert (spec["nodeSelector"], spec["tolerations"]) == ({"gpu": "l4"}, [taint])


def test_the_role_is_what_is_used_and_no_more() -> None:
    roles = [
        b for b in render(EXAMPLES[0]) if b["kind"] in ("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")
    ]
    assert [b["kind"] for b in roles] == ["Role", "RoleBinding"]
    assert roles[0]["rules"] == rules(), "tests/platform/test_rbac.py sees that this is what is used"
    assert roles[1]["subjects"] == [{"kind": "ServiceAccount", "name": "default-editor", "namespace": "team-a"}]


@pytest.mark.parametrize("sets", [(), ("serving.runtime.enabled=false",)])
def test_every_service_that_deploy_makes_loads_and_answers(sets: tuple[str, ...]) -> None:
    """Its pods have the labels of its InferenceService, and the policy that denies all is for those."""
    release = Release("v1", "s3://bucket/models/fight/1/", "0" * 64)
    labels = deploy.inference_service(ServingConfig(name="fight"), release)["metadata"]["labels"]
    policies = [b["spec"] for b in render(sets=sets) if b["kind"] == "NetworkPolicy"]
    chosen = [spec for spec in policies if _selects(spec["podSelector"], labels)]
    assert any("ingress" not in spec and "egress" not in spec for spec in chosen), "it is denied all"
    assert {8080, 9000} <= {p["port"] for s in chosen for rule in s.get("ingress", ()) for p in rule["ports"]}
    assert {53, 443} <= {p["port"] for s in chosen for rule in s.get("egress", ()) for p in rule["ports"]}
    _, _, egress = watcher_group()
    assert [rule for rule in egress for to in rule["to"] if _selects(to.get("podSelector", {}), labels)]


@pytest.mark.parametrize(
    ("sets", "store"),
    [
        (("store.bucket=mine",), "s3://mine"),
        (("watcher.records.store=s3://theirs/alarms",), "s3://theirs/alarms"),
        (("labeling.records=s3://theirs",), "s3://theirs"),
        (("store.enabled=true", "watcher.records.store=s3://theirs"), "s3://posewatch"),
    ],
)
def test_helm_test_tries_the_bucket_that_is_used(sets: tuple[str, ...], store: str) -> None:
    (container,) = named(render(sets=sets), "Pod", "posewatch-test")["spec"]["containers"]
    (told,) = [e["value"] for e in container["env"] if e["name"] == "POSEWATCH_CHECK"]
    assert {"store": store} in json.loads(told)


def test_the_load_test_may_run_in_the_charts_own_namespace() -> None:
    job = yaml.load((ROOT / "inference-service" / "load-test-job.yaml").read_text(), LOADER)
    deny = named(render(), "NetworkPolicy", "posewatch-deny")["spec"]["podSelector"]
    assert not _selects(deny, job["spec"]["template"]["metadata"]["labels"]), "it would reach nothing"


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_experiment_can_be_chosen(name: str) -> None:
    read, _, _ = watcher_group(f"watcher.experiment={name}", f"labeling.experiment={name}")
    assert read["config"] == name


def test_an_experiment_reaches_the_page(tmp_path: Path) -> None:
    objects = render(sets=ROUTE)
    path = tmp_path / "experiment.yaml"
    path.write_text(named(objects, "ConfigMap", "posewatch-labeling")["data"]["experiment.yaml"])
    assert load(str(path)).labels.classes == ("calm", "fight")
    (env,) = [s["containers"][0]["env"] for n, _, s in pods(objects) if n == "Deployment/posewatch-labeling"]
    assert {"name": "POSEWATCH_CONFIG", "value": "/etc/posewatch/experiment.yaml"} in env


@pytest.mark.parametrize(
    ("told", "store"),
    [
        (("store.enabled=true",), "s3://posewatch"),
        (("watcher.records.store=s3://watched",), "s3://watched"),
        (("watcher.records.store=s3://watched", "labeling.records=s3://elsewhere"), "s3://elsewhere"),
        ((), None),
    ],
)
def test_the_page_finds_alarms_where_the_watchers_store_them(told: tuple[str, ...], store: str | None) -> None:
    (env,) = [s["containers"][0]["env"] for n, _, s in pods(render(sets=told)) if n == "Deployment/posewatch-labeling"]
    assert {one["name"]: one.get("value") for one in env}.get("POSEWATCH_STORE") == store


def test_the_chart_is_of_this_posewatch() -> None:
    told = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert told["appVersion"] == told["version"] == posewatch.__version__
    images = {c["image"] for _, _, s in pods(render()) for c in s["containers"]}
    assert images == {f"ghcr.io/posewatch/posewatch-labeling:{posewatch.__version__}"}


def test_the_notes_say_what_is_next() -> None:
    def notes(*told: str) -> str:
        return helm("install", "posewatch", str(CHART), "-n", NAMESPACE, "--dry-run=client", *told).stdout

    text = notes()
    assert "It waits for Secrets of yours: posewatch, posewatch-s3" in text
    assert "port-forward deploy/posewatch-labeling" in text
    text = notes("--values", str(CHART / "examples" / "one-gpu-box.yaml"))
    assert "Credentials were made once and are kept" in text
    assert "https://labels.example.org/" in text
    assert "hall start to raise alarms" in text
    assert "without a key" not in text
    # what SeaweedFS opens beside S3 asks for no key
    text = notes("--values", str(CHART / "examples" / "laptop.yaml"), "--set", "networkPolicy.enabled=false")
    assert "every pod of the cluster can read and delete what posewatch-store holds" in text


BROKEN: list[tuple[str, str]] = [
    ("labeling.replica=2", "'replica' not allowed"),
    ("labeling.replicas=two", "/labeling/replicas"),
    ("labeling.replicas=0", "/labeling/replicas"),
    ("labeling.auth.mode=none", "value must be one of 'dev', 'oidc', 'proxy'"),
    ("labeling.resources.limits.memory=2 GB", "/labeling/resources/limits/memory"),
    ("labeling.basePath=labels/", "/labeling/basePath"),
    ("labeling.ingress.enabled=true", "/labeling/ingress/host"),
    ("labeling.httpRoute.enabled=true", "/labeling/httpRoute/parentRefs"),
    ("images.tag=latest", 'not by "latest"'),
    ("caBundle.configMap=My CA", "/caBundle/configMap"),
    ("postgresql.image=postgres:latest", 'not by "postgres:latest"'),
    ("postgresql.storage.size=20GB", "/postgresql/storage/size"),
    ("postgresql.backup.schedule=daily", "/postgresql/backup/schedule"),
    (
        "secrets.generate=all",
        "set postgresql.enabled and store.enabled, or put the credentials into Secrets of your own",
    ),
    ("serving.name=Abnormal", "/serving/name"),
    ("serving.runtime.image=mine", "/serving/runtime/image"),
    ("serving.runtime.image=mine/tritonserver:latest", 'not by "mine/tritonserver:latest"'),
    ("labeling.autoscaling.minReplicas=9", "minReplicas 9 is above maxReplicas"),
    ("serving.autoscaling.enabled=true", "/serving"),
    ("monitoring.rules.failureRatio=5", "/monitoring/rules/failureRatio"),
    ("networkPolicy.egress.store.ports=null", "/networkPolicy/egress/store"),
    ("networkPolicy.egress.cameras.cidrs[0]=10.0.0.1", "/networkPolicy/egress/cameras/cidrs/0"),
    ("rbac.subjects[0].kind=User", "/rbac/subjects/0/kind"),
    ("watcher.groups.a.cameras=null", "/watcher/groups/a"),
    ("watcher.groups.A.cameras[0].name=x", "/watcher/groups"),
    ("watcher.options.treshold=1", "'treshold' not allowed"),
]
CAMERA = "watcher.groups.{0}.cameras[0].name=door,watcher.groups.{0}.cameras[0].url={1}"
TOGETHER: list[tuple[str, str]] = [
    ("labeling.auth.mode=proxy,labeling.auth.requireSecret=false", "say who may set it"),
    ("labeling.auth.mode=oidc", "needs labeling.auth.oidcSecret"),
    ("labeling.ingress.enabled=true,labeling.ingress.host=a.b", "dev serves nobody from outside"),
    ("labeling.istio.enabled=true,labeling.auth.mode=proxy", "set labeling.auth.requireSecret=false"),
    (f"{CAMERA.format('a', 'rtsp://h/1')},{CAMERA.format('b', 'rtsp://h/2')}", "camera door is in the groups a and b"),
    (
        f"{CAMERA.format('a', 'rtsp://h/1')},watcher.records.raw=true,watcher.records.store=s3://b",
        "privacy blur of the group a does not",
    ),
    (CAMERA.format("a", "rtsp://me:hunter2@h/1"), "camera door has a password in its url: write ${NAME} there"),
]


@pytest.mark.parametrize(("sets", "says"), BROKEN + TOGETHER)
def test_a_broken_value_is_named(sets: str, says: str) -> None:
    done = helm("template", "posewatch", str(CHART), "--set", sets, check=False)
    assert done.returncode != 0
    assert says in done.stderr, done.stderr
    assert "hunter2" not in done.stderr


def test_the_schema_knows_every_default() -> None:
    """Every key of values.yaml is in the schema, and every key of the schema has a default that says what it is."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.load((CHART / "values.yaml").read_text(), LOADER)
    assert set(schema["properties"]) - {"global"} == set(values)

    def walk(told: Any, said: Any, where: str) -> None:
        if not isinstance(said, dict) or "properties" not in told or told["type"] != "object":
            return
        assert told["additionalProperties"] is False, f"{where} takes any key"
        if "$ref" not in told:
            assert set(told["properties"]) == set(said), where
        for key, value in said.items():
            walk(told["properties"][key], value, f"{where}.{key}")

    for key, value in values.items():
        walk(schema["properties"][key], value, key)
