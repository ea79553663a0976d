"""Settings of every task of a pipeline: credentials from a secret, resources, retries, and use of the cache."""

from __future__ import annotations

import inspect
from typing import Any

from kfp import dsl, kubernetes

from components.notify.component import notify
from pipelines.resources import BACKOFF_FACTOR, resources

SECRET = "posewatch"
"""Kubernetes secret with the keys below; on a laptop the same variables are in the environment."""
VARIABLES = (
    "POSEWATCH_S3_ENDPOINT",
    "POSEWATCH_S3_ACCESS_KEY",
    "POSEWATCH_S3_SECRET_KEY",
    "POSEWATCH_LABELS_URL",
)
REGION = "POSEWATCH_S3_REGION"
"""Where the secret has it: of a bucket whose region the endpoint does not name."""
WEBHOOK = "POSEWATCH_WEBHOOK"
CAMERA = ("POSEWATCH_CAMERA_USER", "POSEWATCH_CAMERA_PASSWORD")
"""What may stand as ``${NAME}`` in a camera's address, which is a parameter and so is shown to everybody."""
OPTIONAL = (REGION, WEBHOOK, *CAMERA)
"""Keys that the secret need not have."""


RUN = ("POSEWATCH_RUN", "metadata.labels['pipeline/runid']")
"""The run's id, as the server and ``posewatch pipeline`` know it: a label of each pod."""


def task(step: dsl.PipelineTask, *, cache: bool = True) -> dsl.PipelineTask:
    """Give a task the store's and the label store's credentials, and its resources from `resources.yaml`.

    ``cache=False`` is for steps that read something outside their parameters (a folder, the label store, a server): the
    engine's cache key holds no content.
    """
    kubernetes.use_secret_as_env(step, secret_name=SECRET, secret_key_to_env={name: name for name in VARIABLES})
    kubernetes.use_secret_as_env(step, secret_name=SECRET, secret_key_to_env={REGION: REGION}, optional=True)
    return _place(step).set_caching_options(cache)


def camera_task(step: dsl.PipelineTask) -> dsl.PipelineTask:
    """A task that may record a camera: it also gets the run's id, and the camera's user and password where the secret
    has them."""
    kubernetes.use_field_path_as_env(step, *RUN)
    kubernetes.use_secret_as_env(
        step, secret_name=SECRET, secret_key_to_env={name: name for name in CAMERA}, optional=True
    )
    return task(step, cache=False)


def announced(name: str, stages: Any) -> Any:
    """The pipeline ``name`` for a cluster: its stages, and a message to ``webhook`` when they have ended.

    The message's step gets the webhook, and no credentials of the stores.
    """

    takes = inspect.signature(stages.pipeline_func).parameters

    def whole(*values: Any) -> None:
        *given, webhook = values
        message = notify(pipeline=name, webhook=webhook)
        kubernetes.use_field_path_as_env(message, *RUN)
        kubernetes.use_secret_as_env(message, secret_name=SECRET, secret_key_to_env={WEBHOOK: WEBHOOK}, optional=True)
        with dsl.ExitHandler(_place(message).set_caching_options(False)):
            stages(**dict(zip(takes, given, strict=True)))

    webhook = inspect.Parameter("webhook", inspect.Parameter.POSITIONAL_OR_KEYWORD, default="", annotation=str)
    whole.__signature__ = inspect.Signature([*takes.values(), webhook])  # type: ignore[attr-defined]
    # how long a finished run's record stays in the cluster; 2.17's manifests give the other two an hour, which wins
    ttl_s = resources().ttl_s
    kept = dsl.PipelineConfig(
        ttl_seconds_after_finished=ttl_s, ttl_seconds_after_success=ttl_s, ttl_seconds_after_failure=ttl_s
    )
    title = f"posewatch-{name.replace('_', '-')}"
    return dsl.pipeline(name=title, description=stages.description, pipeline_config=kept)(whole)


def _place(task: dsl.PipelineTask) -> dsl.PipelineTask:
    """Set requests, limits, retries, timeout, node and user of a task."""
    gpu_node = resources().gpu_node
    step = resources().step(task.component_spec.name.replace("-", "_"))
    task.set_cpu_request(step.cpu).set_cpu_limit(step.cpu_limit)
    task.set_memory_request(step.memory).set_memory_limit(step.memory_limit)
    if step.retries:
        task.set_retry(step.retries, f"{step.backoff_s}s", float(BACKOFF_FACTOR), f"{step.retried_for_s}s")
    kubernetes.set_timeout(task, step.timeout_s)
    # all else that `restricted` wants the server sets itself, but an image of somebody else may run as root
    kubernetes.set_security_context(task, run_as_non_root=True)
    if step.shared_memory:
        # a container's own /dev/shm is 64 MiB: too small for the data loader's processes
        kubernetes.empty_dir_mount(task, "shared-memory", "/dev/shm", "Memory", step.shared_memory)
    if step.gpus:
        task.set_accelerator_type(gpu_node.accelerator).set_accelerator_limit(step.gpus)
        for key, value in gpu_node.node_selector.items():
            kubernetes.add_node_selector(task, key, value)
        for toleration in gpu_node.tolerations:
            kubernetes.add_toleration(task, **toleration)
    return task
