"""Small intact videos, one of each kind; the damaged files are changed copies of them."""

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from pipeline.video.settings import DecodeSection

FPS = 25
FRAMES = 45
HEIGHT, WIDTH = 64, 96

# Every frame is kept at its own size, so that a test sees every damaged pixel.
DECODE = DecodeSection(
    fps=FPS,
    width=WIDTH,
    height=HEIGHT,
    fit="stretch",
    max_seconds=600,
    max_pixels=40_000_000,
    timeout_seconds=30,
)

# The same bytes in every run and on every machine: one thread, no code for special processors.
_X264 = {"g": "15", "bf": "2", "x264-params": "mbtree=0:cpu-independent=1"}
_X265 = "keyint=15:bframes=2:pools=none:frame-threads=1:log-level=none"


@dataclass(frozen=True)
class Kind:
    """A codec in a container.

    Attributes:
        options: of the encoder.
        muxing: options of the container.
        has_length: whether the container holds the length of its video, so that truncation is
            always recognised.
    """

    codec: str
    container: str
    suffix: str
    options: Mapping[str, str]
    muxing: Mapping[str, str] = field(default_factory=dict)
    has_length: bool = True


_FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
_SVTAV1 = {"preset": "10", "svtav1-params": "lp=1"}
_VP9 = {"g": "15", "deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"}

KINDS = {
    "H.264 mp4": Kind("libx264", "mp4", ".mp4", _X264),
    "H.264 mp4, index first": Kind("libx264", "mp4", ".mp4", _X264, {"movflags": "faststart"}),
    "H.264 mp4, fragments": Kind("libx264", "mp4", ".mp4", _X264, _FRAGMENTS, has_length=False),
    "H.264 flv": Kind("libx264", "flv", ".flv", _X264),
    "H.264 mpegts": Kind("libx264", "mpegts", ".ts", _X264, has_length=False),
    "MPEG-4 avi": Kind("mpeg4", "avi", ".avi", {"g": "15", "b": "800k"}),
    "MPEG-2 mpg": Kind("mpeg2video", "mpeg", ".mpg", {"g": "15", "b": "800k"}, has_length=False),
    "VP9 webm": Kind("libvpx-vp9", "webm", ".webm", _VP9),
    "HEVC mkv": Kind("libx265", "matroska", ".mkv", {"x265-params": _X265}),
    "AV1 mp4, index first": Kind("libsvtav1", "mp4", ".mp4", _SVTAV1, {"movflags": "faststart"}),
}


@cache
def moving_noise() -> NDArray[np.uint8]:
    """Return 45 different frames of a moving texture: uint8 [45, 64, 96, 3], RGB."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (24, 40, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
    moved = (np.roll(noise, (number, 2 * number), (0, 1)) for number in range(FRAMES))
    return np.stack([picture[:HEIGHT, :WIDTH] for picture in moved])


@cache
def intact_video(name: str) -> bytes:
    """Return the file of one of KINDS."""
    return encode(moving_noise(), KINDS[name])


def encode(pictures: Iterable[NDArray[np.uint8]], kind: Kind) -> bytes:
    """Encode any number of pictures, each uint8 [64, 96, 3], RGB."""
    muxing = {"fflags": "+bitexact", **kind.muxing}
    with tempfile.TemporaryDirectory() as folder:  # "faststart" reads the file again
        path = Path(folder) / "video"
        _write(path, pictures, kind, muxing)
        return path.read_bytes()


def _write(
    path: Path, pictures: Iterable[NDArray[np.uint8]], kind: Kind, muxing: dict[str, str]
) -> None:
    with av.open(str(path), "w", format=kind.container, options=muxing) as file:
        options = {"threads": "1", "flags": "+bitexact", **kind.options}
        stream = file.add_stream(kind.codec, rate=FPS, options=options)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        file.start_encoding()  # writes the header even if there is no picture
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
