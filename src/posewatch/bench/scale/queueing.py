"""Requests that wait for a model: a small simulation of Triton's dynamic batching under random arrivals."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np

from posewatch.errors import InputError


@dataclass(frozen=True)
class Waited:
    """What requests went through, in seconds from arrival to answer; ``mean_batch`` requests an execution."""

    mean_s: float
    p50_s: float
    p95_s: float
    p99_s: float
    mean_batch: float
    utilisation: float


def simulate(
    rate: float,
    instances: int,
    fixed_s: float,
    each_s: float,
    max_batch: int = 16,
    delay_s: float = 0.002,
    requests: int = 20_000,
    seed: int = 0,
) -> Waited:
    """Poisson arrivals of ``rate`` a second at ``instances`` that each run one batch at a time.

    A batch of b takes ``fixed_s + b * each_s``. It starts when an instance is free and it is full, or its oldest
    request has waited for ``delay_s``. The first tenth of the requests is not counted. Raises InputError for a load
    that no queue survives.
    """
    if rate <= 0 or instances < 1 or max_batch < 1 or fixed_s + each_s <= 0:
        raise InputError("a queue needs a rate, an instance, a batch and a time that are positive")
    most = instances * max_batch / (fixed_s + max_batch * each_s)
    if rate >= most:
        raise InputError(f"{rate:g} requests a second are more than the {most:.3g} that can be answered")
    arrived = np.cumsum(np.random.default_rng(seed).exponential(1 / rate, requests))
    answered = np.empty(requests)
    free = [0.0] * instances
    heapq.heapify(free)
    first, batches, busy = 0, 0, 0.0
    while first < requests:
        idle = heapq.heappop(free)
        full = arrived[first + max_batch - 1] if first + max_batch <= requests else np.inf
        start = max(idle, min(arrived[first] + delay_s, max(full, arrived[first])))
        size = min(max_batch, int(np.searchsorted(arrived, start, side="right")) - first)
        took = fixed_s + size * each_s
        answered[first : first + size] = start + took
        heapq.heappush(free, start + took)
        busy += took
        batches += 1
        first += size
    waited = np.sort((answered - arrived)[requests // 10 :])
    p50, p95, p99 = (float(np.quantile(waited, q)) for q in (0.5, 0.95, 0.99))
    span = instances * float(answered.max())
    return Waited(float(waited.mean()), p50, p95, p99, requests / batches, busy / span)
