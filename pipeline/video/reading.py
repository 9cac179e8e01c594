"""Read the frames of a video at a constant rate, for training and serving alike."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.packet import Packet
from av.video.stream import VideoStream
from numpy.typing import NDArray

from pipeline.common.records import DecodeFacts
from pipeline.video.interval_scan import scan_interval
from pipeline.video.memory import memory_limit
from pipeline.video.opening import VideoError, open_video, source_name
from pipeline.video.packet_scan import PacketScan, frame_packets, scan_facts, scan_packets
from pipeline.video.picture import Picture, small_picture
from pipeline.video.picture_files import PictureSeries, picture_series
from pipeline.video.selective import UnreliableFrames, decode_selected
from pipeline.video.sequential import SequentialDecoder
from pipeline.video.settings import DecodeSection
from pipeline.video.timing import DurationKind, FrameT, TimedFrame, exact_rate, frames_at_rate


@dataclass(frozen=True)
class Segment:
    """A part of a video, in seconds since its first frame; None for no bound."""

    start_seconds: float | None = None
    end_seconds: float | None = None

    def bounds(self) -> tuple[Fraction, Fraction | None]:
        """Return the bounds as written; 0 for no start."""
        end = self.end_seconds
        return exact_rate(self.start_seconds or 0), None if end is None else exact_rate(end)


WHOLE_VIDEO = Segment()

# Selects frames of a segment: number of frames at the constant rate -> indices, ascending.
FrameSelection = Callable[[int], Sequence[int]]


class FrameReader:
    """Iterate over the frames of a video at a constant rate.

    Each item is uint8 [decode.height, decode.width, 3], RGB. For videos of any length, memory
    holds a few source frames and at most 16 MiB of compressed video.

    The codec skips frames that are not kept, if this does not change the others (selective.py).
    If packets or decoded frames are not as expected, every frame is decoded (sequential.py),
    which also finds the reason for damage. Of a segment, only the part of the file around it is
    read where the container allows it (interval_scan.py).

    A picture file is a video of one frame. A folder of numbered pictures is a video at
    ``decode.image_fps``; only the pictures that are kept are decoded.

    Attributes:
        facts: complete after the iteration, without key and frames; incomplete after a
            VideoError; None if the file could not be opened.
        count: number of frames of the segment; complete after the iteration.

    Args:
        source: path of a regular file or of a folder of pictures, or the bytes of a file.
        selective: False decodes every frame of a video file.
        select: the frames to yield, if the packet scan tells their number. Otherwise, and with
            ``decode.on_damage: keep``, where damage changes the number, all are yielded.

    Raises (while iterating):
        VideoError: the file is not a video, exceeds a limit, has no frame in ``segment``, or is
            damaged there and ``decode.on_damage`` is ``quarantine``.
    """

    def __init__(
        self,
        source: Path | bytes,
        decode: DecodeSection,
        *,
        segment: Segment = WHOLE_VIDEO,
        selective: bool = True,
        select: FrameSelection | None = None,
    ) -> None:
        self._source = source
        self._decode = decode
        self._segment = segment
        self._selective = selective
        self._select = select if decode.on_damage == "quarantine" else None
        self._name = source_name(source)
        self.facts: DecodeFacts | None = None
        self.count = 0

    def __iter__(self) -> Iterator[Picture]:
        for _, picture in self.numbered():
            yield picture

    def numbered(self) -> Iterator[tuple[int, Picture]]:
        """Yield the index of each frame in the segment, and the frame.

        With ``select``, the indices begin again at 0 if all frames turn out to be needed.
        """
        try:
            if series := picture_series(self._source, self._decode):
                yield from self._frames_of_pictures(series)
            else:
                yield from self._frames_of_video()
        except MemoryError:
            gigabytes = memory_limit(self._decode) / 1e9
            raise VideoError(
                self._name,
                "decoding it needs too much memory (the limit of a decoder process is "
                f"{gigabytes:.1f} GB, from decode.max_pixels)",
                is_lasting=False,
            ) from None

    def _frames_of_pictures(self, series: PictureSeries) -> Iterator[tuple[int, Picture]]:
        count, interval = len(series.files), series.interval
        damage = series.gap if self._reaches(float(count * interval)) else ""
        self.facts = replace(series.facts(), reason=damage)
        if damage and self._decode.on_damage == "quarantine":
            raise VideoError(self._name, damage)
        self._check_length(count * interval)
        timed = ((TimedFrame(number * interval, interval), number) for number in range(count))
        kept = list(self._at_rate(timed, "presentation"))
        if not kept:
            raise self._no_frame(float((count - 1) * interval))
        self.count = len(kept)
        number, picture = -1, None
        for index in self._select(len(kept)) if self._select else range(len(kept)):
            if picture is None or kept[index] != number:
                number = kept[index]
                try:
                    picture = series.read(number, self._decode, like=picture)
                except VideoError as error:
                    if index == 0 or self._decode.on_damage == "quarantine" or not error.is_lasting:
                        raise
                    self.facts = replace(
                        self.facts,
                        reason=error.reason,
                        source_seconds=round(float(number * interval), 3),
                        source_frames=number,
                    )
                    self.count = index
                    return
            height, width, _ = picture.pixels.shape
            self.facts = replace(
                self.facts, codec=picture.codec, width=width, height=height, rotation=0
            )
            frame = av.VideoFrame.from_ndarray(picture.pixels, format="rgb24")
            yield index, small_picture(frame, pixel_aspect=1.0, decode=self._decode)

    def _frames_of_video(self) -> Iterator[tuple[int, Picture]]:
        n_yielded = 0
        if self._selective and self._segment != WHOLE_VIDEO:
            try:
                for index, picture in self._frames_of_interval():
                    yield index, picture
                    n_yielded += 1
            except UnreliableFrames:
                pass  # the frames yielded so far are intact
            else:
                return
        first = 0 if self._select else n_yielded
        for index, picture in self._frames_of_file():
            if index >= first:
                yield index, picture

    def _frames_of_interval(self) -> Iterator[tuple[int, Picture]]:
        """Yield the frames of the segment, without reading the whole file.

        Raises:
            UnreliableFrames: this is not possible, or the segment seems to be damaged.
        """
        start, end = self._segment.bounds()
        with open_video(self._source, self._decode) as video:
            container, stream, _ = video
            scan = scan_interval(
                video, self._source, self._decode, start_seconds=start, end_seconds=end
            )
            if scan is None:
                raise UnreliableFrames
            self.facts = scan_facts(container, stream, scan)
            self._check_scan(scan, damage="")
            yield from self._decode_selectively(stream, scan)

    def _frames_of_file(self) -> Iterator[tuple[int, Picture]]:
        n_yielded = 0
        with open_video(self._source, self._decode) as video:
            container, stream, _ = video
            scan = scan_packets(video, self._source, self._decode)
            damage = scan.damage if self._reaches(scan.seconds) else ""
            self.facts = replace(scan_facts(container, stream, scan), reason=damage)
            self._check_scan(scan, damage)
            if self._selective and scan.frames is not None:
                try:
                    for index, picture in self._decode_selectively(stream, scan):
                        yield index, picture
                        n_yielded += 1
                except UnreliableFrames:
                    pass  # the frames yielded so far are intact
                else:
                    return
        first = 0 if self._select else n_yielded
        self.count = 0
        for index, picture in enumerate(self._decode_sequentially(scan, damage)):
            self.count += 1
            if index >= first:
                yield index, picture

    def _decode_selectively(
        self, stream: VideoStream, scan: PacketScan
    ) -> Iterator[tuple[int, Picture]]:
        kept = list(self._at_rate(scan.timed_frames(), scan.durations))
        if not kept:
            if scan.seek_pts is None:
                raise UnreliableFrames
            *_, (last, _) = scan.timed_frames()
            raise self._no_frame(float(last.seconds))
        self.count = len(kept)
        indices = self._select(len(kept)) if self._select else range(len(kept))
        assert scan.frames is not None
        assert self.facts is not None
        with self._packets(stream, scan) as packets:
            frames = decode_selected(
                stream.codec_context, scan.frames, packets, {kept[index] for index in indices}
            )
            frame: av.VideoFrame | None = None
            for index in indices:
                while frame is None or frame.pts != kept[index]:
                    if (frame := next(frames, None)) is None:  # decoded in another order
                        raise UnreliableFrames
                yield index, self._small_picture(frame, stream)
        assert frame is not None
        self.facts = _add_frame_facts(self.facts, frame)

    @contextmanager
    def _packets(
        self, stream: VideoStream, scan: PacketScan
    ) -> "Iterator[Iterable[Packet[VideoStream]]]":
        if scan.packets is not None:
            yield scan.packets
            return
        with open_video(self._source, self._decode) as (container, reopened, _):
            assert reopened.index == stream.index
            yield frame_packets(container, reopened, scan)

    def _decode_sequentially(self, scan: PacketScan, damage: str) -> Iterator[Picture]:
        with open_video(self._source, self._decode) as (container, stream, _):
            decoder = SequentialDecoder(
                container,
                stream,
                name=self._name,
                shown_at=scan.shown_at,
                doubtful_pts=scan.doubtful_pts,
                is_truncated=bool(damage),
            )
            n_kept = 0
            for frame in self._at_rate(self._limited(decoder), scan.durations):
                n_kept += 1
                yield self._small_picture(frame, stream)
        assert self.facts is not None
        if decoder.first is not None:
            self.facts = _add_frame_facts(self.facts, decoder.first)
        if decoder.damage:
            self.facts = replace(
                self.facts,
                source_seconds=round(float(decoder.end_seconds), 3),
                source_frames=decoder.count,
                reason=damage or decoder.damage,
            )
        if self.facts.reason and (self._decode.on_damage == "quarantine" or not n_kept):
            raise VideoError(self._name, self.facts.reason)
        if not n_kept:
            raise self._no_frame(float(decoder.seconds))

    def _no_frame(self, last_seconds: float) -> VideoError:
        return VideoError(
            self._name,
            f"no frame between start_seconds = {self._segment.start_seconds} and "
            f"end_seconds = {self._segment.end_seconds}; "
            f"the last frame is at {last_seconds:.2f} s",
        )

    def _check_scan(self, scan: PacketScan, damage: str) -> None:
        """Refuse a video that is damaged or too long according to the packet scan."""
        if damage and self._decode.on_damage == "quarantine":
            raise VideoError(self._name, damage)
        if scan.frames is not None:
            self._check_length(scan.seconds)

    def _limited(
        self, timed: Iterable[tuple[TimedFrame, FrameT]]
    ) -> Iterator[tuple[TimedFrame, FrameT]]:
        for frame in timed:
            self._check_length(frame[0].seconds + frame[0].duration_seconds)
            yield frame

    def _check_length(self, end_seconds: float | Fraction) -> None:
        """Refuse a segment that is too long in a video of at least ``end_seconds``."""
        limit = (self._segment.start_seconds or 0) + self._decode.max_seconds
        if end_seconds > limit and self._reaches(limit):
            raise VideoError(
                self._name, f"longer than decode.max_seconds = {self._decode.max_seconds:g}"
            )

    def _reaches(self, seconds: float) -> bool:
        """Return whether the segment ends later than ``seconds`` after the first frame."""
        return self._segment.end_seconds is None or self._segment.end_seconds > seconds

    def _at_rate(
        self, timed: Iterable[tuple[TimedFrame, FrameT]], durations: DurationKind
    ) -> Iterator[FrameT]:
        start, end = self._segment.bounds()
        return frames_at_rate(
            timed,
            fps=exact_rate(self._decode.fps),
            start_seconds=start,
            end_seconds=end,
            durations=durations,
        )

    def _small_picture(self, frame: av.VideoFrame, stream: VideoStream) -> Picture:
        pixel_aspect = float(stream.sample_aspect_ratio or 1)
        return small_picture(frame, pixel_aspect=pixel_aspect, decode=self._decode)


def read_frames(
    source: Path | bytes, decode: DecodeSection, *, segment: Segment = WHOLE_VIDEO
) -> NDArray[np.uint8]:
    """Return the frames of a video: uint8 [N, decode.height, decode.width, 3], RGB, N >= 1.

    Raises:
        VideoError: as for FrameReader.
    """
    return np.stack(list(FrameReader(source, decode, segment=segment)))


def _add_frame_facts(facts: DecodeFacts, frame: av.VideoFrame) -> DecodeFacts:
    return replace(facts, width=frame.width, height=frame.height, rotation=frame.rotation)
