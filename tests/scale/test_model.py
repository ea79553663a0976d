"""Scale on paper: counts by hand, what grows with what, and wrong assumptions in one line."""

from __future__ import annotations

import dataclasses

import pytest

from posewatch.bench.scale import model
from posewatch.bench.scale.assumptions import Assumptions, assume
from posewatch.bench.scale.queueing import simulate
from posewatch.errors import ConfigError, InputError

SMALL = Assumptions(
    cameras=10, clips=2_000, labelers=4, clip_s=3.0, video_s=60.0, label_s=2.0, work_hours=5.0, label_share=0.5,
    stride_s=0.5, occupied=0.25, groups=2.0, cpu_ips=20.0, gpu_ips=200.0, utilisation=0.5,
    watch_cores=0.5, cpu_cores=2.0, vcpu_hour=0.1, gpu_hour=1.0, watch_gpu_cameras=10.0, watch_gpu_cores=0.1,
)  # fmt: skip


def measured(calls: tuple[float, float] = (0.01, 0.01), peak: float = 100.0) -> dict:
    """What a run of the simulation hands on, at two sizes."""
    names = ("claim a page", "label a clip", "list all videos", "count what is left")
    tables = {"clips": {"rows": 1_000, "table": 400_000, "indexes": 100_000},
              "events": {"rows": 500, "table": 100_000, "indexes": 150_000}}  # fmt: skip
    sizes = [
        {"clips": clips, "calls": dict.fromkeys(names, value), "tables": tables}
        for clips, value in zip((100, 1_000), calls, strict=True)
    ]
    memory = {
        "member of a set": 1e4, "clip id in the gate": 80.0, "row of a snapshot": 400.0,
        "skeleton in a dataset": 12_000.0, "clip in a refresh": 8_000.0,
    }  # fmt: skip
    return {
        "labels": {"sizes": sizes, "loops": [{"acts": 10 * peak, "seconds": 10.0}]},
        "objects": {"memory": memory, "run": {"cpu_per_s": {"mask": 0.5, "pose": 0.5}}},
        "fanout": {"runs": [{"shards": 50, "packed": 70_000}], "packed_bytes_per_shard": 1_000.0},
    }


def test_counts_by_hand():
    found = model.counts(SMALL)
    assert found["videos"] == 100, "2,000 clips of 3 s in videos of a minute"
    assert found["objects"] == 100 * (21 + 3 * 20)
    assert found["objects clips"] == 100 * 23
    assert (found["shards"], found["videos_per_shard"]) == (2, 50)
    assert found["acts_per_s"] == 2.0
    assert found["days_of_labeling"] == pytest.approx(1_000 * 2 / 4 / 3600 / 5)
    large = model.counts(Assumptions())
    assert large["videos"] == 500_000
    assert (large["shards"], large["videos_per_shard"]) == (200, 2_500), "no more shards than a run can hold"
    assert sum(v for k, v in large.items() if k.startswith("objects ")) == large["objects"] == 40_500_000


def test_replicas_and_costs_by_hand():
    found = model.serving(SMALL)
    assert found["inferences_per_s"] == 10 / 0.5 * 0.25 * 2
    assert found["peak_inferences_per_s"] == 40.0
    assert (found["cpu_replicas"], found["cpu_replicas_peak"]) == (1, 4)
    assert (found["gpu_replicas"], found["gpu_replicas_peak"]) == (1, 1)
    price = model.costs(SMALL, clip_bytes=1e6, database_gb=2.0)
    assert price["cpu"]["watching"] == pytest.approx(0.5 * 0.1 * 730)
    assert price["cpu"]["serving"] == pytest.approx(1 * 2 * 0.1 * 730 / 10)
    assert price["cpu"]["clips and their stages"] == pytest.approx((0.002 + 0.002) * 23 / 10)
    assert price["gpu"]["watching"] == pytest.approx((1.0 / 10 + 0.1 * 0.1) * 730)
    for row in price.values():
        assert row["all"] == pytest.approx(sum(v for k, v in row.items() if k != "all"))
    prepared = model.once(SMALL, measured()["objects"]["run"])
    assert prepared["core_hours"] == pytest.approx(2_000 * 3 * 1.0 / 3600)


