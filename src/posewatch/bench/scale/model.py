"""Counts, replicas, costs and limits of an installation: arithmetic on what is assumed and what was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from posewatch.artifact import AHEAD
from posewatch.bench.scale.assumptions import Assumptions
from posewatch.bench.scale.objects import PER_STAGE, per_video
from posewatch.errors import InputError
from posewatch.stages.shards import MOST

HOURS = 730.0
"""Of a month."""
POOL = 25
"""Connections that one process of the page opens at most (posewatch.labels.db.schema)."""
DISK_GB, STEP_TIMEOUT_S, MASK_TIMEOUT_S, DATASET_GB, REFRESH_GB = 20.0, 3_600.0, 43_200.0, 16.0, 8.0
"""The chart's volume for the database, and what pipelines/resources.yaml gives to steps."""
RECORD = 1024 * 1024


@dataclass(frozen=True)
class Limit:
    """Something that ends somewhere: ``value`` at the assumed size, ``limit`` where it breaks, in ``unit``.

    ``basis`` says how ``value`` is known: measured, extrapolated, or arithmetic on measured sizes. ``breaks`` is
    what happens there, ``remedy`` what the design does or the operator can do.
    """

    name: str
    value: float
    limit: float
    unit: str
    basis: str
    breaks: str
    remedy: str
    grows_with: str = ""
    """With what it grows: clips, labelled, videos or labelers; empty where with none of them."""
    exponent: float = 1.0
    """To which power."""

    @property
    def headroom(self) -> float:
        """How many times the assumed size fits; below 1 it does not."""
        return self.limit / self.value if self.value > 0 else math.inf

    def holds(self, a: Assumptions) -> float | None:
        """Up to how many clips (labelled, videos, labelers) it holds; None where it grows with none of them."""
        sizes = {**counts(a), "clips": a.clips, "labelers": a.labelers}
        return sizes[self.grows_with] * self.headroom ** (1 / self.exponent) if self.grows_with else None


@dataclass(frozen=True)
class Growth:
    """``seconds`` (or bytes) grow as the number of clips to the power of ``exponent``."""

    exponent: float
    at: float
    value: float

    def extrapolate(self, clips: float) -> float:
        """The value at ``clips``; never less than what was measured at the largest size."""
        return self.value * max(1.0, clips / self.at) ** max(0.0, self.exponent)

    @property
    def law(self) -> str:
        """In a word."""
        return "constant" if self.exponent < 0.25 else "in proportion" if self.exponent > 0.8 else "slower than clips"


def growth(clips: Sequence[float], values: Sequence[float]) -> Growth:
    """Fit a power law: the slope between the two largest sizes, where constant parts weigh least.

    Raises InputError for fewer than two sizes.
    """
    if len(clips) < 2 or len(clips) != len(values):
        raise InputError("growth needs measurements at two sizes at least: give --clips N,N")
    (x0, y0), (x1, y1) = sorted(zip(clips, values, strict=True))[-2:]
    slope = math.log(max(y1, 1e-9) / max(y0, 1e-9)) / math.log(x1 / x0)
    return Growth(min(slope, 1.5), x1, y1)


def counts(a: Assumptions) -> dict[str, float]:
    """Videos, objects by stage, rows, acts: whole numbers that follow from the assumptions alone."""
    each = a.video_s / a.clip_s
    videos = math.ceil(a.clips / each)
    shards = min(MOST, math.ceil(videos / a.shard_size))
    labelled = round(a.clips * a.label_share)
    out: dict[str, float] = {
        "videos": videos,
        "clips_per_video": each,
        "hours_of_video": a.clips * a.clip_s / 3600,
        "objects": round(videos * per_video(each)),
        "labelled": labelled,
        "acts_per_s": a.labelers / a.label_s,
        "claims_per_s": a.labelers / a.label_s / 24,
        "days_of_labeling": labelled * a.label_s / a.labelers / 3600 / a.work_hours,
        "shards": shards,
        "videos_per_shard": math.ceil(videos / shards),
    }
    for stage, (fixed, clip) in PER_STAGE.items():
        out[f"objects {stage}"] = round(videos * (fixed + clip * each))
    return out


