"""Operations of the fused form of ProtoGCN (``fused.py``) on activations whose channels come first: (C, pixels).

In training each is one autograd function with a backward pass of its own, which saves fewer tensors than autograd
would; in eval mode, without gradients, results are written over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from posewatch.recognition.models.protogcn import activation_cache as cache

Update = Callable[[Tensor, Tensor, int], None]


class Norms:
    """The batch norms of branches side by side, as one over their concatenated channels."""

    def __init__(self, norms: Sequence[nn.Module]) -> None:
        self.norms = cast("Sequence[nn.BatchNorm2d]", norms)
        self.weight = self._joined("weight")
        self.bias = self._joined("bias")
        self.eps = self.norms[0].eps
        self.momentum = self.norms[0].momentum or 0.0

    def _joined(self, name: str) -> Tensor:
        parts = [cast(Tensor, getattr(norm, name)) for norm in self.norms]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def scale(self) -> tuple[Tensor, Tensor]:
        """Factor and summand (C,) in eval mode."""
        scale = self.weight * torch.rsqrt(self._joined("running_var") + self.eps)
        return scale, self.bias - self._joined("running_mean") * scale

    def update(self, mean: Tensor, var: Tensor, count: int) -> None:
        """Move the running statistics towards the mean and (biased) variance (C,) of ``count`` pixels."""
        var = var * (count / max(1, count - 1))
        widths = [len(norm.weight) for norm in self.norms]
        for norm, m, v in zip(self.norms, mean.split(widths), var.split(widths), strict=True):
            cast(Tensor, norm.running_mean).lerp_(m, self.momentum)
            cast(Tensor, norm.running_var).lerp_(v, self.momentum)
            cast(Tensor, norm.num_batches_tracked).add_(1)


def _normalise(
    y: Tensor, gamma: Tensor, beta: Tensor, add: Tensor | None, relu: bool, eps: float, out: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Write relu(batch_norm(y) + add) to ``out``, centre ``y`` in place; its mean, variance, 1 / deviation (C,)."""
    mean = y.mean(1)
    y.sub_(mean[:, None])
    var = torch.linalg.vector_norm(y, dim=1).square_().div_(y.shape[1])
    inv = (var + eps).rsqrt_()
    _affine(y, gamma * inv, beta, add, relu, out)
    return mean, var, inv


def _affine(y: Tensor, scale: Tensor, shift: Tensor, add: Tensor | None, relu: bool, out: Tensor) -> Tensor:
    """``out`` = relu(y * scale + shift + add), rows (C, pixels) with scale and shift (C,)."""
    torch.mul(y, scale[:, None], out=out).add_(shift[:, None])
    if add is not None:
        out.add_(add)
    return out.relu_() if relu else out


