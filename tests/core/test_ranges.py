"""Every field of every section is checked when the experiment is loaded: a wrong value is refused in one line with the
key and what is allowed; the few that are legal are listed here."""

import dataclasses
import json
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest

from posewatch import rules
from posewatch.config import Experiment, LabelConfig, TrainConfig, load
from posewatch.errors import ConfigError
from posewatch.rules import Like
from posewatch.sections import Section
from posewatch.watch.config import WatchConfig

WRONG: dict[str, Any] = {
    "nan": float("nan"), "inf": float("inf"), "minus": -1, "huge": 1e12, "bigger": 10**30, "empty": "", "list": [],
    "null": None, "mapping": {"a": 1}, "word": "many", "flag": True, "nested": [[1]],
}  # fmt: skip
TEXTS = {
    "labels.positive", "labels.default", "mask.detector_weights", "mask.segmenter_weights", "pose.weights",
    "pose.boxes_weights", "trainer.image", "trainer.service_account", "train.pretrained", "dataset.group_pattern",
}  # fmt: skip
"""Fields that hold any text, or one of the experiment's own classes."""


def fields(cls: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and annotated type of every value below ``cls``."""
    hints = typing.get_type_hints(cls, include_extras=True)
    for field in dataclasses.fields(cls):
        kind, key = hints[field.name], f"{path}{field.name}"
        if dataclasses.is_dataclass(kind):
            assert issubclass(typing.cast(type, kind), Section), key
            assert key == kind.SECTION  # type: ignore[union-attr]
            yield from fields(kind, f"{key}.")
        else:
            yield key, kind


FIELDS = dict(fields(Experiment))
EMPTY_LISTS = {"labels.sensitive", "train.stream_weights"}
NAMES = {"trainer.pull_secrets", "trainer.node_selector", "trainer.tolerations"}


def legal(key: str, case: str, kind: Any) -> bool:
    """Whether a value of ``WRONG`` may stand for ``key``."""
    bare = typing.get_args(kind)[0] if typing.get_origin(kind) is Annotated else kind
    if key in NAMES:  # of one name, or of none; a name may look like a number
        (name, *_), word = typing.get_args(bare), json.dumps(WRONG[case]).strip('"')
        return case in ("empty", "list", "null") or name.__metadata__[0].holds(word)
    if key in EMPTY_LISTS:
        return case in ("empty", "list", "null")
    if key in ("train.model_options", "labels.guide"):
        return case == "null"  # none
    if key == "dataset.groups":
        return case in ("null", "mapping")
    if bare is bool:
        return case == "flag"
    if bare is str:
        default = typing.cast(Any, load())
        for part in key.split("."):
            default = getattr(default, part)
        if default == "" and case in ("empty", "null"):
            return True
        written = json.dumps(WRONG[case]).strip('"')
        if any(isinstance(rule, Like) and rule.holds(written) for rule in getattr(kind, "__metadata__", ())):
            return case in ("nan", "inf", "huge", "bigger", "word", "flag")  # a name may look like that
        if key in TEXTS - {"labels.positive", "labels.default"}:
            return case not in ("list", "mapping", "nested")
        return key == "labels.positive" and case == "empty"
    return False


def nested(key: str, value: Any) -> str:
    """An experiment as JSON in which ``key`` has ``value``."""
    data: Any = value
    for part in reversed(key.split(".")):
        data = {part: data}
    return json.dumps(data)


@pytest.mark.parametrize("key", FIELDS)
def test_a_wrong_value_is_refused_with_its_key_and_what_is_allowed(key: str) -> None:
    for case, value in WRONG.items():
        if legal(key, case, FIELDS[key]):
            load(nested(key, value))
            continue
        with pytest.raises(ConfigError) as raised:
            load(nested(key, value))
        said = str(raised.value)
        assert key.rpartition(".")[0] in said
        assert "\n" not in said
        assert any(words in said for words in ("must be", "none of labels.classes", "unknown option")), (case, said)
        if case in ("nan", "inf", "minus", "huge") and typing.get_args(FIELDS[key])[:1] in ((int,), (float,)):
            with pytest.raises(ConfigError, match="must be"):
                load("default", [f"{key}={value}"])


def test_numbers_and_choices_all_have_a_rule() -> None:
    def free(kind: Any) -> bool:
        if typing.get_origin(kind) is Annotated:
            return False
        return kind in (int, float, str) or any(free(inner) for inner in typing.get_args(kind))

    others = {"labels.sensitive", "train.model_options", "dataset.groups"}
    assert {key for key, kind in FIELDS.items() if free(kind)} <= TEXTS | others


def test_a_section_made_or_changed_in_code_is_checked() -> None:
    for values in ({"seed": -1}, {"threads": -2}, {"epochs": 1.5}, {"lr": float("nan")}, {"refit": "yes"}):
        with pytest.raises(ConfigError, match=f"train.{next(iter(values))} must be"):
            dataclasses.replace(TrainConfig(), **values)  # type: ignore[arg-type]
    for times in ({"fps": float("nan")}, {"window_s": float("inf")}, {"smooth": 0}, {"stride_s": 4.0}):
        with pytest.raises(ConfigError, match="watch"):
            WatchConfig(**times)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("labels.classes=normal,Normal", "different values"),
        ("labels.classes=[normal, 'caf\\u00e9', 'cafe\\u0301']", "different values"),
        ("labels.classes=[normal, '']", "labels.classes[1] must be a name"),
        ("labels.classes=normal,,abnormal", "labels.classes[1] must be a name"),
        ("labels.classes=normal", "2 to 1000"),
        ("labels.classes=[normal, abnormal, (unsure)]", "stands for no class"),
        ("labels.positive=fall", "labels.positive: 'fall' is none of labels.classes: normal, abnormal"),
        ("labels.sensitive=[gore]", "labels.sensitive: 'gore' is none"),
        ("split.overlap_s=3", "split.overlap_s 3 must be less than split.length_s"),
        ("dataset.test=0.9", "must leave a share for training"),
        ("train.stream=j+x", "train.stream must be streams"),
        (
            "train.stream_weights=1,2",
            "train.stream_weights must hold one number for each stream of 'j+b+jm', 1 in all, not 2",
        ),
        ("train.beside=statistics:x", "train.beside must be MODEL:STREAMS, several separated by commas"),
        ("train.model=ctrgnc", "did you mean 'ctrgcn'"),
        ("train.model_options.prototypes=0", "train.model_options.prototypes must be a whole number from 1"),
        ("train.model_options.prototype=5", "did you mean 'prototypes'"),
        ("train.optimiser=adam", "train.optimiser must be one of adamw, sgd, not 'adam'"),
        ("serving.opset=99", "serving.opset must be a whole number from 18 to 27, not 99"),
        ("serving.max_batch=100000", "serving.max_batch must be a whole number from 1 to 1,024, not 100000"),
        ("serving.max_batch=inf", "serving.max_batch must be a whole number"),
        ("serving.target=kserv", "did you mean 'kserve'"),
        ("serving.concurrency=[]", "serving.concurrency must be a list of 1 to 100 values"),
        ("serving.min_replicas=3", "serving.min_replicas 3 is above max_replicas 1"),
        ("serving.namespace=My Team", "a Kubernetes name"),
        ("mask.device=tpu", "mask.device must be auto, cpu or cuda, not 'tpu'"),
        ("train.seed=99999999999999999999", "train.seed must be a whole number from 0 to 4,294,967,295"),
    ],
)
def test_a_wrong_setting_says_what_is_allowed(override: str, says: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load("default", [override.encode().decode("unicode_escape") if "\\u" in override else override])
    assert says in str(raised.value)


def test_names_are_those_of_the_rooms_above() -> None:
    from posewatch.datasets import layouts
    from posewatch.perception.networks import DETECTOR, ESTIMATOR, NETWORKS, SEGMENTER
    from posewatch.recognition import features, models
    from posewatch.serving import model_config

    for names, role in (
        (rules.DETECTORS, DETECTOR), (rules.SEGMENTERS, SEGMENTER), (rules.ESTIMATORS, ESTIMATOR),
    ):  # fmt: skip
        assert set(names) == {name for name, entry in NETWORKS.items() if role in entry.roles}
    assert set(rules.LAYOUTS) == set(layouts.names())
    assert set(rules.MODELS) == {*models.NETWORKS, *models.ALIASES}
    assert set(rules.MODEL_OPTIONS) == {key for name in models.NETWORKS for key in models.options(name)}

    def choices(key: str) -> set[str]:
        return set(typing.get_args(FIELDS[key])[1].names)

    assert choices("train.features") == set(features.KINDS)
    assert choices("serving.device") == set(model_config.DEVICES)


@pytest.mark.parametrize(
    "words", ["no, yes", "off, on", "null, fall", "1, 0", "2024-01-01, 1:30", "1e3, 010", "~, .nan"]
)
def test_classes_are_the_words_that_were_written(words: str, tmp_path: Path) -> None:
    first, second = words.split(", ")
    (tmp_path / "mine.yaml").write_text(
        f"extends: default\nlabels:\n  classes: [{words}]\n  default: {first}\n  positive: {second}\n"
    )
    told = load(str(tmp_path / "mine.yaml")).labels
    assert told == LabelConfig((first, second), second, first)
    assert load(load(str(tmp_path / "mine.yaml")).to_json()).labels == told
    assert load("default", [f"labels.classes=[{words}]", f"labels.default={first}", f"labels.positive={second}"])


def test_numbers_keep_their_type_and_their_digits() -> None:
    assert load("default", ["train.seed=4294967295"]).train.seed == 4294967295
    assert load("default", ["train.epochs=0x10"]).train.epochs == 16
    assert load("default", ["train.epochs=2e1"]).train.epochs == 20
    assert load("{train: {lr: 1e-3, refit: off}}").train.lr == 0.001
    assert load("{train: {lr: 1e-3, refit: off}}").train.refit is False


def test_a_key_that_is_there_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="'epochs' is there twice"):
        load("{train: {epochs: 3, epochs: 4}}")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp949"])
def test_a_configuration_is_read_in_the_encodings_that_editors_write(encoding: str, tmp_path: Path) -> None:
    text = "extends: default\nlabels: {classes: [정상, 낙상], default: 정상, positive: 낙상}\n"
    (tmp_path / "mine.yaml").write_bytes(text.encode(encoding))
    assert load(str(tmp_path / "mine.yaml")).labels.classes == ("정상", "낙상")
