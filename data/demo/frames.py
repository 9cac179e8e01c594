"""Demo set for a label for each frame: the motion of an object changes at random moments.

The object is on a circle. It goes clockwise, goes counter-clockwise, swings between two places, or
rests; while it rests, the frames are unlabelled. A single frame does not show the label. Two
successive frames show a step, and only the frames around them whether a swing or a turn.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data.demo.drawing import (
    FPS,
    SIZE,
    Drawn,
    draw_along,
    drifting_background,
    noise,
    painted,
    polygon,
)

LABELS = ("clockwise", "counter_clockwise", "swing")
SHORTEST, LONGEST = 24, 84  # frames of a video

_MOTION_FRAMES = (10, 24)
_REST_FRAMES = (4, 9)
_REST_PROBABILITY = 0.25  # after each motion

_HOME_OFFSET = 8.0  # pixels, of the centre of the circle from that of the picture
_CIRCLE_RADIUS = (11.0, 14.0)
_OBJECT_RADIUS = (7.0, 9.0)
_STEP = (35.0, 50.0)  # degrees a frame


class Stretch(NamedTuple):
    """The frames ``start`` to ``stop - 1`` have one motion; an empty label is rest."""

    start: int
    stop: int
    label: str


def draw(frames: int, rng: np.random.Generator) -> Drawn:
    """Draw a clip of this many frames, and return it with its rows of the labels table."""
    stretches = draw_stretches(frames, rng)
    return render_clip(stretches, rng=rng), rows_of(stretches)


def draw_stretches(frames: int, rng: np.random.Generator) -> list[Stretch]:
    """Draw the motions of a video; two motions in succession differ."""
    stretches: list[Stretch] = []
    start, previous = 0, ""
    while start < frames:
        is_rest = bool(previous) and stretches[-1].label and rng.random() < _REST_PROBABILITY
        if is_rest:
            label, (shortest, longest) = "", _REST_FRAMES
        else:
            label = str(rng.choice([label for label in LABELS if label != previous]))
            previous, (shortest, longest) = label, _MOTION_FRAMES
        stop = start + int(rng.integers(shortest, longest + 1))
        if frames - stop < shortest:  # too short for another one
            stop = frames
        stretches.append(Stretch(start, stop, label))
        start = stop
    return stretches


def render_clip(stretches: list[Stretch], *, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw a clip: uint8 [frames, SIZE, SIZE, 3], RGB."""
    angles = object_angles(stretches, rng)
    home = SIZE / 2 + rng.uniform(-_HOME_OFFSET, _HOME_OFFSET, 2)
    on_circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    path = home + rng.uniform(*_CIRCLE_RADIUS) * on_circle
    pictures = drifting_background(len(path), rng)
    look = painted(rng.uniform(180, 230, 3), 25 * noise(rng, blur=2))
    cover = polygon(
        int(rng.integers(3, 8)),
        radius=rng.uniform(*_OBJECT_RADIUS),
        angle=rng.uniform(0, 2 * np.pi),
    )
    return draw_along(pictures, look, cover, path)


def rows_of(stretches: list[Stretch]) -> list[dict[str, str]]:
    """Return the rows of the labels table, without those of rests."""
    return [
        {
            "start_seconds": f"{stretch.start / FPS:g}",
            "end_seconds": f"{stretch.stop / FPS:g}",
            "label": stretch.label,
        }
        for stretch in stretches
        if stretch.label
    ]


def object_angles(stretches: list[Stretch], rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the angle of the object in each frame, radians; y points down."""
    step = np.radians(rng.uniform(*_STEP))
    angle = rng.uniform(0, 2 * np.pi)
    direction = 1  # of the last step
    angles = []
    for start, stop, label in stretches:
        for _ in range(start, stop):
            match label:
                case "clockwise":
                    direction = 1
                case "counter_clockwise":
                    direction = -1
                case "swing":
                    direction = -direction
            angle += direction * step if label else 0.0
            angles.append(angle)
    return np.array(angles)
