"""Raw keypoints → features of a network, in torch operations only: the same module trains, serves and is exported.

A missing joint (score 0) is never read as the point (0, 0): its position is taken from nearby frames in which it was
seen, else it is the middle of its person. Scores have no other use: a network that sees them learns how confident the
pose estimator was instead of what people do, and fails when joints are missing.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from posewatch.datasets.layouts import OF_PERSON, Layout
from posewatch.errors import ConfigError
from posewatch.rules import STREAMS

KINDS = ("body", "raw", "hips")
FLOW_STREAMS = ("f", "fs")
"""The streams of the columns after the joints (``Layout.flow``), of each person and of the scene; they are the same
with all kinds."""
HIPS_APART = 0.05
"""Smallest distance of the hips in the size of the body: a person seen from the side has both in one place."""


def parse_streams(text: str) -> tuple[str, ...]:
    """``"j"`` or several to be stacked as channels, ``"j+b+jm"``. Raises ConfigError."""
    names = tuple(part.strip() for part in text.split("+"))
    for name in names:
        if name not in STREAMS:
            raise ConfigError(f"unknown stream {name!r}: choose from {', '.join(STREAMS)}, joined by +")
    of_flow = [name for name in names if name in FLOW_STREAMS]
    if of_flow and len(names) > 1:
        raise ConfigError(f"stream {text!r}: {of_flow[0]} has no joints and stands alone, for a network of its own")
    return names


def bone(x: Tensor, parents: Tensor, mean_score: bool = True) -> Tensor:
    """(..., V, 3) → each joint minus the joint that ``parents`` (V,) names; scores: their mean, or difference, too."""
    return _step(x[..., parents, :], x, mean_score)


def motion(x: Tensor, mean_score: bool = True) -> Tensor:
    """(..., T, V, 3) → the next frame minus this one (zero in the last); scores: their mean, or difference, too."""
    step = _step(x[..., :-1, :, :], x[..., 1:, :, :], mean_score)
    return torch.cat([step, torch.zeros_like(x[..., :1, :, :])], -3)


def partner(x: Tensor, present: Tensor | None = None) -> Tensor:
    """(N, M, T, V, 3) → each joint minus the middle of the other present (N, M) persons; zero without others."""
    there = x.new_ones(x.shape[:2]) if present is None else present
    weight = there[:, :, None, None, None]
    middle = x.mean(3, keepdim=True) * weight
    others = middle.sum(1, keepdim=True) - middle
    count = weight.sum(1, keepdim=True) - weight
    apart = x[..., :2] - others[..., :2] / count.clamp(min=1)
    return torch.cat([apart * (count > 0), x[..., 2:]], -1)


def contact(x: Tensor, present: Tensor | None = None) -> Tensor:
    """(N, M, T, V, 3) → the nearest joint of another present (N, M) person minus each joint; zero without others.

    It is a soft minimum (joints within a seventh of a body's size are averaged), so that it does not jump.
    """
    n, m, t, v, _ = x.shape
    xy = x[..., :2]
    there = x.new_ones(n, m) if present is None else present
    spread = ((xy - xy.mean(3, keepdim=True)) ** 2).sum(-1).mean((2, 3))
    spread = ((spread * there).sum(1) / there.sum(1).clamp(min=1)).clamp(min=1e-6)
    points = xy.transpose(1, 2).reshape(n, t, m * v, 2)
    square = ((points.unsqueeze(3) - points.unsqueeze(2)) ** 2).sum(-1) / spread[:, None, None, None]
    other = (1 - torch.eye(m, dtype=x.dtype, device=x.device)) * there[:, None, :]
    other = other.repeat_interleave(v, 1).repeat_interleave(v, 2)[:, None]
    share = torch.softmax(-square / 0.02 - (1 - other) * 1e6, -1)
    way = (share @ points - points) * other.amax(-1, keepdim=True)
    return torch.cat([way.view(n, t, m, v, 2).transpose(1, 2), x[..., 2:]], -1)


def _step(a: Tensor, b: Tensor, mean_score: bool) -> Tensor:
    if not mean_score:
        return b - a
    return torch.cat([b[..., :2] - a[..., :2], (a[..., 2:] + b[..., 2:]) / 2], -1)


def hips_of(layout: Layout) -> tuple[int, int]:
    """The joints of the left and the right hip. Raises ConfigError for a layout without."""
    if not {"left_hip", "right_hip"} <= set(layout.joints[: layout.observed]):
        raise ConfigError(f"joint layout {layout.name!r} has no left_hip and right_hip: take other train.features")
    return layout.joints.index("left_hip"), layout.joints.index("right_hip")


class Features(nn.Module):
    """Keypoints (N, M, T, V, 3), pixels and scores → the input of the streams (N, M, T, V', 3); present persons.

    ``body``: clips are moved so that the middle of all seen joints lies at the origin, and scaled so that a body has
    size 1: its root mean square distance from its own middle, over all persons and frames. ``raw``: pixels and scores
    unchanged, as in the published recipes. ``hips``: in every frame and person, joints minus the middle of the hips,
    divided by the distance of the hips, with the scores; coordinates that are so already do not change. T is
    ``frames``; V' includes the layout's virtual joints and, at the end and unchanged, its columns of flow.
    """

    parents: Tensor
    grandparents: Tensor
    nearby: Tensor

    def __init__(self, layout: Layout, frames: int, kind: str = "body") -> None:
        super().__init__()
        if kind not in KINDS:
            raise ConfigError(f"unknown features {kind!r}: choose from {', '.join(KINDS)}")
        self.virtual, self.kind = layout.virtual, kind
        self.observed, self.flow = layout.observed, layout.flow
        self.hips = hips_of(layout) if kind == "hips" else ()
        distance = (torch.arange(frames)[:, None] - torch.arange(frames)).abs().float()
        # Steep: almost nearest-frame interpolation, yet never zero in single precision.
        self.register_buffer("nearby", (1 + distance) ** -6, persistent=False)
        self.register_buffer("parents", torch.tensor(layout.parents), persistent=False)
        self.register_buffer("grandparents", torch.tensor(layout.grandparents), persistent=False)
        # As buffers: a list of numbers would be copied to a GPU in each call, which a CUDA graph cannot record.
        for i, group in enumerate(layout.virtual):
            self.register_buffer(f"group{i}", torch.tensor(group), persistent=False)

    def channels(self, stream: str) -> int:
        """C of ``stack(…, stream)``: x and y of each stream; those of published recipes have their scores, too, and
        flow says whether it was measured."""
        if stream in FLOW_STREAMS:
            return 3
        return (2 if self.kind == "body" else 3) * len(parse_streams(stream))

    def forward(self, keypoints: Tensor) -> tuple[Tensor, Tensor | None]:
        """Keypoints (N, M, T, V, 3) → (N, M, T, V', 3) and present (N, M) in {0, 1}, or None if all count."""
        present: Tensor | None = None
        joints = self._joints(keypoints)
        if self.kind == "raw":
            x = self._with_virtual(joints)
        elif self.kind == "hips":
            x = self._with_virtual(self.about_hips(joints))
        else:
            x, present = self.normalise(joints)
        return torch.cat([x, self._measured(keypoints)], -2) if self.flow else x, present

    def stack(self, x: Tensor, present: Tensor | None, stream: str) -> Tensor:
        """The results of ``forward`` → features (N, M, T, V', C) of ``stream``; V' of flow are its columns, of
        the person or of the scene."""
        if stream in FLOW_STREAMS:
            return self._of_flow(x, stream)
        x = x[..., : -self.flow, :] if self.flow else x
        parts = [self.stream(x, name, present) for name in parse_streams(stream)]
        out = torch.cat([s[..., :2] if self.kind == "body" else s for s in parts], -1)
        return out if present is None else out * present[:, :, None, None, None]

    def stream(self, x: Tensor, name: str, present: Tensor | None = None) -> Tensor:
        """One stream of (N, M, T, V', 3), same shape; partners are the ``present`` (N, M) persons."""
        # The published code treats scores like a third coordinate in these streams when it adds virtual joints.
        mean_score = not (self.kind != "body" and self.virtual)
        if name.startswith("b"):
            x = bone(x, self.parents)
        elif name.startswith("k"):
            x = bone(x, self.grandparents, mean_score)
        elif name.startswith("p"):
            x = partner(x, present)
        elif name.startswith("c"):
            x = contact(x, present)
        return motion(x, mean_score) if name.endswith("m") else x

    def normalise(self, keypoints: Tensor) -> tuple[Tensor, Tensor]:
        """Keypoints (N, M, T, V, 3) → joints (N, M, T, V', 3) around 0, of size 1, without gaps; present (N, M)."""
        keypoints = self._joints(keypoints)
        score = keypoints[..., 2:].clamp(0, 1)
        seen = (score > 0).to(keypoints.dtype)
        present = (seen.sum((2, 3, 4)) > 0).to(keypoints.dtype)
        # Centred on the seen joints first: single precision would lose digits to the position in the picture.
        xy = keypoints[..., :2] * seen
        centre = xy.sum((1, 2, 3), keepdim=True) / seen.sum((1, 2, 3), keepdim=True).clamp(min=1)
        xy = (keypoints[..., :2] - centre) * seen
        xy = self._fill(xy, seen)
        there = present[:, :, None, None, None]
        count = (there.sum(1, keepdim=True) * xy.shape[2] * xy.shape[3]).clamp(min=1)
        # Again, now that every joint has a position: a missing joint must not move the others.
        xy = xy - (xy * there).sum((1, 2, 3), keepdim=True) / count
        square = ((xy - xy.mean(3, keepdim=True)) ** 2 * there).sum((1, 2, 3, 4), keepdim=True)
        scale = torch.sqrt(square / count).clamp(min=1e-3)
        return self._with_virtual(torch.cat([xy / scale, score], -1) * there), present

    def about_hips(self, keypoints: Tensor) -> Tensor:
        """Keypoints (N, M, T, V, 3) → the same about the middle of the hips, in distances of the hips, without gaps.

        A missing hip has the place that ``_fill`` gives it. Hips nearer to each other than ``HIPS_APART`` of the body's
        size count as that far apart, else the quotient would be noise.
        """
        score = keypoints[..., 2:].clamp(0, 1)
        seen = (score > 0).to(keypoints.dtype)
        xy = keypoints[..., :2] * seen
        centre = xy.sum((2, 3), keepdim=True) / seen.sum((2, 3), keepdim=True).clamp(min=1)
        xy = self._fill((xy - centre) * seen, seen)
        left, right = (xy[..., hip : hip + 1, :] for hip in self.hips)
        size = (xy - xy.mean(3, keepdim=True)).square().sum(-1, keepdim=True).mean(3, keepdim=True).sqrt()
        apart = (left - right).square().sum(-1, keepdim=True).sqrt()
        relative = (xy - (left + right) / 2) / torch.maximum(apart, HIPS_APART * size).clamp(min=1e-6)
        return torch.cat([relative, score], -1)

    def has_flow(self, keypoints: Tensor, stream: str) -> Tensor:
        """Whether the flow of ``stream`` was measured in clips (N, M, T, V, 3): (N, 1) in {0, 1}."""
        measured = self._of_flow(keypoints, stream)[..., 2].flatten(1)
        return (measured.amax(1, keepdim=True) > 0).to(keypoints.dtype)

    def _joints(self, keypoints: Tensor) -> Tensor:
        return keypoints[..., : self.observed, :] if self.flow else keypoints

    def _of_flow(self, x: Tensor, stream: str) -> Tensor:
        columns = x[..., -self.flow :, :]
        return columns[..., :OF_PERSON, :] if stream == "f" else columns[..., OF_PERSON:, :]

    def _measured(self, keypoints: Tensor) -> Tensor:
        """(N, M, T, V, 3) → the columns of flow, zero where it was not measured; 1 in the third place where it was."""
        columns = keypoints[..., self.observed :, :]
        there = (columns[..., 2:] > 0).to(keypoints.dtype)
        return torch.cat([columns[..., :2] * there, there], -1)

    def _with_virtual(self, x: Tensor) -> Tensor:
        for i in range(len(self.virtual)):
            joints = x.index_select(-2, cast(Tensor, getattr(self, f"group{i}")))
            x = torch.cat([x, joints.mean(-2, keepdim=True)], -2)
        return x

    def _fill(self, xy: Tensor, seen: Tensor) -> Tensor:
        """Give every missing joint a position: its own in nearby frames, else its person's middle."""
        n, m, t = xy.shape[:3]

        def around(values: Tensor) -> Tensor:
            return (self.nearby @ values.reshape(n, m, t, -1)).reshape(values.shape)

        weight = around(seen)
        ever = (weight > 0).to(xy.dtype)
        xy = seen * xy + (1 - seen) * around(xy * seen) / weight.clamp(min=1e-30)
        middle = (xy * ever).sum(3, keepdim=True) / ever.sum(3, keepdim=True).clamp(min=1)
        return ever * xy + (1 - ever) * middle
