"""Clips on disk: plain .npy files that are memory-mapped, a few shards a split.

::

    data/clips/train/clips.csv       one row a clip: name of the video, label, group, frames,
                                     shard, row
    data/clips/train/03.frames.npy   uint8 [n, T, H, W, 3], RGB
    data/clips/train/03.mask.npy     bool [n, T], True for a real frame, right-padded

A clip's shard follows from the key of its video alone, so one more video rewrites one shard. The
clips of one video stand together, in the order of time.
"""

from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from tqdm import tqdm

from pipeline.base.errors import PipelineError
from pipeline.base.files import read_csv, sha256_of_file, sha256_of_json, write_csv
from pipeline.clips.sampling import ClipSpec
from pipeline.clips.windows import make_clips, number_of_clips
from pipeline.video.reading import FrameSpec
from pipeline.video.store import load_frames

_INDEX = "clips.csv"
ShardKey = tuple[Path, int]  # folder of the split, number
_COLUMNS = ("name", "label", "group", "frames", "shard", "row")


@dataclass(frozen=True)
class ClipSource:
    """A video in the frame store, to make clips of."""

    name: str
    label: str
    group: str
    key: str  # of the frames; hexadecimal
    stored: Path
    n_frames: int

    def shard(self, n_shards: int) -> int:
        return int(self.key[:8], 16) % n_shards


@dataclass(frozen=True)
class Shard:
    """Some clips of a split, memory-mapped.

    frames: uint8 [n, T, H, W, 3].
    mask: bool [n, T].
    """

    frames: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    files: tuple[Path, Path]

    def digest(self) -> str:
        """Return the SHA-256 that identifies the content."""
        return sha256_of_json([sha256_of_file(path) for path in self.files])


class ClipArrays:
    """The clips of a split or of several, memory-mapped: only those asked for are read.

    Attributes:
        input_name: of a classifier's input for the frames.
        names: of the video of each clip.
        labels: class names, one a clip.
        groups: one a clip; clips of one group come from one scene.
    """

    input_name = "frames"

    def __init__(self, *folders: Path) -> None:
        """Open folders that write_clips wrote with one and the same ``clip_spec``.

        Raises:
            PipelineError: a folder is missing.
        """
        self.names: list[str] = []
        self.labels: list[str] = []
        self.groups: list[str] = []
        self._where: list[tuple[ShardKey, int]] = []  # with the row
        for folder in folders:
            if not (folder / _INDEX).exists():
                raise PipelineError(f"{folder}: no clips there. Run the extract stage (dvc repro).")
            rows = read_csv(folder / _INDEX)
            self.names += [row["name"] for row in rows]
            self.labels += [row["label"] for row in rows]
            self.groups += [row["group"] for row in rows]
            self._where += [((folder, int(row["shard"])), int(row["row"])) for row in rows]
        keys = sorted({key for key, _ in self._where})
        self._shards = {key: _open_shard(*key) for key in keys}

    def chosen(self, indices: Iterable[int]) -> Self:
        """Return these clips, in this order."""
        part = copy(self)
        indices = list(indices)
        part.names = [self.names[index] for index in indices]
        part.labels = [self.labels[index] for index in indices]
        part.groups = [self.groups[index] for index in indices]
        part._where = [self._where[index] for index in indices]
        return part

    def __len__(self) -> int:
        return len(self._where)

    def frames(self, index: int) -> NDArray[np.uint8]:
        """Return uint8 [T, H, W, 3], RGB, zeros where the mask is False."""
        shard, row = self._where[index]
        clip: NDArray[np.uint8] = self._shards[shard].frames[row]
        return clip

    def mask(self, index: int) -> NDArray[np.bool_]:
        """Return bool [T], True for a real frame, right-padded."""
        shard, row = self._where[index]
        mask: NDArray[np.bool_] = self._shards[shard].mask[row]
        return mask

    def masks(self) -> NDArray[np.bool_]:
        """Return bool [N, T], True for a real frame, right-padded."""
        return np.stack([self.mask(index) for index in range(len(self))])

    def video_numbers(self) -> NDArray[np.int64]:
        """Return int64 [N]: the number of the video of each clip, in order of appearance."""
        numbers: dict[str, int] = {}
        return np.array([numbers.setdefault(name, len(numbers)) for name in self.names], np.int64)

    def first_of_videos(self) -> list[int]:
        """Return the index of the first clip of each video, in order of appearance."""
        _, first = np.unique(self.video_numbers(), return_index=True)
        return [int(index) for index in first]

    def shards(self) -> dict[ShardKey, Shard]:
        """Return all shards of the folders."""
        return dict(self._shards)

    def position(self, index: int) -> tuple[ShardKey, int]:
        """Return the shard of a clip, and its row there."""
        return self._where[index]


def write_clips(
    folder: Path,
    sources: Iterable[ClipSource],
    *,
    frame_spec: FrameSpec,
    clip_spec: ClipSpec,
    n_shards: int,
) -> None:
    """Make the clips of every source and write the shards of a split into ``folder``."""
    folder.mkdir(parents=True)
    by_shard: dict[int, list[ClipSource]] = {}
    for source in sorted(sources, key=lambda source: source.name):
        by_shard.setdefault(source.shard(n_shards), []).append(source)
    rows = []
    progress = tqdm(
        total=sum(map(len, by_shard.values())), desc=folder.name, unit="video", disable=None
    )
    with progress:
        for shard, members in sorted(by_shard.items()):
            of_clips = [
                member
                for member in members
                for _ in range(number_of_clips(member.n_frames, clip_spec))
            ]
            counts = _write_shard(folder, shard, members, frame_spec, clip_spec, progress.update)
            rows += [
                {
                    "name": source.name,
                    "label": source.label,
                    "group": source.group,
                    "frames": count,
                    "shard": shard,
                    "row": row,
                }
                for row, (source, count) in enumerate(zip(of_clips, counts, strict=True))
            ]
    write_csv(folder / _INDEX, _COLUMNS, sorted(rows, key=lambda row: str(row["name"])))


def _write_shard(
    folder: Path,
    shard: int,
    sources: Sequence[ClipSource],
    frame_spec: FrameSpec,
    clip_spec: ClipSpec,
    advance: Callable[[], object],
) -> list[int]:
    """Fill a shard video by video; return the number of real frames of each clip."""
    n_clips = sum(number_of_clips(source.n_frames, clip_spec) for source in sources)
    shape = (n_clips, clip_spec.frames, frame_spec.height, frame_spec.width, 3)
    frames = open_memmap(_frames_path(folder, shard), "w+", np.dtype(np.uint8), shape)
    mask = open_memmap(_mask_path(folder, shard), "w+", np.dtype(np.bool_), shape[:2])
    row = 0
    for source in sources:
        for clip in make_clips(load_frames(source.stored, frame_spec), clip_spec):
            frames[row], mask[row] = clip.frames, clip.mask
            row += 1
        advance()
    frames.flush()
    mask.flush()
    return [int(count) for count in mask.sum(axis=1)]


def _open_shard(folder: Path, number: int) -> Shard:
    files = _frames_path(folder, number), _mask_path(folder, number)
    frames, mask = (np.load(path, mmap_mode="r") for path in files)
    return Shard(frames, mask, files)


def _frames_path(folder: Path, shard: int) -> Path:
    return folder / f"{shard:02d}.frames.npy"


def _mask_path(folder: Path, shard: int) -> Path:
    return folder / f"{shard:02d}.mask.npy"
