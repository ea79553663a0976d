"""What the fused training form has in memory between the forward and the backward pass, and where that lies.

A function whose input is the output of another keeps that function's autograd node (``origin``) instead of the input.
The node computes its output again, element by element, when the backward pass needs it: one matrix of activations for
each convolution is all that stays in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from torch import Tensor


class Pool:
    """Memory of activations that only one function uses, handed on from layer to layer.

    The allocator would put small long-lived tensors into such memory as soon as it is free, and no activation would fit
    into it any more: a sixth of all memory in full-size training.
    """

    def __init__(self, most: int = 4) -> None:
        self.most = most
        self.free: list[Tensor] = []

    def take(self, x: Tensor, rows: int, pixels: int) -> Tensor:
        """An uninitialised matrix (rows, pixels) of the dtype of ``x``."""
        need = rows * pixels
        for i, block in enumerate(self.free):
            if block.dtype == x.dtype and need <= len(block) <= 1.25 * need:
                del self.free[i]
                break
        else:
            block = x.new_empty(need + need // 8)  # large enough for the mean joint's pixels, too
        return x.new_empty(0).set_(block.untyped_storage(), 0, (rows, pixels), (pixels, 1))

    def give(self, x: Tensor) -> None:
        """Take back the memory of a matrix that is not read any more."""
        storage = x.untyped_storage()
        self.free.append(x.new_empty(0).set_(storage, 0, (storage.nbytes() // x.element_size(),), (1,)))
        del self.free[: -self.most]


POOL = Pool()


def save(ctx: Any, x: Tensor, source: Any, *tensors: Tensor | None) -> None:
    """Save ``tensors`` and the input ``x``, or, in its place, the node ``source`` that computes it again."""
    ctx.source, ctx.input_shape = source, x.shape
    if source is not None:
        POOL.give(x)
    ctx.save_for_backward(x if source is None else None, *tensors)


def saved(ctx: Any) -> Sequence[Any]:
    """The tensors that were saved beside the input."""
    return cast("Sequence[Any]", ctx.saved_tensors[1:])


def input_of(ctx: Any) -> Tensor:
    """The input: saved, or computed again."""
    return cast(Tensor, ctx.saved_tensors[0] if ctx.source is None else output_of(ctx.source).view(ctx.input_shape))


def output_of(ctx: Any) -> Tensor:
    """The output, computed again by ``ctx.rebuild`` on the first call."""
    if not hasattr(ctx, "output"):
        ctx.output = ctx.rebuild(ctx, *saved(ctx))
    return cast(Tensor, ctx.output)


def release(ctx: Any, reuse: bool = True) -> None:
    """At the end of a backward pass: let go of the output. ``reuse``: its memory may be handed on."""
    if hasattr(ctx, "output"):
        if reuse:
            POOL.give(ctx.output)
        del ctx.output


def origin(x: Tensor) -> Any:
    """The node that can compute ``x`` again, if ``x`` is its output or a view of that; else None."""
    node = x.grad_fn
    while node is not None and node.name() == "ViewBackward0":
        node = node.next_functions[0][0]
    return node if hasattr(node, "rebuild") else None
