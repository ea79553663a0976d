"""Adjacency matrices of a joint layout for the graph networks.

In every matrix row u is the source joint and column w the target joint, so a graph convolution is
``einsum("...ctu,kuw->...kctw")``. K counts the subsets of neighbours that have weights of their own, V the joints.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from posewatch.datasets.layouts import Layout

Matrix = NDArray[np.float32]


def directed(layout: Layout) -> Matrix:
    """(V, V) of 0 and 1: entry (child, parent) of each bone. Without bones it is zero."""
    v = len(layout.joints)
    matrix = np.zeros((v, v), np.float32)
    for child, parent in layout.edges:
        matrix[child, parent] = 1
    return matrix


def normalise(matrix: Matrix) -> Matrix:
    """(V, V) with columns divided by their sums: each joint takes the mean of its sources. Empty columns stay zero."""
    total = matrix.sum(0, keepdims=True)
    return np.divide(matrix, total, out=np.zeros_like(matrix), where=total > 0)


def hops(layout: Layout) -> NDArray[np.float64]:
    """(V, V) bones between two joints, in either direction; infinity where no path leads."""
    from scipy.sparse.csgraph import (
        shortest_path,
    )  # here: ProtoGCN needs none of it, nor does a machine that measures it

    distance: NDArray[np.float64] = shortest_path(directed(layout), directed=False, unweighted=True)
    return distance


def spatial(layout: Layout) -> Matrix:
    """(3, V, V): each joint takes from itself, from its parent, and the mean of its children (2s-AGCN, 1805.07694)."""
    inward = directed(layout)
    return np.stack([np.eye(len(inward), dtype=np.float32), normalise(inward.T), normalise(inward)])


def stgcn_spatial(layout: Layout) -> Matrix:
    """(3, V, V): each joint itself, neighbours at least as far from the centre as it is, neighbours nearer to it.

    The "spatial configuration partitioning" of ST-GCN (arXiv 1801.07455, section 3.3): the mean is over a joint and all
    of its neighbours, so the three add up to one normalised matrix. Distances are counted along the whole body, as the
    paper has it; the published code calls every joint more than one bone away equally far. A joint without a path to
    the centre is infinitely far.
    """
    distance = hops(layout)
    near = normalise((distance <= 1).astype(np.float32))
    away = distance[:, layout.centre]
    itself = distance == 0
    farther = (distance == 1) & (away[:, None] >= away[None, :])
    nearer = (distance == 1) & (away[:, None] < away[None, :])
    return np.stack([near * itself, near * farther, near * nearer]).astype(np.float32)
