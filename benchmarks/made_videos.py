"""Generate videos that are as hard to code as natural ones: textures, shapes, grain."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]  # [H, W, 3], RGB

FPS = 30
_SHAPES = 7
_GRAIN_FIELDS = 8
_GRAIN_SIGMA = 2.5  # of 255: typical noise of a phone clip
_GRAIN_OFFSET = 10  # added to the grain, because unsigned arithmetic is faster


@dataclass(frozen=True)
class Encoding:
    """Codec, size and options of a generated video."""

    codec: str
    suffix: str
    width: int
    height: int
    options: Mapping[str, str] = field(default_factory=dict)
    tag: str | None = None  # FourCC of the codec in the container


_X264 = {"preset": "medium", "crf": "22"}  # B-frames and groups of 250 are its defaults
_VP9 = {"deadline": "good", "cpu-used": "5", "row-mt": "1", "crf": "33", "b": "0"}

SHORT = {
    "h264_240p": Encoding("libx264", ".mp4", 426, 240, _X264),
    "h264_720p": Encoding("libx264", ".mp4", 1280, 720, _X264),
    "h264_1080p": Encoding("libx264", ".mp4", 1920, 1080, _X264),
    "xvid_480p": Encoding("mpeg4", ".avi", 854, 480, {"b": "2500k", "g": "250"}, tag="XVID"),
    "vp9_720p": Encoding("libvpx-vp9", ".webm", 1280, 720, _VP9),
    "hevc_720p": Encoding(
        "libx265", ".mp4", 1280, 720, {"preset": "fast", "x265-params": "log-level=none"}
    ),
    "av1_720p": Encoding("libsvtav1", ".mp4", 1280, 720, {"preset": "9", "crf": "35"}),
}
LONG = Encoding("libx264", ".mp4", 854, 480, _X264)


def make_video(path: Path, encoding: Encoding, *, seconds: float, seed: int) -> Path:
    """Encode a moving scene with 30 frames a second; the seed determines the scene."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(encoding.codec, rate=FPS, options=dict(encoding.options))
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height = encoding.width, encoding.height
        stream.pix_fmt = "yuv420p"
        if encoding.tag is not None:
            stream.codec_context.codec_tag = encoding.tag
        pictures = _scene(encoding.width, encoding.height, round(seconds * FPS), seed)
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def repeat_video(source: Path, target: Path, *, copies: int) -> Path:
    """Write copies of ``source`` one after another into ``target``, without decoding."""
    with av.open(str(source)) as once, av.open(str(target), "w") as container:
        stream_in = once.streams.video[0]
        stream_out = container.add_stream_from_template(stream_in)
        assert stream_in.time_base is not None
        assert stream_in.duration is not None
        for copy in range(copies):
            once.seek(0, stream=stream_in)
            for packet in once.demux(stream_in):
                if packet.pts is None or packet.dts is None:  # the end of the file
                    continue
                packet.pts += copy * stream_in.duration
                packet.dts += copy * stream_in.duration
                packet.stream = stream_out
                container.mux(packet)
    return target


def _scene(width: int, height: int, frames: int, seed: int) -> Iterator[Picture]:
    """Yield a scene: a background that pans, shapes that move across it, grain on top."""
    rng = np.random.default_rng(seed)
    margin = height // 4
    background = _texture(rng, width + 2 * margin, height + 2 * margin)
    shapes = [_Shape.random(rng, width, height) for _ in range(_SHAPES)]
    grain = [
        rng.normal(_GRAIN_OFFSET, _GRAIN_SIGMA, (height, width, 3)).clip(0).astype(np.uint8)
        for _ in range(_GRAIN_FIELDS)
    ]
    offset = np.full((height, width, 3), _GRAIN_OFFSET, np.uint8)
    phase_x, phase_y = rng.uniform(0, 2 * np.pi, 2)
    for number in range(frames):
        seconds = number / FPS
        left = margin * (1 + 0.9 * np.sin(0.5 * seconds + phase_x))
        top = margin * (1 + 0.5 * np.sin(0.3 * seconds + phase_y))
        middle = (left + width / 2, top + height / 2)
        picture = np.asarray(cv2.getRectSubPix(background, (width, height), middle), np.uint8)
        for shape in shapes:
            shape.paint(picture, seconds)
        noisy = cv2.add(picture, grain[rng.integers(_GRAIN_FIELDS)])
        yield np.asarray(cv2.subtract(noisy, offset), np.uint8)


@dataclass(frozen=True)
class _Shape:
    """A textured ellipse with its own path; positions and speeds in pixels and seconds."""

    texture: Picture
    mask: NDArray[np.float32]  # [h, w, 1], 0 outside, 1 inside, soft at the edge
    center: Sequence[float]
    reach: Sequence[float]
    speed: Sequence[float]

    @classmethod
    def random(cls, rng: np.random.Generator, width: int, height: int) -> "_Shape":
        side = int(height * rng.uniform(0.12, 0.35))
        outline = np.zeros((side, side), np.float32)
        axes = (int(side * 0.45), int(side * rng.uniform(0.2, 0.45)))
        cv2.ellipse(outline, (side // 2, side // 2), axes, rng.uniform(0, 180), 0, 360, 1.0, -1)
        soft = cv2.GaussianBlur(outline, (0, 0), max(0.5, side / 100))
        return cls(
            texture=_texture(rng, side, side),
            mask=np.asarray(soft, np.float32)[..., None],
            center=((width - side) / 2, (height - side) / 2),
            reach=((width - side) * 0.5, (height - side) * 0.5 * rng.uniform(0.3, 1)),
            speed=rng.uniform(0.3, 1.8, 2).tolist(),
        )

    def paint(self, picture: Picture, seconds: float) -> None:
        side = len(self.texture)
        left = int(self.center[0] + self.reach[0] * np.sin(self.speed[0] * seconds))
        top = int(self.center[1] + self.reach[1] * np.cos(self.speed[1] * seconds))
        below = picture[top : top + side, left : left + side]
        below[:] = below + self.mask * (self.texture.astype(np.float32) - below)


def _texture(rng: np.random.Generator, width: int, height: int) -> Picture:
    """Return smooth noise of several scales; finer scales are weaker, as in natural pictures."""
    total = np.zeros((height, width, 3), np.float32)
    for cells, strength in ((3, 90.0), (8, 45.0), (24, 20.0), (72, 12.0), (216, 8.0), (500, 5.0)):
        coarse = rng.uniform(-1, 1, (cells, max(2, cells * width // height), 3))
        enlarged = cv2.resize(
            coarse.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC
        )
        total += strength * enlarged
    return np.clip(128 + total, 0, 255).astype(np.uint8)
