"""The whole server: clients, the wire, batching and the card, against PyTorch's eager answers one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from posewatch.bench.gpu.card import Card
from posewatch.bench.gpu.forms import as_published, eager, recogniser
from posewatch.bench.gpu.load import closed, opened
from posewatch.bench.gpu.scale import Scale
from posewatch.bench.gpu.server import MODEL, Server
from posewatch.export.onnx import synthetic_clips
from posewatch.progress import say

SHARES = (0.5, 0.8)
"""Rates of the open loop, as shares of the closed loop's best."""


def measure(card: Card, scale: Scale, left: Callable[[], float], endpoint: str = "") -> dict[str, Any]:
    """Rows for a server without batching and one with it, and ``times`` the eager rate of one clip at a time.

    ``endpoint`` (host:port/model) is a Triton that is measured instead; it must serve a model of the same shape.
    """
    layout, people = scale.layouts[0], scale.people[-1]
    precision = "fp16" if card.cuda else "fp32"
    source = recogniser(layout, people, scale.frames, scale.width)
    shape = (people, scale.frames, source.layout.columns, 3)
    plain = eager(as_published(source, card.device))
    clip = torch.from_numpy(synthetic_clips(2, shape)[:1])
    # As the paper's first way of serving: a loop that takes a clip to the device and its answer back.
    one = card.timed(lambda: plain(clip.to(card.device))[0].cpu(), scale.load_seconds)
    rows: list[dict[str, Any]] = []
    result: dict[str, Any] = {
        "layout": layout, "people": people, "precision": precision, "server": "small server of this benchmark",
        "eager": {"clips_per_s": round(one.rate(1), 2), "p50_ms": round(one.ms(50), 2), "p95_ms": round(one.ms(95), 2)},
        "rows": rows, "left_out": [],
    }  # fmt: skip
    if endpoint:
        address, _, model = endpoint.removeprefix("grpc://").partition("/")
        result["server"] = f"served at {endpoint}"
        _loads(rows, "as configured", address, model or MODEL, shape, scale, left, result["left_out"])
    else:
        for name, batch in (("no batching", 1), ("dynamic batching", scale.max_batch)):
            with Server(card.device.type, scale, layout, people, precision, batch) as server:
                _loads(rows, name, server.address, MODEL, shape, scale, left, result["left_out"], server)
    best = max(row["requests_per_s"] for row in rows)
    result["times_eager"] = round(best / one.rate(1), 2)
    say(f"served: {best:,.0f} clips/s, {result['times_eager']} times eager PyTorch")
    return result


def _loads(
    rows: list[dict[str, Any]],
    name: str,
    address: str,
    model: str,
    shape: tuple[int, ...],
    scale: Scale,
    left: Callable[[], float],
    left_out: list[str],
    server: Server | None = None,
) -> None:
    own: list[dict[str, Any]] = []
    for clients in scale.clients:
        if own and left() < 0:
            left_out.append(f"{name}, {clients} clients: no time left")
            continue
        before = server.counts() if server else (0, 0)
        load = closed(address, model, shape, clients, scale.client_processes, scale.load_seconds, scale.lead_s)
        row = {"server": name, "loop": "closed", "clients": clients, **load.row()}
        if server:
            executions, clips = (after - b for after, b in zip(server.counts(), before, strict=True))
            row["mean_batch"] = round(clips / max(1, executions), 1)
        own.append(row)
    best = max(row["requests_per_s"] for row in own)
    for share in SHARES:
        if left() < 0:
            left_out.append(f"{name}, open loop at {share:.0%}: no time left")
            continue
        rate = max(1.0, share * best)
        load = opened(address, model, shape, rate, scale.client_processes, scale.load_seconds, scale.lead_s)
        own.append({"server": name, "loop": f"open, {share:.0%} of the peak", "clients": None, **load.row()})
    rows += own
