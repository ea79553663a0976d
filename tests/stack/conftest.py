"""A home for the stack, and a way to see what listens where."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from posewatch import stack


@pytest.fixture(scope="session")
def listening():
    """A function: TCP port → the addresses that listen on it."""

    def find() -> dict[int, set[str]]:
        found: dict[int, set[str]] = {}
        for table in ("tcp", "tcp6"):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A":
                    address, port = fields[1].split(":")
                    words = struct.pack(
                        f"={len(address) // 8}I", *struct.unpack(f">{len(address) // 8}I", bytes.fromhex(address))
                    )
                    found.setdefault(int(port, 16), set()).add(str(ipaddress.ip_address(words)))
        return found

    return find


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home whose stack is up, for one module; started where another Go program has its memory limit."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GOMEMLIMIT", "256MiB")
        stack.up(folder)
    yield folder
    stack.down(folder)
