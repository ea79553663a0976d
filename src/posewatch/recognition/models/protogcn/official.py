"""Checkpoints of the authors' code (firework8/ProtoGCN), read and written; no code of such a file runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from posewatch.errors import InputError
from posewatch.recognition.models.protogcn.network import ProtoGCN

MEMORY = "contrast.memory"
"""The class memory, which official checkpoints do not hold."""
_RENAME = (
    (r"^blocks\.", "backbone.gcn."),
    (r"\.graph\.", ".gcn."),
    (r"\.time\.", ".tcn."),
    (r"\.gcn\.topology$", ".gcn.A"),
    (r"\.gcn\.query\.", ".gcn.conv1."),
    (r"\.gcn\.key\.", ".gcn.conv2."),
    (r"\.tcn\.mean_joint$", ".tcn.add_coeff"),
    (r"(\.branches\.\d\.3)\.", r"\1.conv."),
    (r"\.residual\.0\.", ".residual.conv."),
    (r"\.residual\.1\.", ".residual.bn."),
    (r"\.(gcn|tcn)\.norm\.", r".\1.bn."),
    (r"^input_norm\.", "backbone.data_bn."),
    (r"^prototypes\.post\.", "backbone.post."),
    (r"^prototypes\.norm\.", "backbone.bn."),
    (r"^prototypes\.(query|memory)\.", r"backbone.prn.\1_matrix."),
    (r"^classify\.", "cls_head.fc_cls."),
    (r"^contrast\.project\.", "cls_head.csc_loss.cl_fc."),
)


def official_name(name: str) -> str:
    """The official code's name of a parameter or buffer of ``ProtoGCN``."""
    for ours, theirs in _RENAME:
        name = re.sub(ours, theirs, name)
    return name


def to_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of a ``ProtoGCN`` under the official names: the inverse of ``from_official``."""
    return {official_name(name): value for name, value in state.items() if name != MEMORY}


class _Ignored(dict[Any, Any]):
    """Stands for an object beside the weights whose class is not loaded: a score of numpy, a part of a setting."""

    def __init__(self, *_: Any) -> None:
        super().__init__()

    def __setstate__(self, _: Any) -> None:
        pass


_BESIDE = re.compile(r"GLOBAL ((?:numpy|mmcv|mmengine|addict|pyskl|protogcn|_codecs)\.[\w.]+)")
"""Names that mmcv's runner leaves beside the weights, in the message of torch that refuses them."""


def read_official(path: Path | str) -> Mapping[str, Any]:
    """What a file of ``torch.save`` holds: weights and plain data; other objects beside them are left out.

    Raises InputError for a file that cannot be read, or that wants other code to run.
    """
    ignored: list[Any] = []
    while True:
        try:
            with torch.serialization.safe_globals(ignored):
                found = torch.load(path, map_location="cpu", weights_only=True)
            return cast("Mapping[str, Any]", found)
        except FileNotFoundError:
            raise InputError(f"no such checkpoint: {path}") from None
        except Exception as error:
            beside = _BESIDE.search(str(error))
            if beside is None or (_Ignored, beside[1]) in ignored:
                raise InputError(f"{path} is not a checkpoint of weights alone (save its state_dict again)") from None
            ignored.append((_Ignored, beside[1]))


def from_official(source: Mapping[str, Any] | Path | str) -> ProtoGCN:
    """A network with the weights of an official checkpoint: a file, its contents, or a state dict. Raises InputError.

    All sizes follow from the weights. The class memory starts at random, as it does in the official code when a run is
    resumed.
    """
    if isinstance(source, Path | str):
        source = read_official(source)
    if isinstance(source, Mapping):
        source = source.get("state_dict", source)
    if not isinstance(source, Mapping):
        raise InputError(f"not an official ProtoGCN checkpoint: it holds a {type(source).__name__}, no weights by name")
    # Training on several GPUs leaves a prefix.
    state = {str(name).removeprefix("module."): value for name, value in source.items()}
    try:
        network = ProtoGCN(
            joints=state["backbone.gcn.0.gcn.A"].shape[-1],
            classes=state["cls_head.fc_cls.weight"].shape[0],
            width=state["backbone.gcn.0.gcn.post.weight"].shape[0],
            prototypes=state["backbone.prn.query_matrix.weight"].shape[0],
            in_channels=state["backbone.gcn.0.gcn.pre.0.weight"].shape[1],
        )
    except KeyError as error:
        raise InputError(f"not an official ProtoGCN checkpoint: it has no {error.args[0]!r}") from None
    ours = {official_name(name): name for name in network.state_dict() if name != MEMORY}
    wrong = sorted(ours.keys() ^ state.keys())
    if wrong:
        raise InputError(f"not an official ProtoGCN checkpoint of this shape: {wrong[0]!r} does not fit")
    try:
        network.load_state_dict({ours[name]: value for name, value in state.items()}, strict=False)
    except RuntimeError as error:
        raise InputError(f"not an official ProtoGCN checkpoint: {str(error).splitlines()[-1].strip()}") from None
    return network
