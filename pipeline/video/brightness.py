"""How bright the stored videos are."""

from collections.abc import Mapping
from pathlib import Path

from tqdm import tqdm

from pipeline.base.files import read_csv, write_csv
from pipeline.video.ledger import Ledger
from pipeline.video.store import load_frames, stored_path

_MOST_BLOCKS = 4  # of a video, so that an hour costs no more than a minute
_DIGITS = 4
_COLUMNS = ("name", "brightness")


def brightness_by_name(frames: Path) -> dict[str, float]:
    """Return the mean of all pixels and channels of each usable video, 0 (black) to 1 (white).

    Of a longer video, frames that are spread evenly over it.

    Raises:
        PipelineError: the decode stage has not finished there, or a file is damaged.
    """
    ledger = Ledger.read(frames)
    usable = [row for row in ledger.rows if row.is_usable]
    found = {}
    for row in tqdm(usable, desc="brightness", unit="video", disable=None):
        path = stored_path(frames, row.stored.key)
        pixels = load_frames(path, ledger.spec, most_blocks=_MOST_BLOCKS)
        found[row.name] = round(float(pixels.mean()) / 255, _DIGITS)
    return found


def write_brightness(path: Path, brightness: Mapping[str, float]) -> None:
    """Write a table of ``name`` and ``brightness``, sorted by name."""
    rows = ({"name": name, "brightness": value} for name, value in sorted(brightness.items()))
    write_csv(path, _COLUMNS, rows)


def read_brightness(path: Path) -> dict[str, float]:
    """Read what write_brightness wrote."""
    return {row["name"]: float(row["brightness"]) for row in read_csv(path)}
