"""Read the clips of splits, memory-mapped. ``shards.py`` describes the files."""

from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pipeline.clips.sampling import Clip
from pipeline.common.errors import PipelineError
from pipeline.common.files import read_csv, sha256_of_file, sha256_of_json
from pipeline.common.paths import CLIPS_INDEX
from pipeline.common.side_inputs import (
    SIDE_INPUT_KINDS,
    SideArrays,
    SideInput,
    SideInputKind,
    learn_side_inputs,
    side_arrays,
)

ShardKey = tuple[Path, int]  # folder of the split, number


@dataclass(frozen=True)
class Shard:
    """Some clips of a split, memory-mapped.

    Attributes:
        frames: uint8 [n, T, H, W, 3].
        mask: bool [n, T].
        files: of ``frames`` and ``mask``.
    """

    frames: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    files: tuple[Path, Path]

    def digest(self) -> str:
        """Return a SHA-256 of the content."""
        return sha256_of_json([sha256_of_file(path) for path in self.files])


class ClipArrays:
    """The clips of one or more splits, memory-mapped.

    Attributes:
        names: name of the video of each clip.
        targets: target of each clip, as text.
        groups: group of each clip.
        side_cells: cells of the side inputs of each clip, by column.
    """

    def __init__(self, *folders: Path) -> None:
        """Open folders that ``write_clips`` wrote with the same settings.

        Raises:
            PipelineError: a folder has no clips.
        """
        self.names: list[str] = []
        self.targets: list[str] = []
        self.groups: list[str] = []
        self.side_cells: list[dict[str, str]] = []
        self._side_kinds: dict[str, SideInputKind] = {}
        self._positions: list[tuple[ShardKey, int]] = []
        for folder in folders:
            if not (folder / CLIPS_INDEX).exists():
                raise PipelineError(f"{folder}: no clips. Build them with: dvc repro extract")
            rows = read_csv(folder / CLIPS_INDEX)
            self.names += [row["name"] for row in rows]
            self.targets += [row["target"] for row in rows]
            self.groups += [row["group"] for row in rows]
            self._side_kinds |= {
                name.split(".", 1)[1]: kind
                for name in rows[0]
                for kind in SIDE_INPUT_KINDS
                if name.startswith(f"{kind}.")
            }
            self.side_cells += [
                {column: row[f"{kind}.{column}"] for column, kind in self._side_kinds.items()}
                for row in rows
            ]
            self._positions += [((folder, int(row["shard"])), int(row["row"])) for row in rows]
        keys = sorted({key for key, _ in self._positions})
        self._shards = {key: _open_shard(*key) for key in keys}

    def chosen(self, indices: Iterable[int]) -> Self:
        """Return the clips with these indices, in this order."""
        part = copy(self)
        indices = list(indices)
        part.names = [self.names[index] for index in indices]
        part.targets = [self.targets[index] for index in indices]
        part.groups = [self.groups[index] for index in indices]
        part.side_cells = [self.side_cells[index] for index in indices]
        part._positions = [self._positions[index] for index in indices]
        return part

    def __len__(self) -> int:
        return len(self._positions)

    def frames(self, index: int) -> NDArray[np.uint8]:
        """Return uint8 [T, H, W, 3], RGB, zeros where the mask is False."""
        shard, row = self._positions[index]
        clip: NDArray[np.uint8] = self._shards[shard].frames[row]
        return clip

    def frame_inputs(self, index: int) -> dict[str, NDArray[np.uint8]]:
        """Return the frames of one clip by name of the model input."""
        return {"frames": self.frames(index)}

    def mask(self, index: int) -> NDArray[np.bool_]:
        """Return bool [T], True for a real frame, right-padded."""
        shard, row = self._positions[index]
        mask: NDArray[np.bool_] = self._shards[shard].mask[row]
        return mask

    def masks(self) -> NDArray[np.bool_]:
        """Return bool [N, T], True for a real frame, right-padded."""
        return np.stack([self.mask(index) for index in range(len(self))])

    def video_targets(self) -> list[str]:
        """Return the target of the first clip of each video, in order of appearance."""
        return [self.targets[index] for index in self.first_of_videos()]

    def learn_side_inputs(self) -> tuple[SideInput, ...]:
        """Learn the side inputs of these videos, those of the training split.

        Raises:
            PipelineError: all videos have the same number.
        """
        cells = [self.side_cells[index] for index in self.first_of_videos()]
        return learn_side_inputs(self._side_kinds, cells)

    def side_arrays(self) -> SideArrays:
        """Return the side inputs [N, columns] by name of the model input; {} without any."""
        return side_arrays(self._side_kinds, self.side_cells)

    def clip(self, index: int) -> Clip:
        """Return one clip in memory."""
        side_inputs = self.chosen([index]).side_arrays()
        return Clip(
            np.array(self.frames(index)),
            np.array(self.mask(index)),
            {name: array[0] for name, array in side_inputs.items()},
        )

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
        """Return the shard of a clip and its row in the shard."""
        return self._positions[index]


def _open_shard(folder: Path, number: int) -> Shard:
    files = folder / f"{number:02d}.frames.npy", folder / f"{number:02d}.mask.npy"
    frames, mask = (np.load(path, mmap_mode="r") for path in files)
    return Shard(frames, mask, files)
