"""``posewatch weights``: list, fetch, verify, find or mirror model weights."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Annotated, Literal

from typer import Argument, Option

from posewatch.cli.context import topic, verb
from posewatch.errors import InputError, WeightsError

app = topic()


@verb(app, "weights", stack=False)
def weights(
    act: Annotated[Literal["list", "fetch", "verify", "where", "mirror"], Argument(help="What to do.")],
    names: Annotated[
        list[str] | None,
        Argument(metavar="name", help="Names of `weights list` (default: those of the offline default)."),
    ] = None,
    store: Annotated[str | None, Option(help="Store to mirror into (default: POSEWATCH_STORE).")] = None,
    force: Annotated[bool, Option("--force", help="Replace other files of the same names in the mirror.")] = False,
) -> str:
    """List, fetch, verify, find or mirror model weights."""
    from posewatch import weights

    chosen = names or ()
    if act == "fetch":
        return "\n".join(str(weights.path(name)) for name in chosen or weights.DEFAULTS)
    if act == "where":
        return "\n".join(_where(name) for name in chosen or [w.name for w in weights.listing()])
    if act == "verify":
        return _verify(chosen)
    if act == "mirror":
        uri = store or os.environ.get("POSEWATCH_STORE", "")
        if not uri:
            raise InputError("no store to mirror into: give --store s3://bucket/prefix, or set POSEWATCH_STORE")
        return "\n".join(weights.mirror(uri, chosen or weights.DEFAULTS, force=force))
    return "\n".join(
        f"{w.name:17} {w.bytes / 1e6:6.1f} MB  {w.licence:10}  sha256 {w.sha256[:12] or 'unpublished ':12}  {w.source}"
        for w in weights.listing()
        if not chosen or w.name in chosen
    )


def _where(name: str) -> str:
    from posewatch import weights

    path = weights.where(name)
    return f"{name:17} {'here  ' if path.exists() else 'absent'}  {path}"


def _verify(names: Sequence[str]) -> str:
    from posewatch import weights

    results = weights.verify(names)
    wrong = [text for text in results.values() if text not in ("ok", "missing")]
    if wrong:
        more = f"; {len(wrong) - 1} more are wrong" if len(wrong) > 1 else ""
        raise WeightsError(wrong[0] + more)
    missing = [name for name, text in results.items() if text == "missing"]
    if names and missing:
        raise WeightsError(f"not here: {', '.join(missing)} (posewatch weights fetch {' '.join(missing)})")
    return "\n".join(f"{name:17} {text}" for name, text in results.items())
