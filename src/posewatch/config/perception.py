"""Masking, clips and skeletons: the sections ``mask``, ``split`` and ``pose``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from posewatch import rules
from posewatch.errors import ConfigError
from posewatch.rules import Like, OneOf, Range, Share
from posewatch.sections import Section


@dataclass(frozen=True)
class MaskConfig(Section):
    """Masking: everything but people turns black. ``fps``, in frames per second, holds for the whole pipeline."""

    SECTION: ClassVar[str] = "mask"
    ADDED: ClassVar[tuple[str, ...]] = ("unit", "min_presence_s", "view")

    unit: Annotated[str, OneOf(rules.UNITS)] = "scene"
    """What a clip shows: the ``scene`` with all its people, or one ``person`` alone, as in the paper."""
    min_presence_s: Annotated[float, Range(0, 3600)] = 1.0
    """With ``person``: the shortest presence, in seconds, of a person who gets a video."""
    view: Annotated[str, OneOf(("frame", "crop"))] = "frame"
    """With ``person``: the full ``frame``, or a steady square ``crop`` that follows the person."""
    detector: Annotated[str, OneOf(rules.DETECTORS)] = "movenet"
    segmenter: Annotated[str, OneOf(rules.SEGMENTERS)] = "blazepose"
    fps: Annotated[float, Range(0.1, 240)] = 10.0
    max_side: Annotated[int, Range(32, 8192)] = 640
    """Longer side of the masked video in pixels; smaller videos keep their size."""
    min_score: Share = 0.2
    hold: rules.Frames = 5
    """Frames for which the last mask of a lost person is held."""
    dilate: rules.Pixels = 1
    """Pixels by which the mask is grown, so that hands and feet are not cut off."""
    feather: rules.Pixels = 0
    """Pixels over which the mask's edge fades; 0 is a hard edge."""
    detector_weights: str = ""
    """A name of ``posewatch weights list`` or a file of yours (.pt, .onnx); empty is the detector's default."""
    segmenter_weights: str = ""
    """The same for the segmenter: a name, a file, or a folder as transformers saves it."""
    reprompt: Annotated[int, Range(1, 1_000_000)] = 15
    """Frames after which the boxes prompt SAM 2 again."""
    crops: bool = False
    """Also write each person alone, as a small video that follows the person."""
    device: rules.Device = "auto"
    """``auto``, ``cpu`` or ``cuda``, for the networks that can use a GPU."""


@dataclass(frozen=True)
class SplitConfig(Section):
    """Clips of a fixed length."""

    SECTION: ClassVar[str] = "split"

    length_s: Annotated[float, Range(0, 3600, above=True)] = 3.0
    overlap_s: Annotated[float, Range(0, 3600)] = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.overlap_s >= self.length_s:
            raise ConfigError(f"split.overlap_s {self.overlap_s:g} must be less than split.length_s {self.length_s:g}")


@dataclass(frozen=True)
class PoseConfig(Section):
    """Skeletons."""

    SECTION: ClassVar[str] = "pose"
    RENAMED: ClassVar[dict[str, str]] = {"frames": "source"}
    ADDED: ClassVar[tuple[str, ...]] = ("boxes", "boxes_weights", "steady", "flow")
    BEFORE: ClassVar[Mapping[str, bool]] = {"flow": False}

    estimator: Annotated[str, OneOf(rules.ESTIMATORS)] = "movenet"
    source: Annotated[str, OneOf(("masked", "raw"))] = "masked"
    """Frames that the estimator sees: ``masked`` (as in the paper) or ``raw``."""
    max_people: Annotated[int, Range(1, 100)] = 2
    min_score: Share = 0.15
    hold: rules.Frames = 5
    """Frames over which a lost person is interpolated (with a reduced score)."""
    weights: str = ""
    """A name of ``posewatch weights list`` or a file of yours (.onnx, .pt); empty is the estimator's default."""
    device: Annotated[str, Like(r"auto|cpu|cuda(:\d+)?|tensorrt", "auto, cpu, cuda or tensorrt")] = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``tensorrt``, for the estimators that can use a GPU."""
    boxes: Annotated[str, OneOf(rules.DETECTORS)] = "movenet"
    """The detector that finds the persons for an estimator that looks at one at a time (rtmpose)."""
    boxes_weights: str = ""
    """Its weights, as ``weights``; empty is the detector's default."""
    steady: bool = False
    """Joints follow the pixels of the raw video between frames, also where they are not detected."""
    flow: bool = True
    """With the skeletons are kept ten numbers a person and frame that tell how their pixels move in the raw video, and
    ten of where most moves, for the model ``flow-statistics``; imported masked clips have none."""
