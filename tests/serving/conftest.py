"""A real Triton, and a tiny model with its clips."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tiny_models import SHAPE, tiny_model

from posewatch.stack import TritonServer


@pytest.fixture(scope="session")
def clips() -> np.ndarray:
    """40 clips, (40, 2, 6, 17, 3)."""
    return np.random.default_rng(1).uniform(0, 1, (40, *SHAPE)).astype(np.float32)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("onnx") / "model.onnx")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    """One Triton for the session, without models at first; its models are in ``server.repository``."""
    home = tmp_path_factory.mktemp("triton")
    with TritonServer.start(home / "models", log=home / "triton.log") as running:
        yield running
