"""What an older Kubeflow Pipelines server cannot read or do, taken out of a pipeline that our kfp compiled.

By the sources of the server's releases. Before 2.17 a server that does not know a field of the Kubernetes part leaves
out all of that part without a word (IsPlatformSpecWithKubernetesConfig): its steps had no credentials.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from pipelines.tasks import OPTIONAL
from posewatch.errors import InputError, PosewatchError, did_you_mean

Release = tuple[int, int]
OLDEST: Release = (2, 3)
TTL: Release = (2, 17)
"""Deletes a finished run's workflow, and knows the field that says when."""
SECURITY: Release = (2, 16)
"""Knows a step's security context, and sets what it lacks."""
OPTIONAL_KEYS: Release = (2, 15)
"""Takes a key of a secret that may be missing: before, a step waits for it in vain."""
FINAL_STATUS: Release = (2, 14)
"""Tells the last step how the run ended; retries steps of a nested pipeline; collects a loop's results."""
NAMED_SECRETS: Release = (2, 5)
"""Takes a secret's name as a parameter; the drivers of 2.3 refuse a step for a field that they do not know."""
NESTED_OUTPUTS: Release = (2, 4)
"""Hands on the results of a nested pipeline."""


def release_of(text: str) -> Release | None:
    """The release of a server in its own words, ``2.5.0`` or ``v2.5``; None for what is none, such as a commit."""
    found = re.match(r"v?(\d+)\.(\d+)(?![^.-])", text)
    return (int(found[1]), int(found[2])) if found else None


def adapt(package: Path, release: Release | None, keys: Sequence[str] = ()) -> list[str]:
    """Take out of a compiled pipeline what a server of ``release`` lacks; returns that in words. None: the newest.

    ``keys`` are those optional ones that the secret has. Raises PosewatchError for a pipeline that it cannot run.
    """
    for key in keys:
        if key not in OPTIONAL:
            raise InputError(f"--secret-key {key}: {did_you_mean(key, OPTIONAL)}")
    if release is None or release >= TTL:
        return []
    spec, platform = yaml.safe_load_all(package.read_text(encoding="utf-8"))
    name = package.stem
    _refuse(spec, name, release)
    kubernetes = platform["platforms"]["kubernetes"]
    without = []
    if kubernetes.pop("pipelineConfig", None):
        without.append("ttl_s (Kubeflow deletes finished workflows after its own time)")
    executors = list(kubernetes["deploymentSpec"]["executors"].values())
    if release < SECURITY and [about.pop("securityContext", None) for about in executors]:
        without.append("settings without which a namespace that enforces `restricted` refuses its pods")
    if release < OPTIONAL_KEYS:
        lacking = [_require(about, keys) for about in executors]
        if any(lacking):
            left = ", ".join(key for key in OPTIONAL if key not in keys)
            without.append(f"the secret's {left} (--secret-key NAME for one that it has)")
    if release < FINAL_STATUS and _end_unknown(spec):
        without.append("the state of the run in the message at its end, and retries")
    if release < NAMED_SECRETS:
        for secret in (secret for about in executors for secret in about.get("secretAsEnv", ())):
            secret.pop("secretNameParameter", None)
    package.write_text(yaml.safe_dump_all([spec, platform], allow_unicode=True), encoding="utf-8")
    return without


def _refuse(spec: dict[str, Any], name: str, release: Release) -> None:
    told = f"a Kubeflow Pipelines server of {release[0]}.{release[1]} cannot run {name}"
    if release < OLDEST:
        raise PosewatchError(f"{told}: 2.3 or newer is needed (docs/pipelines.md)")
    if release < FINAL_STATUS and any("parameterIterator" in task for task in _tasks(spec)):
        raise PosewatchError(
            f"{told} in shards: 2.14 or newer is needed, or `shards: false` in a file for --resources, with which one"
            " pod per step takes all videos (docs/pipelines.md)"
        )
    dags = {name for name, component in spec["components"].items() if "dag" in component}
    if release < NESTED_OUTPUTS:
        for component in (spec["root"], *spec["components"].values()):
            tasks = component.get("dag", {}).get("tasks", {})
            nested = {name for name, task in tasks.items() if task["componentRef"]["name"] in dags}
            if any(_producer(value) in nested for task in tasks.values() for value in _inputs(task).values()):
                raise PosewatchError(
                    f"{told}, whose parts hand on results: 2.4 or newer is needed, or prepare and train one after the"
                    " other (docs/pipelines.md)"
                )


def _require(about: dict[str, Any], keys: Sequence[str]) -> bool:
    """Ask for the optional keys that the secret has, and for no others; whether there were others."""
    left = False
    kept = []
    for secret in about.get("secretAsEnv", ()):
        if secret.pop("optional", False):
            left = left or any(item["secretKey"] not in keys for item in secret["keyToEnv"])
            secret["keyToEnv"] = [item for item in secret["keyToEnv"] if item["secretKey"] in keys]
        if secret["keyToEnv"]:
            kept.append(secret)
    about.pop("secretAsEnv", None)
    if kept:
        about["secretAsEnv"] = kept
    return left


def _end_unknown(spec: dict[str, Any]) -> bool:
    """Tell the message's step an unknown state instead of the run's, which the server refuses to compile."""
    changed = False
    for task in _tasks(spec):
        for key, value in _inputs(task).items():
            if "taskFinalStatus" in value:
                component = spec["components"][task["componentRef"]["name"]]
                component["inputDefinitions"]["parameters"][key]["parameterType"] = "STRUCT"
                task["inputs"]["parameters"][key] = {"runtimeValue": {"constant": {"state": "UNKNOWN"}}}
                changed = True
    return changed


def _tasks(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for component in (spec["root"], *spec["components"].values()):
        yield from component.get("dag", {}).get("tasks", {}).values()


def _inputs(task: dict[str, Any]) -> dict[str, Any]:
    return dict(task.get("inputs", {}).get("parameters", {}))


def _producer(value: dict[str, Any]) -> str:
    return str(value.get("taskOutputParameter", {}).get("producerTask", ""))
