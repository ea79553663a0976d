"""The port ``Predictor``: keypoints in, class probabilities out, whatever runs the model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from posewatch.datasets.layouts import FLOW, WITH_FLOW
from posewatch.errors import InputError, ServingError
from posewatch.records import Prediction
from posewatch.units import unit_of

Arrays = dict[str, NDArray[Any]]
Shape = tuple[int, int, int, int]
"""One clip: M people, T frames, V joints, 3 numbers each."""
OUTPUTS = ("probabilities", "embedding", "novelty")
"""Of a model, by their names in a file; older ones have no novelty."""
BATCH = 32
"""Clips that a model in this process takes at once."""
METADATA = (
    "layout", "fps", "positive", "threshold", "version", "lineage", "precision", "unit", "features", "people_by",
    "wire",
)  # fmt: skip
"""The metadata of an exported file that the config of a served model repeats."""
Self = TypeVar("Self", bound="Predictor")


class Predictor(Protocol):
    """A recogniser that is ready to predict, closed when done (it is a context manager).

    ``labels`` are its K classes, ``shape`` (M, T, V, 3) is that of a clip, ``metadata`` is what the model carries
    beside them, as text, for the properties to read. A predictor may be used by several threads at once.
    """

    labels: tuple[str, ...]
    shape: Shape
    metadata: dict[str, str]

    def predict(self, keypoints: NDArray[np.float32]) -> Prediction:
        """Probabilities (N, K) of float32 clips (N, M, T, V, 3): x, y in pixels and a score in [0, 1].

        Raises InputError for another shape, ServingError when a server gives no answer.
        """
        ...

    def select(self, *, fresh: bool = False) -> bool:
        """Decide which version answers next; ``labels``, ``shape`` and ``metadata`` are then those of this version.

        Returns whether that is another version than before. ``fresh``: ask the server now. Models in this process have
        one version.
        """
        return False

    def close(self) -> None:
        """Release connections."""
        return

    @property
    def version(self) -> str:
        """The published version; for an older model or a file, the version of posewatch that exported it, or ""."""
        return self.metadata.get("release") or self.metadata.get("version", "")

    @property
    def people(self) -> int:
        """M, the persons of a clip."""
        return self.shape[0]

    @property
    def people_by(self) -> str:
        """Who they are where a clip shows more (``train.people_by``)."""
        return self.metadata.get("people_by", "presence")

    @property
    def frames(self) -> int:
        """T, the frames of a clip."""
        return self.shape[1]

    @property
    def joints(self) -> int:
        """V, the joints of a person, and the columns of ``flow`` after them."""
        return self.shape[2]

    @property
    def flow(self) -> int:
        """How many of V tell how the person's pixels move; 0 for a model that does not want it."""
        return FLOW if self.layout.endswith(WITH_FLOW) else 0

    @property
    def layout(self) -> str:
        """The name of the joint layout; "" if the model does not name it."""
        return self.metadata.get("layout", "")

    @property
    def fps(self) -> float:
        """Frames per second of the clips that it was trained on; 0 if unknown."""
        return float(self.metadata.get("fps") or 0)

    @property
    def unit(self) -> str:
        """What a clip shows: "scene", or "person" where it is one person alone."""
        return unit_of(self.metadata)

    @property
    def positive(self) -> str:
        """The class that raises alarms; "" if there is none."""
        return self.metadata.get("positive", "")

    @property
    def threshold(self) -> float:
        """The probability from which a clip is positive."""
        return float(self.metadata.get("threshold") or 0.5)

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def parse_labels(text: str, model: str) -> tuple[str, ...]:
    """The class names from the JSON list in a model's metadata. Raises InputError naming ``model``."""
    try:
        labels = json.loads(text)
    except ValueError:
        labels = None
    if not isinstance(labels, list) or not labels or not all(isinstance(x, str) and x.strip() for x in labels):
        raise InputError(f"{model} does not name its classes: metadata 'labels' must be a JSON list (export it again)")
    return tuple(labels)


def clip_shape(dims: Sequence[int], model: str) -> Shape:
    """The shape of a clip from the dimensions of a model's input. Raises InputError for another kind of input."""
    if len(dims) != 4 or dims[3] != 3:
        raise InputError(f"{model} takes keypoints of shape (N, {', '.join(map(str, dims))}), not (N, M, T, V, 3)")
    return (int(dims[0]), int(dims[1]), int(dims[2]), 3)


def check_clips(keypoints: NDArray[np.float32], shape: Shape, model: str) -> None:
    """Raises InputError unless ``keypoints`` are float32 and N clips of the model's ``shape``."""
    given = tuple(np.shape(keypoints))
    if len(given) != 5 or given[1:] != shape:
        raise InputError(f"{model} takes keypoints of shape (N, {', '.join(map(str, shape))}), not {given}")
    if keypoints.dtype != np.float32:
        raise InputError(f"{model} takes float32 keypoints, not {keypoints.dtype}")


def batches(keypoints: NDArray[np.float32], size: int = BATCH) -> list[NDArray[np.float32]]:
    """The clips in batches of at most ``size``."""
    return [keypoints[i : i + size] for i in range(0, len(keypoints), size)]


def prediction(outputs: Sequence[Arrays], count: int, labels: tuple[str, ...], model: str) -> Prediction:
    """``count`` clips' Prediction from the output arrays of their batches. Raises ServingError for bad outputs."""
    if not outputs:
        return Prediction(np.zeros((0, len(labels)), np.float32), labels)
    if any(output.keys() != outputs[0].keys() or "probabilities" not in output for output in outputs):
        raise ServingError(f"{model} answered without probabilities, only {', '.join(outputs[0]) or 'nothing'}")
    for output in outputs:
        for name, array in output.items():
            if np.shape(array)[:1] != np.shape(output["probabilities"])[:1] or (
                name == "novelty" and array.size != len(array)
            ):
                raise ServingError(
                    f"{model} answered with {name} of the shape {np.shape(array)}, not one for each clip"
                )
    probabilities = np.concatenate([output["probabilities"] for output in outputs])
    if probabilities.shape != (count, len(labels)):
        raise ServingError(f"{model} answered with the shape {probabilities.shape}, not {(count, len(labels))}")
    if not np.isfinite(probabilities).all():
        raise ServingError(f"{model} answered with NaN: does the input hold NaN or infinite values?")

    def also(name: str) -> NDArray[Any] | None:
        return np.concatenate([output[name] for output in outputs]) if name in outputs[0] else None

    novelty = also("novelty")  # a server sends it as (N, 1)
    return Prediction(probabilities, labels, also("embedding"), None if novelty is None else novelty.reshape(count))
