"""Demo set for a number a video: the speed of an object that bounces off the walls.

The object starts anywhere, in any direction, and keeps its speed. A single frame does not show the
speed, and in shuffled frames every object jumps about.
"""

import numpy as np
from numpy.typing import NDArray

from data.demo.drawing import (
    FPS,
    SIZE,
    Drawn,
    Points,
    draw_along,
    drifting_background,
    noise,
    painted,
    polygon,
)

_SPEED = (5.0, 45.0)  # pixels a second

_RADIUS = (8.0, 10.0)
_WALL = 10.0  # pixels between the centre of the object and the border, at least


def draw(frames: int, rng: np.random.Generator) -> Drawn:
    """Draw a clip of this many frames, and return it with its rows of the labels table."""
    speed = rng.uniform(*_SPEED)
    return render_clip(speed, frames=frames, rng=rng), [{"value": f"{speed:.2f}"}]


def render_clip(speed: float, *, frames: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw an object with this speed, in pixels a second: uint8 [frames, SIZE, SIZE, 3], RGB."""
    path = bouncing_path(speed, frames=frames, rng=rng)
    pictures = drifting_background(frames, rng)
    look = painted(rng.uniform(180, 230, 3), 25 * noise(rng, blur=2))
    cover = polygon(
        int(rng.integers(3, 8)), radius=rng.uniform(*_RADIUS), angle=rng.uniform(0, 2 * np.pi)
    )
    return draw_along(pictures, look, cover, path)


def bouncing_path(speed: float, *, frames: int, rng: np.random.Generator) -> Points:
    """Return the centre of the object in each frame: float64 [frames, 2], pixels (x, y)."""
    room = SIZE - 2 * _WALL
    heading = rng.uniform(0, 2 * np.pi)
    step = speed / FPS * np.array([np.cos(heading), np.sin(heading)])
    straight = rng.uniform(0, room, 2) + np.arange(frames)[:, None] * step
    # A straight line, folded at both walls.
    return _WALL + room - np.abs(room - straight % (2 * room))
