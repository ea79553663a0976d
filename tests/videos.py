"""Small real videos made with the encoder, and the weights' cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from pictures import picture

from posewatch import weights
from posewatch.errors import WeightsError

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Writes a video whose pictures come at the given seconds."""

    def write(
        name: str = "a.mp4",
        times: Sequence[float] | None = None,
        *,
        size: tuple[int, int] = (160, 120),
        seconds: float = 2.0,
        fps: float = 20.0,
        codec: str = "libx264",
        pix_fmt: str = "yuv420p",
        options: dict[str, str] | None = None,
    ) -> Path:
        path = tmp_path / name
        stamps = list(times) if times is not None else [i / fps for i in range(round(seconds * fps))]
        with av.open(str(path), "w", options=options or {}) as out:
            stream = out.add_stream(codec, rate=Fraction(fps).limit_denominator(1001))
            stream.width, stream.height = size
            stream.pix_fmt = pix_fmt
            stream.codec_context.time_base = Fraction(1, 1000)
            stream.codec_context.gop_size = 10
            for t in stamps:
                frame = av.VideoFrame.from_ndarray(picture(t, *size), format="rgb24")
                frame.pts, frame.time_base = round(1000 * t), Fraction(1, 1000)
                out.mux(stream.encode(frame))
            out.mux(stream.encode())
        return path

    return write


@pytest.fixture
def audio_only(tmp_path: Path) -> Path:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=16000, layout="mono")
        for i in range(20):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16000, i * 1024
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def _weights(*names: str) -> None:
    try:
        for name in names:
            weights.path(name)
    except WeightsError as error:
        pytest.skip(f"weights cannot be had here: {error}")


@pytest.fixture(scope="session")
def real_networks() -> None:
    """Skips where the published weights can neither be found nor downloaded."""
    _weights("movenet", "blazepose")


@pytest.fixture(scope="session")
def walk() -> Path:
    """A real video: one woman walks past, another person exercises on a roof."""
    _weights("sports2d_walk")
    return weights.path("sports2d_walk")
