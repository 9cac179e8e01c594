"""From the frames of videos to what the answer says of them."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from pipeline.clips.metadata import ClipsMetadata
from pipeline.clips.sampling import Clip, make_clip
from pipeline.clips.windows import Window, frames_spanned, parts_of_clips, windows_over_time
from pipeline.model.prediction import mean_of_videos, predict_clips
from pipeline.serving.contract import RequestOptions
from pipeline.serving.decoding import Decoder
from pipeline.serving.sources import VideoSource
from pipeline.video.source import VideoError

_AT_ONCE = 32  # clips


class Scorer:
    """Classifies videos with one model. Call it from as many threads as you like."""

    def __init__(
        self,
        model: keras.Model,
        metadata: ClipsMetadata,
        decoder: Decoder,
        *,
        abstain_below: float | None = None,
    ) -> None:
        """Score with ``model``.

        Args:
            abstain_below: as in ClassifierMetadata.
        """
        self._model = model
        self._metadata = metadata
        self._decoder = decoder
        self._abstain_below = abstain_below
        self._one_at_a_time = threading.Lock()

    def warm_up(self) -> None:
        """Build the graphs for one clip and for any number before a client waits for them."""
        spec = self._metadata.preprocessing.frames
        frame = np.zeros((1, spec.height, spec.width, 3), np.uint8)
        clip = make_clip(frame, self._metadata.preprocessing.clip)
        for count in (1, 2):
            self._probabilities([clip] * count)

    def score(
        self, sources: Sequence[VideoSource], options: RequestOptions
    ) -> list[dict[str, Any]]:
        """Return a row of the answer for each video, in their order: see VideoClassifier.

        Raises:
            VideoError: a video cannot be used, and ``options.keep_going`` is not set.
            OSError: as ``Decoder.frames``.
        """
        queue = _Queue(self._probabilities)
        with closing(self._decoder.frames(sources)) as videos:
            cuts = [self._cut(video, options, queue) for video in videos]
        found = queue.results()
        return [
            self._row(cut, source, found, options)
            for cut, source in zip(cuts, sources, strict=True)
        ]

    def _cut(
        self, video: NDArray[np.uint8] | VideoError, options: RequestOptions, queue: "_Queue"
    ) -> "_Cut | VideoError":
        """Put the clips of a video into the queue, those of its timeline after the others."""
        if isinstance(video, VideoError):
            if options.keep_going:
                return video
            raise video
        spec = self._metadata.preprocessing.clip
        parts = parts_of_clips(video, options.applied_to(spec))
        windows = []
        if options.timeline:
            windows = windows_over_time(len(video), shortest=frames_spanned(spec))
        for part in chain(parts, (video[window.start : window.stop] for window in windows)):
            queue.add(make_clip(part, spec))
        return _Cut(len(parts), windows)

    def _row(
        self,
        cut: "_Cut | VideoError",
        source: VideoSource,
        found: Iterator[NDArray[np.float64]],
        options: RequestOptions,
    ) -> dict[str, Any]:
        """Make the answer of a video, and take what was found of its clips off ``found``."""
        if isinstance(cut, VideoError):
            return {"error": cut.reason}
        of_clips = np.stack(list(islice(found, cut.clips)))
        (mean,) = mean_of_videos(of_clips, np.zeros(cut.clips, np.int64))
        row = {
            "label": self._metadata.class_names[mean.argmax()],
            "probability": float(mean.max()),
            "probabilities": self._named(mean, options),
        }
        is_as_trained = options.is_as_trained(self._metadata.preprocessing.clip)
        if self._abstain_below is not None and is_as_trained:
            row["confident"] = bool(mean.max() >= self._abstain_below)
        if options.timeline:
            started = source.segment.start_seconds or 0.0
            row["timeline"] = self._timeline(cut.windows, started, found, options)
        if options.keep_going:
            row["error"] = None
        return row

    def _timeline(
        self,
        windows: Sequence[Window],
        started: float,
        found: Iterator[NDArray[np.float64]],
        options: RequestOptions,
    ) -> list[dict[str, Any]]:
        """Say what was found in each window; the first begins at ``started`` seconds."""
        fps = self._metadata.preprocessing.frames.fps
        return [
            {
                "start_seconds": started + window.start / fps,
                "end_seconds": started + window.stop / fps,
                "probabilities": self._named(next(found), options),
            }
            for window in windows
        ]

    def _probabilities(self, clips: Sequence[Clip]) -> NDArray[np.float64]:
        with self._one_at_a_time:
            return predict_clips(self._model, clips)

    def _named(self, row: NDArray[np.float64], options: RequestOptions) -> dict[str, float]:
        """Name the probabilities, in the order of the classes; of the top k the best first."""
        names = self._metadata.class_names
        if options.top_k:
            chosen = np.argsort(-row, kind="stable")[: options.top_k].tolist()
        else:
            chosen = range(len(row))
        return {names[index]: float(row[index]) for index in chosen}


@dataclass(frozen=True)
class _Cut:
    """What was taken of a video: so many clips to average, and one of each window over time."""

    clips: int
    windows: Sequence[Window]


class _Queue:
    """Has clips predicted some at a time, in their order, so that few are in memory."""

    def __init__(self, predict: Callable[[Sequence[Clip]], NDArray[np.float64]]) -> None:
        self._predict = predict
        self._waiting: list[Clip] = []
        self._found: list[NDArray[np.float64]] = []

    def add(self, clip: Clip) -> None:
        self._waiting.append(clip)
        if len(self._waiting) == _AT_ONCE:
            self._flush()

    def results(self) -> Iterator[NDArray[np.float64]]:
        """Return float64 [C] of each clip that was added."""
        if self._waiting:
            self._flush()
        return iter(self._found)

    def _flush(self) -> None:
        self._found += list(self._predict(self._waiting))
        self._waiting = []
