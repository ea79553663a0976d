"""How a picture is shown: turned or mirrored by its display matrix, with square pixels."""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

Image = NDArray[np.uint8]
"""uint8 (H, W, 3), RGB."""
_UNSPECIFIED, _BT2020, _BT2020_CL = 2, 9, 10
_CONVERTED = (0, 1, 2, 3, 4, 5, 6, 7, _BT2020)
"""FFmpeg's colour matrices (AVColorSpace) that its conversion to RGB takes; for others it fails since version 8."""


def orientation(frame: VideoFrame) -> tuple[bool, bool, bool]:
    """(exchange rows and columns, then mirror left to right, then top to bottom) that show a decoded frame upright.

    The eight cases of a display matrix [a b; c d]: x' = a x + c y, y' = b x + d y (ISO/IEC 14496-12, 6.2.2). Other
    angles are rounded to a quarter turn.
    """
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return False, False, False
    a, b, _, c, d = struct.unpack("=5i", memoryview(data)[:20])  # type: ignore[arg-type]
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return False, a < 0, d < 0
    return True, c < 0, b < 0


def shown_size(frame: VideoFrame, stream: VideoStream) -> tuple[int, int]:
    """Width and height as shown: square pixels, upright."""
    ratio = stream.sample_aspect_ratio or Fraction(1)
    width, height = frame.width, frame.height
    if 0 < ratio != 1:
        width = round(width * float(ratio))
    return (height, width) if orientation(frame)[0] else (width, height)


class Upright:
    """Shows frames as a viewer sees them. One for each stream: FFmpeg's tables for the conversion are made once."""

    def __init__(self) -> None:
        from av.video.reformatter import VideoReformatter

        self._converter = VideoReformatter()

    def __call__(self, frame: VideoFrame, size: tuple[int, int]) -> Image:
        """The frame in the video's (width, height): a camera may change its resolution while it records."""
        exchange, mirror, flip = orientation(frame)
        width, height = size[::-1] if exchange else size
        how = "AREA" if width < frame.width else "BILINEAR"
        if frame.colorspace not in _CONVERTED:  # what a stream says of its colours must not cost its pictures
            frame.colorspace = _BT2020 if frame.colorspace == _BT2020_CL else _UNSPECIFIED
        rgb = self._converter.reformat(frame, width, height, "rgb24", interpolation=how, threads=1)
        image: Image = rgb.to_ndarray().astype(np.uint8, copy=False)
        if exchange:
            image = image.transpose(1, 0, 2)
        return np.ascontiguousarray(image[:: -1 if flip else 1, :: -1 if mirror else 1])
