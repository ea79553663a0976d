"""The ``posewatch`` command: one file per topic, each verb beside its options."""
