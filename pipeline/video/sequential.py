"""Decode a video from start to end: the reference for selective decoding."""

from collections.abc import Iterator, Sequence, Set
from fractions import Fraction

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from pipeline.video.ffmpeg_errors import (
    DAMAGE_ERRORS,
    capture_errors,
    damage_reason,
    describe,
    relevant_error,
)
from pipeline.video.opening import VideoError
from pipeline.video.timing import TimedFrame

_DEFAULT_RATE = Fraction(25)  # of a stream without any rate


class SequentialDecoder:
    """Iterate over every frame of a video, with its time, in presentation order.

    The iteration ends before the first sign of damage: every frame that it yields is intact.

    Attributes:
        first: the first frame; None before the iteration.
        seconds: presentation time of the newest frame, since the first one.
        end_seconds: end of the newest frame; equal to ``seconds`` if its duration is unknown.
        count: number of frames so far.
        damage: time and cause of the damage that ended the iteration, such as ``damaged after
            3.2 s (no frame!)``; empty for an intact video.

    Args:
        name: of the video, for messages.
        shown_at: times of the frames in ticks, in the decoder's output order; see ``PacketScan``.
            None takes the times of the frames.
        doubtful_pts: timestamps that are ignored.
        is_truncated: whether the delayed frames at the end of the file are left out, because
            frames between them may be missing.

    Raises (while iterating):
        VideoError: the video has no frame.
    """

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        *,
        name: str,
        shown_at: Sequence[int] | None,
        doubtful_pts: Set[int],
        is_truncated: bool,
    ) -> None:
        self._container = container
        self._stream = stream
        self._packets = container.demux(stream)
        self._time_base = stream.time_base
        self._step = 1 / (stream.guessed_rate or _DEFAULT_RATE)
        self._name = name
        self._shown_ticks = shown_at
        self._doubtful_pts = doubtful_pts
        self._is_truncated = is_truncated
        self._origin = Fraction(0)
        self.first: av.VideoFrame | None = None
        self.seconds = Fraction(0)
        self.end_seconds = Fraction(0)
        self.count = 0
        self.damage = ""

    def __iter__(self) -> Iterator[tuple[TimedFrame, av.VideoFrame]]:
        for frame in self._decoded_frames():
            if self.first is None:
                self.first = frame
                self._origin = self._shown_at(frame) or Fraction(0)
            else:
                self.seconds = self._seconds_after_first(frame)
            time_base = frame.time_base or self._time_base or Fraction(0)
            duration = Fraction((frame.duration or 0) * time_base)
            self.end_seconds = self.seconds + duration
            self.count += 1
            yield TimedFrame(self.seconds, duration), frame
        if self.first is None and not (self.damage or self._is_truncated):
            raise VideoError(self._name, "the video stream holds no frame that can be decoded")

    def _decoded_frames(self) -> Iterator[av.VideoFrame]:
        while frames := self._next_frames():
            yield from frames

    def _next_frames(self) -> list[av.VideoFrame]:
        """Return the next frames; none at the end or at the first sign of damage."""
        frames: list[av.VideoFrame] = []
        cause = ""
        with capture_errors() as errors:
            try:
                while not frames and (packet := next(self._packets, None)) is not None:
                    is_end = packet.size == 0 and packet.dts is None
                    if is_end and self._is_truncated:
                        break
                    frames = packet.decode()
                    if packet.is_corrupt or any(frame.is_corrupt for frame in frames):
                        cause = "a part of a frame is missing"
                        break
            except MemoryError:  # an FFmpeg error, but not damage
                raise
            except DAMAGE_ERRORS as error:
                cause = describe(error)
        cause = relevant_error(errors, self._container, self._stream) or cause
        if cause:
            self.damage = damage_reason(
                "damaged", after_seconds=float(self.end_seconds), cause=cause
            )
            return []
        return frames

    def _seconds_after_first(self, frame: av.VideoFrame) -> Fraction:
        """Return the presentation time of ``frame`` since the first one.

        Some files have no timestamps, or wrong ones. Then the frame is shown one interval after
        the previous one, in the decoder's output order.
        """
        shown_at = self._shown_at(frame)
        if shown_at is None or shown_at - self._origin <= self.seconds:
            return self.seconds + self._step
        return shown_at - self._origin

    def _shown_at(self, frame: av.VideoFrame) -> Fraction | None:
        if self._shown_ticks is not None and self._time_base is not None:
            has_time = self.count < len(self._shown_ticks)
            return self._shown_ticks[self.count] * self._time_base if has_time else None
        time_base = frame.time_base or self._time_base
        if frame.pts is None or frame.pts in self._doubtful_pts or time_base is None:
            return None
        return frame.pts * time_base
