"""What posewatch promises of a cluster, tried on a real one (`make test-cluster`), and a table of what passed.

KUBECONFIG says which cluster. Everything happens in a namespace that must not exist yet, and that is deleted in the end
unless --keep is given; nothing outside it is touched. A step that another one needs and that failed is "not tried".
Where KServe is there, --fake-triton serves by a small server in the image `serving` instead of Triton on a GPU. Where
KF_PIPELINES_ENDPOINT is set, a run of end_to_end follows with the videos of SOURCE, the labels of LABELS and the store
STORE (s3://...).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "helm" / "posewatch"
EXAMPLES = sorted(path.stem for path in (CHART / "examples").glob("*.yaml"))
PIPELINE = ("SOURCE", "LABELS", "STORE")
PASSED = "the rollout passed: "
"""What try_rollout.py ends with."""
KSERVE = "inferenceservices.serving.kserve.io"


class ClusterError(Exception):
    """One line for the user."""


def run(*words: str, what: str, quiet: bool = False, text: str | None = None) -> str:
    """Run a command, showing it; its output goes to the terminal too unless ``quiet``. Raises ClusterError."""
    print("+ " + " ".join(words), flush=True)
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, input=text)
    except FileNotFoundError:
        raise ClusterError(f"no {words[0]} on the PATH: make test-cluster brings helm and kubectl") from None
    if not quiet or done.returncode:
        sys.stdout.write(done.stdout)
    if done.returncode:
        lines = [line for line in done.stderr.strip().splitlines() if line.strip()]
        raise ClusterError(f"{what}: {lines[-1] if lines else f'exit code {done.returncode}'}")
    return done.stdout


def check(namespace: str) -> None:
    """See that there is a cluster, and that the namespace is ours to make. Raises ClusterError."""
    if not os.environ.get("KUBECONFIG"):
        raise ClusterError("set KUBECONFIG to the cluster that the chart may be tried on")
    run("kubectl", "version", what="the cluster does not answer", quiet=True)
    found = run("kubectl", "get", "namespaces", "--output=name", what="cannot list namespaces", quiet=True).split()
    if f"namespace/{namespace}" in found:
        raise ClusterError(f"the namespace {namespace} exists: delete it, or choose another one by --namespace")
    asked = [name for name in PIPELINE if os.environ.get(name)]
    if os.environ.get("KF_PIPELINES_ENDPOINT") and len(asked) != len(PIPELINE):
        raise ClusterError("KF_PIPELINES_ENDPOINT is set: say SOURCE, LABELS and STORE (s3://...) too, or unset it")


@dataclass
class Trial:
    """One namespace of one cluster, and what was found there: a row (step, result, remark) per step."""

    namespace: str
    example: str = "laptop"
    sets: Sequence[str] = ()
    timeout: str = "15m"
    kserve: bool = False
    fake_triton: bool = False
    rows: list[tuple[str, str, str]] = field(default_factory=list)

    def kubectl(self, *words: str, what: str, text: str | None = None) -> str:
        """kubectl in the namespace, quietly. Raises ClusterError."""
        return run("kubectl", "--namespace", self.namespace, *words, what=what, quiet=True, text=text)

    def chart(self, *more: str) -> None:
        """The documented command of an installation or an upgrade. Raises ClusterError."""
        values = CHART / "examples" / f"{self.example}.yaml"
        command = ["helm", "upgrade", "--install", "posewatch", str(CHART), "--namespace", self.namespace]
        command += ["--values", str(values), *(word for one in self.sets for word in ("--set", one))]
        command += ["--set", f"networkPolicy.clientNamespaces={{kubeflow,{self.namespace}}}"]
        if self.kserve:
            command += ["--set", f"serving.runtime.enabled={str(not self.fake_triton).lower()}"]
        run(*command, *more, "--timeout", self.timeout, what="helm")

    @property
    def image(self) -> str:
        """The image `serving` that --set names. Raises ClusterError."""
        images = dict(one.split("=", 1) for one in self.sets if one.startswith("images."))
        if not images.get("images.tag"):
            raise ClusterError("this step runs in the image `serving`: say --set images.tag=TAG")
        return f"{images.get('images.repository', 'ghcr.io/posewatch/posewatch')}-serving:{images['images.tag']}"

    # steps

    def make_namespace(self) -> str:
        """The namespace, which refuses pods that want more than they should."""
        run("kubectl", "create", "namespace", self.namespace, what="cannot make the namespace")
        label = "pod-security.kubernetes.io/enforce=restricted"
        run("kubectl", "label", "namespace", self.namespace, label, what="cannot label the namespace")
        return label

    def base(self) -> str:
        """manifests/base, before the chart and after it."""
        if not self.kserve:
            return "no KServe here: left out"
        with tempfile.TemporaryDirectory(dir=ROOT / "manifests") as folder:
            # kustomize takes folders below or beside its own only
            resources = ["../base"]
            told = {"resources": resources, "namespace": self.namespace}
            (Path(folder) / "kustomization.yaml").write_text(json.dumps(told))
            made = run("kubectl", "kustomize", folder, what="cannot build manifests/base", quiet=True)
        objects = [part for part in made.split("\n---\n") if "kind: Namespace\n" not in part]
        self.kubectl("apply", "--server-side", "-f", "-", what="manifests/base", text="\n---\n".join(objects))
        return ""

    def install(self) -> str:
        """helm upgrade --install, until all of it is ready."""
        self.chart("--wait")
        return ""

    def helm_test(self) -> str:
        """helm test."""
        run("helm", "test", "posewatch", "--namespace", self.namespace, "--logs", what="helm test failed")
        return ""

    def upgrade(self) -> str:
        """The documented upgrade with --rollback-on-failure; generated credentials stay, backups have their volume."""
        secret = ("get", "secret", "posewatch", "--output=jsonpath={.data}")
        before = self.kubectl(*secret, what="cannot read the Secret posewatch")
        backup = ["--set", "postgresql.backup.enabled=true"] if self.example != "kubeflow-multi-tenant" else []
        self.chart(*backup, "--rollback-on-failure")
        if self.kubectl(*secret, what="cannot read the Secret posewatch") != before:
            raise ClusterError("an upgrade changed generated credentials")
        if not backup:
            return "no database of its own: no backup"
        phase = self.kubectl("get", "pvc", "posewatch-backup", "--output=jsonpath={.status.phase}", what="no volume")
        if phase != "Bound":
            raise ClusterError(f"the volume of the backups is {phase}")
        self.kubectl("wait", "job", "--selector=app.kubernetes.io/component=backup", "--for=condition=complete",
                     f"--timeout={self.timeout}", what="no dump was made")  # fmt: skip
        return "a dump was made"

    def readiness(self) -> str:
        """Watchers are steadily ready before the first model; their endpoint says why."""
        names = self.kubectl("get", "pods", "--selector=app.kubernetes.io/component=watcher", "--output=name",
                             what="cannot list the watchers").split()  # fmt: skip
        if not names:
            return "the example has no watchers"
        for name in names:
            ask = "from urllib.request import urlopen as u; print(u('http://127.0.0.1:9100/readyz').read().decode())"
            said = self.kubectl("exec", name, "--", "python3", "-c", ask, what=f"{name} is not ready")
            print(f"{name}: {said.strip()}")
        return f"{len(names)} watchers"

    def fake_runtime(self) -> str:
        """A small server in the image `serving` in place of Triton: the operators' ServingRuntime says so."""
        if not self.fake_triton:
            return "Triton itself"
        image = self.image
        script = f"--from-file={ROOT / 'helm' / 'fake_triton.py'}"
        self.kubectl("create", "configmap", "fake-triton", script, what="cannot hand over the small server")
        self.kubectl("apply", "--server-side", "-f", "-", what="its ServingRuntime", text=json.dumps(fake(image)))
        return image

    def owners(self) -> str:
        """`posewatch deploy` makes a version's runtime, whoever owns the operators' one, with its own processors."""
        code = (
            "import sys; from posewatch.config import ServingConfig;"
            " from posewatch.deploy.runtime import ensure_runtime;"
            " print(ensure_runtime(ServingConfig(namespace=sys.argv[1], instances=int(sys.argv[2]))))"
        )
        made = [
            run(sys.executable, "-c", code, self.namespace, n, what="deploy's runtime").split()[-1] for n in ("2", "4")
        ]
        if not self.fake_triton:
            self.chart("--wait", "--set", "serving.runtime.image=nvcr.io/nvidia/tritonserver:26.10-py3")
            made.append(run(sys.executable, "-c", code, self.namespace, "4", what="after an upgrade").split()[-1])
        if len(set(made)) != len(made):
            raise ClusterError(f"runtimes with other content have the same name: {', '.join(made)}")
        self.base()
        return f"{len(made)} runtimes"

    def rollout(self) -> str:
        """Deploy, canary, promote and roll back two tiny models, while clients ask (try_rollout.py, in a pod)."""
        if self.example == "kubeflow-multi-tenant":
            return "its store is the platform's: left out"
        files = [ROOT / "helm" / "try_rollout.py", ROOT / "tests" / "published.py", ROOT / "tests" / "skeletons.py"]
        told = [f"--from-file={path}" for path in files]
        self.kubectl("create", "configmap", "try-rollout", *told, what="cannot hand over the trial")
        self.kubectl("create", "serviceaccount", "try-rollout", what="cannot make its account")
        role = ("--role=posewatch-deployer", f"--serviceaccount={self.namespace}:try-rollout")
        self.kubectl("create", "rolebinding", "try-rollout", *role, what="cannot bind the Role")
        pod = json.dumps(trial_pod(self.image, self.namespace))
        self.kubectl("apply", "--server-side", "-f", "-", what="the trial's pod", text=pod)
        follow = ("logs", "--follow", "--pod-running-timeout=15m", "pod/try-rollout")
        lines = self.kubectl(*follow, what="the trial says nothing").strip().splitlines()
        print("\n".join(lines))
        last = lines[-1] if lines else ""
        if not last.startswith(PASSED):
            raise ClusterError(last or "the trial said nothing")
        return last

    def pipeline(self) -> str:
        """An end_to_end run on Kubeflow, awaited."""
        if not os.environ.get("KF_PIPELINES_ENDPOINT"):
            return "KF_PIPELINES_ENDPOINT is not set: no run of a pipeline"
        told = [f"{name.lower()}={os.environ[name]}" for name in PIPELINE]
        command = [sys.executable, "-m", "posewatch.cli.main", "pipeline", "submit", "end_to_end", *told, "--wait"]
        run(*command, what="the run of end_to_end failed")
        return ""

    def all(self) -> None:
        """Every step, in order; rows tell what became of them."""
        serving: list[Callable[[], str]] = [self.fake_runtime, self.owners, self.rollout] if self.kserve else []
        steps = [self.make_namespace, self.base, self.install, self.helm_test, self.upgrade, self.readiness, *serving]
        for step in [*steps, self.pipeline]:
            self.attempt(step)

    def attempt(self, step: Callable[[], str]) -> None:
        """One step; what comes after a namespace or an installation that failed is not tried."""
        name = step.__name__.replace("_", " ")
        needed = [row for row in self.rows if row[0] in ("make namespace", "install") and row[1] != "passed"]
        if needed:
            self.rows.append((name, "not tried", f"{needed[0][0]} failed"))
            return
        print(f"== {name}: {(step.__doc__ or '').strip()}", flush=True)
        try:
            self.rows.append((name, "passed", step()))
        except ClusterError as error:
            self.rows.append((name, "FAILED", str(error)))

    def table(self) -> str:
        """What passed, for people."""
        rows = [("step", "result", "remark"), *self.rows]
        widths = [max(len(row[i]) for row in rows) for i in range(2)]
        return "\n".join(f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c}".rstrip() for a, b, c in rows)


