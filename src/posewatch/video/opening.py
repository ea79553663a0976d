"""Opening a video file or a camera, and which of its streams is the picture."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from posewatch.errors import PosewatchError, VideoError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

_NO_TIMESTAMPS, _COUNTING = 0x80, 0x200
"""FFmpeg's flags of formats (AVFMT_NOTIMESTAMPS, AVFMT_TS_DISCONT): without times, such as raw H.264; with a clock that
counts from any number and may be set under way, such as transport streams."""


def vendor() -> Any:
    """The av module, or a one-line error that names the extra."""
    try:
        import av
    except ImportError:
        raise PosewatchError("video needs PyAV and OpenCV: pip install 'posewatch[video]'") from None
    av.logging.set_level(None)  # broken files are reported by us, in one line
    return av


@contextmanager
def opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """A video file and the stream that a player shows. Raises VideoError, one line each."""
    av = vendor()
    if not path.is_file():
        raise VideoError(f"no such video: {path} (give a file, a folder or an s3:// URI)")
    if path.stat().st_size == 0:
        raise VideoError(f"empty file: {path} (0 bytes; copy it again)")
    try:
        container = av.open(str(path), metadata_errors="ignore")
    except (av.error.FFmpegError, OSError) as error:
        if _looks_like_mp4(path):
            raise VideoError(f"broken video: {path} breaks off before its index (copy it again)") from None
        reason = getattr(error, "strerror", None) or str(error)
        raise VideoError(f"not a video: {path} ({reason}; use a format that FFmpeg reads, such as mp4)") from None
    with container:
        stream = picture_stream(container)
        if stream is None:
            kind = "audio only" if container.streams.audio else "no video stream"
            raise VideoError(f"no picture in {path}: {kind} (give a file with a video stream)")
        if stream.codec_context is None:
            raise VideoError(f"cannot decode {path}: unknown codec (re-encode it as H.264)")
        stream.thread_count = 1  # parallel work is one process per video
        yield container, stream


def picture_stream(container: InputContainer) -> VideoStream | None:
    """The video stream that FFmpeg's tools and players take: the default one, the largest of several, else the first.

    A disabled track of an mp4 is not marked as default. None: there is none.
    """
    from av.stream import Disposition

    def rank(stream: VideoStream) -> tuple[bool, bool, int]:
        context = stream.codec_context
        size = context.width * context.height if context is not None else 0
        return context is not None, bool(stream.disposition & Disposition.default), size

    return max(video_streams(container), key=rank, default=None)


def video_streams(container: InputContainer) -> list[VideoStream]:
    """The video streams but for cover art and thumbnails, which are still images."""
    from av.stream import Disposition

    still = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
    return [s for s in container.streams.video if not s.disposition & still]


def packets(container: InputContainer, stream: VideoStream) -> Iterator[Packet]:
    """The packets of a stream, up to where the file breaks off."""
    packets = container.demux(stream)
    while True:
        try:
            yield next(packets)
        except (StopIteration, IndexError, vendor().error.FFmpegError):  # IndexError: the end, see scan.py
            return


def without_clock(container: InputContainer) -> bool:
    """Whether the format holds no times: FFmpeg then invents some, at an assumed rate."""
    return bool(int(container.format.flags) & _NO_TIMESTAMPS)


def counts_only(container: InputContainer) -> bool:
    """Whether the format's clock only counts, see ``posewatch.video.clock``."""
    return bool(int(container.format.flags) & _COUNTING)


def picture_s(container: InputContainer, stream: VideoStream) -> float:
    """Seconds of one picture at the declared rate."""
    bare = bool(int(container.format.flags) & _NO_TIMESTAMPS)  # then FFmpeg assumes the average rate
    rate = stream.guessed_rate if bare and stream.guessed_rate else stream.average_rate or stream.guessed_rate
    return float(1 / rate) if rate else 1 / 25


def recordings(path: Path) -> int:
    """How many recordings a file holds one after the other, where players show the first only: mp4 and FLV."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head[:3] == b"FLV":
            return _flv_headers(path)
        if head[4:8] not in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            return 1
        count = at = 0
        while at + 8 <= size:
            file.seek(at)
            box = file.read(16)
            length = int.from_bytes(box[:4], "big")
            if length == 1:
                length = int.from_bytes(box[8:16], "big")
            if box[4:8] == b"moof" or length < 8:  # fragments are all played, whatever comes between them
                return 1
            count += box[4:8] == b"moov"
            at += length
    return max(1, count)


def ends_early(path: Path) -> bool:
    """Whether an AVI says in its header that it is longer, in bytes."""
    with path.open("rb") as file:
        head = file.read(12)
    return head[:4] == b"RIFF" and head[8:] == b"AVI " and int.from_bytes(head[4:8], "little") + 8 > path.stat().st_size


def _flv_headers(path: Path) -> int:
    import mmap

    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        count, at, size = 1, 13, len(data)
        while at + 11 <= size:
            if data[at : at + 4] == b"FLV\x01":
                count, at = count + 1, at + 13
                continue
            if data[at] & 0x1F not in (8, 9, 18):
                break
            at += 11 + int.from_bytes(data[at + 1 : at + 4], "big") + 4
    return count


def _looks_like_mp4(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(12)[4:8] == b"ftyp"
