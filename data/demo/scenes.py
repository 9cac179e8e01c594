"""What the demo videos show: six motions that no single frame tells apart.

The picture is a torus: what leaves it on one side comes back on the other. Every path
starts at a place drawn evenly from the torus, and a path from an even start is evenly
spread at every later moment too, whatever its shape. So the place of the object in a
frame says nothing about its motion, and its look, the background and the background's
drift are drawn without regard to the motion.
"""

from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

Motion = Literal["clockwise", "counter_clockwise", "down", "left", "right", "up"]
MOTIONS: tuple[Motion, ...] = get_args(Motion)

SIZE = 64  # pixels, of both sides of a frame
FPS = 10

# Pixels per frame, of the object on every path and of the background.
_OBJECT_SPEED = (4.0, 6.0)
_DRIFT_SPEED = (0.5, 1.5)
# Degrees per frame on a circle: even 6 frames turn by 100 degrees.
_TURN = (20.0, 32.0)
# Degrees between a straight path and its axis.
_SLANT = (-10.0, 10.0)

# Headings in pictures, where y points down: 0 is right, 90 is down.
_HEADING_DEGREES = {"right": 0.0, "down": 90.0, "left": 180.0, "up": 270.0}

Image = NDArray[np.float32]  # [SIZE, SIZE, 3], 0..255
Path2d = NDArray[np.float64]  # [N, 2], pixels (x, y), modulo SIZE


def render_clip(motion: Motion, *, frames: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a clip of an object in ``motion``: uint8 [frames, SIZE, SIZE, 3], RGB."""
    path = object_path(motion, frames=frames, rng=rng)
    drift = _background_path(frames=frames, rng=rng)
    background = _background(rng)
    look, cover = _object(rng)
    clip = np.empty((frames, SIZE, SIZE, 3), np.uint8)
    for number in range(frames):
        covered = _moved(cover, path[number])[..., None]
        picture = _moved(background, drift[number]) * (1 - covered)
        picture += _moved(look, path[number]) * covered
        clip[number] = np.rint(picture)
    return clip


def object_path(motion: Motion, *, frames: int, rng: np.random.Generator) -> Path2d:
    """Return where the object is in each frame: float64 [frames, 2], pixels (x, y) in [0, SIZE).

    Each row, taken by itself, is spread evenly over the picture, for every motion.
    """
    start = rng.uniform(0, SIZE, 2)
    speed = rng.uniform(*_OBJECT_SPEED)
    turn = np.radians(rng.uniform(*_TURN))
    slant = rng.uniform(*_SLANT)
    heading = rng.uniform(0, 2 * np.pi)
    if motion == "clockwise" or motion == "counter_clockwise":
        step = turn if motion == "clockwise" else -turn  # y points down
        headings = heading + step * np.arange(frames)
    else:
        headings = np.full(frames, np.radians(_HEADING_DEGREES[motion] + slant))
    steps = speed * np.stack([np.cos(headings), np.sin(headings)], axis=1)
    return (start + np.cumsum(steps, axis=0)) % SIZE


def _background_path(*, frames: int, rng: np.random.Generator) -> Path2d:
    heading = rng.uniform(0, 2 * np.pi)
    step = rng.uniform(*_DRIFT_SPEED) * np.array([np.cos(heading), np.sin(heading)])
    return np.arange(frames)[:, None] * step % SIZE


def _background(rng: np.random.Generator) -> Image:
    colour = rng.uniform(60, 110, 3)
    texture = 0.7 * _noise(rng, coarseness=5) + 0.3 * _noise(rng, coarseness=2)
    return np.clip(colour + 25 * texture, 0, 255).astype(np.float32)


def _object(rng: np.random.Generator) -> tuple[Image, NDArray[np.float32]]:
    """Return a textured shape around the origin and how far it covers each pixel, 0..1."""
    colour = rng.uniform(150, 230, 3)
    look = np.clip(colour + 40 * _noise(rng, coarseness=2), 0, 255).astype(np.float32)
    scale = 8
    corners = rng.integers(3, 8)
    angles = rng.uniform(0, 2 * np.pi) + np.arange(corners) * 2 * np.pi / corners
    radius = rng.uniform(9, 12)
    outline = SIZE / 2 + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    canvas = np.zeros((SIZE * scale, SIZE * scale), np.uint8)
    cv2.fillPoly(canvas, [np.rint(outline * scale).astype(np.int32)], 255)
    cover = cv2.resize(canvas, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    return look, np.roll(cover / np.float32(255), SIZE // 2, axis=(0, 1))


def _noise(rng: np.random.Generator, *, coarseness: float) -> Image:
    """Return blurred noise that fits onto itself at the edges; mean 0, deviation 1."""
    noise = rng.standard_normal((SIZE, SIZE, 3)).astype(np.float32)
    tiled = np.tile(noise, (3, 3, 1))
    blurred = cv2.GaussianBlur(tiled, (0, 0), coarseness)[SIZE : 2 * SIZE, SIZE : 2 * SIZE]
    return (blurred - blurred.mean((0, 1))) / blurred.std((0, 1))


def _moved(image: NDArray[np.float32], by: NDArray[np.float64]) -> NDArray[np.float32]:
    shift = np.array([[1, 0, by[0]], [0, 1, by[1]]])
    return cv2.warpAffine(image, shift, (SIZE, SIZE), borderMode=cv2.BORDER_WRAP)
