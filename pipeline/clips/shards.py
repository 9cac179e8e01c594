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

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from tqdm import tqdm

from pipeline.clips.sampling import Window, clip_windows, frame_indices
from pipeline.clips.settings import ExtractSection
from pipeline.common.errors import PipelineError
from pipeline.common.files import create_array, write_csv
from pipeline.common.paths import CLIPS_INDEX
from pipeline.common.records import VideoRecord
from pipeline.common.side_inputs import SideInputKind
from pipeline.compute.isolated import Failure
from pipeline.compute.ray_tasks import run_on_ray
from pipeline.compute.settings import ComputeSection
from pipeline.tasks.intervals import ClipFrames

if TYPE_CHECKING:
    from pipeline.tasks.targets import Targets

_COLUMNS = ("name", "target", "group", "frames", "shard", "row")
_VIDEOS_PER_SHARD = 64

_FEWEST_SHARDS, _MOST_SHARDS = 8, 256


@dataclass(frozen=True)
class Shard:
    """The videos of a shard, in the order of their clips."""

    number: int
    videos: Sequence[VideoRecord]

    def path(self, folder: Path, array: str) -> Path:
        """Return the path of the array ``frames`` or ``mask``."""
        return folder / f"{self.number:02d}.{array}.npy"


@dataclass(frozen=True)
class ShardWriter:
    """Writes the shards of a split. Workers of a cluster receive it by pickle.

    Attributes:
        folder: of the split.
        load: returns the frames of a record with n given indices, uint8 [n, H, W, 3]. It is
            called for one clip at a time, so that a long video needs little memory.
        extract: length and sampling of the clips.
        frame_size: H, W.
        target_of: returns the target of the clip of a window.
        side_inputs: ``data.side_inputs``: column of the labels -> kind.
    """

    folder: Path
    load: Callable[[VideoRecord, Sequence[int]], NDArray[np.uint8]]
    extract: ExtractSection
    frame_size: tuple[int, int]
    target_of: Callable[[VideoRecord, Window], str]
    side_inputs: Mapping[str, SideInputKind]

    @property
    def side_columns(self) -> dict[str, str]:
        """The columns of side inputs in clips.csv, and their columns of the labels."""
        return {f"{kind}.{column}": column for column, kind in sorted(self.side_inputs.items())}

    def reserve(self, shard: Shard) -> int:
        """Create the arrays of a shard, as zeros; return its number of clips.

        Raises:
            OSError: the disk is full.
        """
        n_clips = sum(len(self._windows(record)) for record in shard.videos)
        shape = (n_clips, self.extract.frames, *self.frame_size, 3)
        create_array(shard.path(self.folder, "frames"), np.uint8, shape)
        create_array(shard.path(self.folder, "mask"), np.bool_, shape[:2])
        return n_clips

    def write(self, shard: Shard) -> Iterator[VideoRecord]:
        """Write the clips of a reserved shard; yield each video after its clips."""
        frames = open_memmap(shard.path(self.folder, "frames"), "r+")
        mask = open_memmap(shard.path(self.folder, "mask"), "r+")
        row = 0
        for record in shard.videos:
            for start, stop in self._windows(record):
                indices = (start + frame_indices(stop - start, self.extract)).tolist()
                n_real = len(indices)  # the rest of the row stays zeros and False
                frames[row, :n_real], mask[row, :n_real] = self.load(record, indices), True
                row += 1
            yield record
        frames.flush()
        mask.flush()

    def write_whole(self, shard: Shard) -> None:
        """Write the clips of a reserved shard."""
        for _ in self.write(shard):
            pass

    def rows(self, records: Iterable[VideoRecord], n_shards: int) -> Iterator[dict[str, object]]:
        """Yield the rows of clips.csv, for records by name."""
        n_rows: Counter[int] = Counter()  # by shard
        for record in records:
            shard = shard_of(record, n_shards)
            for window in self._windows(record):
                yield {
                    "name": record.name,
                    "target": self.target_of(record, window),
                    "group": record.group,
                    "frames": len(frame_indices(window.stop - window.start, self.extract)),
                    "shard": shard,
                    "row": n_rows[shard],
                    **{name: record.extra[cell] for name, cell in self.side_columns.items()},
                }
                n_rows[shard] += 1

    def _windows(self, record: VideoRecord) -> list[Window]:
        assert record.facts is not None
        return clip_windows(record.facts.frames, self.extract)


def video_target(record: VideoRecord, window: Window) -> str:  # noqa: ARG001
    """Return the target of a video for each of its clips."""
    return record.target


def clip_target(
    record: VideoRecord, window: Window, *, targets: "Targets", length: int, fps: float
) -> str:
    """Return the target of a clip of ``length`` frames, which may depend on the window."""
    return targets.of_clip(record.target, ClipFrames(range(*window), length, fps))


def write_clips(
    folder: Path,
    records: Iterable[VideoRecord],
    *,
    load: Callable[[VideoRecord, Sequence[int]], NDArray[np.uint8]],
    extract: ExtractSection,
    frame_size: tuple[int, int],
    target_of: Callable[[VideoRecord, Window], str] = video_target,
    side_inputs: Mapping[str, SideInputKind] | None = None,
    compute: ComputeSection | None = None,
) -> int:
    """Write the clips of every record into ``folder``, a new folder.

    Args:
        records: usable videos of one split, decoded.
        load, extract, frame_size, target_of, side_inputs: of ``ShardWriter``.
        compute: where the shards are written; None: in this process, as with engine ``local``.

    Returns:
        The number of clips.

    Raises:
        OSError: the disk is full.
        PipelineError: as ``run_on_ray``, with ``compute.engine`` ray.
    """
    folder.mkdir(parents=True)
    ordered = sorted(records, key=lambda record: record.name)
    n_shards = shard_count(len(ordered))
    writer = ShardWriter(folder, load, extract, frame_size, target_of, side_inputs or {})
    by_shard: dict[int, list[VideoRecord]] = {}
    for record in ordered:
        by_shard.setdefault(shard_of(record, n_shards), []).append(record)
    shards = [Shard(number, videos) for number, videos in sorted(by_shard.items())]
    # At first, so that a full disk costs no time.
    n_clips = sum(writer.reserve(shard) for shard in shards)
    if compute and compute.engine == "ray":
        written = _on_ray(writer, shards, compute)
    else:
        written = chain.from_iterable(map(writer.write, shards))
    for _ in tqdm(written, folder.name, len(ordered), unit="video", disable=None):
        pass
    rows = writer.rows(ordered, n_shards)
    write_csv(folder / CLIPS_INDEX, [*_COLUMNS, *writer.side_columns], rows)
    return n_clips


def _on_ray(
    writer: ShardWriter, shards: Sequence[Shard], compute: ComputeSection
) -> Iterator[VideoRecord]:
    """Write the shards on a cluster; yield each video after its shard."""
    chunks = [[shard] for shard in shards]
    for shard, result in run_on_ray(
        writer.write_whole, chunks, compute=compute, timeout_seconds=None
    ):
        if isinstance(result, Failure):
            path = shard.path(writer.folder, "frames")
            raise PipelineError(
                f"{path}: cannot be written: {result.reason}. Run: vidpipe repro extract"
            )
        yield from shard.videos


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
