"""What the official implementation of ProtoGCN calls the parameters that we call something else."""

from __future__ import annotations

import re

_RENAME = (
    ("backbone.data_bn.", "input_norm."),
    ("backbone.post.", "prototypes.post."),
    ("backbone.bn.", "prototypes.norm."),
    ("backbone.prn.query_matrix.", "prototypes.query."),
    ("backbone.prn.memory_matrix.", "prototypes.memory."),
    ("cls_head.fc_cls.", "classify."),
    ("cls_head.csc_loss.cl_fc.", "contrast.project."),
    ("backbone.gcn.", "blocks."),
    (".gcn.", ".graph."),
    (".tcn.", ".time."),
    (".graph.A", ".graph.topology"),
    (".conv1.", ".query."),
    (".conv2.", ".key."),
    (".time.add_coeff", ".time.mean_joint"),
    (".3.conv.", ".3."),
    (".residual.conv.", ".residual.0."),
    (".residual.bn.", ".residual.1."),
    (".bn.", ".norm."),
)


def ours(name: str) -> str:
    """Our name of a parameter of the official implementation."""
    for old, new in _RENAME:
        name = name.replace(old, new)
    return name


_RESTORE = (
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


def theirs(name: str) -> str:
    """The official implementation's name of a parameter of ours."""
    for old, new in _RESTORE:
        name = re.sub(old, new, name)
    return name
