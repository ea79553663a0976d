"""Opens the predictor that a reference names: a served model, an ONNX file or a checkpoint."""

from __future__ import annotations

import re
from pathlib import Path

from posewatch.errors import InputError
from posewatch.inference.predictor import Predictor
from posewatch.inference.triton_client import PROTOCOLS


def parse_endpoint(endpoint: str) -> tuple[str, str, str]:
    """``grpc://host:port/model`` → (protocol, host:port, model).

    With TLS (grpcs://, https://) port 443 need not be written. Over HTTP a path may stand before the model, as an
    ingress that serves several hosts by path wants it: it stays behind the port. Raises InputError.
    """
    protocol, _, rest = endpoint.partition("://")
    url, _, model = rest.rpartition("/")
    place, slash, path = url.partition("/")
    misplaced = slash and (not protocol.startswith("http") or {"v2", "versions"} & {*path.split("/")})
    if protocol not in PROTOCOLS or not place or not model or misplaced:
        # with ports: "host:port" would be hidden as a user and a password
        raise InputError(
            f"bad endpoint {endpoint!r}: write grpc://host:8001/model or http://host:8000/model (with TLS grpcs:// or"
            " https://), without /v2/models before the model or a version behind it"
        )
    if protocol in ("grpcs", "https") and not re.search(r":\d+$", place):
        place += ":443"
    return protocol, place + slash + path, model


def open_predictor(reference: str, *, timeout_s: float = 30.0, retries: int = 3, threads: int = 1) -> Predictor:
    """The predictor of an endpoint (grpc://, http://, grpcs://, https:// or grpc+shm://host:port/model), an ONNX file
    or a checkpoint (.pt, .pth). grpc+shm:// puts clips into shared memory, which a server on this machine reads.

    ``timeout_s`` and ``retries`` are for an endpoint, ``threads`` for an ONNX file. Raises InputError or ServingError.
    """
    if "://" in reference:
        from posewatch.inference.triton import TritonPredictor

        protocol, url, model = parse_endpoint(reference)
        return TritonPredictor(url, model, protocol, timeout_s=timeout_s, retries=retries)
    path = Path(reference)
    if path.suffix == ".onnx":
        from posewatch.inference.onnx_runtime import OnnxPredictor

        return OnnxPredictor(path, threads)
    if path.suffix in (".pt", ".pth"):
        from posewatch.inference.pytorch import TorchPredictor

        return TorchPredictor.from_checkpoint(path)
    raise InputError(f"{reference!r} is no model: give grpc://host:8001/model, http://..., a .onnx file or a .pt file")
