"""Decoding a video from start to end: the plain way, which says what a video's frames are."""

from collections.abc import Iterator
from fractions import Fraction

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from pipeline.video.damage import DAMAGE_ERRORS, complaint_about, complaints, detail, reason
from pipeline.video.source import VideoError, too_long
from pipeline.video.timing import TimedFrame

_UNKNOWN_RATE = Fraction(25)


class SequentialDecoder:
    """Iterate over every frame of a video, with its time, in presentation order.

    It ends before the first sign of damage: every frame that it gave is right.

    Attributes:
        first: the first frame, once there is one.
        seconds: when the newest frame is shown, since the first one.
        end_seconds: when it ends, as far as it says.
        count: frames so far.
        damage: where and why it ended early, such as ``damaged after 3.2 s (no frame!)``.

    Args:
        is_cut: the file is known to be cut short. The frames that the decoder still holds at
            its end are left out then, as those that belong between them may be missing.

    Raises (while iterating):
        VideoError: the video has no frame, or is longer than ``max_seconds``.
    """

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        *,
        name: str,
        max_seconds: float,
        is_cut: bool,
    ) -> None:
        self._container = container
        self._stream = stream
        self._packets = container.demux(stream)
        self._time_base = stream.time_base
        self._step = 1 / (stream.guessed_rate or _UNKNOWN_RATE)
        self._name = name
        self._max_seconds = max_seconds
        self._is_cut = is_cut
        self._origin = Fraction(0)
        self.first: av.VideoFrame | None = None
        self.seconds = Fraction(0)
        self.end_seconds = Fraction(0)
        self.count = 0
        self.damage = ""

    def __iter__(self) -> Iterator[tuple[TimedFrame, av.VideoFrame]]:
        for frame in self._decoded():
            if self.first is None:
                self.first = frame
                self._origin = self._shown_at(frame) or Fraction(0)
            else:
                self.seconds = self._time_after_first(frame)
            time_base = frame.time_base or self._time_base or Fraction(0)
            duration = Fraction((frame.duration or 0) * time_base)
            self.end_seconds = self.seconds + duration
            if self.end_seconds > self._max_seconds:
                raise too_long(self._name, self._max_seconds)
            self.count += 1
            yield TimedFrame(self.seconds, duration), frame
        if self.first is None and not (self.damage or self._is_cut):
            raise VideoError(self._name, "the video stream holds no frame that can be decoded")

    def _decoded(self) -> Iterator[av.VideoFrame]:
        while frames := self._next_frames():
            yield from frames

    def _next_frames(self) -> list[av.VideoFrame]:
        """Return the frames that come next; none at the end and at the first sign of damage."""
        frames: list[av.VideoFrame] = []
        trouble = ""
        with complaints() as heard:
            try:
                while not frames and (packet := next(self._packets, None)) is not None:
                    is_end = packet.size == 0 and packet.dts is None
                    if is_end and self._is_cut:
                        break
                    frames = packet.decode()
                    if packet.is_corrupt or any(frame.is_corrupt for frame in frames):
                        trouble = "a part of a frame is missing"
                        break
            except DAMAGE_ERRORS as error:
                trouble = detail(error)
        trouble = complaint_about(heard, self._container, self._stream) or trouble
        if trouble:
            self.damage = reason("damaged", after_seconds=float(self.end_seconds), because=trouble)
            return []
        return frames

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
