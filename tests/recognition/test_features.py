from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from posewatch.datasets import layouts  # noqa: E402
from posewatch.errors import ConfigError  # noqa: E402
from posewatch.recognition.features import Features  # noqa: E402
from posewatch.recognition.sampling import resample  # noqa: E402

COCO = layouts.get("coco17")


def made(batch, stream="j", layout=COCO, kind="body"):
    features = Features(layout, batch.shape[2], kind)
    x, present = features(batch)
    return features.stack(x, present, stream), present


PARITY = Path(__file__).resolve().parents[2].parent / "shared/data/parity/protogcn_coco17.npz"


@pytest.fixture
def batch(clips):
    return torch.from_numpy(resample(clips(6, people=2).keypoints, 30, 2))


def test_place_and_size_in_the_picture_do_not_matter(batch):
    moved = batch.clone()
    moved[..., :2] = moved[..., :2] * 2.5 + torch.tensor([300.0, -40.0])
    a, b = made(batch, "j+b+jm")[0], made(moved, "j+b+jm")[0]
    assert a.shape == (6, 2, 30, 17, 6)
    assert torch.allclose(a, b, atol=1e-4)


def test_missing_joints_are_never_read_as_a_point(batch):
    """With 10 % of joints gone (x = y = score = 0), positions stay where they were, whatever the gone ones hold."""
    whole, _ = made(batch)
    gone = torch.from_numpy(np.random.default_rng(0).random(batch.shape[:-1]) < 0.1)
    zeroed, wild = batch.clone(), batch.clone()
    zeroed[gone] = 0
    wild[gone] = torch.tensor([5000.0, -3000.0, 0.0])
    a, b = made(zeroed)[0], made(wild)[0]
    assert torch.equal(a, b)
    assert (a[..., :2] - whole[..., :2]).abs().max() < 0.5, "bodies have size 1; read as (0, 0) it would be about 4"
    assert (a[..., :2] - whole[..., :2]).abs().mean() < 0.01


def test_joint_that_is_never_seen_and_person_who_is_not_there(batch):
    batch[:, :, :, 1:5] = 0
    batch[0, 1] = 0
    batch[1] = 0
    out, present = made(batch, "j+b+jm+bm")
    assert torch.isfinite(out).all()
    assert present.tolist()[:3] == [[1, 0], [0, 0], [1, 1]]
    assert (out[0, 1] == 0).all()
    assert (out[1] == 0).all()
    middle = out[2, 0, :, [0, *range(5, 17)], :2].mean(1)
    assert torch.allclose(out[2, 0, :, 1, :2], middle, atol=1e-4), "an unseen joint stands in its person's middle"


def test_virtual_joints_are_made_inside(batch):
    out, _ = made(batch, layout=layouts.get("coco20"))
    assert out.shape == (6, 2, 30, 20, 2)
    assert torch.allclose(out[..., 17, :], out[..., [11, 12], :].mean(-2), atol=1e-6)


def test_unknown_stream():
    with pytest.raises(ConfigError, match="unknown stream 'x'"):
        made(torch.zeros(1, 1, 2, 17, 3), "j+x")


@pytest.mark.skipif(not PARITY.is_file(), reason=f"no parity file at {PARITY}")
@pytest.mark.parametrize("stream", ["j", "b", "k", "jm", "bm", "km"])
@pytest.mark.parametrize(("layout", "key", "source"), [("coco17", "coco", "kp17"), ("coco20", "coco_new", "kp20")])
def test_streams_equal_the_official_pipeline(layout, key, source, stream):
    with np.load(PARITY) as want:
        x, official = torch.from_numpy(want[f"pipe/{source}"]), want[f"pipe/{key}/{stream}"]
    got = Features(layouts.get(layout), x.shape[1], "raw").stream(x, stream).numpy()
    assert np.abs(got - official).max() < 1e-5


def test_partner_stream_is_the_way_to_the_other_person(batch):
    batch[0, 1] = 0
    x, _ = Features(COCO, 30)(batch)
    out, _ = made(batch, "p")
    assert (out[0] == 0).all(), "who is alone has no partner"
    middle = x[2, 1, :, :, :2].mean(1, keepdim=True)
    assert torch.allclose(out[2, 0], x[2, 0, :, :, :2] - middle, atol=1e-5)
    three = torch.cat([x[2:3], x[3:4, :1]], 1)
    others = three[0, 1:, :, :, :2].mean((0, 2))[:, None]
    got = Features(COCO, 30).stack(three, torch.ones(1, 3), "p")
    assert torch.allclose(got[0, 0], three[0, 0, :, :, :2] - others, atol=1e-5)


def test_contact_stream_is_the_way_to_the_nearest_joint_of_another_person(batch):
    batch[0, 1] = 0
    features = Features(COCO, 30)
    x, present = features(batch)
    got = features.stack(x, present, "c")
    assert (got[0] == 0).all(), "who is alone touches nobody"
    points, others = x[2, 0, :, :, :2], x[2, 1, :, :, :2]
    way = others[:, None] - points[:, :, None]
    nearest = way.gather(2, way.norm(dim=-1).argmin(2)[..., None, None].expand(-1, -1, 1, 2))[:, :, 0]
    assert (got[2, 0] - nearest).norm(dim=-1).median() < 0.15
    assert (got[2, 0].norm(dim=-1) <= way.norm(dim=-1).amin(2) + 0.3).all()
    assert torch.allclose(features.stack(x[:, [1, 0]], present[:, [1, 0]], "c"), got[:, [1, 0]], atol=1e-5)
    absent = torch.cat([x[2:3], x[3:4, :1]], 1)
    assert torch.allclose(features.stack(absent, torch.tensor([[1.0, 1.0, 0.0]]), "c")[0, :2], got[2], atol=1e-4)
    assert features.stack(x[:, :1], present[:, :1], "c").abs().max() == 0
