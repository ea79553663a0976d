"""Compile the pipelines, or run one on this machine: ``python -m pipelines compile`` / ``run end_to_end source=…``."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from pipelines import NAMES
from pipelines import verbs as remote_verbs
from pipelines.arguments import Parser
from posewatch import boundary, outputs
from posewatch.config import load


def compile_all(out: Path, *, force: bool = False) -> list[Path]:
    """Write ``<pipeline>.yaml`` for every pipeline into ``out``: all of them, or none where one cannot be compiled.

    Raises InputError for a file there that posewatch did not write, unless ``force`` is set.
    """
    from kfp import compiler

    from pipelines import pipeline

    outputs.check([out / f"{name}.yaml" for name in NAMES], force=force)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".compile-", dir=out) as temp:
        for name in NAMES:
            compiler.Compiler().compile(pipeline(name), str(Path(temp) / f"{name}.yaml"))
        for name in NAMES:
            (Path(temp) / f"{name}.yaml").replace(out / f"{name}.yaml")
            outputs.mark(out / f"{name}.yaml")
    return [out / f"{name}.yaml" for name in NAMES]


def main(argv: list[str] | None = None) -> int:
    parser = Parser(prog="python -m pipelines", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    make = verbs.add_parser("compile", help="write the YAML that a Kubeflow Pipelines server takes")
    make.add_argument("--out", type=Path, default=Path("build/pipelines"))
    make.add_argument("--force", action="store_true", help="replace files that were changed, or are of somebody else")
    make.add_argument("--resources", help="resources of the steps: a YAML file, gpu or cpu (default: gpu)")
    run = verbs.add_parser("run", help="run a pipeline here, every step in a process of its own")
    run.add_argument("pipeline", choices=NAMES)
    run.add_argument("argument", nargs="*", help="name=value, the pipeline's own parameters (source=…, store=…)")
    run.add_argument("--config", default="default", help="experiment: a name, a YAML file or JSON")
    run.add_argument("--set", action="append", default=[], metavar="section.key=value", help="override one value")
    remote_verbs.add(verbs)
    words = sys.argv[1:] if argv is None else argv
    boundary.begin(*words)
    args = parser.parse_args(words)

    def act() -> int:
        if getattr(args, "resources", None):
            os.environ["POSEWATCH_RESOURCES"] = args.resources
        if hasattr(args, "act"):
            return int(args.act(args))
        if args.verb == "compile":
            for path in compile_all(args.out, force=args.force):
                print(path)
            return 0
        from pipelines.local import run_local

        results = run_local(args.pipeline, args.argument, load(args.config, args.set).to_json())
        for name, value in results.items():
            print(f"{name}: {value}")
        return 0

    return boundary.guarded("pipelines", act, *words)


if __name__ == "__main__":
    sys.exit(main())
