"""One function gives a video's frames to training, evaluation and serving."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from pipeline.video.picture import Fit, Picture, small_picture
from pipeline.video.selective import UntrustedTimestamps, decode_selected, frame_table
from pipeline.video.sequential import SequentialDecoder
from pipeline.video.source import Limits, VideoError, open_video, source_name
from pipeline.video.timing import FrameT, TimedFrame, exact_rate, frames_at_rate

# Raise it when the same file and spec would give other frames than before: every stored
# frame file and every registered model carries the number.
FRAMES_VERSION = 1


@dataclass(frozen=True)
class FrameSpec:
    """Which frames of a video are kept, and how large."""

    fps: float
    width: int
    height: int
    fit: Fit


@dataclass(frozen=True)
class Segment:
    """The part of a video that one row of the labels speaks of; seconds since its first frame."""

    start_seconds: float | None = None
    end_seconds: float | None = None


WHOLE_VIDEO = Segment()


@dataclass(frozen=True)
class VideoInfo:
    """What was found in a video while its frames were read."""

    container: str
    codec: str
    width: int  # of the coded picture, before rotation
    height: int
    rotation: int  # degrees counter-clockwise that turn the coded picture upright
    source_fps: float  # measured; 0 for a single frame
    source_seconds: float  # from the first frame to the last one that was looked at
    source_frames: int  # that were looked at


class FrameReader:
    """Iterate over the frames of a video at a constant rate.

    Each item is uint8 [spec.height, spec.width, 3], RGB. ``info`` is there once the
    iteration has ended; memory holds a few source
    frames and at most 64 MiB of compressed video, whatever its length.

    Frames that are not kept are skipped by the codec where that changes nothing
    (selective.py). Wherever something looks odd, everything is decoded (sequential.py),
    which also finds the words for what is wrong.

    Args:
        selective: False decodes everything in any case.

    Raises (while iterating):
        VideoError: the file is no video, damaged, over a limit, or has no frame in ``segment``.
    """

    def __init__(
        self,
        source: Path | bytes,
        spec: FrameSpec,
        *,
        limits: Limits,
        segment: Segment = WHOLE_VIDEO,
        selective: bool = True,
    ) -> None:
        self._source = source
        self._spec = spec
        self._limits = limits
        self._segment = segment
        self._selective = selective
        self._name = source_name(source)
        self.info: VideoInfo | None = None

    def __iter__(self) -> Iterator[Picture]:
        given = 0
        if self._selective:
            try:
                for picture in self._decode_selectively():
                    yield picture
                    given += 1
            except UntrustedTimestamps:
                pass  # what was given so far is right
            else:
                return
        yield from islice(self._decode_sequentially(), given, None)

    def _decode_selectively(self) -> Iterator[Picture]:
        with open_video(self._source, limits=self._limits) as (container, stream):
            table = frame_table(container, stream)
            kept = list(self._at_rate(table.timed))
            if not kept or table.end_seconds > self._limits.max_seconds:
                raise UntrustedTimestamps
            frames = decode_selected(stream.codec_context, table.packets, kept)
            frame = next(frames)
            self.info = _found(container, stream, frame, table.seconds, len(table.packets))
            for timestamp in kept:
                while frame.pts != timestamp:
                    frame = next(frames)
                yield self._small(frame, stream)

    def _decode_sequentially(self) -> Iterator[Picture]:
        with open_video(self._source, limits=self._limits) as (container, stream):
            decoder = SequentialDecoder(
                container, stream, name=self._name, max_seconds=self._limits.max_seconds
            )
            kept = 0
            for frame in self._at_rate(decoder):
                kept += 1
                yield self._small(frame, stream)
            seconds = float(decoder.seconds)
            if kept == 0 or decoder.first is None:
                raise VideoError(
                    self._name,
                    f"no frame between start_seconds = {self._segment.start_seconds} and "
                    f"end_seconds = {self._segment.end_seconds}; "
                    f"the last frame is at {seconds:.2f} s",
                )
            self.info = _found(container, stream, decoder.first, seconds, decoder.count)

    def _at_rate(self, timed: Iterable[tuple[TimedFrame, FrameT]]) -> Iterator[FrameT]:
        end = self._segment.end_seconds
        return frames_at_rate(
            timed,
            fps=exact_rate(self._spec.fps),
            start_seconds=exact_rate(self._segment.start_seconds or 0),
            end_seconds=None if end is None else exact_rate(end),
        )

    def _small(self, frame: av.VideoFrame, stream: VideoStream) -> Picture:
        return small_picture(
            frame,
            pixel_aspect=float(stream.sample_aspect_ratio or 1),
            width=self._spec.width,
            height=self._spec.height,
            fit=self._spec.fit,
        )


def read_frames(
    source: Path | bytes, spec: FrameSpec, *, limits: Limits, segment: Segment = WHOLE_VIDEO
) -> NDArray[np.uint8]:
    """Return the frames of a video at ``spec.fps``: uint8 [N, height, width, 3], RGB, N >= 1.

    Raises:
        VideoError: the file is no video, damaged, over a limit, or has no frame in ``segment``.
    """
    return np.stack(list(FrameReader(source, spec, limits=limits, segment=segment)))


def _found(
    container: InputContainer, stream: VideoStream, first: av.VideoFrame, seconds: float, count: int
) -> VideoInfo:
    return VideoInfo(
        container=container.format.name,
        codec=stream.codec_context.codec.canonical_name,
        width=first.width,
        height=first.height,
        rotation=first.rotation,
        source_fps=round((count - 1) / seconds, 3) if seconds else 0.0,
        source_seconds=round(seconds, 3),
        source_frames=count,
    )
