"""What every task of a pipeline shares: its credentials, from a secret, and whether the engine may reuse its result."""

from __future__ import annotations

from kfp import dsl, kubernetes

SECRET = "posewatch"
"""Kubernetes secret with the keys below; on a laptop the same variables are in the environment."""
VARIABLES = (
    "POSEWATCH_S3_ENDPOINT",
    "POSEWATCH_S3_ACCESS_KEY",
    "POSEWATCH_S3_SECRET_KEY",
    "POSEWATCH_LABELS_URL",
)


def task(made: dsl.PipelineTask, *, cache: bool = True) -> dsl.PipelineTask:
    """Give a task the store's and the label store's credentials.

    ``cache=False`` for steps that look at something outside their parameters (a folder, the label store, a server): the
    engine's cache key holds no content.
    """
    kubernetes.use_secret_as_env(made, secret_name=SECRET, secret_key_to_env={name: name for name in VARIABLES})
    return made.set_caching_options(cache)
