"""The chart on a real cluster (`make test-cluster`): install an example, wait, helm test, an end_to_end run, away.

KUBECONFIG says which cluster. Everything happens in a namespace that must not exist yet, and that is deleted in the end
unless --keep is given; nothing outside it is touched. Where KF_PIPELINES_ENDPOINT is set, a run of end_to_end
follows with the videos of SOURCE, the labels of LABELS and the store STORE (s3://...).
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "helm" / "posewatch"
EXAMPLES = sorted(path.stem for path in (CHART / "examples").glob("*.yaml"))
PIPELINE = ("SOURCE", "LABELS", "STORE")


class ClusterError(Exception):
    """One line for the user."""


def run(*words: str, what: str, quiet: bool = False) -> str:
    """Run a command, showing it; its output goes to the terminal too unless ``quiet``. Raises ClusterError."""
    print("+ " + " ".join(words), flush=True)
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
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


def make_namespace(namespace: str) -> None:
    """The namespace for it all."""
    run("kubectl", "create", "namespace", namespace, what="cannot make the namespace")


def install(namespace: str, example: str, sets: Sequence[str], timeout: str) -> None:
    """The chart with an example; waits until all of it is ready, tests it, and upgrades it to the same."""
    label = "pod-security.kubernetes.io/enforce=restricted"
    run("kubectl", "label", "namespace", namespace, label, what="cannot label the namespace")
    values = CHART / "examples" / f"{example}.yaml"
    command = ["helm", "upgrade", "--install", "posewatch", str(CHART), "--namespace", namespace, "--wait"]
    command += ["--values", str(values), "--timeout", timeout, *(word for one in sets for word in ("--set", one))]
    run(*command, what="the chart was not installed")
    run("helm", "test", "posewatch", "--namespace", namespace, "--logs", what="helm test failed")
    secret = ("kubectl", "-n", namespace, "get", "secret", "posewatch", "--output=jsonpath={.data}")
    before = run(*secret, what="cannot read the Secret posewatch", quiet=True)
    run(*command, what="the chart was not upgraded")
    if run(*secret, what="cannot read the Secret posewatch", quiet=True) != before:
        raise ClusterError("an upgrade changed generated credentials")
    run("helm", "test", "posewatch", "--namespace", namespace, what="helm test failed after an upgrade")


def pipeline() -> None:
    """An end_to_end run on Kubeflow, awaited."""
    told = [f"{name.lower()}={os.environ[name]}" for name in PIPELINE]
    command = [sys.executable, "-m", "posewatch.cli.main", "pipeline", "submit", "end_to_end", *told, "--wait"]
    run(*command, what="the run of end_to_end failed")


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--example", choices=EXAMPLES, default="laptop")
    parser.add_argument("--namespace", default="posewatch-try")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="as of helm; images.tag=... say"
    )
    parser.add_argument("--timeout", default="15m", help="for the pods to be ready")
    parser.add_argument("--keep", action="store_true", help="leave everything there for a look")
    args = parser.parse_args(argv)
    kube = ROOT / "build" / "tools" / "kube"
    if not shutil.which("helm") and kube.is_dir():
        os.environ["PATH"] = f"{kube}:{os.environ['PATH']}"
    ours = False
    try:
        check(args.namespace)
        make_namespace(args.namespace)
        ours = True
        install(args.namespace, args.example, args.set, args.timeout)
        if os.environ.get("KF_PIPELINES_ENDPOINT"):
            pipeline()
        else:
            print("KF_PIPELINES_ENDPOINT is not set: no run of a pipeline")
    except ClusterError as error:
        print(f"test-cluster: {error}", file=sys.stderr)
        if ours:
            subprocess.run(["kubectl", "-n", args.namespace, "get", "pods,events"], check=False)
        return 1
    finally:
        if ours and not args.keep:
            subprocess.run(["kubectl", "delete", "namespace", args.namespace, "--wait=false"], check=False)
    print("test-cluster: the chart runs on this cluster")
    return 0


if __name__ == "__main__":
    sys.exit(main())
