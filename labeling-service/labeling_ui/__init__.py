"""The labeling page: wiring only. What a labeler does is ``posewatch.labels.session``."""
