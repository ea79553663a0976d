"""Which packets hold a picture that no other picture is predicted from, so that it can be left out of decoding.

Read off the packets' headers for H.264, HEVC, MPEG-4 part 2, MPEG-2 and MPEG-1. In doubt the answer is no.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av.video.stream import VideoStream

Unreferenced = Callable[[bytes], bool]
"""Whether the picture of a packet is one; to be asked about all packets, in the order of decoding."""


def unreferenced(stream: VideoStream) -> Unreferenced | None:
    """The test for a stream's packets; None: of its codec's pictures it cannot be told."""
    codec = stream.codec_context
    extradata = bytes(codec.extradata or b"")
    if codec.name == "h264":
        return _H264(extradata)
    if codec.name == "hevc":
        return _Hevc(extradata)
    return {"mpeg4": _mpeg4, "mpeg2video": _mpeg2, "mpeg1video": _mpeg2}.get(codec.name)


def _units(data: bytes, length_size: int) -> list[bytes]:
    """The first bytes of each unit of a packet: after start codes, or lengths of so many bytes. Empty: damaged."""
    heads = []
    if length_size == 0:
        at = data.find(b"\0\0\1")
        while at >= 0:
            heads.append(data[at + 3 : at + 11].ljust(8, b"\xff"))
            at = data.find(b"\0\0\1", at + 3)
        return heads
    at = 0
    while at < len(data):
        length = int.from_bytes(data[at : at + length_size])
        at += length_size
        if length < 1 or at + length > len(data):
            return []
        heads.append(data[at : at + 8].ljust(8, b"\xff"))
        at += length
    return heads


class _H264:
    """Slices with ``nal_ref_idc`` 0 (ITU-T H.264, 7.4.1), and nothing that may change how others are decoded."""

    def __init__(self, extradata: bytes) -> None:
        self._length_size = (extradata[4] & 3) + 1 if len(extradata) > 6 and extradata[0] == 1 else 0

    def __call__(self, packet: bytes) -> bool:
        kinds = {(head[0] & 31, head[0] >> 5 & 3) for head in _units(packet, self._length_size)}
        return (1, 0) in kinds and all(kind in (6, 9, 12) or (kind, ref) == (1, 0) for kind, ref in kinds)


class _Hevc:
    """Sub-layer non-reference pictures (ITU-T H.265, 7.4.2.2) of streams with one temporal layer, as higher ones may
    refer to them, and with one slice a picture, as FFmpeg does not notice when one of several is lost."""

    def __init__(self, extradata: bytes) -> None:
        self._length_size, self._several = 0, False
        self._layers: set[int] = set()
        if extradata[:2] == b"\0\0":
            self(extradata)
        elif len(extradata) > 22:
            self._length_size = (extradata[21] & 3) + 1
            self._layers.add(extradata[21] >> 3 & 7)

    def __call__(self, packet: bytes) -> bool:
        heads = _units(packet, self._length_size)
        kinds = [head[0] >> 1 & 63 for head in heads]
        self._layers |= {(head[2] >> 1 & 7) + 1 for head, kind in zip(heads, kinds, strict=True) if kind == 33}
        pictures = [(kind, head) for kind, head in zip(kinds, heads, strict=True) if kind < 32]
        self._several |= len(pictures) > 1
        if len(pictures) != 1 or self._several or self._layers != {1}:
            return False
        (kind, head), *_ = pictures
        first_layer = head[0] & 1 == 0 and head[1] >> 3 == 0
        others = set(kinds) - {kind, 35, 38, 39, 40}
        return kind in (0, 6, 8) and first_layer and head[1] & 7 == 1 and not others


def _mpeg2(packet: bytes) -> bool:
    """One B-picture (ISO/IEC 13818-2, 6.3.9) and no header of a sequence or group."""
    heads = _units(packet, 0)
    pictures = [head[2] >> 3 & 7 for head in heads if head[0] == 0]
    return pictures == [3] and all(head[0] <= 0xAF or head[0] in (0xB2, 0xB5) for head in heads)


def _mpeg4(packet: bytes) -> bool:
    """One B-VOP (ISO/IEC 14496-2, 6.3.5) and nothing else: DivX packs it behind the picture that is shown after it."""
    heads = _units(packet, 0)
    return len(heads) == 1 and heads[0][0] == 0xB6 and heads[0][1] >> 6 == 2
