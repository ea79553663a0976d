"""Interlaced video: the two fields of a frame are half a frame apart in time, which shows as combs at moving limbs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream


class Deinterlacer:
    """Deinterlaces frames that are marked as interlaced (bwdif, one output per frame); others pass unchanged.

    From the first interlaced frame on the output is one frame late; ``finish`` returns the last one.
    """

    def __init__(self, stream: VideoStream) -> None:
        self._stream = stream
        self._graph: Any = None
        self._shape: tuple[int, int, str] | None = None

    def __call__(self, frame: VideoFrame) -> Iterator[VideoFrame]:
        shape = (frame.width, frame.height, frame.format.name)
        if self._graph is None and not frame.interlaced_frame:
            yield frame
            return
        if self._graph is None or shape != self._shape:
            yield from self.finish()
            self._build(shape)
        self._graph.push(frame)
        yield from self._ready()

    def finish(self) -> Iterator[VideoFrame]:
        """The frames still in the filter."""
        if self._graph is not None:
            self._graph.push(None)
            yield from self._ready()
            self._graph = None

    def _build(self, shape: tuple[int, int, str]) -> None:
        from av import VideoFormat
        from av.filter import Graph

        width, height, name = shape
        self._graph, self._shape = Graph(), shape
        self._graph.threads = 1  # parallel work is one process per video
        source = self._graph.add_buffer(
            width=width, height=height, format=VideoFormat(name), time_base=self._stream.time_base
        )
        deinterlace = self._graph.add("bwdif", "mode=send_frame:parity=auto:deint=interlaced")
        source.link_to(deinterlace)
        deinterlace.link_to(self._graph.add("buffersink"))
        self._graph.configure()

    def _ready(self) -> Iterator[VideoFrame]:
        import av

        while True:
            try:
                frame = self._graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            yield frame
