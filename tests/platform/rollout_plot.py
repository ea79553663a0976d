"""The plot of docs/deploy.md: clients ask a service whose pods are real Tritons through every act of a rollout.

python -m tests.platform.rollout_plot OUT      (make bench-rollout)
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from published import Bucket, version

from posewatch.bench.rollout import report
from posewatch.config import ServingConfig
from posewatch.deploy import proof
from posewatch.kube.cluster import Cluster
from posewatch.stages import deploy as stage

from .clients import Client
from .conftest import _serve
from .kserve import Controller
from .pods import RealTriton

CONFIG = ServingConfig(target="kserve", namespace="posewatch", model_warmup="none", max_batch=32)
PAUSE_S = 5.0


class Killed(BaseException):
    """As if by SIGKILL."""


def main(out: Path) -> None:
    with tempfile.TemporaryDirectory() as temp, _serve(Path(temp)) as api:
        os.environ["KUBECONFIG"] = str(api.kubeconfig)
        store = Bucket(Path(temp) / "bucket")
        one, two, three = (version(store, seed, CONFIG) for seed in (1, 2, 3))
        controller = Controller(api, store, RealTriton)
        controller.network.lag_s = 0.5
        proof.addresses = controller.network.addresses
        controller.start()
        try:
            stage.deploy(one.model, one.evaluation, CONFIG)
            client = Client(controller.network, every_s=0.5)
            with client:
                time.sleep(PAUSE_S)
                client.mark("deploy, canary 10 %")
                stage.deploy(two.model, two.evaluation, CONFIG, percent=10)
                time.sleep(PAUSE_S)
                client.mark("promote")
                stage.rollout(store, CONFIG).promote()
                time.sleep(PAUSE_S)
                client.mark("deploy, killed")
                _killed_at(8, lambda: stage.deploy(three.model, three.evaluation, CONFIG))
                time.sleep(PAUSE_S)
                client.mark("the same again")
                stage.deploy(three.model, three.evaluation, CONFIG)
                time.sleep(PAUSE_S)
                client.mark("rollback")
                stage.rollout(store, CONFIG).rollback()
                time.sleep(PAUSE_S)
            print(report(client, out))
            print(f"pods that were restarted while they served: {len(controller.restarts)}")
            print("\n".join(client.failures))
        finally:
            controller.close()


def _killed_at(step: int, act: object) -> None:
    """Run ``act`` and die before its change number ``step`` of the cluster."""
    real, count = Cluster.apply, 0

    def apply(*args: object, **options: object) -> None:
        nonlocal count
        count += 1
        if count == step:
            raise Killed
        real(*args, **options)  # type: ignore[arg-type]

    Cluster.apply = apply  # type: ignore[method-assign]
    try:
        act()  # type: ignore[operator]
    except Killed:
        pass
    finally:
        Cluster.apply = real  # type: ignore[method-assign]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
