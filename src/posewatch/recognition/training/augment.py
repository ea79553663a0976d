"""Augmentation of training clips: other viewpoints, other bodies, worse pose estimators.

Time is resampled clip by clip (``sampling.times``); the rest is done to a whole batch at once, on its device.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from posewatch.config import AugmentConfig
from posewatch.datasets.layouts import OF_PERSON, Layout


class Augment:
    """Keypoints (N, M, T, V, 3) → the same, augmented. V is the number of joints that an estimator gives, then columns
    of flow, which stay as they are with whoever is left: those of the person in the frames in which they are seen."""

    def __init__(self, layout: Layout, config: AugmentConfig) -> None:
        self.config = config
        v = self.observed = layout.observed
        self.mirror = torch.tensor(layout.mirror[:v])
        self.limbs = torch.tensor(limbs(layout))

    def __call__(self, x: Tensor, generator: torch.Generator, rank: int = 0, world: int = 1) -> Tensor:
        """Draws come from ``generator``, on its own device: one on the GPU spares a training there every copy.

        In a distributed training ``x`` is the part of a batch that process ``rank`` of ``world`` has. Draws are made
        for the whole batch, so that they do not depend on the number of processes either.
        """
        c, (n, m, t, _, _) = self.config, x.shape
        v = self.observed
        self.mirror, self.limbs = self.mirror.to(x.device), self.limbs.to(x.device)
        mine = slice(rank * n, (rank + 1) * n)

        def uniform(*shape: int) -> Tensor:
            drawn = torch.rand(n * world, *shape, generator=generator, device=generator.device)
            return drawn[mine].to(x.device)

        def spread(*shape: int) -> Tensor:
            return uniform(*shape) * 2 - 1

        if c.swap and m > 1:
            order = uniform(m).argsort(1)
            x = x.gather(1, order[:, :, None, None, None].expand_as(x))
        x, flow = x[..., :v, :], x[..., v:, :]
        seen = x[..., 2:] > 0
        weight = seen.to(x.dtype)
        count = weight.sum((1, 2, 3), keepdim=True).clamp(min=1)
        middle = (x[..., :2] * weight).sum((1, 2, 3), keepdim=True) / count
        if c.flip:
            # About the middle of the clip: raw pixels stay where a camera could have seen them.
            mirrored = torch.cat([2 * middle[..., :1] - x[..., :1], x[..., 1:]], -1)[..., self.mirror, :]
            x = torch.where(uniform(1, 1, 1, 1) < 0.5, mirrored, x)
            seen = x[..., 2:] > 0
            weight = seen.to(x.dtype)
        xy = x[..., :2]
        own = (xy * weight).sum((2, 3), keepdim=True) / weight.sum((2, 3), keepdim=True).clamp(min=1)
        squares = ((xy - own) ** 2 * weight).sum((1, 2, 3), keepdim=True).sum(-1, keepdim=True)
        size = torch.sqrt(squares / count)
        xy = own + (xy - own) * (1 + c.scale * spread(m, 1, 1, 1)) + c.shift * size * spread(m, 1, 1, 2)
        angle = c.rotate * spread()
        turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], -1).view(n, 1, 1, 2, 2)
        stretch = torch.stack([1 + c.stretch * spread(), torch.ones(n, device=x.device)], -1).view(n, 1, 1, 1, 2)
        xy = ((xy - middle) * stretch) @ turn.transpose(-1, -2) + middle
        noise = torch.randn(n * world, m, t, v, 2, generator=generator, device=generator.device)[mine].to(x.device)
        xy = xy + noise * (c.jitter * uniform(1, 1, 1, 1)) * size
        dropped = self._dropped(m, t, v, uniform, weight.amax((2, 3, 4)))
        left = seen & ~dropped[..., None]
        out = torch.cat([xy, x[..., 2:]], -1) * left
        if not flow.shape[-2]:
            return out
        shown = left.any(-2, keepdim=True)  # (N, M, T, 1, 1)
        of_person, of_scene = flow[..., :OF_PERSON, :], flow[..., OF_PERSON:, :]
        return torch.cat([out, of_person * shown, of_scene * shown.any(2, keepdim=True)], -2)

    def _dropped(self, m: int, t: int, v: int, uniform: Callable[..., Tensor], present: Tensor) -> Tensor:
        """The joints to drop, (N, M, T, V); ``present`` (N, M) in {0, 1}."""
        c = self.config

        def rate(share: float) -> Tensor:
            """``share`` on average, spread over half of the clips."""
            drawn = (4 * share * uniform(1, 1, 1)).clamp(max=0.9)
            return torch.where(uniform(1, 1, 1) < 0.5, drawn, torch.zeros_like(drawn))

        joints = rate(c.joint_dropout)
        # One time in two it is the same joints throughout.
        tracks = uniform(m, 1, v).expand(-1, m, t, v)
        scattered = torch.where(uniform(1, 1, 1) < 0.5, uniform(m, t, v), tracks)
        dropped = scattered < joints
        dropped = dropped | (uniform(m, t, 1) < rate(c.frame_dropout))
        if c.limb_dropout > 0 and len(self.limbs):
            hidden = uniform(m, len(self.limbs)) < rate(c.limb_dropout).view(-1, 1, 1)
            dropped = dropped | ((hidden.to(torch.float32) @ self.limbs.to(torch.float32)) > 0)[:, :, None]
        if c.person_dropout > 0 and m > 1:
            several = (present.sum(1) > 1)[:, None]
            who = uniform(m).argmax(1, keepdim=True) == torch.arange(m, device=dropped.device)
            dropped = dropped | (who & several & (uniform(1) < c.person_dropout))[:, :, None, None]
        return dropped


def limbs(layout: Layout) -> NDArray[np.bool_]:
    """(L, V): for each joint that carries at least two joints and at most half of the body, the joints it carries."""
    v = layout.observed
    below = np.eye(v, dtype=bool)
    for joint in range(v):
        up = joint
        while layout.parents[up] != up:
            up = layout.parents[up]
            if up < v:
                below[up, joint] = True
    count = below.sum(1)
    return below[(count >= 2) & (count <= v / 2)]
