"""The command line of ``posewatch bench scale``."""

from __future__ import annotations

import argparse
from pathlib import Path

from posewatch.bench.scale.run import PEOPLE, SECONDS, SIZES, bench_scale


def options(parser: argparse.ArgumentParser) -> None:
    """Options of ``posewatch bench scale``."""
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for scale.json, scale.md and the plot")
    parser.add_argument("--clips", type=_sizes, default=SIZES, metavar="N,N,...", help="sizes of the label store")
    parser.add_argument("--people", type=int, default=PEOPLE, help="labelers at work at once (default 200)")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="that they work, twice (default 10)")
    parser.add_argument(
        "--database", default="auto", metavar="KIND",
        help="postgresql (Debian's package, started here), sqlite, or an empty database's URL (default: what there is)",
    )  # fmt: skip
    parser.add_argument("--no-video", action="store_true", help="take no video through the stages")


def _sizes(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part.replace("_", "")) for part in text.split(",") if part.strip())
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} must be numbers of clips, as in 10000,100000") from None


def scale(args: argparse.Namespace) -> str:
    """Measure; returns the page."""
    return bench_scale(
        args.out,
        clips=args.clips,
        people=args.people,
        seconds=args.seconds,
        database=args.database,
        video=not args.no_video,
    )
