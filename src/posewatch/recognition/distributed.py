"""Training on several processes (``torchrun``) that computes what one process with the whole batch would.

With one process, nothing here does anything.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import cast

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn


@contextlib.contextmanager
def processes() -> Iterator[None]:
    """Inside, the processes that ``torchrun`` started can exchange tensors (NCCL on GPUs, else gloo)."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or dist.is_initialized():
        yield
        return
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


_alone = False


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Inside, this process computes as if it were the only one."""
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


def world() -> int:
    """How many processes there are."""
    if _alone:
        return 1
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The number of this process; 0 prints and logs."""
    return dist.get_rank() if world() > 1 else 0


def writer() -> bool:
    """Whether this process writes files: one on each node does, since nodes need not share a disk.

    All processes hold the same weights, so all nodes write the same.
    """
    return rank() == 0 or (world() > 1 and os.environ.get("LOCAL_RANK") == "0")


def barrier() -> None:
    """Wait for all processes: files of each node's ``writer`` can then be read by the other processes of the node."""
    if world() > 1:
        dist.barrier()


class _Sum(torch.autograd.Function):
    """A sum over processes. Every process's result depends on each input, so an input's gradient is the sum of all."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        x = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> Tensor:
        return _Sum.forward(ctx, gradients[0])


def all_reduce(x: Tensor) -> Tensor:
    """The sum of ``x`` over all processes, differentiable."""
    return cast(Tensor, _Sum.apply(x)) if world() > 1 else x


def mean(x: Tensor) -> Tensor:
    """The mean of ``x`` over all processes."""
    return all_reduce(x) / world()


def spread(x: Tensor) -> Tensor:
    """(N, D) → (D,): the standard deviation over the batches of all processes, without a gradient."""
    x, count = x.detach(), len(x) * world()
    centred = x - all_reduce(x.sum(0)) / count
    return torch.sqrt(all_reduce(centred.square().sum(0)) / max(1, count - 1))


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """Dropout whose mask is drawn for the batch of all processes, so that it does not depend on their number."""
    if world() == 1 or not training or p == 0:
        return F.dropout(x.contiguous(), p, training)  # a mask is drawn in the order of memory
    n = len(x)
    mask = F.dropout(torch.ones((n * world(), *x.shape[1:]), dtype=x.dtype, device=x.device), p, True)
    return x * mask[rank() * n : (rank() + 1) * n]


class SyncedBatchNorm(nn.Module):
    """A batch norm whose training statistics are those of all processes; parameters and buffers are the original's.

    torch.nn.SyncBatchNorm does the same for GPUs, and refuses CPUs.
    """

    def __init__(self, original: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
        super().__init__()
        self.weight, self.bias = original.weight, original.bias
        for name, buffer in original.named_buffers():
            self.register_buffer(name, buffer)
        self.momentum, self.eps = original.momentum or 0.0, original.eps

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ...) → the same."""
        running_mean, running_var = cast(Tensor, self.running_mean), cast(Tensor, self.running_var)
        if self.training:
            cast(Tensor, self.num_batches_tracked).add_(1)
        if world() == 1 or not self.training:
            return F.batch_norm(
                x, running_mean, running_var, self.weight, self.bias, self.training, self.momentum, self.eps
            )
        dims, shape = [0, *range(2, x.dim())], (1, -1, *[1] * (x.dim() - 2))
        # Persons who are not there are left out: the batches of two processes have not the same size.
        sums = x.sum(dims, dtype=torch.promote_types(x.dtype, torch.float32))
        total = all_reduce(torch.cat([sums, sums.new_full((1,), x.numel() // x.shape[1])]))
        count = total[-1].detach()
        # Two passes: the difference of two large sums would lose the variance of pixels far from zero.
        mean = (total[:-1] / count).to(x.dtype)
        centred = x - mean.view(shape)
        var = all_reduce(centred.square().sum(dims)) / count.to(x.dtype)
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean.dtype), self.momentum)
            running_var.lerp_((var * (count / (count - 1).clamp(min=1))).to(running_var.dtype), self.momentum)
        return centred * (self.weight * torch.rsqrt(var + self.eps)).view(shape) + self.bias.view(shape)


def synchronise(module: nn.Module) -> nn.Module:
    """Replace every batch norm inside ``module`` by a ``SyncedBatchNorm``; returns ``module``."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
            setattr(module, name, SyncedBatchNorm(child))
        else:
            synchronise(child)
    return module


def distribute(module: nn.Module) -> nn.Module:
    """``module`` for training: with several processes, one whose gradients are averaged over them."""
    if world() == 1:
        return module
    synchronise(module)
    device = next(module.parameters()).device
    ids = [device.index] if device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(module, device_ids=ids, broadcast_buffers=False)