def _norm_backward(
    g: Tensor, centred: Tensor, gamma: Tensor, inv: Tensor, out: Tensor | None, overwrite: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of a batch norm's input, weight, bias and output from ``g``, that of ``_normalise``'s ``out``.

    ``out`` is None without ReLU; with ``overwrite`` its memory may be reused.
    """
    dz = g
    if out is not None and overwrite:
        dz = torch.ops.aten.threshold_backward.grad_input(g, out, 0, grad_input=out)
    elif out is not None:
        dz = torch.ops.aten.threshold_backward(g, out, 0)
    dy, dgamma, dbeta = torch.ops.aten.native_batch_norm_backward(
        dz[None], centred[None], gamma, None, None, torch.zeros_like(inv), inv, True, 0.0, [True, True, True]
    )
    return dy[0], dgamma, dbeta, dz


class _Mix(torch.autograd.Function):
    """relu(batch_norm(weight @ x) + add), with the mean joint's pixels appended; rows beyond gamma's are weight @ x."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, gamma: Tensor, beta: Tensor, add: Tensor | None,
        relu: bool, joints: int, eps: float, update: Update, recompute: bool, source: Any,
    ) -> Tensor:  # fmt: skip
        rows, n, pixels = len(weight), len(gamma), x.shape[1]
        y = x.new_empty(rows, pixels + (pixels // joints if joints else 0))
        torch.mm(weight, x, out=y[:, :pixels])
        if joints:
            torch.mean(y[:, :pixels].view(rows, -1, joints), -1, out=y[:, pixels:])
        out = cache.POOL.take(y, *y.shape) if recompute else torch.empty_like(y)
        mean, var, inv = _normalise(y[:n], gamma, beta, add, relu, eps, out[:n])
        update(mean + bias[:n], var, y.shape[1])
        if n < rows:
            torch.add(y[n:], bias[n:, None], out=out[n:])
        if recompute:

            def rebuild(
                _: Any, weight: Tensor, gamma: Tensor, inv: Tensor, y: Tensor, beta: Tensor, *rest: Tensor
            ) -> Tensor:
                out = cache.POOL.take(y, *y.shape)
                _affine(y[:n], gamma * inv, beta, rest[1] if len(rest) > 1 else None, relu, out[:n])
                if n < rows:
                    torch.add(y[n:], rest[0][n:, None], out=out[n:])
                return out

            ctx.rebuild = rebuild
            cache.save(ctx, x, source, weight, gamma, inv, y, beta, bias, *([] if add is None else [add]))
        else:
            cache.save(ctx, x, source, weight, gamma, inv, y[:n], out if relu else None)
        ctx.joints, ctx.relu, ctx.add = joints, relu, add is not None
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        weight, gamma, inv, y, out = cache.saved(ctx)[:5]
        recomputed = hasattr(ctx, "rebuild")
        if recomputed:
            out = cache.output_of(ctx)
        g, n, joints = gradients[0].contiguous(), len(gamma), ctx.joints
        dy, dgamma, dbeta, dz = _norm_backward(g[:n], y[:n], gamma, inv, out[:n] if ctx.relu else None, recomputed)
        dadd = dz if ctx.add else None
        del out, y, dz
        x = cache.input_of(ctx)
        cache.release(ctx, reuse=not ctx.add)  # else it holds the gradient of ``add``
        pixels = x.shape[1]
        tail = g[n:]
        dbias = g.new_zeros(len(g))  # zero before a batch norm, which subtracts the mean
        if n < len(g):
            dbias[n:] = tail.sum(1)
        if joints:
            dy[:, :pixels].view(n, -1, joints).add_(dy[:, pixels:, None], alpha=1 / joints)
            dy = dy[:, :pixels]
            shares = tail[:, pixels:, None] / joints
            tail = (tail[:, :pixels].view(len(tail), -1, joints) + shares).view(len(tail), pixels)
        dweight = torch.empty_like(weight)
        torch.mm(dy, x.t(), out=dweight[:n])
        dx = None
        if ctx.needs_input_grad[0]:
            dx = torch.mm(weight[:n].t(), dy)
        if len(tail):
            torch.mm(tail, x.t(), out=dweight[n:])
            if dx is not None:
                dx.addmm_(weight[n:].t(), tail)
        return dx, dweight, dbias, dgamma, dbeta, dadd, None, None, None, None, None, None


def _folded(x: Tensor, weight: Tensor, bias: Tensor, n: int, add: Tensor | None, relu: bool, joints: int) -> Tensor:
    """``mix`` in eval mode, the batch norm folded into weight and bias, in one piece of memory."""
    rows, pixels = len(weight), x.shape[1]
    y = x.new_empty(rows, pixels + (pixels // joints if joints else 0))
    torch.mm(weight, x, out=y[:, :pixels])
    if joints:
        torch.mean(y[:, :pixels].view(rows, -1, joints), -1, out=y[:, pixels:])
    y += bias[:, None]
    if add is not None:
        y[:n] += add
    if relu:
        y[:n].relu_()
    return y


def mix(
    x: Tensor,
    convolutions: Sequence[nn.Module],
    norms: Sequence[nn.Module],
    *,
    training: bool,
    add: Tensor | None = None,
    relu: bool = True,
    joints: int = 0,
    recompute: bool = False,
) -> Tensor:
    """1x1 convolutions side by side, their batch norms, plus ``add``, ReLU: (C, pixels) → (D, pixels).

    With ``joints`` V > 0, pixels end with the joints: the mean joint's pixels / V follow all others, as if it had been
    appended to ``x`` (convolutions are linear). Convolutions beyond the norms are neither normalised nor rectified.
    With ``recompute``, training does not save the result and computes it again, element by element, for the gradients.
    """
    parts = cast("Sequence[nn.Conv2d]", convolutions)
    weight = parts[0].weight.flatten(1) if len(parts) == 1 else torch.cat([c.weight.flatten(1) for c in parts])
    biases = [cast(Tensor, c.bias) for c in parts]
    bias = biases[0] if len(parts) == 1 else torch.cat(biases)
    norm = Norms(norms)
    n = len(norm.weight)
    if training:
        fixed = (relu, joints, norm.eps, norm.update, recompute, cache.origin(x))
        return cast(Tensor, _Mix.apply(x, weight, bias, norm.weight, norm.bias, add, *fixed))
    scale, shift = norm.scale()
    bias = torch.cat([bias[:n] * scale + shift, bias[n:]])
    weight = torch.cat([weight[:n] * scale[:, None], weight[n:]])
    return _folded(x, weight, bias, n, add, relu, joints)


def _graphs(q: Tensor, k: Tensor) -> Iterator[Tensor]:
    """For each subset, how differently joints move, (C, B, V, V): small enough for a core's cache, never saved."""
    for queries, keys in zip(q, k, strict=True):
        yield torch.sub(queries[..., :, None], keys[..., None, :]).tanh_()


def _product(y: Tensor, q: Tensor, k: Tensor, alpha: Tensor, shared: Tensor, out: Tensor) -> Tensor:
    """y (K, C, B, T, V) times the topology, its part for all channels being (K, B, V, V); written to ``out``."""
    out = out.view(y.shape)
    for subset, graph in enumerate(_graphs(q, k)):
        graph.mul_(alpha).add_(shared[subset])
        torch.bmm(y[subset].flatten(0, 1), graph.flatten(0, 1), out=out[subset].flatten(0, 1))
    return out


def _alike(q: Tensor, k: Tensor, fixed: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    """How alike joints move, (K, B, V, V), and the part of the topology that is for all channels."""
    alike = torch.softmax(q.permute(0, 2, 3, 1) @ k.permute(0, 2, 1, 3), dim=-2)
    return alike, alike * beta + fixed[:, None]


class _Topology(torch.autograd.Function):
    """y @ (tanh(q_i - k_j) * alpha + softmax_i(q_i . k_j) * beta + fixed), by subsets: one fits into the cache."""

    @staticmethod
    def forward(
        ctx: Any, y: Tensor, q: Tensor, k: Tensor, fixed: Tensor, alpha: Tensor, beta: Tensor, source: Any
    ) -> Tensor:
        intra, shared = _alike(q, k, fixed, beta)

        def rebuild(ctx: Any, q: Tensor, k: Tensor, alpha: Tensor, beta: Tensor, _: Tensor, shared: Tensor) -> Tensor:
            y = cache.input_of(ctx)
            return _product(y, q, k, alpha, shared, cache.POOL.take(y, len(y), y[0].numel()))

        ctx.rebuild = rebuild
        out = _product(y, q, k, alpha, shared, cache.POOL.take(y, len(y), y[0].numel()))
        cache.save(ctx, y, source, q, k, alpha, beta, intra, shared)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        q, k, alpha, beta, intra, shared = cache.saved(ctx)
        y = cache.input_of(ctx)
        cache.release(ctx)  # the product, which the next function has used by now
        g = gradients[0].contiguous()
        dy, dq, dk, dshared = torch.empty_like(y), torch.empty_like(q), torch.empty_like(k), torch.empty_like(shared)
        dalpha = torch.zeros_like(alpha)
        one = y.new_ones(y.shape[-1])
        for subset, graph in enumerate(_graphs(q, k)):
            topology = torch.mul(graph, alpha).add_(shared[subset]).flatten(0, 1)
            gradient = g[subset].flatten(0, 1)
            torch.bmm(gradient, topology.transpose(1, 2), out=dy[subset].flatten(0, 1))
            torch.bmm(y[subset].flatten(0, 1).transpose(1, 2), gradient, out=topology)
            dgraph = topology.view_as(graph)
            torch.sum(dgraph, 0, out=dshared[subset])
            dalpha += torch.dot(topology.view(-1), graph.view(-1))
            moved = torch.ops.aten.tanh_backward(dgraph, graph)
            torch.mv(moved.view(-1, len(one)), one, out=dq[subset].view(-1))
            torch.sum(moved, -2, out=dk[subset])
        dq.mul_(alpha)
        dk.mul_(-alpha)
        dbeta = torch.dot(dshared.view(-1), intra.view(-1))
        alike = torch.ops.aten._softmax_backward_data(dshared * beta, intra, -2, g.dtype)  # (K, B, V, V)
        dq += (alike @ k.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        dk += (q.permute(0, 2, 1, 3) @ alike).permute(0, 2, 1, 3)
        return dy, dq, dk, dshared.sum(1), dalpha, dbeta, None


def topology(
    y: Tensor, q: Tensor, k: Tensor, fixed: Tensor, alpha: Tensor, beta: Tensor, *, training: bool, wanted: bool
) -> tuple[Tensor, Tensor | None]:
    """Activations (K, C, B, T, V) times a graph of its own for each sample; where ``wanted``, its learned part, too.

    The graph is a matrix (K, V, V) for all samples, plus what is learned, (K, C, B, V, V): ``alpha`` times how
    differently queries and keys (K, C, B, V) move, plus ``beta`` times how alike they are.
    """
    if wanted:
        inter = torch.tanh(q.unsqueeze(-1) - k.unsqueeze(-2)) * alpha
        learned = inter + (torch.softmax(q.permute(0, 2, 3, 1) @ k.permute(0, 2, 1, 3), -2) * beta).unsqueeze(1)
        return y @ (learned + fixed[:, None, None]), learned
    if training:
        return cast(Tensor, _Topology.apply(y, q, k, fixed, alpha, beta, cache.origin(y))), None
    return _product(y, q, k, alpha, _alike(q, k, fixed, beta)[1], torch.empty_like(y)), None


class _Combine(torch.autograd.Function):
    """relu(batch_norm(joints + share * mean joint))."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, share: Tensor, gamma: Tensor, beta: Tensor, eps: float, update: Update) -> Tensor:
        rows, joints = len(x), len(share)
        pixels = x.shape[1] // (joints + 1) * joints
        y = torch.addcmul(x[:, :pixels].view(rows, -1, joints), x[:, pixels:, None], share).view(rows, pixels)
        out = cache.POOL.take(y, *y.shape)
        mean, var, inv = _normalise(y, gamma, beta, None, True, eps, out)
        update(mean, var, pixels)

        def rebuild(_: Any, share: Tensor, gamma: Tensor, beta: Tensor, inv: Tensor, y: Tensor) -> Tensor:
            return _affine(y, gamma * inv, beta, None, True, cache.POOL.take(y, *y.shape))

        ctx.rebuild = rebuild
        cache.save(ctx, x[:, pixels:].clone(), None, share, gamma, beta, inv, y)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        share, gamma, _, inv, y = cache.saved(ctx)
        middle = cache.input_of(ctx)
        dy, dgamma, dbeta, _ = _norm_backward(gradients[0], y, gamma, inv, cache.output_of(ctx), True)
        cache.release(ctx)
        del y
        by_joint = dy.view(-1, len(share))
        dx = torch.cat([dy, torch.mv(by_joint, share).view_as(middle)], 1)
        dshare = torch.mv(by_joint.t(), middle.view(-1))
        return dx, dshare, dgamma, dbeta, None, None


def combine(x: Tensor, share: Tensor, norm: nn.Module, *, training: bool) -> Tensor:
    """Every joint plus ``share`` (V,) of the mean joint, batch norm, ReLU: pixels as ``mix`` appends → (C, pixels)."""
    norms = Norms([norm])
    if training:
        return cast(Tensor, _Combine.apply(x, share, norms.weight, norms.bias, norms.eps, norms.update))
    rows, joints = len(x), len(share)
    pixels = x.shape[1] // (joints + 1) * joints
    y = torch.addcmul(x[:, :pixels].view(rows, -1, joints), x[:, pixels:, None], share).view(rows, pixels)
    scale, shift = norms.scale()
    return _affine(y, scale, shift, None, True, y)
