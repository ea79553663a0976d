"""Writing video: H.264 in mp4 that a browser plays, byte-identical for equal images."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from posewatch.errors import ConfigError, VideoError
from posewatch.files import atomic
from posewatch.video.opening import vendor
from posewatch.video.orientation import Image

if TYPE_CHECKING:
    import av


class Writer:
    """Writes ``path`` as H.264 in mp4; a context manager. The file appears when the block ends without an error.

    ``size`` is (width, height) in pixels, both even; frames are uint8 (H, W, 3) RGB, shown at ``fps``.
    """

    def __init__(self, path: Path, fps: float, size: tuple[int, int]) -> None:
        if fps <= 0 or min(size) < 2 or size[0] % 2 or size[1] % 2:
            raise ConfigError(f"cannot write {path}: needs fps > 0 and even sizes, not {fps} and {size[0]}x{size[1]}")
        self.path, self.frames = Path(path), 0
        self._rate = Fraction(fps).limit_denominator(1001)
        self._size = size
        self._place = ExitStack()
        self._file: Any = None
        self._stream: Any = None
        self._converter: Any = None
        self._failed: Exception | None = None

    def __enter__(self) -> Writer:
        av = vendor()
        from av.bitstream import BitStreamFilterContext
        from av.video.reformatter import VideoReformatter

        options = {"movflags": "faststart", "fflags": "bitexact"}
        partial = self._place.enter_context(atomic(self.path))
        self._file = av.open(str(partial), "w", format="mp4", options=options)
        stream = self._file.add_stream("libx264", rate=self._rate)
        stream.width, stream.height = self._size
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1  # several threads change the bytes
        context = stream.codec_context
        context.gop_size = max(1, round(2 * self._rate))  # a keyframe every two seconds, so that players can seek
        context.color_range, context.colorspace = 1, 6  # limited range, BT.601, as the conversion makes it
        context.color_primaries, context.color_trc = 6, 6
        # x264's macroblock tree gives other bytes from run to run with AVX-512, even on one thread
        stream.options = {"crf": "23", "preset": "veryfast", "x264-params": "mbtree=0"}
        self._stream = stream
        self._converter = VideoReformatter()
        # x264 writes its version and options into the stream; without them the bytes depend on the images only
        self._clean = BitStreamFilterContext("filter_units=remove_types=6", in_stream=stream)
        return self

    def write(self, image: Image) -> None:
        """Append one image. After an image that could not be written, each call raises the same error."""
        if self._failed is not None:
            raise self._failed
        av = vendor()
        if image.shape != (self._size[1], self._size[0], 3):
            raise ConfigError(f"{self.path.name} takes images of {self._size[0]}x{self._size[1]}, not {image.shape}")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame = self._converter.reformat(
            frame, format="yuv420p", dst_colorspace="ITU601", dst_color_range="MPEG", threads=1
        )
        frame.pts, frame.time_base = self.frames, 1 / self._rate
        self.frames += 1
        try:
            self._mux(self._file, self._stream.encode(frame))
        except Exception as failed:  # a full disk, say; FFmpeg crashes when it gets more packets after that
            self._failed = failed
            raise

    def _mux(self, file: Any, packets: Sequence[av.Packet]) -> None:
        for packet in packets:
            for clean in self._clean.filter(packet):
                file.mux(clean)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is None:  # finished before
            return
        file, self._file = self._file, None
        if kind is None and self.frames and self._failed is None:
            with self._place, file:
                self._mux(file, self._stream.encode())
                for packet in self._clean.filter(None):
                    file.mux(packet)
            return
        empty = VideoError(f"cannot write {self.path}: no frames (a video needs at least one image)")
        wrong = error or self._failed or empty
        try:
            file.close()
        finally:
            self._place.__exit__(type(wrong), wrong, trace)
        if kind is None:
            raise wrong
