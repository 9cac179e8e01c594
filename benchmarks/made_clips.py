"""Clips of noise on disk, as the extract stage writes them."""

from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

from pipeline.base.files import write_csv
from pipeline.clips.shards import ClipArrays

_SHARDS = 4
_CLASSES = 4


def made_clips(folder: Path, *, clips: int, n_frames: int, side: int, share: float) -> ClipArrays:
    """Write clips of which on average ``share`` of the frames are real, and open them.

    Args:
        clips: a multiple of 4, the number of shards.
        side: pixels.
    """
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows: list[dict[str, object]] = []
    in_shard = clips // _SHARDS
    for shard in range(_SHARDS):
        lowest = max(1, round((2 * share - 1) * n_frames))
        lengths = rng.integers(lowest, round(2 * share * n_frames) - lowest + 1, in_shard)
        mask = np.arange(n_frames) < lengths[:, None]
        frames = open_memmap(
            folder / f"{shard:02d}.frames.npy", "w+", np.uint8, (*mask.shape, side, side, 3)
        )
        for row in range(in_shard):
            real = int(lengths[row])
            frames[row, :real] = rng.integers(0, 256, (real, side, side, 3), np.uint8)
            rows.append(
                {
                    "name": f"{shard}-{row}",
                    "label": f"class {len(rows) % _CLASSES}",
                    "group": "",
                    "frames": real,
                    "shard": shard,
                    "row": row,
                }
            )
        frames.flush()
        np.save(folder / f"{shard:02d}.mask.npy", mask)
    write_csv(folder / "clips.csv", list(rows[0]), rows)
    return ClipArrays(folder)
