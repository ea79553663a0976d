"""Published data preparation, number by number: which frames are looked at, mirror images, places of people.

The streams are compared in test_features.py. Three-dimensional keypoints are no input of ours, so that their
normalisation has no counterpart.
"""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from posewatch.config import AugmentConfig, TrainConfig  # noqa: E402
from posewatch.datasets import layouts  # noqa: E402
from posewatch.datasets.clipset import ClipSet  # noqa: E402
from posewatch.recognition.sampling import (  # noqa: E402
    sample,
    sampled,
    training_batch,
    uniform,
    uniform_test,
)
from posewatch.recognition.training.augment import Augment  # noqa: E402

PARITY = Path(__file__).resolve().parents[2].parent / "shared/data/parity/protogcn_coco17.npz"
LENGTHS = [1, 7, 37, 99, 100, 101, 150, 199, 200, 201, 350]
published = pytest.mark.skipif(not PARITY.is_file(), reason=f"no parity file at {PARITY}")


@pytest.fixture(scope="module")
def want():
    with np.load(PARITY) as arrays:
        return {k: arrays[k] for k in arrays.files if k.startswith("pipe/")}


@published
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("clips", [1, 10])
def test_frames_of_tests_and_of_training(want, length, clips):
    """Test clips, and training clips for a random generator in the state in which the published code had its own."""
    assert np.array_equal(uniform_test(length, 100, clips).ravel(), want[f"pipe/frames/T{length}_n{clips}"])
    rng = np.random.RandomState(255)
    drawn = np.concatenate([uniform(length, 100, rng) for _ in range(clips)])
    assert np.array_equal(drawn, want[f"pipe/decode/T{length}_n{clips}"])


@published
def test_mirror_image(want):
    """Left and right change places, joints that were not seen stay so; ours mirrors at x = 0, theirs in the middle."""
    before, after = (torch.from_numpy(want[f"pipe/{k}"])[None] for k in ("flip_in", "flip"))
    still = dict.fromkeys((field.name for field in dataclasses.fields(AugmentConfig)), 0.0) | {
        "swap": False,
        "flip": True,
    }
    augment = Augment(layouts.get("coco17"), AugmentConfig(**still))
    found = set()
    for seed in range(8):
        got = augment(before, torch.Generator().manual_seed(seed))
        seen = got[..., 2] > 0
        assert torch.equal(got[..., 2], after[..., 2]) or torch.equal(got[..., 2], before[..., 2])
        if torch.equal(got[..., 2], after[..., 2]):
            found.add("mirrored")
            moved = (after[..., 0] - got[..., 0])[seen]
            assert float((moved - moved.mean()).abs().max()) < 1e-3
            assert torch.allclose(got[..., 1][seen], after[..., 1][seen], atol=1e-3)
        else:
            found.add("as it was")
    assert found == {"mirrored", "as it was"}


@published
def test_one_person_among_two(want):
    """Absent people are zeros behind those who are there."""
    clip = want["pipe/kp17"][:1]
    got = sample(clip, np.arange(clip.shape[1], dtype=np.float64), people=2)
    assert np.abs(got - want["pipe/format_1p"][0]).max() < 1e-5


def test_raw_features_are_sampled_as_published(clips):
    """Whole frames, untouched; ``test_clips`` versions of a test clip, and every version in its place."""
    one = clips(1)
    config = TrainConfig(clip_frames=12, people=1, features="raw", test_clips=3)
    for length in (5, 20, 30):
        clip = np.resize(one.keypoints[0], (1, length, 17, 3)).astype(np.float32)
        made = ClipSet((clip,), one.labels, one.classes, one.ids, one.groups)
        for version in range(3):
            when = uniform_test(length, 12, 3)[version]
            assert np.array_equal(sampled(made, config, version)[0, 0], clip[0, when])
        (drawn,) = training_batch(made, np.array([0]), config, [[0, 1, 2]])
        frames = [next(i for i in range(length) if np.array_equal(clip[0, i], f)) for f in drawn[0]]
        steps = np.diff(frames) % length
        assert set(steps) <= ({1} if length < 12 else {1, 2} if length < 24 else {1, 2, 3, 4, 5})


def test_test_samplings_cannot_be_changed_by_who_got_them():
    with pytest.raises(ValueError, match="read-only"):
        uniform_test(20, 12, 2)[0, 0] = 5
