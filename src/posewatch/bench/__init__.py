"""Every benchmark: ``posewatch bench NAME``."""
