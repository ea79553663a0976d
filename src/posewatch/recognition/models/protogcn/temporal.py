"""Dilated temporal convolutions and a max pool of the fused form (``fused.py``), on activations (C, pixels).

Pixels are (clip, frame, joint), then (clip, frame) of the mean joint. Each branch is one matrix product.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from posewatch.recognition.models.protogcn.activation_cache import input_of, origin, release, save, saved

Shape = tuple[int, int, int]
"""Clips, frames, joints."""


def strided(frames: int, stride: int) -> int:
    """Number of frames after a convolution of that stride."""
    return (frames - 1) // stride + 1


def _views(x: Tensor, shape: Shape) -> tuple[Tensor, Tensor]:
    """(C, pixels) → (C, B, T, V) of the joints and (C, B, T, 1) of the mean joint."""
    b, t, v = shape
    return x[:, : b * t * v].view(len(x), b, t, v), x[:, b * t * v :].view(len(x), b, t, 1)


class _Padded:
    """Rows of (C, pixels) with ``margin`` frames of zeros before and after each clip, to be read with an offset."""

    def __init__(self, x: Tensor, shape: Shape, margin: int, stride: int = 1, every: int = 1) -> None:
        """``every`` n > 1: ``x`` holds each n-th frame only; the others are zeros."""
        self.margin, self.stride = margin, stride
        b, t, v = shape
        self.after = b, strided(t, stride), v
        self.parts = []
        for part in _views(x, (b, strided(t, every), v)):
            padded = x.new_zeros(len(x), b, t + 2 * margin, part.shape[-1])
            padded[:, :, margin : margin + t : every] = part
            self.parts.append(padded)

    def look(self, first: int, rows: int, dilation: int, taps: int = 3) -> list[Tensor]:
        """The inputs of a kernel's taps, for joints and mean joint: views (taps, rows, B, T / stride, V or 1)."""
        seen = []
        for part in self.parts:
            row, clip, frame, _ = part.stride()
            start = first * row + (self.margin - dilation * (taps // 2)) * frame
            b, t, _ = self.after
            strides = (dilation * frame, row, clip, self.stride * frame, 1)
            seen.append(part.as_strided((taps, rows, b, t, part.shape[-1]), strides, start))
        return seen

    def columns(self, first: int, rows: int, dilation: int) -> Tensor:
        """The same as a matrix (3 * rows, pixels / stride)."""
        b, t, v = self.after
        matrix = self.parts[0].new_empty(3 * rows, b * t * (v + 1))
        for target, seen in zip(_views(matrix, self.after), self.look(first, rows, dilation), strict=True):
            target.view(seen.shape).copy_(seen)
        return matrix


def _forward(
    x: Tensor,
    shape: Shape,
    stride: int,
    dilations: Sequence[int],
    pooled: int,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
) -> Tensor:
    row = sum(len(weight) for weight in weights)
    padded = _Padded(x[: row + pooled], shape, max(dilations), stride)
    out = x.new_empty(len(x), padded.after[0] * padded.after[1] * (shape[2] + 1))
    for target, seen in zip(_views(out[row:], padded.after), padded.look(row, pooled, 1), strict=True):
        torch.maximum(seen[0], seen[1], out=target[:pooled])
        torch.maximum(target[:pooled], seen[2], out=target[:pooled])
    rest = slice(row + pooled, None)
    for target, part in zip(_views(out[rest], padded.after), _views(x[rest], shape), strict=True):
        target.copy_(part[:, :, ::stride])
    row = 0
    for weight, bias, dilation in zip(weights, biases, dilations, strict=True):
        rows = out[row : row + len(weight)]
        torch.mm(weight.flatten(1), padded.columns(row, len(weight), dilation), out=rows)
        rows.add_(bias[:, None])
        row += len(weight)
    return out


class _Temporal(torch.autograd.Function):
    """Rows of x >= 0, in turn: one group for each weight (w, 3, w), as many for the max pool, the rest as they are."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        shape: Shape,
        stride: int,
        dilations: Sequence[int],
        pooled: int,
        source: Any,
        *parameters: Tensor,
    ) -> Tensor:
        weights, biases = parameters[: len(dilations)], parameters[len(dilations) :]
        out = _forward(x, shape, stride, dilations, pooled, weights, biases)
        save(ctx, x, source, *weights)
        ctx.about = shape, stride, dilations, pooled
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        weights = saved(ctx)
        x = input_of(ctx)
        release(ctx)
        shape, stride, dilations, pooled = ctx.about
        g = gradients[0].contiguous()
        dx = torch.empty_like(x)
        row = sum(len(weight) for weight in weights)
        _pool_backward(x[row : row + pooled], g[row : row + pooled], dx[row : row + pooled], shape, stride)
        after = shape[0], strided(shape[1], stride), shape[2]
        for target, part in zip(_views(dx[row + pooled :], shape), _views(g[row + pooled :], after), strict=True):
            if stride > 1:
                target.zero_()
            target[:, :, ::stride] = part
        # With the gradient spread to all frames there is no stride, and each tap's input is its output shifted back.
        padded = _Padded(g[:row], shape, max(dilations), every=stride)
        dweights, dbiases, row = [], [], 0
        for weight, dilation in zip(weights, dilations, strict=True):
            width = len(weight)
            rows = slice(row, row + width)
            columns = padded.columns(row, width, dilation)  # (3, out, pixels), the last tap first
            dweights.append(torch.mm(columns, x[rows].t()).view(3, width, width).flip(0).transpose(0, 1))
            torch.mm(weight.flip(1).permute(2, 1, 0).reshape(width, -1), columns, out=dx[rows])
            dbiases.append(g[rows].sum(1))
            row += width
        return dx, None, None, None, None, None, *dweights, *dbiases


def _pool_backward(x: Tensor, g: Tensor, dx: Tensor, shape: Shape, stride: int) -> None:
    """Write the gradient of the max pool's input; of equal frames the first gets it, as in torch's max pool."""
    source, target = _Padded(x, shape, 1, stride), _Padded(dx.zero_(), shape, 1, stride)
    for seen, given, left in zip(
        source.look(0, len(x), 1), target.look(0, len(x), 1), _views(g, source.after), strict=True
    ):
        best = torch.maximum(torch.maximum(seen[0], seen[1]), seen[2])
        for tap in range(2):
            share = torch.where(seen[tap] == best, left, 0)
            given[tap] += share
            left = left - share
        given[2] += left
    for part, padded in zip(_views(dx, shape), target.parts, strict=True):
        part.copy_(padded[:, :, 1:-1])


def temporal(
    x: Tensor, shape: Shape, convolutions: Sequence[nn.Module], pooled: int, stride: int, *, training: bool
) -> Tensor:
    """(C, pixels) of ``shape`` (B, T, V) → (C, pixels / stride).

    The rows of ``x`` are each of the 3x1 ``convolutions``' channels in turn, then ``pooled`` that are max-pooled over
    three frames, then some of which every ``stride``-th frame is kept; all but the last must not be negative.
    """
    parts = cast("Sequence[nn.Conv2d]", convolutions)
    weights = [c.weight.squeeze(-1).transpose(1, 2) for c in parts]  # (out, tap, in)
    biases = [cast(Tensor, c.bias) for c in parts]
    dilations = [c.dilation[0] for c in parts]
    if training:
        return cast(Tensor, _Temporal.apply(x, shape, stride, dilations, pooled, origin(x), *weights, *biases))
    return _forward(x, shape, stride, dilations, pooled, weights, biases)