@pytest.mark.parametrize(
    ("name", "figure"),
    [("cameras", "cpu_replicas"), ("clips", "objects"), ("labelers", "acts_per_s"), ("occupied", "inferences_per_s")],
)
def test_more_needs_more(name: str, figure: str):
    before = {**model.counts(SMALL), **model.serving(SMALL)}[figure]
    more = dataclasses.replace(SMALL, **{name: type(getattr(SMALL, name))(getattr(SMALL, name) * 4)})
    assert {**model.counts(more), **model.serving(more)}[figure] > before


def test_growth_is_a_power_law_of_the_largest_sizes():
    flat, line = model.growth([10, 100, 1_000], [5, 0.01, 0.01]), model.growth([100, 1_000], [0.02, 0.2])
    assert (flat.law, flat.extrapolate(1e7)) == ("constant", 0.01)
    assert line.law == "in proportion"
    assert line.extrapolate(10_000) == pytest.approx(2.0)
    assert line.extrapolate(10) == 0.2, "never better than what was measured"
    assert model.growth([100, 1_000], [0.2, 0.1]).extrapolate(1e9) == 0.1, "noise does not make it faster"
    with pytest.raises(InputError, match="two sizes at least"):
        model.growth([1], [1.0])


def test_limits_are_in_the_order_in_which_they_break():
    found = model.limits(dataclasses.replace(SMALL, clips=100_000), measured(calls=(0.01, 0.1)))
    heads = [x.headroom for x in found]
    assert heads == sorted(heads)
    by = {x.name: x for x in found}
    listed = by["list of all videos"]
    assert listed.value == pytest.approx(10.0)
    assert listed.holds(dataclasses.replace(SMALL, clips=100_000)) == pytest.approx(10_000)
    assert by["labels per second"].headroom == pytest.approx(100 * 2 / 2)
    assert by["memory of a dataset"].value == pytest.approx(50_000 * 12_000 / 1e9)
    assert by["volume of the database"].value == pytest.approx((100_000 * 500 + 50_000 * 500) / 1e9)
    assert by["connections"].headroom == 2.0
    assert by["connections"].holds(SMALL) is None


def test_a_queue_waits_as_long_as_the_textbook_says():
    """M/D/1: the mean wait is rho s / (2 (1 - rho)) (Pollaczek and Khinchine)."""
    found = simulate(7, 1, 0.0, 0.1, max_batch=1, delay_s=0.0, requests=60_000)
    assert found.mean_s == pytest.approx(0.1 + 0.7 * 0.1 / (2 * 0.3), rel=0.05)
    assert found.utilisation == pytest.approx(0.7, abs=0.02)
    assert found.mean_batch == 1.0


def test_batches_form_where_an_execution_costs_as_much_whatever_its_size():
    alone, together = (simulate(80, 1, 0.01, 0.0, max_batch=b, requests=20_000) for b in (1, 16))
    assert together.mean_batch > 1.3 > alone.mean_batch
    assert together.p95_s < alone.p95_s
    assert simulate(80, 1, 0.01, 0.0, requests=2_000) == simulate(80, 1, 0.01, 0.0, requests=2_000)
    with pytest.raises(InputError, match=r"more than the 100 that can be answered"):
        simulate(120, 1, 0.01, 0.0, max_batch=1)


@pytest.mark.parametrize(
    ("told", "says"),
    [
        (["camreas=5"], "did you mean 'cameras'"),
        (["cameras"], "must look like name=value"),
        (["cameras=many"], "cameras must be int"),
        (["cameras=0"], "cameras must be above 0"),
        (["utilisation=1.5"], "is a share"),
        (["video_s=1"], "holds no clip"),
    ],
)
def test_wrong_assumptions_are_one_line(told: list[str], says: str):
    with pytest.raises(ConfigError) as raised:
        assume(told)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_given_figures_stand_above_measured_ones():
    assert assume(["cpu_ips=50", "clips=20_000_000", "gpu_hour=0"], cpu_ips=70.6).cpu_ips == 50.0
    assert assume([], cpu_ips=70.6, watch_cores=None).cpu_ips == 70.6
    assert assume(["clips=20_000_000"]).clips == 20_000_000
