"""Augmentation changes what it is told to change, by no more than that, whatever the number of processes."""

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from posewatch.config import AugmentConfig, TrainConfig  # noqa: E402
from posewatch.datasets import layouts  # noqa: E402
from posewatch.recognition.features import Features  # noqa: E402
from posewatch.recognition.sampling import (  # noqa: E402
    resample,
    sampled,
    times,
    training_batch,
)
from posewatch.recognition.training.augment import Augment  # noqa: E402

COCO = layouts.get("coco17")
OFF = AugmentConfig(**{f.name: type(f.default)(0) for f in dataclasses.fields(AugmentConfig)})


def run(x, rank=0, world=1, seed=0, **change):
    augment = Augment(COCO, dataclasses.replace(OFF, **change))
    return augment(x, torch.Generator().manual_seed(seed), rank, world)


@pytest.fixture
def batch(clips):
    return torch.from_numpy(resample(clips(64, people=2).keypoints, 20, 2))


def test_nothing_asked_nothing_done(batch):
    assert torch.allclose(run(batch), batch, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "share"),
    [({"joint_dropout": 0.1}, 0.1), ({"frame_dropout": 0.1}, 0.1), ({"person_dropout": 0.5}, 0.25)],
)
def test_dropouts_take_away_what_they_say(batch, change, share):
    out = torch.cat([run(batch, seed=seed, **change) for seed in range(6)])
    gone = out[..., 2] == 0
    assert float(gone.float().mean()) == pytest.approx(share, rel=0.35)
    assert (out[gone] == 0).all(), "a joint that is missing keeps no place"
    left = ~gone & (torch.cat([batch] * 6)[..., 2] > 0)
    assert torch.allclose(out[left], torch.cat([batch] * 6)[left], atol=1e-3)


def test_limbs_go_as_a_whole(batch):
    out = run(batch, limb_dropout=0.2)
    gone = (out[..., 2] == 0).all(2)
    assert gone.any()
    elbow, wrist = COCO.joints.index("left_elbow"), COCO.joints.index("left_wrist")
    assert (gone[..., wrist] >= gone[..., elbow]).all(), "no forearm without an elbow"
    assert torch.equal(gone, (out[..., 2] == 0).any(2)), "for the whole clip"


def test_flip_mirrors_left_and_right_and_nothing_else(batch):
    out = run(batch, flip=True)
    same = (out - batch).abs().amax((1, 2, 3, 4)) < 1e-2
    assert 16 < int(same.sum()) < 48
    i = int((~same).nonzero()[0])
    left, right = COCO.joints.index("left_wrist"), COCO.joints.index("right_wrist")
    a, b = Features(COCO, 20)(batch[i : i + 1])[0], Features(COCO, 20)(out[i : i + 1])[0]
    assert torch.allclose(a[..., left, 0], -b[..., right, 0], atol=1e-3)
    assert torch.allclose(a[..., left, 1], b[..., right, 1], atol=1e-3)


def test_turning_keeps_shapes_and_swapping_keeps_people(batch):
    turned = run(batch, rotate=0.5)
    wrist, hip = 9, 11
    far = (batch[..., wrist, :2] - batch[..., hip, :2]).norm(dim=-1)
    assert torch.allclose((turned[..., wrist, :2] - turned[..., hip, :2]).norm(dim=-1), far, rtol=1e-3, atol=1e-2)
    assert (turned - batch).abs().max() > 5
    swapped = run(batch, swap=True)
    assert torch.allclose(swapped.sum(1), batch.sum(1), rtol=1e-5, atol=1e-1)
    assert 16 < int((swapped[:, 0] - batch[:, 0]).abs().amax((1, 2, 3)).gt(1).sum()) < 48


def test_two_processes_see_what_one_would(batch):
    config = dataclasses.asdict(AugmentConfig())
    whole = run(batch, **config)
    halves = [run(batch[k * 32 : (k + 1) * 32], rank=k, world=2, **config) for k in (0, 1)]
    assert torch.equal(torch.cat(halves), whole)


def test_empty_clips_stay_empty(batch):
    x = torch.zeros_like(batch)
    assert (run(x, **dataclasses.asdict(AugmentConfig(person_dropout=1.0))) == 0).all()


def test_times_are_ordered_and_inside():
    config = AugmentConfig(crop=0.5, speed=0.9)
    for seed in range(200):
        t = times(40, 30, config, np.random.default_rng(seed))
        assert t.min() >= 0
        assert t.max() <= 39
        assert (np.diff(t) > 0).all()
        assert t[-1] - t[0] >= 0.5 * 39 - 1e-9
    assert times(1, 5, config, np.random.default_rng(0)).tolist() == [0.0] * 5


def test_samplings_of_a_clip_differ_and_come_again(clips):
    for config in (TrainConfig(clip_frames=12, people=1), TrainConfig(clip_frames=12, people=1, features="raw")):
        a, b, again = (sampled(clips(3), config, version) for version in (1, 2, 1))
        assert np.array_equal(a, again)
        assert not np.array_equal(a, b)
        first, same, other = (
            training_batch(clips(3), np.array([0, 1]), config, seeds)
            for seeds in ([[0, 1], [0, 2]], [[0, 1], [0, 2]], [[0, 3], [0, 4]])
        )
        assert np.array_equal(first, same)
        assert not np.array_equal(first, other)
