"""The container images of other people that posewatch names, and the oldest version of each that may serve others.

Plain data, of the standard library only: ``make audit`` reads this file by its path.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

TRITON_IMAGE = "nvcr.io/nvidia/tritonserver:26.09-py3"
"""Triton on a cluster, in ``posewatch deploy`` and the chart (a test holds them equal). The laptop's embedded Triton is
the 24.10 of the package nvidia-pytriton, on loopback only: it is no server for others."""


@dataclass(frozen=True)
class Floor:
    """The oldest ``version`` without known holes of an ``image`` (the last part of its name), and ``why``."""

    image: str
    version: str
    why: str


FLOORS = (
    Floor(
        "tritonserver", "26.07", "NVIDIA's bulletins to July 2026: CVE-2025-23310, CVE-2026-24207, CVE-2026-47627 (9.8)"
    ),
    Floor("postgres", "17.10", "PostgreSQL's release of 2026-05-14: CVE-2026-6473, CVE-2026-6475, CVE-2026-6477 (8.8)"),
    Floor(
        "seaweedfs", "4.34", "GHSA-hgpf-8634-g44c (CVE-2026-55873), and GHSA-2v6v-25fm-p4fg (CVE-2026-72920) before it"
    ),
    Floor("python", "3.11", "PEP 664: the oldest version that gets security fixes, until October 2027"),
)


def version(tag: str) -> tuple[int, ...]:
    """The numbers that a tag begins with: ``26.09-py3`` → (26, 9); none for a tag without them."""
    found = re.match(r"v?(\d+(?:\.\d+)*)", tag)
    return tuple(int(part) for part in found[1].split(".")) if found else ()


def below(image: str) -> Floor | None:
    """The floor that ``image`` (``registry/name:tag[@digest]``) is below; None if it is not, or has none.

    A tag that names no version is below every floor.
    """
    name, _, tag = image.partition("@")[0].rpartition("/")[2].partition(":")
    floor = next((floor for floor in FLOORS if floor.image == name), None)
    return floor if floor is not None and version(tag) < version(floor.version) else None
