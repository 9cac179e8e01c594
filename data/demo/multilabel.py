"""Demo set for several labels a video: which of three objects moves, turns or blinks.

A red circle, a green triangle and a blue square are in every clip. Independently of each other,
the circle moves along a line, the triangle turns, and the square blinks regularly, or not. If not,
the object has the same positions, angles or visibilities as it would have, in random order. So a
single frame or shuffled frames do not show the labels.
"""

import numpy as np
from numpy.typing import NDArray

from data.demo.drawing import (
    Drawn,
    Image,
    draw_object,
    drifting_background,
    noise,
    painted,
    polygon,
)

LABELS = ("circle moves", "triangle turns", "square blinks")

# Of each object: colour, corners, radius, home (x, y).
_COLOURS = ((210, 70, 60), (70, 200, 80), (80, 110, 230))
_CORNERS = (24, 3, 4)
_RADIUS = 10.0
_HOMES = np.array([[18.0, 18.0], [46.0, 18.0], [32.0, 46.0]])
_HOME_OFFSET = 3.0

_LINE = (18.0, 24.0)  # pixels, the length of the circle's line
_TURN = (140.0, 220.0)  # degrees that the triangle turns in a clip
_BLINK_PERIOD = 2  # frames: one visible, one hidden


def draw(frames: int, rng: np.random.Generator) -> Drawn:
    """Draw a clip of this many frames, and return it with its rows of the labels table."""
    labels = draw_labels(rng)
    clip = render_clip(labels, frames=frames, rng=rng)
    return clip, [{"labels": "|".join(sorted(labels))}]


def render_clip(
    labels: frozenset[str], *, frames: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Draw a clip with these labels: uint8 [frames, SIZE, SIZE, 3], RGB."""
    homes = _HOMES + rng.uniform(-_HOME_OFFSET, _HOME_OFFSET, _HOMES.shape)
    walk = (np.arange(frames) + rng.uniform()) / frames - 0.5  # -0.5 to 0.5
    heading, length = rng.uniform(0, 2 * np.pi), rng.uniform(*_LINE)
    positions = homes[0] + walk[:, None] * length * np.array([np.cos(heading), np.sin(heading)])
    first_angle, turn = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(*_TURN))
    angles = first_angle + walk * turn * rng.choice([-1, 1])
    phase = int(rng.integers(_BLINK_PERIOD))
    is_visible = (np.arange(frames) + phase) % _BLINK_PERIOD < _BLINK_PERIOD // 2
    in_order = np.arange(frames)
    shuffled = [rng.permutation(frames) for _ in LABELS]
    orders = [
        in_order if label in labels else order
        for label, order in zip(LABELS, shuffled, strict=True)
    ]
    pictures = drifting_background(frames, rng)
    looks = [_look(colour, rng) for colour in _COLOURS]
    square_angle = rng.uniform(0, 2 * np.pi)
    for number in range(frames):
        moved, turned, blinked = (order[number] for order in orders)
        picture = pictures[number]
        for index, (angle, centre, is_drawn) in enumerate(
            (
                (0.0, positions[moved], True),
                (angles[turned], homes[1], True),
                (square_angle, homes[2], is_visible[blinked]),
            )
        ):
            if is_drawn:
                cover = polygon(_CORNERS[index], radius=_RADIUS, angle=angle)
                picture = draw_object(picture, looks[index], cover, centre)
        pictures[number] = picture
    return np.rint(np.stack(pictures)).astype(np.uint8)


def draw_labels(rng: np.random.Generator) -> frozenset[str]:
    """Choose each label with a probability of one half."""
    return frozenset(label for label in LABELS if rng.random() < 0.5)


def _look(colour: tuple[int, int, int], rng: np.random.Generator) -> Image:
    shade = np.array(colour, np.float64) + rng.uniform(-15, 15, 3)
    return painted(shade, 12 * noise(rng, blur=2))
