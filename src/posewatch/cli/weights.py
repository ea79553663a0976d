"""What ``posewatch weights list | fetch | verify | where | mirror`` prints."""

from __future__ import annotations

import os
from collections.abc import Sequence

from posewatch import weights
from posewatch.errors import InputError, WeightsError


def run(act: str, names: Sequence[str], store: str | None) -> str:
    """The text of one verb. Raises WeightsError for an unknown name, a failed download or a changed file."""
    if act == "fetch":
        return "\n".join(str(weights.path(name)) for name in names or weights.DEFAULTS)
    if act == "where":
        return "\n".join(_where(name) for name in names or [w.name for w in weights.listing()])
    if act == "verify":
        return _verify(names)
    if act == "mirror":
        uri = store or os.environ.get("POSEWATCH_STORE", "")
        if not uri:
            raise InputError("no store to mirror into: give --store s3://bucket[/prefix], or set POSEWATCH_STORE")
        return "\n".join(weights.mirror(uri, names or weights.DEFAULTS))
    return "\n".join(
        f"{w.name:17} {w.bytes / 1e6:6.1f} MB  {w.licence:10}  sha256 {w.sha256[:12] or 'unpublished ':12}  {w.source}"
        for w in weights.listing()
        if not names or w.name in names
    )


def _where(name: str) -> str:
    place = weights.where(name)
    return f"{name:17} {'here  ' if place.exists() else 'absent'}  {place}"


def _verify(names: Sequence[str]) -> str:
    said = weights.verify(names)
    bad = [text for text in said.values() if text not in ("ok", "missing")]
    if bad:
        more = f"; {len(bad) - 1} more are wrong" if len(bad) > 1 else ""
        raise WeightsError(bad[0] + more)
    lost = [name for name, text in said.items() if text == "missing"]
    if names and lost:
        raise WeightsError(f"not here: {', '.join(lost)} (posewatch weights fetch {' '.join(lost)})")
    return "\n".join(f"{name:17} {text}" for name, text in said.items())
