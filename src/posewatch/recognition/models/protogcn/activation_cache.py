"""What training on a CPU keeps in memory between the forward and the backward pass, and where that comes to lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn


class Pool:
    """Room for activations that one function uses and nobody keeps, handed on from layer to layer.

    The allocator would put the small tensors that stay into such room as soon as it is free, and no activation would
    fit into it any more: a sixth of all memory in full-size training.
    """

    def __init__(self, most: int = 4) -> None:
        self.most = most
        self.free: list[Tensor] = []

    def take(self, x: Tensor, rows: int, pixels: int) -> Tensor:
        """An uninitialised matrix of the kind of ``x``."""
        need = rows * pixels
        for i, room in enumerate(self.free):
            if room.dtype == x.dtype and need <= len(room) <= 1.25 * need:
                del self.free[i]
                break
        else:
            room = x.new_empty(need + need // 8)  # large enough for the mean joint's pixels, too
        return x.new_empty(0).set_(room.untyped_storage(), 0, (rows, pixels), (pixels, 1))

    def give(self, x: Tensor) -> None:
        """Take back the room of a matrix that nobody will look at again."""
        storage = x.untyped_storage()
        self.free.append(x.new_empty(0).set_(storage, 0, (storage.nbytes() // x.element_size(),), (1,)))
        del self.free[: -self.most]


POOL = Pool()


class Kept:
    """What a function with its own backward pass keeps: tensors, and what it takes to compute its output again.

    A function whose input is such an output keeps the node that made it instead (``origin``), which runs later in the
    backward pass: one matrix of activations for each convolution is all that stays in memory from pass to pass.
    """

    @staticmethod
    def save(ctx: Any, x: Tensor, source: Any, *tensors: Tensor | None) -> None:
        """Keep ``x``, or the node that computes it again (then nobody needs ``x`` any more), and tensors."""
        ctx.source, ctx.shape_of_x = source, x.shape
        if source is not None:
            POOL.give(x)
        ctx.save_for_backward(x if source is None else None, *tensors)

    @staticmethod
    def tensors(ctx: Any) -> Sequence[Any]:
        """What was saved without x; checkpointing allows a look at ``saved_tensors`` only once."""
        if not hasattr(ctx, "looked"):
            ctx.looked = ctx.saved_tensors
        return cast("Sequence[Any]", ctx.looked[1:])

    @staticmethod
    def x(ctx: Any) -> Tensor:
        """The input that was saved, or is computed again."""
        Kept.tensors(ctx)
        return cast(Tensor, ctx.looked[0] if ctx.source is None else Kept.output(ctx.source).view(ctx.shape_of_x))

    @staticmethod
    def output(ctx: Any) -> Tensor:
        """The output of a function that can compute it again."""
        if not hasattr(ctx, "again"):
            ctx.again = ctx.rebuild(ctx, *Kept.tensors(ctx))
        return cast(Tensor, ctx.again)

    @staticmethod
    def drop(ctx: Any, give: bool = True) -> None:
        """At the end of a backward pass: let go of what was computed again; ``give``: nobody else has it."""
        if give and getattr(ctx, "again", None) is not None:
            POOL.give(ctx.again)
        ctx.looked = ctx.again = None
        del ctx.looked, ctx.again


def place_gradients(module: nn.Module) -> None:
    """Make room for the gradients before the first step; ``zero_grad(set_to_none=False)`` keeps it.

    Made during the backward pass they would come to lie in the room that activations have left, which no other
    activation would fit into then: in full-size training on a CPU that takes a quarter of all memory.
    """
    for parameter in module.parameters():
        if parameter.requires_grad and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)


def origin(x: Tensor) -> Any:
    """The node that can compute ``x`` again, if ``x`` is its output or a view of that; else None."""
    node = x.grad_fn
    while node is not None and node.name() == "ViewBackward0":
        node = node.next_functions[0][0]
    return node if hasattr(node, "rebuild") else None
