"""A rollout of two versions on a cluster, while clients ask: what `make test-cluster` runs in a pod of the namespace.

Two tiny models are published into the store; the first is deployed, the second takes a share, all, and gives it back.
Two clients ask the stable address twice a second meanwhile: over one gRPC connection, and over new HTTP connections.
No request may fail, and only the versions that should may answer.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from posewatch.bench.rollout import RolloutClient, report
from posewatch.config import ServingConfig
from posewatch.deploy.proof import addresses
from posewatch.stages import deploy as stage
from posewatch.store import open_store


def rollout(store: Any, config: ServingConfig, one: Any, two: Any, out: Path) -> str:
    """Deploy, canary, promote and roll back; one line of what was seen. Raises AssertionError for a wrong answer."""
    names = [made.model.prefix.rsplit("/", 1)[1] for made in (one, two)]
    stage.deploy(one.model, one.evaluation, config)
    http, grpc = addresses(config.name, config.namespace)
    way = stage.rollout(store, config)
    client = RolloutClient(f"{grpc}/{config.name}", f"{http}/{config.name}")
    with client:
        client.mark("canary")
        stage.deploy(two.model, two.evaluation, config, percent=20)
        client.mark("promote")
        way.promote()
        for protocol in ("http", "grpc"):
            assert client.fresh(protocol) == names[1], f"{protocol} is still answered by another version after promote"
        client.mark("rollback")
        way.rollback()
        for protocol in ("http", "grpc"):
            assert client.fresh(protocol) == names[0], f"{protocol} is still answered by another version after rollback"
    said = report(client, out)
    assert not client.failures, f"requests without an answer: {'; '.join(client.failures[:3])}"
    assert set(client.order("http")) | set(client.order("grpc")) == set(names), f"others answered: {said}"
    return said


if __name__ == "__main__":
    from published import version  # tests/published.py, handed over beside this file

    serving = ServingConfig(target="kserve", namespace=sys.argv[1], device="cpu", model_warmup="none")
    bucket = open_store(os.environ["POSEWATCH_STORE"])
    seen = rollout(bucket, serving, version(bucket, 1, serving), version(bucket, 2, serving), Path("/tmp"))
    print(f"the rollout passed: {seen}", flush=True)
