"""Frames of any video of the catalog, from the frame store."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import PipelineError
from pipeline.video.ledger import Ledger
from pipeline.video.store import load_frames, stored_path


class StoredFrames:
    """The frames that decode kept, by the name of their video in the catalog."""

    def __init__(self, folder: Path, starts: Mapping[str, float]) -> None:
        """Open a frame store.

        Args:
            starts: of videos that are a segment of their file, in seconds, by name.

        Raises:
            PipelineError: the decode stage has not finished there.
        """
        ledger = Ledger.read(folder)
        self._folder, self._spec, self._starts = folder, ledger.spec, starts
        self._keys = {row.name: row.stored.key for row in ledger.rows if row.is_usable}

    @property
    def fps(self) -> float:
        """Frames kept a second of video."""
        return self._spec.fps

    def of(self, video: str) -> NDArray[np.uint8]:
        """Return uint8 [N, H, W, 3], RGB.

        Raises:
            PipelineError: there is no such video, or its frames cannot be read.
        """
        if video not in self._keys:
            raise PipelineError(
                f"{self._folder}: no frames of {video}, which evaluate speaks of. Run dvc repro."
            )
        return load_frames(stored_path(self._folder, self._keys[video]), self._spec)

    def at(self, video: str, seconds: float) -> NDArray[np.uint8]:
        """Return the frame uint8 [H, W, 3] nearest to ``seconds`` in the file."""
        frames = self.of(video)
        index = round((seconds - self._starts.get(video, 0.0)) * self.fps)
        nearest: NDArray[np.uint8] = frames[min(max(index, 0), len(frames) - 1)]
        return nearest
