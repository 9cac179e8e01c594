"""From the frames of videos to what the answer says of them."""

import threading
from collections.abc import Sequence
from itertools import chain
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from pipeline.clips.metadata import ClipsMetadata
from pipeline.clips.sampling import Clip, make_clip
from pipeline.clips.windows import frames_spanned, parts_of_clips, windows_over_time
from pipeline.model.prediction import mean_of_videos, predict_clips
from pipeline.serving.contract import RequestOptions
from pipeline.serving.decoding import Decoder
from pipeline.serving.sources import VideoSource

_AT_ONCE = 32  # videos whose frames are kept, parts whose clips are


class Scorer:
    """Classifies videos with one model. Call it from as many threads as you like."""

    def __init__(self, model: keras.Model, metadata: ClipsMetadata, decoder: Decoder) -> None:
        self._model = model
        self._names = metadata.class_names
        self._preprocessing = metadata.preprocessing
        self._decoder = decoder
        self._one_at_a_time = threading.Lock()

    def warm_up(self) -> None:
        """Build the graphs for one clip and for any number before a client waits for them."""
        shape = self._preprocessing.frames.height, self._preprocessing.frames.width, 3
        clip = make_clip(np.zeros((1, *shape), np.uint8), self._preprocessing.clip)
        for count in (1, 2):
            self._probabilities([clip] * count)

    def score(
        self, sources: Sequence[VideoSource], options: RequestOptions
    ) -> list[dict[str, Any]]:
        """Return a row of the answer for each video, in their order: see VideoClassifier.

        Raises:
            VideoError: as ``Decoder.frames``.
        """
        rows: list[dict[str, Any]] = []
        for start in range(0, len(sources), _AT_ONCE):
            some = sources[start : start + _AT_ONCE]
            with self._decoder.frames(some) as videos:
                rows += self._rows(some, videos, options)
        return rows

    def _rows(
        self,
        sources: Sequence[VideoSource],
        videos: Sequence[NDArray[np.uint8]],
        options: RequestOptions,
    ) -> list[dict[str, Any]]:
        spec = options.applied_to(self._preprocessing.clip)
        parts = [parts_of_clips(frames, spec) for frames in videos]
        numbers = np.repeat(np.arange(len(videos)), [len(of_video) for of_video in parts])
        found = mean_of_videos(self._of_parts(list(chain(*parts))), numbers)
        rows: list[dict[str, Any]] = [
            {
                "label": self._names[row.argmax()],
                "probability": float(row.max()),
                "probabilities": self._named(row, options),
            }
            for row in found
        ]
        if options.timeline:
            for row, frames, source in zip(rows, videos, sources, strict=True):
                started = source.segment.start_seconds or 0.0
                row["timeline"] = self._timeline(frames, options, started)
        return rows

    def _timeline(
        self, frames: NDArray[np.uint8], options: RequestOptions, started: float
    ) -> list[dict[str, Any]]:
        """Score clips of consecutive frames that cover the video; the first is at ``started``."""
        spec, fps = self._preprocessing.clip, self._preprocessing.frames.fps
        windows = windows_over_time(len(frames), shortest=frames_spanned(spec))
        found = self._of_parts([frames[window.start : window.stop] for window in windows])
        return [
            {
                "start_seconds": started + window.start / fps,
                "end_seconds": started + window.stop / fps,
                "probabilities": self._named(row, options),
            }
            for window, row in zip(windows, found, strict=True)
        ]

    def _of_parts(self, parts: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
        """Return float64 [N, C] of one clip of each part; few of them are in memory at a time."""
        spec = self._preprocessing.clip
        some = [parts[first : first + _AT_ONCE] for first in range(0, len(parts), _AT_ONCE)]
        return np.concatenate(
            [self._probabilities([make_clip(part, spec) for part in group]) for group in some]
        )

    def _probabilities(self, clips: Sequence[Clip]) -> NDArray[np.float64]:
        with self._one_at_a_time:
            return predict_clips(self._model, clips)

    def _named(self, row: NDArray[np.float64], options: RequestOptions) -> dict[str, float]:
        """Name the probabilities, in the order of the classes; of the top k the best first."""
        if options.top_k:
            chosen = np.argsort(-row, kind="stable")[: options.top_k].tolist()
        else:
            chosen = range(len(row))
        return {self._names[index]: float(row[index]) for index in chosen}
