"""What every task of a pipeline gets: credentials from a secret, resources, retries, whether its result is reused."""

from __future__ import annotations

from kfp import dsl, kubernetes

from pipelines.resources import resources

SECRET = "posewatch"
"""Kubernetes secret with the keys below; on a laptop the same variables are in the environment."""
VARIABLES = (
    "POSEWATCH_S3_ENDPOINT",
    "POSEWATCH_S3_ACCESS_KEY",
    "POSEWATCH_S3_SECRET_KEY",
    "POSEWATCH_LABELS_URL",
)
WEBHOOK = "POSEWATCH_WEBHOOK"


def task(made: dsl.PipelineTask, *, cache: bool = True) -> dsl.PipelineTask:
    """Give a task the store's and the label store's credentials, and what `resources.yaml` says of its step.

    ``cache=False`` for steps that look at something outside their parameters (a folder, the label store, a server): the
    engine's cache key holds no content.
    """
    kubernetes.use_secret_as_env(made, secret_name=SECRET, secret_key_to_env={name: name for name in VARIABLES})
    return _placed(made).set_caching_options(cache)


def at_the_end(made: dsl.PipelineTask) -> dsl.PipelineTask:
    """The task that tells how a run ended: it knows the webhook, and neither the store nor the labels."""
    kubernetes.use_secret_as_env(made, secret_name=SECRET, secret_key_to_env={WEBHOOK: WEBHOOK}, optional=True)
    return _placed(made).set_caching_options(False)


def config() -> dsl.PipelineConfig:
    """How long a finished run's record stays in the cluster."""
    return dsl.PipelineConfig(ttl_seconds_after_finished=resources().ttl_s)


def _placed(made: dsl.PipelineTask) -> dsl.PipelineTask:
    told = resources()
    step = told.step(made.component_spec.name.replace("-", "_"))
    made.set_cpu_request(step.cpu).set_cpu_limit(step.cpu_limit)
    made.set_memory_request(step.memory).set_memory_limit(step.memory_limit)
    if step.retries:
        made.set_retry(step.retries, f"{step.backoff_s}s", 2.0, f"{step.backoff_max_s}s")
    kubernetes.set_timeout(made, step.timeout_s)
    if step.shared_memory:
        # a container's own /dev/shm is 64 MiB: too small for the data loader's processes
        kubernetes.empty_dir_mount(made, "shared-memory", "/dev/shm", "Memory", step.shared_memory)
    if step.gpus:
        made.set_accelerator_type(told.gpu_node.accelerator).set_accelerator_limit(step.gpus)
        for key, value in told.gpu_node.node_selector.items():
            kubernetes.add_node_selector(made, key, value)
        for toleration in told.gpu_node.tolerations:
            kubernetes.add_toleration(made, **toleration)
    return made
