"""The embedded servers: up, down, status, install."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

from posewatch.cli.context import topic, verb
from posewatch.rules import Range

app = topic()

Home = Annotated[Path | None, Option(metavar="DIR", help="State folder (default: POSEWATCH_HOME, else ./.posewatch).")]


@verb(app, "up", stack=False)
def up(
    home: Home = None,
    s3_port: Annotated[
        int | None, Option(metavar="PORT", help="Port of the S3 server (default: a free one)."), Range(1, 65_535)
    ] = None,
) -> str:
    """Start the embedded S3 server and Triton."""
    from posewatch import stack

    info = stack.up(home, s3_port=s3_port)
    lines = [f"{k}={v}" for k, v in stack.env(info).items() if "SECRET" not in k]
    return "\n".join([*lines, "# the secret key is in credentials.json; posewatch commands find it by themselves"])


@verb(app, "down", stack=False)
def down(home: Home = None) -> str:
    """Stop the embedded servers."""
    from posewatch import stack

    stack.down(home)
    return "down"


@verb(app, "status", stack=False)
def status(home: Home = None) -> str:
    """List the servers and where they run."""
    from posewatch import stack

    return str(stack.status(home))


@verb(app, "install", stack=False)
def install(
    accelerator: Annotated[Literal["openvino"] | None, Argument(help="Also install this accelerator for CPUs.")] = None,
) -> None:
    """Install the embedded servers before the first up."""
    from posewatch.stack.seaweed import find_weed
    from posewatch.stack.triton_install import ensure_openvino, ensure_triton

    find_weed()
    ensure_triton()
    if accelerator:
        ensure_openvino()
