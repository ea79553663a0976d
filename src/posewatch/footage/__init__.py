"""Labelled, CCTV-like footage of a rendered person, with exact ground truth: nothing to download, no GPU needed."""

from posewatch.footage.make import FootageVideo, make_footage
from posewatch.footage.truth import Truth, read_truth

__all__ = ["FootageVideo", "Truth", "make_footage", "read_truth"]
