"""Draw pictures: drifting backgrounds, textured objects, moved by fractions of a pixel.

Textures are whole numbers and shifts are sixteenths of a pixel, so that processors that round
floats differently draw the same pixels.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

SIZE = 64  # pixels, both sides of a frame
FPS = 10

Image = NDArray[np.float32]  # [SIZE, SIZE, 3], RGB, 0..255
Cover = NDArray[np.float32]  # [SIZE, SIZE], 255 where an object covers the whole pixel
Texture = NDArray[np.float64]  # [SIZE, SIZE, 3], around 0
Points = NDArray[np.float64]  # [N, 2], pixels (x, y), y downwards
Drawn = tuple[NDArray[np.uint8], list[dict[str, str]]]  # a clip, and its rows of the labels table

_DRIFT_SPEED = (0.5, 1.5)  # of the background, pixels a frame
_FRACTION_BITS = 4  # of positions in pixels: OpenCV takes them as integers


def drifting_background(frames: int, rng: np.random.Generator) -> list[Image]:
    """Draw a dark texture that drifts in a random direction, for each frame."""
    heading = rng.uniform(0, 2 * np.pi)
    step = rng.uniform(*_DRIFT_SPEED) * np.array([np.cos(heading), np.sin(heading)])
    drift = rng.uniform(0, SIZE, 2) + np.arange(frames)[:, None] * step
    texture = 0.7 * noise(rng, blur=5) + 0.3 * noise(rng, blur=2)
    picture = painted(rng.uniform(40, 90, 3), 20 * texture)
    return [_moved(picture, shift, border=cv2.BORDER_WRAP) for shift in drift]


def polygon(n_corners: int, *, radius: float, angle: float) -> Cover:
    """Return the coverage of a regular polygon at the centre of the picture.

    Args:
        radius: from the centre to a corner, pixels.
        angle: of the first corner, radians.
    """
    angles = angle + np.arange(n_corners) * 2 * np.pi / n_corners
    outline = radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    corners = np.rint((outline + SIZE / 2) * 2**_FRACTION_BITS).astype(np.int32)
    cover = np.zeros((SIZE, SIZE), np.uint8)
    cv2.fillConvexPoly(cover, corners, 255, lineType=cv2.LINE_AA, shift=_FRACTION_BITS)
    return cover.astype(np.float32)


def draw_object(picture: Image, look: Image, cover: Cover, centre: NDArray[np.float64]) -> Image:
    """Draw an object with the texture ``look`` at ``centre`` (x, y) on a copy of ``picture``."""
    shift = centre - SIZE / 2
    share = _moved(cover, shift, border=cv2.BORDER_CONSTANT)[..., None] / 255
    moved = _moved(look, shift, border=cv2.BORDER_WRAP)
    return np.asarray(picture * (1 - share) + moved * share, np.float32)


def draw_along(
    pictures: Sequence[Image], look: Image, cover: Cover, path: Points
) -> NDArray[np.uint8]:
    """Draw an object along a path on a picture for each frame: uint8 [frames, SIZE, SIZE, 3]."""
    drawn = [
        draw_object(picture, look, cover, centre)
        for picture, centre in zip(pictures, path, strict=True)
    ]
    return np.rint(np.stack(drawn)).astype(np.uint8)


def painted(colour: NDArray[np.float64], texture: Texture) -> Image:
    """Return ``colour`` [3] plus ``texture`` as whole numbers from 0 to 255."""
    return np.clip(np.rint(colour + texture), 0, 255).astype(np.float32)


def noise(rng: np.random.Generator, *, blur: float) -> Texture:
    """Return blurred noise of mean 0 and standard deviation 1 that tiles without seams."""
    tiled = np.tile(rng.standard_normal((SIZE, SIZE, 3)), (3, 3, 1))
    blurred = cv2.GaussianBlur(tiled, (0, 0), blur)[SIZE : 2 * SIZE, SIZE : 2 * SIZE]
    return np.asarray((blurred - blurred.mean((0, 1))) / blurred.std((0, 1)), np.float64)


def _moved(
    image: NDArray[np.float32], by: NDArray[np.float64], *, border: int
) -> NDArray[np.float32]:
    right, down = np.rint(by * 2**_FRACTION_BITS) / 2**_FRACTION_BITS
    shift = np.array([[1, 0, right], [0, 1, down]])
    return np.asarray(cv2.warpAffine(image, shift, (SIZE, SIZE), borderMode=border), np.float32)
