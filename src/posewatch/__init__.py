"""posewatch: from raw CCTV video to a served, measured recogniser of abnormal behaviour."""

__version__ = "0.1.0"