def serving(a: Assumptions) -> dict[str, float]:
    """Inferences per second of all cameras, and the replicas that answer them on CPUs and on GPUs."""
    asked = a.cameras / a.stride_s * a.occupied * a.groups
    peak = a.cameras / a.stride_s * a.groups
    replicas = math.ceil(asked / (a.cpu_ips * a.utilisation))
    return {
        "inferences_per_s": asked,
        "peak_inferences_per_s": peak,
        "cpu_replicas": replicas,
        "cpu_replicas_peak": math.ceil(peak / (a.cpu_ips * a.utilisation)),
        "gpu_replicas": math.ceil(asked / (a.gpu_ips * a.utilisation)),
        "gpu_replicas_peak": math.ceil(peak / (a.gpu_ips * a.utilisation)),
        "refresh_hours": a.clips / (replicas * a.cpu_ips) / 3600,
    }


def costs(a: Assumptions, clip_bytes: float | None = None, database_gb: float = 0.0) -> dict[str, dict[str, float]]:
    """A month of one camera by what it is for, all on CPUs and with GPUs; ``clip_bytes`` is stored for each clip."""
    served = serving(a)
    alarm_tb = a.cameras * a.alarms_per_day * a.alarm_days * a.alarm_mb / 1e6
    kept_tb = a.clips * (clip_bytes or 0.0) / 1e12 + database_gb / 1000
    common = {
        "alarm videos": alarm_tb * a.tb_month / a.cameras,
        "clips and their stages": kept_tb * a.tb_month / a.cameras,
    }
    cpu = {
        "watching": a.watch_cores * a.vcpu_hour * HOURS,
        "serving": served["cpu_replicas"] * a.cpu_cores * a.vcpu_hour * HOURS / a.cameras,
        **common,
    }
    gpu = {
        "watching": (a.gpu_hour / a.watch_gpu_cameras + a.watch_gpu_cores * a.vcpu_hour) * HOURS,
        "serving": served["gpu_replicas"] * (a.gpu_hour + a.cpu_cores * a.vcpu_hour) * HOURS / a.cameras,
        **common,
    }
    return {name: {**row, "all": sum(row.values())} for name, row in (("cpu", cpu), ("gpu", gpu))}


def once(a: Assumptions, run: Mapping[str, Any] | None) -> dict[str, float]:
    """What preparing all clips costs once: core hours, days at the pipeline's defaults, requests, network."""
    from_store = counts(a)
    writes = from_store["objects"] / 1e6 * a.million_requests
    out = {
        "write_requests": from_store["objects"],
        "requests_cost": writes,
        "gbit_per_s": a.cameras * a.camera_mbit / 1e3,
    }
    if run is not None:
        each = sum(run["cpu_per_s"].values())
        hours = a.clips * a.clip_s * each / 3600
        out |= {
            "core_hours": hours,
            "cost": hours * a.vcpu_hour,
            "days_at_defaults": hours / (a.parallelism * a.shard_cores) / 24,
        }
    return out


def limits(a: Assumptions, m: Mapping[str, Any]) -> list[Limit]:
    """Everything that was found to end somewhere, what breaks first at the top."""
    n = counts(a)
    out = [*_label_limits(a, m["labels"], n), *_step_limits(a, m, n)]
    return sorted(out, key=lambda limit: limit.headroom)


