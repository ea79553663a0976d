"""A camera over HTTP on loopback: a transport stream whose clock is set under way, or JPEGs without any times."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import numpy as np
from numbered import encode, numbered, restamped


class HttpCamera:
    """Sends ``chunks`` to every client, ``pause_s`` apart, and closes the connection; then begins anew."""

    def __init__(self, kind: str, chunks: Iterable[bytes], pause_s: float = 0.0) -> None:
        sent = list(chunks)

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None: ...

            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.end_headers()
                try:
                    for chunk in sent:
                        self.wfile.write(chunk)
                        self.wfile.flush()
                        time.sleep(pause_s)
                except OSError:
                    return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/live"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def __enter__(self) -> HttpCamera:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def jpegs(count: int, pause_s: float) -> HttpCamera:
    """A camera that sends numbered JPEGs one after the other (multipart/x-mixed-replace)."""

    def parts() -> Iterator[bytes]:
        coder = av.CodecContext.create("mjpeg", "w")
        coder.width, coder.height, coder.pix_fmt, coder.time_base = 96, 64, "yuvj420p", Fraction(1, 25)
        for k in range(count):
            frame = av.VideoFrame.from_ndarray(numbered(k), format="rgb24").reformat(format="yuvj420p")
            data = b"".join(bytes(packet) for packet in coder.encode(frame))
            yield b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(data) + data + b"\r\n"

    return HttpCamera("multipart/x-mixed-replace; boundary=frame", parts(), pause_s)


def transport(folder: Path, begins_s: Iterable[float], pause_s: float = 0.0, bframes: int = 0) -> HttpCamera:
    """A camera of 25 numbered pictures a second, whose clock is set to ``begins_s`` second for second."""
    chunks = []
    for i, begin_s in enumerate(begins_s):
        plain = encode(folder / f"p{i}.ts", range(25 * i, 25 * i + 25), form="mpegts", bframes=bframes)
        part = restamped(plain, folder / f"c{i}.ts", lambda k, at, b=begin_s: at + round(b * 90000), "mpegts")
        chunks.append(part.read_bytes())
    return HttpCamera("video/mp2t", chunks, pause_s)


def sound_only_after(folder: Path, seconds: float, pause_s: float = 0.05) -> HttpCamera:
    """A camera whose pictures end after ``seconds``, while its sound goes on."""
    path = folder / "both.ts"
    with av.open(str(path), "w", format="mpegts") as out:
        picture, sound = out.add_stream("mpeg2video", rate=25), out.add_stream("mp2", rate=16000)
        picture.width, picture.height, picture.pix_fmt, sound.layout = 96, 64, "yuv420p", "mono"
        for k in range(250):
            if k < 25 * seconds:
                frame = av.VideoFrame.from_ndarray(numbered(k % 256), format="rgb24").reformat(format="yuv420p")
                frame.pts = k
                out.mux(picture.encode(frame))
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 640), np.int16), format="s16", layout="mono")
            samples.sample_rate, samples.pts = 16000, k * 640
            out.mux(sound.encode(samples))
        out.mux(picture.encode())
    data = path.read_bytes()
    size = 188 * max(1, len(data) // 188 // 100)
    return HttpCamera("video/mp2t", [data[i : i + size] for i in range(0, len(data), size)], pause_s)


def without_keyframe(folder: Path, pause_s: float = 0.01, *, headers: bool = True) -> HttpCamera:
    """A camera that one joins after its only keyframe; with ``headers`` it says its size once more."""
    path = folder / "predicted.ts"
    with (
        av.open(str(encode(folder / "all.ts", range(250), form="mpegts", gop=9999))) as given,
        av.open(str(path), "w", format="mpegts") as out,
    ):
        copied = out.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(given.streams.video[0]):
            if packet.is_keyframe and packet.size:
                first, packet = packet, av.Packet(bytes(packet)[: bytes(packet).index(b"\0\0\1\x65")])
                packet.pts, packet.dts, packet.time_base = first.pts, first.dts, first.time_base
                if not headers:
                    continue
            if packet.size:
                packet.stream = copied
                out.mux(packet)
    data = path.read_bytes()
    size = 188 * max(1, len(data) // 188 // 250)
    return HttpCamera("video/mp2t", [data[i : i + size] for i in range(0, len(data), size)], pause_s)
