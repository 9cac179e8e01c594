"""Draw the demo videos: an object with one of six motions over a drifting background.

No single frame shows the class. In every class the object is at
``home + point in a square + point on a circle``, and the three terms have the same distributions.
A clip varies one of the last two terms: in ``right`` the object crosses the square from left to
right, in ``clockwise`` it moves around the circle. Each path covers its range evenly, so the
position in a random frame has the same distribution in every class. ``left``, ``up`` and
``counter_clockwise`` are ``right``, ``down`` and ``clockwise`` played backwards, so the order of
the frames is needed too. The first and the last frame alone carry little information: a straight
path begins at one side of its square.
"""

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from data.demo.drawing import (
    SIZE,
    Cover,
    Image,
    Points,
    draw_along,
    drifting_background,
    noise,
    painted,
    polygon,
)

Motion = Literal["clockwise", "counter_clockwise", "down", "left", "right", "up"]
MOTIONS: tuple[Motion, ...] = get_args(Motion)

# Ranges in pixels. They keep the centre of the object in the picture.
_SQUARE_SIDE = (26.0, 30.0)
_CIRCLE_RADIUS = (11.0, 13.0)
_HOME_OFFSET = 4.0  # of home from the centre of the picture, at most
_OBJECT_RADIUS = (9.0, 12.0)

_TURN = (400.0, 480.0)  # degrees around the circle in a clip: more than one full turn


def render_clip(motion: Motion, *, frames: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw a clip of an object with this motion: uint8 [frames, SIZE, SIZE, 3], RGB."""
    path = object_path(motion, frames=frames, rng=rng)
    background = drifting_background(frames, rng)
    look, cover = _object(rng)
    return draw_along(background, look, cover, path)


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
    look = painted(rng.uniform(180, 230, 3), 25 * noise(rng, blur=2))
    n_corners = int(rng.integers(3, 8))
    angle = rng.uniform(0, 2 * np.pi)
    return look, polygon(n_corners, radius=rng.uniform(*_OBJECT_RADIUS), angle=angle)
