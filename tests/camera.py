"""A small RTSP server with one H.264 stream, enough for a real client: what an IP camera does."""

from __future__ import annotations

import contextlib
import itertools
import re
import socket
import struct
import threading
import time
from fractions import Fraction

import av
from pictures import picture

_SDP = (
    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n"
    "a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:track1\r\n"
    "m=audio 0 RTP/AVP 0\r\na=control:track2\r\n"
    "m=application 0 RTP/AVP 107\r\na=rtpmap:107 vnd.onvif.metadata/90000\r\na=control:track3\r\n"
)


class Camera:
    """Serves ``rtsp://127.0.0.1:<port>/live`` as fast as the client takes it.

    ``breaks_after`` seconds of video the first connection is cut; the camera's clock goes on. ``refuses``: no password
    is right; ``refused`` counts them. ``udp``: it sends over UDP only, 1000 packets a second at most. It announces
    sound, which is silent, and metadata; ``tracks`` are those that were asked for.
    """

    def __init__(
        self, fps: int = 10, gop: int = 10, breaks_after: float | None = None, *,
        refuses: bool = False, udp: bool = False,
    ) -> None:  # fmt: skip
        self._udp, self._ports = udp, (0, 0)
        self._fps, self._gop, self._breaks, self._refuses = fps, gop, breaks_after, refuses
        self.refused = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"rtsp://user:secret@127.0.0.1:{self._socket.getsockname()[1]}/live"
        self.connections, self.tracks = 0, list[str]()
        self._frame = itertools.count()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._socket.shutdown(socket.SHUT_RDWR)  # else the thread that waits keeps it open
            self._socket.close()
            self._thread.join()

    def _serve(self) -> None:
        while not self._closed:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            try:
                self._talk(client)
            except OSError:
                pass
            finally:
                client.close()

    def _talk(self, client: socket.socket) -> None:
        received = b""
        while True:
            while b"\r\n\r\n" not in received:
                data = client.recv(4096)
                if not data:
                    return
                received += data
            request, _, received = received.partition(b"\r\n\r\n")
            method = request.split(b" ", 1)[0].decode()
            number = next(line for line in request.decode().split("\r\n") if line.lower().startswith("cseq"))
            if method == "SETUP":
                self.tracks.append(request.split(b" ", 2)[1].decode().rpartition("/")[2])
            head = f"RTSP/1.0 200 OK\r\n{number}\r\n"
            if method == "DESCRIBE" and self._refuses:  # RFC 2326, 11.3.2, with the challenge of RFC 2617
                self.refused += b"Authorization:" in request
                challenge = 'WWW-Authenticate: Digest realm="camera", nonce="5ccc069c403ebaf9"\r\n\r\n'
                client.sendall((head.replace("200 OK", "401 Unauthorized") + challenge).encode())
            elif method == "DESCRIBE":
                body = f"Content-Type: application/sdp\r\nContent-Length: {len(_SDP)}\r\n\r\n{_SDP}"
                client.sendall((head + body).encode())
            elif method == "SETUP" and self._udp:
                if ports := re.search(r"RTP/AVP(?:/UDP)?;unicast;client_port=(\d+)-(\d+)", request.decode()):
                    self._ports = int(ports[1]), int(ports[2])
                    client.sendall((head + f"Transport: {ports[0]};server_port=9-9\r\nSession: 1\r\n\r\n").encode())
                else:  # RFC 2326, 11.3.13
                    client.sendall(head.replace("200 OK", "461 Unsupported Transport").encode() + b"\r\n")
            elif method == "SETUP":
                transport = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n\r\n"
                client.sendall((head + transport).encode())
            elif method == "PLAY":
                self.connections += 1
                client.sendall((head + "Session: 1\r\nRange: npt=0-\r\n\r\n").encode())
                self._stream(client)
                return
            else:
                client.sendall((head + "Public: DESCRIBE, SETUP, PLAY\r\n\r\n").encode())

    def _stream(self, client: socket.socket) -> None:
        coder = av.CodecContext.create("libx264", "w")
        coder.width, coder.height, coder.pix_fmt = 160, 120, "yuv420p"
        coder.time_base, coder.framerate, coder.gop_size = Fraction(1, 90000), Fraction(self._fps), self._gop
        coder.options = {"tune": "zerolatency", "preset": "ultrafast", "x264-params": "repeat-headers=1:scenecut=0"}
        sequence = itertools.count()
        until = None if self._breaks is None or self.connections > 1 else self._breaks
        first = None
        for i in self._frame:
            first = i if first is None else first
            if until is not None and (i - first) / self._fps >= until:
                return
            frame = av.VideoFrame.from_ndarray(picture(i % 20 / self._fps, 160, 120), format="rgb24")
            frame.pts = i * 90000 // self._fps
            frame.time_base = Fraction(1, 90000)
            for packet in coder.encode(frame):
                units = [u for u in bytes(packet).replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1") if u]
                for n, unit in enumerate(units):
                    self._send(client, unit, frame.pts, n == len(units) - 1, sequence)

    def _send(self, client: socket.socket, unit: bytes, at: int, last: bool, sequence: itertools.count) -> None:
        """One NAL unit as RTP packets (RFC 6184), cut into fragments where it is long."""
        pieces = [unit]
        if len(unit) > 1200:
            kind, body = unit[0], unit[1:]
            cuts = [body[i : i + 1200] for i in range(0, len(body), 1200)]
            ends = [(0x80 if i == 0 else 0) | (0x40 if i == len(cuts) - 1 else 0) for i in range(len(cuts))]
            pieces = [bytes([kind & 0xE0 | 28, end | kind & 0x1F]) + cut for cut, end in zip(cuts, ends, strict=True)]
        for i, piece in enumerate(pieces):
            marker = 0x80 if last and i == len(pieces) - 1 else 0
            head = struct.pack(">BBHII", 0x80, marker | 96, next(sequence) & 0xFFFF, at & 0xFFFFFFFF, 7)
            packet = head + piece
            if self._udp:
                with socket.socket(type=socket.SOCK_DGRAM) as sender, contextlib.suppress(BlockingIOError):
                    sender.sendto(packet, ("127.0.0.1", self._ports[0]))
                    time.sleep(0.001)
                    if not client.recv(4096, socket.MSG_DONTWAIT):
                        raise ConnectionResetError
                continue
            client.sendall(struct.pack(">cBH", b"$", 0, len(packet)) + packet)
