"""Write the clips of a split as shards of .npy files.

::

    data/clips/train/clips.csv       one row a clip: name of the video, target, group, number
                                     of real frames, shard, row in the shard, side inputs
    data/clips/train/03.frames.npy   uint8 [n, T, H, W, 3], RGB
    data/clips/train/03.mask.npy     bool [n, T], True for a real frame, right-padded

The content key of a video determines its shard, so one more video changes one shard. The clips
of a video are adjacent, in temporal order. ``arrays.py`` reads these files; it is a separate
module, so that an edit of the reader does not rerun the extract stage.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from pipeline.clips.sampling import Window, clip_windows, frame_indices
from pipeline.clips.settings import ExtractSection
from pipeline.common.files import create_array, write_csv
from pipeline.common.paths import CLIPS_INDEX
from pipeline.common.records import VideoRecord
from pipeline.common.side_inputs import SideInputKind

_COLUMNS = ("name", "target", "group", "frames", "shard", "row")
_VIDEOS_PER_SHARD = 64
_FEWEST_SHARDS, _MOST_SHARDS = 8, 256


def write_clips(
    folder: Path,
    records: Iterable[VideoRecord],
    *,
    load: Callable[[VideoRecord, Sequence[int]], NDArray[np.uint8]],
    extract: ExtractSection,
    frame_size: tuple[int, int],
    target_of: Callable[[VideoRecord, Window], str] = lambda record, _: record.target,
    side_inputs: Mapping[str, SideInputKind] | None = None,
) -> int:
    """Write the clips of every record into ``folder``, a new folder.

    Args:
        records: usable videos of one split, decoded.
        load: returns the frames of a record with n given indices, uint8 [n, H, W, 3]. It is
            called for one clip at a time, so that a long video needs little memory.
        frame_size: H, W.
        target_of: returns the target of the clip of a window; by default, that of its video.
        side_inputs: ``data.side_inputs``: column of the labels -> kind.

    Returns:
        The number of clips.

    Raises:
        OSError: the disk is full.
    """
    folder.mkdir(parents=True)
    ordered = sorted(records, key=lambda record: record.name)
    n_shards = shard_count(len(ordered))
    side_columns = {
        f"{kind}.{column}": column for column, kind in sorted((side_inputs or {}).items())
    }
    by_shard: dict[int, list[tuple[VideoRecord, list[Window]]]] = {}
    for record in ordered:
        windows = clip_windows(_n_frames(record), extract)
        by_shard.setdefault(shard_of(record, n_shards), []).append((record, windows))
    arrays = {}
    for shard, members in sorted(by_shard.items()):  # at first, so that a full disk costs no time
        n_clips = sum(len(windows) for _, windows in members)
        shape = (n_clips, extract.frames, *frame_size, 3)
        arrays[shard] = (
            create_array(folder / f"{shard:02d}.frames.npy", np.uint8, shape),
            create_array(folder / f"{shard:02d}.mask.npy", np.bool_, shape[:2]),
        )
    rows: list[dict[str, object]] = []
    with tqdm(total=len(ordered), desc=folder.name, unit="video", disable=None) as progress:
        for shard, members in sorted(by_shard.items()):
            frames, mask = arrays.pop(shard)
            row = 0
            for record, windows in members:
                for start, stop in windows:
                    indices = (start + frame_indices(stop - start, extract)).tolist()
                    n_real = len(indices)  # the rest of the row stays zeros and False
                    frames[row, :n_real], mask[row, :n_real] = load(record, indices), True
                    rows.append(
                        {
                            "name": record.name,
                            "target": target_of(record, Window(start, stop)),
                            "group": record.group,
                            "frames": n_real,
                            "shard": shard,
                            "row": row,
                            **{name: record.extra[cell] for name, cell in side_columns.items()},
                        }
                    )
                    row += 1
                progress.update()
            frames.flush()
            mask.flush()
    columns = [*_COLUMNS, *side_columns]
    write_csv(folder / CLIPS_INDEX, columns, sorted(rows, key=lambda row: str(row["name"])))
    return len(rows)


def shard_count(n_videos: int) -> int:
    """Return the number of shards of a split: a power of two, about 64 videos a shard.

    >>> shard_count(450), shard_count(1000), shard_count(10**6)
    (8, 16, 256)
    """
    needed = -(-n_videos // _VIDEOS_PER_SHARD)
    power_of_two = 1 << max(needed - 1, 0).bit_length()
    return min(max(power_of_two, _FEWEST_SHARDS), _MOST_SHARDS)


def shard_of(record: VideoRecord, n_shards: int) -> int:
    """Return the shard of a decoded video."""
    assert record.facts is not None
    return int(record.facts.key[:8], 16) % n_shards


def _n_frames(record: VideoRecord) -> int:
    assert record.facts is not None
    return record.facts.frames
