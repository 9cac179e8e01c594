"""Demo set for captions: "a red square moves left and then up".

The caption names the colour, the shape and two motions of an object, one after the other, in
different directions. In shuffled frames, neither the directions nor their order can be seen. Every
sixth combination of colour, shape and motions is held out: its videos are in the test split only.
"""

from itertools import permutations, product

import numpy as np
from numpy.typing import NDArray

from data.demo.drawing import (
    SIZE,
    Drawn,
    Points,
    draw_along,
    drifting_background,
    noise,
    painted,
    polygon,
)

COLOURS = {
    "red": (225, 55, 50),
    "green": (50, 205, 70),
    "blue": (70, 100, 240),
    "yellow": (235, 215, 60),
}
_CORNERS = {"circle": 24, "square": 4, "triangle": 3}
_RADIUS = 14.0  # pixels, from the centre to a corner
_STEPS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}

_PATH = (20.0, 26.0)  # pixels, the length of each motion
_TURN_AT = (0.42, 0.58)  # of the clip, when the second motion begins
_TILT = 0.15  # radians, at most
_WALL = 12.0  # pixels between the centre of the object and the border, at least

# Colour, shape, first and second direction.
Combination = tuple[str, str, str, str]

COMBINATIONS: tuple[Combination, ...] = tuple(
    (colour, shape, *directions)
    for colour, shape, directions in product(COLOURS, _CORNERS, permutations(_STEPS, 2))
)


def draw(frames: int, rng: np.random.Generator) -> Drawn:
    """Draw a clip of this many frames, and return it with its rows of the labels table."""
    split = str(rng.choice(["train", "val", "test"], p=[0.75, 0.1, 0.15]))
    combination = draw_combination(split, rng)
    cells = {
        "caption": caption_of(combination),
        "split": split,
        "combination": "unseen" if is_held_out(combination) else "seen",
    }
    return render_clip(combination, frames=frames, rng=rng), [cells]


def is_held_out(combination: Combination) -> bool:
    """Return whether training holds no video of the combination.

    Two of the twelve pairs of directions for each colour and shape, others each time: training
    holds every colour with every shape, and both with every pair of directions.
    """
    colour, shape, *directions = combination
    pair = list(permutations(_STEPS, 2)).index((directions[0], directions[1]))
    return (pair + list(COLOURS).index(colour) + 2 * list(_CORNERS).index(shape)) % 6 == 0


def caption_of(combination: Combination) -> str:
    colour, shape, first, second = combination
    return f"a {colour} {shape} moves {first} and then {second}"


def draw_combination(split: str, rng: np.random.Generator) -> Combination:
    """Choose a combination for a video of a split; half of the test videos are held out."""
    held_out = split == "test" and rng.random() < 0.5
    choices = [each for each in COMBINATIONS if is_held_out(each) == held_out]
    return choices[rng.integers(len(choices))]


def render_clip(
    combination: Combination, *, frames: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Draw a clip of the combination: uint8 [frames, SIZE, SIZE, 3], RGB."""
    colour, shape, first, second = combination
    path = _path(first, second, frames=frames, rng=rng)
    shade = np.array(COLOURS[colour], np.float64) + rng.uniform(-15, 15, 3)
    look = painted(shade, 12 * noise(rng, blur=2))
    # The first corner of a triangle is above its centre, those of a square are beside it.
    angle = {"square": np.pi / 4, "triangle": -np.pi / 2}.get(shape, 0.0)
    cover = polygon(
        _CORNERS[shape],
        radius=_RADIUS * rng.uniform(0.9, 1.1),
        angle=angle + rng.uniform(-_TILT, _TILT),
    )
    pictures = drifting_background(frames, rng)
    return draw_along(pictures, look, cover, path)


def _path(first: str, second: str, *, frames: int, rng: np.random.Generator) -> Points:
    """Return the centre of the object in each frame: float64 [frames, 2], pixels (x, y)."""
    turn = rng.uniform(*_TURN_AT)
    time = (np.arange(frames) + rng.uniform()) / frames  # 0 to 1
    progress = np.stack([np.minimum(time / turn, 1), np.maximum((time - turn) / (1 - turn), 0)])
    steps = np.array([_STEPS[first], _STEPS[second]]) * rng.uniform(*_PATH, (2, 1))
    path = progress.T @ steps
    room_low = _WALL - path.min(axis=0)
    room_high = SIZE - _WALL - path.max(axis=0)
    return np.asarray(path + rng.uniform(room_low, room_high), np.float64)
