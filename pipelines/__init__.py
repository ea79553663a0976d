"""The pipelines over the stages; the same code runs on a cluster (compiled) and here (``pipelines.local``).

``<name>`` is for a cluster: the stages, and a message when they have ended. ``<name>_stages`` has the outputs.
"""

from __future__ import annotations

import importlib
from typing import Any

NAMES = ("prepare", "train", "end_to_end", "refresh")


def pipeline(name: str) -> Any:
    """The pipeline that is compiled. Imported on demand: the import builds it, with images and resources."""
    return getattr(importlib.import_module(f"pipelines.{name}"), name)


def stages(name: str) -> Any:
    """The pipeline's stages alone, with their outputs: what runs on this machine."""
    return getattr(importlib.import_module(f"pipelines.{name}"), f"{name}_stages")
