"""What ``posewatch labels`` can do besides the stages: roles, audit, agreement, export, the queue's order."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from posewatch.config import load
from posewatch.errors import InputError

if TYPE_CHECKING:
    from posewatch.artifact import Artifact
    from posewatch.inference.predictor import Predictor
    from posewatch.labels.store import LabelStore
    from posewatch.records import Skeleton

FORMATS = ("csv", "parquet", "pyskl", "folders", "labelstudio")


def _store(args: argparse.Namespace) -> LabelStore:
    from posewatch.labels.store import LabelStore

    return LabelStore(args.labels_url)


def _get(args: argparse.Namespace, reference: str) -> Artifact:
    from posewatch.artifact import get
    from posewatch.store import open_store

    return get(open_store(args.store), reference)


def _role(args: argparse.Namespace) -> str:
    from posewatch.labels.team import roles

    store = _store(args)
    if args.who is None:
        return "\n".join(f"{who:30} {role}" for who, role in roles.all_roles(store).items()) or "nobody has a role yet"
    if args.role is None:
        return roles.role_of(store, args.who)
    roles.set_role(store, args.who, args.role, f"operator {os.environ.get('USER', '')}".strip())
    return f"{args.who}: {args.role}"


def _audit(args: argparse.Namespace) -> str:
    from posewatch.labels.team import audit

    return f"{audit.export(_store(args), args.out)} rows in {args.out}"


def _agreement(args: argparse.Namespace) -> dict[str, Any]:
    import dataclasses

    from posewatch.labels.team.agreement import agreement, opinions

    return dataclasses.asdict(agreement(opinions(_store(args))))


def _export(args: argparse.Namespace) -> str:
    from posewatch.artifact import members
    from posewatch.labels.formats.exporters import export
    from posewatch.labels.formats.snapshot import snapshot
    from posewatch.stages.contents import skeletons_of

    store = _store(args)
    poses: dict[str, Skeleton] | None = None
    found = snapshot(store, allow_disagreement=args.allow_disagreement)
    if args.skeletons:
        parts = [skeletons_of(artifact) for _, artifact in members(_get(args, args.skeletons))]
        poses = {clip: skeleton for part in parts for clip, skeleton in part.items()}
    count = export(store, found, args.format, args.out, load(args.config, args.set).labels, poses)
    return f"{count} labelled clips in {args.out}"


def _refresh(args: argparse.Namespace) -> dict[str, int]:
    from posewatch.stages.refresh import refresh

    if (args.endpoint is None) == (args.checkpoint is None):
        raise InputError("say which model to ask: --endpoint grpc://host:port/model, or --checkpoint FILE")
    predictor: Predictor
    if args.endpoint is not None:
        from posewatch.inference.open import open_predictor

        predictor, version = open_predictor(args.endpoint), args.version or args.endpoint.rsplit("/", 1)[-1]
    else:
        import hashlib

        from posewatch.inference.pytorch import TorchPredictor

        predictor = TorchPredictor.from_checkpoint(args.checkpoint)
        version = args.version or hashlib.sha256(args.checkpoint.read_bytes()).hexdigest()[:12]
    config = load(args.config, args.set).labels
    with predictor:
        return refresh(_get(args, args.clips), _get(args, args.skeletons), _store(args), predictor, version, config)


def add(verb: Callable[..., Any]) -> None:
    """Add the verbs; ``verb(name, act, text, *positional)`` makes one with the common options."""
    made = verb("role", _role, "who has which role; give one")
    made.add_argument("who", nargs="?")
    made.add_argument("role", nargs="?", help="none, labeler, reviewer or admin")
    _url(made)
    made = verb("audit", _audit, "write every act since the beginning to a file")
    made.add_argument("--out", type=Path, required=True, help="a .csv, .jsonl or .parquet file")
    _url(made)
    _url(verb("agreement", _agreement, "Cohen's and Fleiss' kappa of what several people labelled"))
    made = verb("export", _export, "write the current labels for other tools")
    made.add_argument("format", choices=FORMATS)
    made.add_argument("--out", type=Path, required=True, help="the file, or the folder of class folders")
    made.add_argument("--skeletons", help="the clips' skeletons, for pyskl")
    made.add_argument("--allow-disagreement", action="store_true", help="what most people say where they disagree")
    _url(made)
    made = verb("refresh", _refresh, "score the unlabelled clips with a model, and order the queue by its doubt")
    made.add_argument("clips")
    made.add_argument("skeletons")
    made.add_argument("--endpoint", help="a served model, grpc://host:port/model")
    made.add_argument("--checkpoint", type=Path, help="a checkpoint file")
    made.add_argument("--version", help="what the page calls the model (default: from its name or its digest)")
    _url(made)


def _url(made: Any) -> None:
    made.add_argument("--labels-url", help="label store (default: POSEWATCH_LABELS_URL, SQLite)")
