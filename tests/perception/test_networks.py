"""The table of networks: every row is complete, documented and found by its name."""

from __future__ import annotations

import tomllib

import pytest
from support import ROOT

from posewatch import weights
from posewatch.config import MaskConfig, PoseConfig
from posewatch.errors import ConfigError
from posewatch.perception.networks import (
    DETECTOR,
    ESTIMATOR,
    NETWORKS,
    SEGMENTER,
    Entry,
    build_detector,
    build_estimator,
    build_segmenter,
    imported,
    weights_of,
)

NOT_IN_AN_EXTRA = ("mmpose", "sam2-package")
"""Networks whose own package asks for versions that clash; the docs say how to install it."""
METHODS = {DETECTOR: "detect", SEGMENTER: "segment", ESTIMATOR: "estimate"}


@pytest.mark.parametrize("row", NETWORKS.values(), ids=NETWORKS)
def test_a_row_leads_to_a_class_an_extra_a_licence_and_the_docs(row: Entry) -> None:
    assert all(callable(getattr(imported(row.builder), METHODS[role])) for role in row.roles)
    if row.weights:
        assert weights.info(row.weights).licence == row.licence
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert row.extra in extras
    extra = f"`{row.extra}`" + (", see below" if row.name in NOT_IN_AN_EXTRA else "")
    default = f"`{row.weights}`" if row.weights else "–"
    line = f"| `{row.name}` | {', '.join(row.roles)} | {extra} | {default} | {row.licence} |"
    assert line in (ROOT / "docs" / "perception.md").read_text(encoding="utf-8")


def test_an_unknown_name_is_answered_with_the_nearest_one_of_that_role() -> None:
    with pytest.raises(ConfigError, match=r"mask.detector must be one of .*, not 'yolo12' .did you mean 'yolo11'"):
        build_detector(MaskConfig(detector="yolo12"))
    with pytest.raises(ConfigError, match=r"mask.segmenter must be one of .*, not 'sam3' .did you mean 'sam2'"):
        build_segmenter(MaskConfig(segmenter="sam3"))
    with pytest.raises(ConfigError, match=r"pose.estimator must be one of .*, not 'rtm' .did you mean 'rtmo'"):
        weights_of(PoseConfig(estimator="rtm"))
    with pytest.raises(ConfigError, match=r"pose.estimator must be one of .*, not 'blazepose'"):  # a segmenter
        build_estimator(PoseConfig(estimator="blazepose"))


def test_one_network_in_both_roles_has_one_set_of_weights(tmp_path) -> None:
    file = tmp_path / "seg.pt"
    file.write_bytes(b"weights")
    for given in ("detector_weights", "segmenter_weights"):
        config = MaskConfig(detector="yolo-seg", segmenter="yolo-seg", **{given: str(file)})
        assert set(weights_of(config)) == {"seg.pt"}
