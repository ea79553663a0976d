"""Video through PyAV: probe, read at a constant rate, write H.264 that a browser plays, split, save images."""

from posewatch.video.clock import Gap
from posewatch.video.images import contact_sheet, poster, save_image
from posewatch.video.overlap import BackgroundWriter, ahead
from posewatch.video.reading import Frame, Image, VideoInfo, fit, grid, probe, read, refusal, require_pictures
from posewatch.video.splitting import ClipSpan, cut, spans, split, stretches
from posewatch.video.writing import Writer

__all__ = [
    "BackgroundWriter",
    "ClipSpan",
    "Frame",
    "Gap",
    "Image",
    "VideoInfo",
    "Writer",
    "ahead",
    "contact_sheet",
    "cut",
    "fit",
    "grid",
    "poster",
    "probe",
    "read",
    "refusal",
    "require_pictures",
    "save_image",
    "spans",
    "split",
    "stretches",
]