def _label_limits(a: Assumptions, m: Mapping[str, Any], n: Mapping[str, float]) -> list[Limit]:
    def law(call: str) -> Growth:
        rows = m["sizes"]
        return growth([r["clips"] for r in rows], [r["calls"][call] for r in rows])

    def at(call: str) -> float:
        return law(call).extrapolate(a.clips)

    split = "one label store for each site (POSEWATCH_LABELS_URL): all of this divides by the number of sites"
    peak = max((loop["acts"] / loop["seconds"] for loop in m["loops"]), default=0.0)
    found = [
        Limit("claim a page", at("claim a page"), a.wait_s, "s", "extrapolated",
              "labelers wait for their next page", "the queue is a table in its own order; " + split),
        Limit("label a clip", at("label a clip"), a.wait_s, "s", "extrapolated", "each label is slow",
              "by primary keys only"),
        Limit("list of all videos", at("list all videos"), a.wait_s, "s", "extrapolated",
              "the first to open a page waits; then one counts for all, for a twentieth of the time", split, "clips",
              max(0.25, law("list all videos").exponent)),
        Limit("count of what is left", at("count what is left"), a.wait_s, "s", "extrapolated",
              "as the list of videos", split, "clips",
              max(0.25, law("count what is left").exponent)),
        Limit("one lock for all claims", n["claims_per_s"] * at("claim a page"), 1.0, "busy", "extrapolated",
              "pages wait for each other", "larger pages (labels.page_size); " + split, "labelers"),
        Limit("connections", a.page_pods * POOL, a.connections, "", "arithmetic",
              "a pod of the page more is refused by the database", "max_connections, or pgbouncer before it"),
        Limit("event ids", n["labelled"] * 1.2, 2**31 - 1, "", "arithmetic", "no label is taken any more",
              "none is needed for a long time", "labelled"),
    ]  # fmt: skip
    if peak:
        found.append(
            Limit("labels per second", n["acts_per_s"], peak * a.page_pods, "/s", "measured (a pod)",
                  "labels wait; nothing is lost",
                  "more pods of the page: a process is a core of Python", "labelers")
        )  # fmt: skip
    size = database_gb(a, m)
    if size:
        found.append(
            Limit("volume of the database", size, DISK_GB, "GB", "extrapolated", "the database stops",
                  "postgresql.storage.size, or a managed database", "clips")
        )  # fmt: skip
    return found


def database_gb(a: Assumptions, m: Mapping[str, Any]) -> float:
    """The label store with every clip registered and ranked, and ``label_share`` of them labelled; 0 if unknown."""
    tables = m["sizes"][-1]["tables"]
    total = 0.0
    for name, of in tables.items():
        if of["table"] is None:
            return 0.0
        if of["rows"] and name != "claims":
            each = (of["table"] + of["indexes"]) / of["rows"]
            total += each * a.clips * (a.label_share if name in ("events", "status", "votes") else 1.0)
    return total / 1e9


def _step_limits(a: Assumptions, m: Mapping[str, Any], n: Mapping[str, float]) -> list[Limit]:
    memory, fanout = m["objects"]["memory"], m["fanout"]
    shards, walk = n["shards"], n["videos"] * a.request_ms / 1000 / AHEAD
    packed = fanout["runs"][0]["packed"] + (shards - fanout["runs"][0]["shards"]) * fanout["packed_bytes_per_shard"]
    sets = "prepare, label and train by site: sites share nothing but the store"
    out = [
        Limit("a set read through", walk, STEP_TIMEOUT_S, "s", "arithmetic",
              "each step waits for a request per video, eight at a time", sets, "videos"),
        Limit("memory of a step that holds a set", n["videos"] * memory["member of a set"] / 1e9, a.step_gb, "GB",
              "arithmetic", "shards, gather and snapshot are killed", sets, "videos"),
        Limit("memory of the label gate", a.clips * 2 * memory["clip id in the gate"] / 1e9, a.step_gb, "GB",
              "arithmetic", "label_gate is killed", "its memory_limit in resources.yaml; " + sets, "clips"),
        Limit("memory of a snapshot", n["labelled"] * memory["row of a snapshot"] / 1e9, a.step_gb, "GB",
              "arithmetic", "the snapshot step is killed", "its memory_limit in resources.yaml; " + sets, "labelled"),
        Limit("memory of a dataset", n["labelled"] * memory["skeleton in a dataset"] / 1e9, DATASET_GB, "GB",
              "arithmetic", "the dataset step is killed",
              "label a sample: the queue asks for what is doubtful, a third was enough (docs/labeling.md)", "labelled"),
        Limit("memory of a refresh", a.clips * memory["clip in a refresh"] / 1e9, REFRESH_GB, "GB", "arithmetic",
              "the refresh step is killed", "refresh one site's set at a time", "clips"),
        Limit("record of a run", packed, RECORD, "B", "arithmetic",
              "the engine gives the run up", f"at most {MOST} shards, larger ones above that; Argo's offloading"),
    ]  # fmt: skip
    run = m["objects"].get("run")
    if run is not None:
        took = n["videos_per_shard"] * a.video_s * run["cpu_per_s"]["mask"] / a.shard_cores
        out.append(
            Limit("masking of a shard", took, MASK_TIMEOUT_S, "s", "arithmetic",
                  "the step ends; its retries go on where it was", "several runs of fewer videos, or GPUs", "videos")
        )  # fmt: skip
    return out
