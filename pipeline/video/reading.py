"""One function gives a video's frames to training, evaluation and serving."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Literal

import av
import numpy as np
from av.packet import Packet
from av.video.stream import VideoStream
from numpy.typing import NDArray

from pipeline.video.info import VideoInfo, found_by_survey, seen_in
from pipeline.video.picture import Fit, Picture, small_picture
from pipeline.video.selective import UntrustedFrames, decode_selected
from pipeline.video.sequential import SequentialDecoder
from pipeline.video.source import Limits, VideoError, open_video, source_name, too_long
from pipeline.video.survey import Survey, frame_packets, survey_video
from pipeline.video.timing import Durations, FrameT, TimedFrame, exact_rate, frames_at_rate

OnDamage = Literal["quarantine", "keep"]

# Raise it when the same file and spec would give other frames than before: every stored
# frame file and every registered model carries the number.
FRAMES_VERSION = 2


@dataclass(frozen=True)
class FrameSpec:
    """Which frames of a video are kept, and how large.

    ``on_damage`` says what becomes of a video that is damaged or cut short: ``quarantine``
    refuses it, ``keep`` keeps the frames before the first sign of damage.
    """

    fps: float
    width: int
    height: int
    fit: Fit
    on_damage: OnDamage = "quarantine"


@dataclass(frozen=True)
class Segment:
    """The part of a video that one row of the labels speaks of; seconds since its first frame."""

    start_seconds: float | None = None
    end_seconds: float | None = None


WHOLE_VIDEO = Segment()


class FrameReader:
    """Iterate over the frames of a video at a constant rate.

    Each item is uint8 [spec.height, spec.width, 3], RGB. Memory holds a few source frames
    and at most 16 MiB of compressed video, whatever the length. ``info`` is there once the
    iteration has ended, and after a VideoError as far as the file could be looked at.

    Frames that are not kept are skipped by the codec where that changes nothing
    (selective.py). Wherever something looks odd, everything is decoded (sequential.py),
    which also finds the words for what is wrong.

    Args:
        selective: False decodes everything in any case.

    Raises (while iterating):
        VideoError: the file is no video, over a limit, has no frame in ``segment``, or is
            damaged there and ``spec.on_damage`` is ``quarantine``.
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
        with open_video(self._source, limits=self._limits) as video:
            container, stream, _ = video
            survey = survey_video(video, self._source, limits=self._limits)
            damage = survey.damage if self._reaches(survey.seconds) else ""
            self.info = replace(found_by_survey(container, stream, survey), damage=damage)
            self._refuse(survey, damage)
            if self._selective and survey.frames is not None:
                try:
                    for picture in self._decode_selectively(stream, survey):
                        yield picture
                        given += 1
                except UntrustedFrames:
                    pass  # what was given so far is right
                else:
                    return
        yield from islice(self._decode_sequentially(survey, damage), given, None)

    def _decode_selectively(self, stream: VideoStream, survey: Survey) -> Iterator[Picture]:
        kept = list(self._at_rate(survey.timed(), survey.durations))
        if not kept:
            raise UntrustedFrames
        assert survey.frames is not None
        assert self.info is not None
        with self._packets(stream, survey) as packets:
            frames = decode_selected(stream.codec_context, survey.frames, packets, set(kept))
            frame: av.VideoFrame | None = None
            for timestamp in kept:
                while frame is None or frame.pts != timestamp:
                    if (frame := next(frames, None)) is None:  # they came in another order
                        raise UntrustedFrames
                    self.info = replace(self.info, **seen_in(frame))
                yield self._small(frame, stream)

    @contextmanager
    def _packets(
        self, stream: VideoStream, survey: Survey
    ) -> "Iterator[Iterable[Packet[VideoStream]]]":
        if survey.packets is not None:
            yield survey.packets
            return
        with open_video(self._source, limits=self._limits) as (container, again, _):
            assert again.index == stream.index
            yield frame_packets(container, again)

    def _decode_sequentially(self, survey: Survey, damage: str) -> Iterator[Picture]:
        with open_video(self._source, limits=self._limits) as (container, stream, _):
            decoder = SequentialDecoder(
                container,
                stream,
                name=self._name,
                max_seconds=self._limits.max_seconds,
                is_cut=bool(damage),
            )
            kept = 0
            for frame in self._at_rate(decoder, survey.durations):
                kept += 1
                yield self._small(frame, stream)
        assert self.info is not None
        if decoder.first is not None:
            self.info = replace(self.info, **seen_in(decoder.first))
        if decoder.damage:
            self.info = replace(
                self.info,
                source_seconds=round(float(decoder.end_seconds), 3),
                source_frames=decoder.count,
                damage=damage or decoder.damage,
            )
        if self.info.damage and (self._spec.on_damage == "quarantine" or not kept):
            raise VideoError(self._name, self.info.damage)
        if not kept:
            raise VideoError(
                self._name,
                f"no frame between start_seconds = {self._segment.start_seconds} and "
                f"end_seconds = {self._segment.end_seconds}; "
                f"the last frame is at {float(decoder.seconds):.2f} s",
            )

    def _refuse(self, survey: Survey, damage: str) -> None:
        """Refuse what the survey alone shows to be unusable, before anything is decoded."""
        if damage and self._spec.on_damage == "quarantine":
            raise VideoError(self._name, damage)
        max_seconds = self._limits.max_seconds
        is_long = survey.frames is not None and survey.seconds > max_seconds
        if is_long and self._reaches(max_seconds):
            raise too_long(self._name, max_seconds)

    def _reaches(self, seconds: float) -> bool:
        """Whether the segment needs what comes ``seconds`` after the first frame."""
        return self._segment.end_seconds is None or self._segment.end_seconds > seconds

    def _at_rate(
        self, timed: Iterable[tuple[TimedFrame, FrameT]], durations: Durations
    ) -> Iterator[FrameT]:
        end = self._segment.end_seconds
        return frames_at_rate(
            timed,
            fps=exact_rate(self._spec.fps),
            start_seconds=exact_rate(self._segment.start_seconds or 0),
            end_seconds=None if end is None else exact_rate(end),
            durations=durations,
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
        VideoError: as for FrameReader.
    """
    return np.stack(list(FrameReader(source, spec, limits=limits, segment=segment)))
