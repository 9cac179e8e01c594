"""Decoding a video from start to end: the plain way, which says what a video's frames are."""

from collections.abc import Iterator
from fractions import Fraction

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from pipeline.video.source import DAMAGE_ERRORS, VideoError, damage
from pipeline.video.timing import TimedFrame

_UNKNOWN_RATE = Fraction(25)


class SequentialDecoder:
    """Iterate over every frame of a video, with its time, in presentation order.

    Attributes:
        first: the first frame, once there is one.
        seconds: when the newest frame is shown, since the first one.
        count: frames so far.

    Raises (while iterating):
        VideoError: the file is damaged, has no frame, or is longer than ``max_seconds``.
    """

    def __init__(
        self, container: InputContainer, stream: VideoStream, *, name: str, max_seconds: float
    ) -> None:
        self._frames = container.decode(stream)
        self._time_base = stream.time_base
        self._step = 1 / (stream.guessed_rate or _UNKNOWN_RATE)
        self._name = name
        self._max_seconds = max_seconds
        self._origin = Fraction(0)
        self.first: av.VideoFrame | None = None
        self.seconds = Fraction(0)
        self.count = 0

    def __iter__(self) -> Iterator[tuple[TimedFrame, av.VideoFrame]]:
        while (frame := self._next()) is not None:
            if self.first is None:
                self.first = frame
                self._origin = self._shown_at(frame) or Fraction(0)
            else:
                self.seconds = self._time_after_first(frame)
            time_base = frame.time_base or self._time_base or Fraction(0)
            duration = Fraction((frame.duration or 0) * time_base)
            if self.seconds + duration > self._max_seconds:
                raise VideoError(
                    self._name, f"longer than decode.max_seconds = {self._max_seconds:g}"
                )
            self.count += 1
            yield TimedFrame(self.seconds, duration), frame
        if self.first is None:
            raise VideoError(self._name, "the video stream holds no frame that can be decoded")

    def _next(self) -> av.VideoFrame | None:
        try:
            frame = next(self._frames, None)
        except DAMAGE_ERRORS as error:
            raise damage(self._name, error, after_seconds=float(self.seconds)) from None
        if frame is not None and frame.is_corrupt:
            raise VideoError(self._name, f"damaged after {float(self.seconds):.1f} s")
        return frame

    def _time_after_first(self, frame: av.VideoFrame) -> Fraction:
        """Return when ``frame`` is shown: by its timestamp, or one step on where that fails.

        Some AVI files give no timestamps, or the order of decoding instead of the order of
        showing; the decoder's order of output is right then, and the rate is all there is.
        """
        shown_at = self._shown_at(frame)
        if shown_at is None or shown_at - self._origin <= self.seconds:
            return self.seconds + self._step
        return shown_at - self._origin

    def _shown_at(self, frame: av.VideoFrame) -> Fraction | None:
        time_base = frame.time_base or self._time_base
        return None if frame.pts is None or time_base is None else frame.pts * time_base
