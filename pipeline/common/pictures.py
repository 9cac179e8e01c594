"""Shrink video frames, put them side by side, and encode them as WebP for pages."""

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

WEBP = "image/webp"
WEBP_QUALITY = 65

_GAP = 3  # pixels


def thumbnail(frame: NDArray[np.uint8], longest_side: int) -> Image.Image:
    """Shrink a frame uint8 [H, W, 3] so that no side is longer than ``longest_side`` pixels."""
    image = Image.fromarray(frame)
    image.thumbnail((longest_side, longest_side), Image.Resampling.LANCZOS)
    return image


def side_by_side(images: Sequence[Image.Image]) -> Image.Image:
    """Put images of one size, at least one, into a row with transparent gaps."""
    width, height = images[0].size
    row = Image.new("RGBA", (len(images) * (width + _GAP) - _GAP, height))
    for column, image in enumerate(images):
        row.paste(image, (column * (width + _GAP), 0))
    return row


def webp(image: Image.Image) -> bytes:
    """Encode an image of video frames as WebP."""
    encoded = io.BytesIO()
    image.save(encoded, format="WEBP", quality=WEBP_QUALITY, method=6)
    return encoded.getvalue()
