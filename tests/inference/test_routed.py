"""A camera's share of a canary, and what happens when the canary does not answer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from doubles import ConstantPredictor

from posewatch.errors import ServingError
from posewatch.inference.predictor import Predictor
from posewatch.inference.routed import REST_S, SLOT_S, RoutedPredictor, takes_part
from posewatch.records import Prediction

SHAPE = (1, 4, 17, 3)
CLIP = np.zeros((1, *SHAPE), np.float32)


def version(name: str, shape: tuple[int, int, int, int] = SHAPE) -> ConstantPredictor:
    made = ConstantPredictor(("normal", "abnormal"), shape=shape)
    made.metadata = {"release": name}
    return made


class Broken(ConstantPredictor):
    def predict(self, keypoints: np.ndarray) -> Prediction:
        raise ServingError("no answer")


def test_the_share_is_that_which_was_asked_for() -> None:
    slots = np.arange(20_000) * SLOT_S
    for percent in (1, 10, 50):
        for cameras in (["door"], [f"camera-{i}" for i in range(50)]):
            met = np.mean([takes_part(c, "v2", percent, s) for c in cameras for s in slots[:: len(cameras)]])
            assert met == pytest.approx(percent / 100, abs=0.012)
    assert not any(takes_part("door", "v2", 0, s) for s in slots[:500])
    assert all(takes_part("door", "v2", 100, s) for s in slots[:500])
    one, other = ([takes_part("door", v, 50, s) for s in slots[:200]] for v in ("v2", "v3"))
    assert one != other, "another canary has other slots"
    assert takes_part("door", "v2", 50, 1000.0) == takes_part("door", "v2", 50, 1100.0), "one version for a slot"


class Opened:
    """Opens canaries by their endpoints, and counts."""

    def __init__(self, **canaries: Predictor) -> None:
        self.canaries, self.count = canaries, 0

    def __call__(self, endpoint: str) -> Predictor:
        self.count += 1
        if endpoint not in self.canaries:
            raise ServingError(f"{endpoint} does not answer")
        return self.canaries[endpoint]


def write(route: Path, percent: int, canary: str = "two") -> None:
    route.write_text(json.dumps({"percent": percent, "canary": {"version": canary, "endpoint": canary}}))


def test_a_rollout_as_a_camera_meets_it(tmp_path: Path) -> None:
    route, now = tmp_path / "route.json", [0.0]
    opened = Opened(two=version("two", (1, 8, 17, 3)))
    model = RoutedPredictor(version("one"), route, "door", opened, lambda: now[0])

    def met() -> str:
        model.select()
        model.predict(np.zeros((1, *model.shape), np.float32))
        return model.version

    assert met() == "one", "no rollout: no file"
    route.write_text("{ cut off")
    assert met() == "one"
    write(route, 100)
    assert met() == "two"
    assert model.shape == (1, 8, 17, 3), "the clips that this version takes"
    write(route, 30)
    seen = []
    for slot in range(400):
        now[0] = slot * SLOT_S
        seen.append(met())
    assert 0.22 < seen.count("two") / len(seen) < 0.38
    write(route, 0)
    assert met() == "one"
    route.unlink()
    assert met() == "one"
    assert opened.count == 1


def test_a_canary_that_does_not_answer_costs_no_window(tmp_path: Path) -> None:
    route, now = tmp_path / "route.json", [0.0]
    broken = Broken(("normal", "abnormal"), shape=SHAPE)
    opened = Opened(two=broken)
    model = RoutedPredictor(version("one"), route, "door", opened, lambda: now[0])
    write(route, 100)
    model.select()
    assert model.predict(CLIP).labels == ("normal", "abnormal")
    assert model.version == "one"
    opened.canaries["two"] = version("two")
    model.select()
    assert model.version == "one", "it is left alone for a minute"
    now[0] = REST_S + 1
    write(route, 100, "three")  # not there yet
    model.select()
    assert model.version == "one"
    assert len(model.predict(CLIP).probabilities) == 1
