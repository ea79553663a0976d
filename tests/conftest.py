"""Fixtures that several areas share: the real servers, started once."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from videos import audio_only, make, real_networks, walk  # noqa: F401 (fixtures)


def pytest_configure() -> None:
    """Two test workers with two OpenMP threads each wait for each other more than they compute: half the CPU time of
    training tests. Tests of threads say how many they want."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The embedded stack: a real S3 server and a real Triton on free loopback ports."""
    from posewatch import stack

    with stack.running(tmp_path_factory.mktemp("stack")) as info:
        yield info


@pytest.fixture
def s3_store(servers: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An empty corner of the real S3 server."""
    from posewatch import stack
    from posewatch.store import open_store

    for key, value in stack.env(servers).items():
        monkeypatch.setenv(key, value)
    return open_store(f"s3://posewatch/{uuid.uuid4().hex[:8]}")
