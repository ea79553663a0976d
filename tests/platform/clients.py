"""The client of ``posewatch bench rollout``, at the stable address of a stand-in cluster."""

from __future__ import annotations

from posewatch.bench.rollout import RolloutClient

from .network import Network


class Client(RolloutClient):
    """Asks every ``every_s`` seconds."""

    def __init__(self, network: Network, every_s: float = 0.1) -> None:
        http, grpc = network.addresses("abnormal", "posewatch")
        super().__init__(f"{grpc}/abnormal", f"{http}/abnormal", every_s)

    def fresh_http(self) -> str:
        return self.fresh("http")

    def fresh_grpc(self) -> str:
        return self.fresh("grpc")
