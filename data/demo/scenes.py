"""Draw the demo videos: an object with one of six motions over a drifting background.

No single frame shows the class. In every class the object is at
``home + point in a square + point on a circle``, and the three terms have the same distributions.
A clip varies one of the last two terms: in ``right`` the object crosses the square from left to
right, in ``clockwise`` it moves around the circle. Each path covers its range evenly, so the
position in a random frame has the same distribution in every class. ``left``, ``up`` and
``counter_clockwise`` are ``right``, ``down`` and ``clockwise`` played backwards, so the order of
the frames is needed too. The first and the last frame alone carry little information: a straight
path begins at one side of its square.

Textures are whole numbers and shifts are sixteenths of a pixel, so that processors that round
floats differently draw the same pixels.
"""

from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

Motion = Literal["clockwise", "counter_clockwise", "down", "left", "right", "up"]
MOTIONS: tuple[Motion, ...] = get_args(Motion)

SIZE = 64  # pixels, both sides of a frame
FPS = 10

# Ranges in pixels. They keep the centre of the object in the picture.
_SQUARE_SIDE = (26.0, 30.0)
_CIRCLE_RADIUS = (11.0, 13.0)
_HOME_OFFSET = 4.0  # of home from the centre of the picture, at most
_OBJECT_RADIUS = (9.0, 12.0)
_DRIFT_SPEED = (0.5, 1.5)  # of the background, a frame

_TURN = (400.0, 480.0)  # degrees around the circle in a clip: more than one full turn

Image = NDArray[np.float32]  # [SIZE, SIZE, 3], RGB, 0..255
Texture = NDArray[np.float64]  # [SIZE, SIZE, 3], around 0
Cover = NDArray[np.float32]  # [SIZE, SIZE], 255 where the object covers the whole pixel
Points = NDArray[np.float64]  # [N, 2], pixels (x, y), y downwards


def render_clip(motion: Motion, *, frames: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw a clip of an object with this motion: uint8 [frames, SIZE, SIZE, 3], RGB."""
    path = object_path(motion, frames=frames, rng=rng)
    heading = rng.uniform(0, 2 * np.pi)
    step = rng.uniform(*_DRIFT_SPEED) * np.array([np.cos(heading), np.sin(heading)])
    drift = rng.uniform(0, SIZE, 2) + np.arange(frames)[:, None] * step
    texture = 0.7 * _noise(rng, blur=5) + 0.3 * _noise(rng, blur=2)
    background = _painted(rng.uniform(40, 90, 3), 20 * texture)
    look, cover = _object(rng)
    clip = np.empty((frames, SIZE, SIZE, 3), np.uint8)
    for number in range(frames):
        shift = path[number] - SIZE / 2
        share = _moved(cover, shift, border=cv2.BORDER_CONSTANT)[..., None] / 255
        picture = _moved(background, drift[number], border=cv2.BORDER_WRAP) * (1 - share)
        picture += _moved(look, shift, border=cv2.BORDER_WRAP) * share
        clip[number] = np.rint(picture)
    return clip


def object_path(motion: Motion, *, frames: int, rng: np.random.Generator) -> Points:
    """Return the centre of the object in each frame: float64 [frames, 2], pixels (x, y)."""
    home = SIZE / 2 + rng.uniform(-_HOME_OFFSET, _HOME_OFFSET, 2)
    side = rng.uniform(*_SQUARE_SIDE)
    radius = rng.uniform(*_CIRCLE_RADIUS)
    turn = np.radians(rng.uniform(*_TURN))
    in_square = np.tile(rng.uniform(-0.5, 0.5, 2), (frames, 1))  # fractions of the side
    angle = np.full(frames, rng.uniform(0, 2 * np.pi))  # clockwise, as y points down
    # Evenly spaced over -0.5..0.5, with a random offset.
    walk = (np.arange(frames) + rng.uniform()) / frames - 0.5
    match motion:
        case "right":
            in_square[:, 0] = walk
        case "left":
            in_square[:, 0] = -walk
        case "down":
            in_square[:, 1] = walk
        case "up":
            in_square[:, 1] = -walk
        case "clockwise":
            angle += turn * walk
        case "counter_clockwise":
            angle -= turn * walk
    on_circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return home + side * in_square + radius * on_circle


def _object(rng: np.random.Generator) -> tuple[Image, Cover]:
    """Return the texture and the coverage of a polygon at the centre of the picture."""
    look = _painted(rng.uniform(180, 230, 3), 25 * _noise(rng, blur=2))
    n_corners = int(rng.integers(3, 8))
    angles = rng.uniform(0, 2 * np.pi) + np.arange(n_corners) * 2 * np.pi / n_corners
    outline = rng.uniform(*_OBJECT_RADIUS) * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    fraction_bits = 4  # OpenCV draws at fractions of a pixel given as integers
    corners = np.rint((outline + SIZE / 2) * 2**fraction_bits).astype(np.int32)
    cover = np.zeros((SIZE, SIZE), np.uint8)
    cv2.fillConvexPoly(cover, corners, 255, lineType=cv2.LINE_AA, shift=fraction_bits)
    return look, cover.astype(np.float32)


def _painted(colour: NDArray[np.float64], texture: Texture) -> Image:
    return np.clip(np.rint(colour + texture), 0, 255).astype(np.float32)


def _noise(rng: np.random.Generator, *, blur: float) -> Texture:
    """Return blurred noise of mean 0 and standard deviation 1 that tiles without seams."""
    noise = np.tile(rng.standard_normal((SIZE, SIZE, 3)), (3, 3, 1))
    blurred = cv2.GaussianBlur(noise, (0, 0), blur)[SIZE : 2 * SIZE, SIZE : 2 * SIZE]
    return np.asarray((blurred - blurred.mean((0, 1))) / blurred.std((0, 1)), np.float64)


def _moved(
    image: NDArray[np.float32], by: NDArray[np.float64], *, border: int
) -> NDArray[np.float32]:
    right, down = np.rint(by * 16) / 16
    shift = np.array([[1, 0, right], [0, 1, down]])
    return np.asarray(cv2.warpAffine(image, shift, (SIZE, SIZE), borderMode=border), np.float32)