def fake(image: str) -> dict[str, object]:
    """The operators' ServingRuntime with the small server: like Triton's, but for the image and the command."""
    from posewatch.config import ServingConfig
    from posewatch.deploy.runtime import serving_runtime

    body = serving_runtime(ServingConfig(), image=image)
    del body["metadata"]["namespace"]
    container = body["spec"]["containers"][0]
    container["command"] = ["python3", "/etc/fake/fake_triton.py"]
    container["securityContext"]["runAsUser"] = 10001
    container["volumeMounts"] = [{"name": "fake-triton", "mountPath": "/etc/fake", "readOnly": True}]
    body["spec"]["volumes"] = [{"name": "fake-triton", "configMap": {"name": "fake-triton"}}]
    return body


def trial_pod(image: str, namespace: str) -> dict[str, object]:
    """The pod in which try_rollout.py runs, with the store's credentials and the rights of the Role, no more."""
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}
    container = {
        "name": "trial",
        "image": image,
        "command": ["python3", "/etc/trial/try_rollout.py", namespace],
        "env": [{"name": "POSEWATCH_STORE", "value": "s3://posewatch/trial"}],
        "envFrom": [{"secretRef": {"name": "posewatch"}}],
        "securityContext": security,
        "volumeMounts": [
            {"name": "trial", "mountPath": "/etc/trial", "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }
    spec = {
        "serviceAccountName": "try-rollout",
        "restartPolicy": "Never",
        "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "trial", "configMap": {"name": "try-rollout"}}, {"name": "tmp", "emptyDir": {}}],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "try-rollout"}, "spec": spec}


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--example", choices=EXAMPLES, default="laptop")
    parser.add_argument("--namespace", default="posewatch-try")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="as of helm; images.tag=... say"
    )
    parser.add_argument("--timeout", default="15m", help="for the pods to be ready")
    parser.add_argument("--fake-triton", action="store_true", help="where no GPU is: a small server in Triton's place")
    parser.add_argument("--keep", action="store_true", help="leave everything there for a look")
    args = parser.parse_args(argv)
    kube = ROOT / "build" / "tools" / "kube"
    if not shutil.which("helm") and kube.is_dir():
        os.environ["PATH"] = f"{kube}:{os.environ['PATH']}"
    try:
        check(args.namespace)
        crds = run("kubectl", "get", "crds", "--output=name", what="cannot list the CRDs", quiet=True)
    except ClusterError as error:
        print(f"test-cluster: {error}", file=sys.stderr)
        return 1
    trial = Trial(args.namespace, args.example, args.set, args.timeout, KSERVE in crds, args.fake_triton)
    try:
        trial.all()
    finally:
        ours = bool(trial.rows) and trial.rows[0][1] == "passed"
        if ours and any(row[1] == "FAILED" for row in trial.rows):
            subprocess.run(["kubectl", "-n", args.namespace, "get", "pods,events"], check=False)
        if ours and not args.keep:
            subprocess.run(["kubectl", "delete", "namespace", args.namespace, "--wait=false"], check=False)
    print(f"\n{trial.table()}")
    failed = [row for row in trial.rows if row[1] != "passed"]
    print(f"test-cluster: {len(trial.rows) - len(failed)} of {len(trial.rows)} steps passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
