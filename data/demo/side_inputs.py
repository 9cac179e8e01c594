"""Demo set for side inputs: which way an object goes, seen by a camera on either side of its track.

The object moves left or right in the picture. ``camera_metres`` is the distance of the camera from
the track, negative on the other side of it, where left and right are exchanged. So neither the
video nor the number shows the class, ``eastwards`` or ``westwards``; both together do. A single
frame or shuffled frames do not show the motion. ``site`` has nothing to do with the class.
"""

import numpy as np
from numpy.typing import NDArray

from data.demo.drawing import SIZE, Drawn, draw_along, drifting_background, noise, painted, polygon

CLASSES = ("eastwards", "westwards")
SIDE_INPUTS = {"camera_metres": "number", "site": "category"}

_CAMERA_METRES = (2.0, 12.0)  # from the track, on either side
_SITES = ("bridge", "harbour", "station")
_LENGTH = (26.0, 32.0)  # pixels, of the way of the object
_RADIUS = (8.0, 11.0)
_HOME_OFFSET = 6.0  # of the middle of the way from the centre of the picture, at most


def draw(frames: int, rng: np.random.Generator) -> Drawn:
    """Draw a clip of this many frames, and return it with its rows of the labels table."""
    cells = draw_cells(rng)
    metres = float(cells["camera_metres"])
    return render_clip(cells["label"], metres, frames=frames, rng=rng), [cells]


def draw_cells(rng: np.random.Generator) -> dict[str, str]:
    """Choose the cells of a row of the labels table: label and side inputs."""
    metres = rng.uniform(*_CAMERA_METRES) * rng.choice([-1, 1])
    return {
        "label": str(rng.choice(CLASSES)),
        "camera_metres": f"{metres:.1f}",
        "site": str(rng.choice(_SITES)),
    }


def render_clip(
    label: str, camera_metres: float, *, frames: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Draw a clip of this class, seen by this camera: uint8 [frames, SIZE, SIZE, 3], RGB."""
    goes_right = (label == "eastwards") == (camera_metres > 0)
    # Evenly spaced over -0.5..0.5, with a random offset.
    walk = (np.arange(frames) + rng.uniform()) / frames - 0.5
    middle = SIZE / 2 + rng.uniform(-_HOME_OFFSET, _HOME_OFFSET, 2)
    step = np.array([rng.uniform(*_LENGTH) * (1 if goes_right else -1), 0.0])
    look = painted(rng.uniform(180, 230, 3), 25 * noise(rng, blur=2))
    cover = polygon(
        int(rng.integers(3, 8)), radius=rng.uniform(*_RADIUS), angle=rng.uniform(0, 2 * np.pi)
    )
    return draw_along(drifting_background(frames, rng), look, cover, middle + walk[:, None] * step)
