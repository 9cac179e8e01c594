"""One function gives a video's frames to training, evaluation and serving."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from pipeline.video.picture import Fit, Picture, small_picture
from pipeline.video.source import (
    DAMAGE_ERRORS,
    Limits,
    VideoError,
    damage,
    open_video,
    source_name,
)
from pipeline.video.timing import TimedFrame, exact_rate, frames_at_rate

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
    source_fps: float  # measured over the frames that were decoded; 0 for a single frame
    seconds_read: float  # from the first frame to the last one decoded
    frames_read: int


class FrameReader:
    """Iterate over the frames of a video at a constant rate.

    Each item is uint8 [spec.height, spec.width, 3], RGB. ``info`` is there once the
    iteration has ended; memory holds a few source frames, whatever the video's length.

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
    ) -> None:
        self._source = source
        self._spec = spec
        self._limits = limits
        self._segment = segment
        self._name = source_name(source)
        self._first: av.VideoFrame | None = None
        self._seconds = Fraction(0)
        self._frames_read = 0
        self.info: VideoInfo | None = None

    def __iter__(self) -> Iterator[Picture]:
        kept = 0
        with open_video(self._source, limits=self._limits) as (container, stream):
            chosen = frames_at_rate(
                self._decoded(container, stream),
                fps=exact_rate(self._spec.fps),
                start_seconds=exact_rate(self._segment.start_seconds or 0),
                end_seconds=_exact_or_none(self._segment.end_seconds),
            )
            for frame in chosen:
                kept += 1
                yield small_picture(
                    frame,
                    pixel_aspect=float(stream.sample_aspect_ratio or 1),
                    width=self._spec.width,
                    height=self._spec.height,
                    fit=self._spec.fit,
                )
            if self._first is None:
                raise VideoError(self._name, "the video stream holds no frame that can be decoded")
            if kept == 0:
                raise VideoError(
                    self._name,
                    f"no frame between start_seconds = {self._segment.start_seconds} and "
                    f"end_seconds = {self._segment.end_seconds}; "
                    f"the last frame is at {float(self._seconds):.2f} s",
                )
            self.info = self._found(container, stream, self._first)

    def _decoded(
        self, container: InputContainer, stream: VideoStream
    ) -> Iterator[tuple[TimedFrame, av.VideoFrame]]:
        """Yield every frame in presentation order with its time since the first."""
        frames = container.decode(stream)
        origin = Fraction(0)
        while True:
            try:
                frame = next(frames, None)
            except DAMAGE_ERRORS as error:
                raise damage(self._name, error, after_seconds=float(self._seconds)) from None
            if frame is None:
                return
            if frame.is_corrupt:
                raise VideoError(self._name, f"damaged after {float(self._seconds):.1f} s")
            if self._first is None:
                self._first = frame
                origin = _shown_at(frame, stream) or Fraction(0)
            else:
                self._seconds = self._next_time(frame, stream, origin)
            self._frames_read += 1
            yield TimedFrame(self._seconds, _duration(frame, stream)), frame

    def _next_time(self, frame: av.VideoFrame, stream: VideoStream, origin: Fraction) -> Fraction:
        """Return when ``frame`` is shown: by its timestamp, or one step on where that fails.

        Some AVI files give no timestamps, or the order of decoding instead of the order of
        showing; the decoder's order of output is right then, and the rate is all there is.
        """
        shown_at = _shown_at(frame, stream)
        if shown_at is None or shown_at - origin <= self._seconds:
            seconds = self._seconds + 1 / (stream.guessed_rate or exact_rate(self._spec.fps))
        else:
            seconds = shown_at - origin
        if seconds > self._limits.max_seconds:
            raise VideoError(
                self._name, f"longer than decode.max_seconds = {self._limits.max_seconds:g}"
            )
        return seconds

    def _found(
        self, container: InputContainer, stream: VideoStream, first: av.VideoFrame
    ) -> VideoInfo:
        seconds = float(self._seconds)
        return VideoInfo(
            container=container.format.name,
            codec=stream.codec_context.codec.canonical_name,
            width=first.width,
            height=first.height,
            rotation=first.rotation,
            source_fps=round((self._frames_read - 1) / seconds, 3) if seconds else 0.0,
            seconds_read=round(seconds, 3),
            frames_read=self._frames_read,
        )


def read_frames(
    source: Path | bytes, spec: FrameSpec, *, limits: Limits, segment: Segment = WHOLE_VIDEO
) -> NDArray[np.uint8]:
    """Return the frames of a video at ``spec.fps``: uint8 [N, height, width, 3], RGB, N >= 1.

    Raises:
        VideoError: the file is no video, damaged, over a limit, or has no frame in ``segment``.
    """
    return np.stack(list(FrameReader(source, spec, limits=limits, segment=segment)))


def _shown_at(frame: av.VideoFrame, stream: VideoStream) -> Fraction | None:
    time_base = frame.time_base or stream.time_base
    return None if frame.pts is None or time_base is None else frame.pts * time_base


def _duration(frame: av.VideoFrame, stream: VideoStream) -> Fraction:
    time_base = frame.time_base or stream.time_base
    return frame.duration * time_base if frame.duration and time_base else Fraction(0)


def _exact_or_none(seconds: float | None) -> Fraction | None:
    return None if seconds is None else exact_rate(seconds)
