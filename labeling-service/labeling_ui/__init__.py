"""The labeling page: wiring only. The logic is in ``posewatch.labels.session``."""
