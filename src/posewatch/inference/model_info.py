"""What a served model says of itself, checked when a client connects, and what every predictor checks of its clips."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch.errors import InputError, ServingError
from posewatch.inference.wire import Arrays
from posewatch.records import Prediction


@dataclass(frozen=True)
class Served:
    """A model as its server describes it: ``shape`` is (M, T, V, 3), ``max_batch`` clips fit into one request."""

    name: str
    labels: tuple[str, ...]
    shape: tuple[int, ...]
    max_batch: int
    batching: bool
    metadata: dict[str, str]


def served(config: Mapping[str, Any], what: str) -> Served:
    """Read a model's config as Triton tells it. Raises ServingError for a model that is not ours."""
    told = {k: str(v.get("string_value", "")) for k, v in config.get("parameters", {}).items()}
    inputs, outputs = config.get("input", []), {o["name"]: o for o in config.get("output", [])}
    if [i["name"] for i in inputs] != ["keypoints"] or "probabilities" not in outputs:
        raise ServingError(
            f"{what} is not a posewatch model: it takes {[i['name'] for i in inputs]} and gives {list(outputs)}"
        )
    if inputs[0].get("data_type") != "TYPE_FP32":
        raise ServingError(f"{what} takes {inputs[0].get('data_type')} keypoints, not TYPE_FP32: publish it again")
    labels = parse_labels(told.get("labels", ""), what)
    classes = [int(d) for d in outputs["probabilities"]["dims"]]
    if classes != [len(labels)]:
        raise ServingError(f"{what} names {len(labels)} classes but answers with {classes}: publish it again")
    shape = tuple(int(d) for d in inputs[0]["dims"])
    if len(shape) != 4 or shape[3] != 3:
        raise ServingError(f"{what} takes keypoints of shape (N, {', '.join(map(str, shape))}), not (N, M, T, V, 3)")
    kept = {key: told[key] for key in KEPT if key in told}
    most = max(1, int(config.get("max_batch_size", 1)))
    return Served(str(config["name"]), labels, shape, most, "dynamic_batching" in config, kept)


def not_served(url: str, model: str, rows: Sequence[Mapping[str, Any]]) -> ServingError:
    """Why ``model`` cannot be asked, from the rows of the server's repository index."""
    ready = sorted(row["name"] for row in rows if row.get("state") == "READY")
    reason = next((row.get("reason", "") for row in rows if row["name"] == model and row.get("state") != "READY"), "")
    why = f" ({' '.join(reason.split())})" if reason else ""
    return ServingError(f"Triton at {url} serves no model {model!r}{why}; it serves: {', '.join(ready) or 'none'}")


def check_clips(keypoints: NDArray[np.float32], shape: tuple[int, ...] | None, what: str) -> None:
    """Raises InputError unless ``keypoints`` is float32 (N, M, T, V, 3), with the model's own ``shape`` if given."""
    given = tuple(np.shape(keypoints))
    wanted = "(N, M, T, V, 3)" if shape is None else f"(N, {', '.join(map(str, shape))})"
    fits = len(given) == 5 and given[4] == 3 if shape is None else given[1:] == shape and len(given) == 5
    if not fits:
        raise InputError(f"{what} takes keypoints of shape {wanted}, not {given}")
    if keypoints.dtype != np.float32:
        raise InputError(f"{what} takes float32 keypoints, not {keypoints.dtype}")


def parts_of(keypoints: NDArray[np.float32], most: int) -> list[NDArray[np.float32]]:
    """The clips in parts of at most ``most``."""
    return [keypoints[i : i + most] for i in range(0, len(keypoints), most)]


def prediction(parts: Sequence[Arrays], count: int, labels: tuple[str, ...], what: str) -> Prediction:
    """The answers to the parts of ``count`` clips as one. Raises ServingError when they do not fit the clips."""
    if not parts:
        return Prediction(np.zeros((0, len(labels)), np.float32), labels)
    probabilities = np.concatenate([part["probabilities"] for part in parts])
    if probabilities.shape != (count, len(labels)):
        raise ServingError(f"{what} answered with the shape {probabilities.shape}, not {(count, len(labels))}")
    if not np.isfinite(probabilities).all():
        raise ServingError(f"{what} answered with NaN: does the input hold NaN or infinite values?")
    embedding = np.concatenate([part["embedding"] for part in parts]) if "embedding" in parts[0] else None
    return Prediction(probabilities, labels, embedding)


KEPT = ("layout", "fps", "positive", "threshold", "version", "lineage", "precision")
"""The metadata of an exported file that the model's config hands on to clients."""


def parse_labels(text: str, what: str) -> tuple[str, ...]:
    """The class names from the JSON list that a model carries. Raises InputError naming ``what``."""
    try:
        labels = json.loads(text)
    except ValueError:
        labels = None
    if not isinstance(labels, list) or not labels or not all(isinstance(x, str) and x.strip() for x in labels):
        raise InputError(f"{what} does not name its classes: metadata 'labels' must be a JSON list (export it again)")
    return tuple(labels)
