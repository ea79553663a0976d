"""The unit of clips: keys that came with it change no fingerprint, and a model of the other unit is refused."""

import dataclasses
import hashlib

import pytest

from posewatch.artifact import Artifact, Job
from posewatch.config import Experiment, MaskConfig, SplitConfig, load
from posewatch.errors import ConfigError, InputError
from posewatch.store import MemoryStore
from posewatch.units import require_unit, shown, unit_entry, unit_of, unit_of_persons


def masked(**changed: object) -> str:
    """The prefix of a masked video."""
    sha = hashlib.sha256(b"parent").hexdigest()
    raw = Artifact(MemoryStore("units"), "parent", sha, {"file": sha, "lineage.json": "0"})
    config = {k: v for k, v in dataclasses.asdict(MaskConfig(**changed)).items() if k != "device"}  # type: ignore[arg-type]
    return Job("masked", "v-1", config, (raw,), {"movenet": {"sha256": "0" * 64, "licence": "Apache-2.0"}}).prefix


def test_artifacts_of_before_there_were_units_are_found() -> None:
    """The prefixes were computed with commit 81dd754, before mask.unit, min_presence_s and view."""
    assert masked() == "masked/v-1/5671858b2c6e"
    sha = hashlib.sha256(b"parent").hexdigest()
    parent = Artifact(MemoryStore("units"), "parent", sha, {"file": sha, "lineage.json": "0"})
    assert Job("clips", "v-1", dataclasses.asdict(SplitConfig()), (parent,)).prefix == "clips/v-1/3ff4caf24ad6"


def test_exports_of_before_are_found_unless_persons_are_computed_who_are_not_there() -> None:
    """The prefix was computed with commit 777b22f, before serving.skip_absent."""
    sha = hashlib.sha256(b"parent").hexdigest()
    parent = Artifact(MemoryStore("units"), "parent", sha, {"file": sha, "lineage.json": "0"})

    def prefix(*settings: str) -> str:
        config = load("default", settings).serving
        return Job("onnx", "", {"opset": config.opset, "skip_absent": config.skips_absent}, (parent,)).prefix

    assert prefix() == Job("onnx", "", {"opset": 18}, (parent,)).prefix
    assert len({prefix(), prefix("serving.accelerator=tensorrt"), prefix("serving.accelerator=openvino")}) == 2
    assert prefix("serving.skip_absent=false") == prefix("serving.accelerator=tensorrt")


def test_a_new_key_counts_when_it_is_set() -> None:
    assert len({masked(), masked(unit="person"), masked(min_presence_s=2.0), masked(view="crop")}) == 4


def test_a_new_key_belongs_to_one_section() -> None:
    """Fingerprints are computed from settings without the name of their section."""
    sections = [f.default_factory for f in dataclasses.fields(Experiment) if callable(f.default_factory)]
    for section in sections:
        for name in section.ADDED:  # type: ignore[attr-defined]
            assert [s for s in sections if name in {f.name for f in dataclasses.fields(s)}] == [section], name  # type: ignore[arg-type]


def test_persons_come_one_to_a_clip() -> None:
    assert load("default", ["mask.unit=person"]).train.people == 1
    assert load(load("default", ["mask.unit=person"]).to_json()).train.people == 1
    assert load("default").train.people == 2
    with pytest.raises(ConfigError, match=r"set train\.people=1"):
        load("default", ["mask.unit=person", "train.people=2"])


def test_a_model_of_the_other_unit_is_refused() -> None:
    require_unit("person", "person", "the model", "the set")
    with pytest.raises(InputError, match=r"m\.onnx recognises single persons .* set mask\.unit=person"):
        require_unit("person", "scene", "m.onnx", "the configuration")


def test_units_do_not_mix() -> None:
    assert [unit_of_persons(them, "the set") for them in ([], [None], [1, 2])] == ["scene", "scene", "person"]
    with pytest.raises(InputError, match="do not mix"):
        unit_of_persons([None, 1], "the set")


def test_what_describes_scenes_has_no_key() -> None:
    assert (unit_entry("scene"), unit_entry("person")) == ({}, {"unit": "person"})
    assert (unit_of({}), unit_of({"unit": "person"})) == ("scene", "person")
    assert (shown("yard.mp4", None), shown("yard.mp4", 2)) == ("yard.mp4", "yard.mp4 #2")
