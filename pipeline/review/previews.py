"""Small moving pictures, and the bytes of still ones."""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_LONGEST_SIDE = 128  # pixels
_MOST_FRAMES = 40
_QUALITY = 65
_LAST_FRAME_SECONDS = 0.6  # shows where a loop starts again

WEBP = "image/webp"


@dataclass(frozen=True)
class Preview:
    """A clip as WebP: ``moving`` loops for ever, ``still`` is its middle frame."""

    moving: bytes | None  # None for a clip of one frame, or where moving pictures are off
    still: bytes
    width: int
    height: int


def preview(frames: NDArray[np.uint8], *, fps: float, moves: bool = True) -> Preview:
    """Encode real frames, uint8 [N, H, W, 3], RGB, N at least 1, at their own speed.

    Of more than forty, forty are kept, evenly spread and shown longer.
    """
    kept = np.unique(np.linspace(0, len(frames) - 1, min(len(frames), _MOST_FRAMES)).round())
    images = [_small(frames[int(index)]) for index in kept]
    still = images[len(images) // 2]
    moving = None
    if moves and len(images) > 1:
        each = 1000 * len(frames) / fps / len(images)
        moving = _animation(images, milliseconds=max(round(each), 20))
    return Preview(moving, webp(still), still.width, still.height)


def webp(image: Image.Image) -> bytes:
    """Encode a picture taken from a video, or of several."""
    encoded = io.BytesIO()
    image.save(encoded, format="WEBP", quality=_QUALITY, method=6)
    return encoded.getvalue()


def lossless_webp(image: Image.Image) -> bytes:
    """Encode a drawing, such as a chart."""
    encoded = io.BytesIO()
    image.save(encoded, format="WEBP", lossless=True, method=6)
    return encoded.getvalue()


def _animation(images: list[Image.Image], *, milliseconds: int) -> bytes:
    encoded = io.BytesIO()
    durations = [milliseconds] * (len(images) - 1) + [round(1000 * _LAST_FRAME_SECONDS)]
    images[0].save(
        encoded,
        format="WEBP",
        save_all=True,
        append_images=images[1:],
        duration=durations,
        loop=0,
        quality=_QUALITY,
        method=4,
    )
    return encoded.getvalue()


def _small(frame: NDArray[np.uint8]) -> Image.Image:
    image = Image.fromarray(frame)
    image.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE), Image.Resampling.LANCZOS)
    return image
