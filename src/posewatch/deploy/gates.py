"""The gates of a deployment: F1, robustness, the export's parity with PyTorch, and the unit of what serves already."""

from __future__ import annotations

import math
from collections.abc import Iterable

from posewatch.artifact import Artifact
from posewatch.config import RobustnessConfig, ServingConfig
from posewatch.errors import ConfigError, NotFound, ServingError
from posewatch.lineage import find_ancestor, trace
from posewatch.recognition.evaluation import robustness_gate
from posewatch.recognition.evaluation.robustness_gate import Gate as Gate
from posewatch.units import WORDS


def judge(
    model: Artifact, evaluation: Artifact | None, serving: ServingConfig, robustness: RobustnessConfig | None
) -> tuple[Gate, ...]:
    """Judge a published version. Raises ConfigError if what a configured gate needs is missing.

    ``evaluation`` must be of the checkpoint that ``model`` was exported from (ServingError).
    """
    gates = []
    if evaluation is not None:
        _same_checkpoint(model, evaluation)
        gates.append(_f1(evaluation.json("metrics.json").get("f1"), serving.min_f1))
    elif serving.min_f1 > 0:
        raise ConfigError(f"serving.min_f1 is {serving.min_f1:g}: give the evaluation of this model (--evaluation URI)")
    if robustness is not None and robustness.asks:
        gates += _robustness(evaluation, robustness)
    return (*gates, _parity(model, serving.max_parity_error))


def require(gates: Iterable[Gate], override: str = "", remedy: str = "train a better model") -> None:
    """Raise ServingError if a gate is missed and ``override`` gives no reason to go on."""
    missed = [gate.text for gate in gates if not gate.passed]
    if missed and not override.strip():
        raise ServingError(
            f"the model is not deployed: {'; '.join(missed)} ({remedy}, or give a reason to serve it all the same:"
            " --override-gates REASON)"
        )


def require_unit_served(new: str, served: str, name: str, override: str) -> tuple[Gate, ...]:
    """The gate of a model of the unit ``new`` that is to follow one of the unit ``served`` under a name: none where
    both are alike. Raises ServingError where they are not, unless ``override`` gives a reason."""
    if new == served:
        return ()
    text = (
        f"it recognises {WORDS[new]} (unit {new}), and what serves as {name} now recognises {WORDS[served]} (unit"
        f" {served}), which its clients send"
    )
    gates = (Gate("unit", None, 0.0, False, text),)
    require(gates, override, "publish it under another serving.name")
    return gates


def _f1(value: object, limit: float) -> Gate:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or math.isnan(value):
        text = f"the model has no F1 and serving.min_f1 is {limit:g}: evaluate it on both classes"
        return Gate("f1", None, limit, limit <= 0, text)
    passed = value >= limit
    text = f"the model's F1 of {value:.3f} is {'not ' if passed else ''}below serving.min_f1 = {limit:g}"
    return Gate("f1", float(value), limit, passed, text)


def _robustness(evaluation: Artifact | None, config: RobustnessConfig) -> list[Gate]:
    if evaluation is None or "robustness.json" not in evaluation.files:
        raise ConfigError(
            "robustness gates need a robustness report: set robustness.draws to 1 or more, evaluate again"
        )
    return robustness_gate.judge(evaluation.json("robustness.json"), config)


def _parity(model: Artifact, limit: float) -> Gate:
    onnx = find_ancestor(model, "onnx")
    try:
        error = None if onnx is None else onnx.json("export.json")["max_abs_error"]
    except (NotFound, KeyError):
        error = None
    if not isinstance(error, (int, float)) or math.isnan(error):
        text = "the exported model was not compared with PyTorch: export it with `posewatch export`, publish it again"
        return Gate("parity", None, limit, False, text)
    passed = error <= limit
    text = f"the export differs from PyTorch by {error:.2g}, serving.max_parity_error is {limit:g}"
    return Gate("parity", float(error), limit, passed, text)


def _same_checkpoint(model: Artifact, evaluation: Artifact) -> None:
    judged = {parent.digest for parent in evaluation.lineage().parents if parent.prefix.startswith("checkpoints/")}
    lineage = {node.artifact.digest for node in trace(model)} | {model.digest}
    if judged and not judged & lineage:
        raise ServingError(f"{evaluation.uri} is the evaluation of another model than {model.uri}: give the right one")
