"""Collect the frames of a video stream from its packets, before decoding."""

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream
from numpy.typing import NDArray

# Compressed bytes kept in memory. The packets of a larger file are read twice.
_MAX_KEPT_BYTES = 16 << 20
_PACKET_BYTES = 400  # memory of a packet in addition to its content

# FFmpeg's names of containers with at most one time a packet, its decoding time.
_DECODING_TIMES_ONLY = ("avi", "asf", "mpegvideo")
# MPEG-4 in Matroska with another tag was copied from an AVI file, with its times.
MATROSKA, _OWN_MPEG4_TAGS = "matroska,webm", ("\0\0\0\0", "mp4v")
# Codecs that reorder frames only if ``has_b_frames`` is set; MPEG-1 and MPEG-2 always set it.
_REORDERING_CODECS = ("h264", "hevc", "mpeg4")


class CodedFrame(NamedTuple):
    """A frame according to its packet; times in ticks of the stream's time base."""

    pts: int
    duration: int  # 0 when unknown
    is_keyframe: bool
    is_shown: bool  # False if an edit list hides the frame


class FrameTable:
    """The frames of a stream, collected packet by packet.

    Args:
        is_part: the packets do not begin with the first one of the file.
    """

    def __init__(
        self, container: InputContainer, stream: VideoStream, *, is_part: bool = False
    ) -> None:
        self.time_base = stream.time_base or Fraction(1)
        self.is_reliable = stream.time_base is not None
        self.frames: list[CodedFrame] = []
        self.packets: list[Packet[VideoStream]] | None = []
        self.count = 0
        self.hidden = 0
        self.start: int | None = None
        self.end = 0
        self.first_dts: int | None = None
        self.last_dts: int | None = None
        self._is_part = is_part
        rate = stream.guessed_rate
        self._usual_interval = 1 / (rate * self.time_base) if rate else Fraction(0)
        self._codec_name = stream.codec_context.name
        self._has_b_frames = stream.codec_context.has_b_frames
        self.has_decoding_times_only = container.format.name in _DECODING_TIMES_ONLY or (
            container.format.name == MATROSKA
            and self._codec_name == "mpeg4"
            and stream.codec_context.codec_tag not in _OWN_MPEG4_TAGS
        )
        self._times: list[int | None] = []  # of packets that hold a frame
        self._is_increasing = True  # pts, in decoding order
        self._last_pts: int | None = None
        self._kept_bytes = 0
        self._seen_pts: set[int] = set()

    def add(self, packet: "Packet[VideoStream]") -> None:
        times = [packet.pts, packet.dts]
        if self.has_decoding_times_only:
            times.reverse()  # FFmpeg computes pts, and not always correctly
        time = times[1] if times[0] is None else times[0]
        if time is None and not packet.size:
            return  # the end of the file
        self.count += 1
        if packet.dts is not None:
            # Decoding times decrease at the joints of concatenated files.
            if self.last_dts is not None and packet.dts < self.last_dts:
                self.is_reliable = False
            self.first_dts = packet.dts if self.first_dts is None else self.first_dts
            self.last_dts = packet.dts
        self.hidden += packet.is_discard
        if time is not None and not packet.is_discard:
            self.start = time if self.start is None else min(self.start, time)
            self.end = max(self.end, time + (packet.duration or 0))
        if packet.size:
            self._times.append(time)
            self._add_frame(packet)

    @property
    def shown_at(self) -> list[int] | None:
        """Return ``PacketScan.shown_at``."""
        if self.has_decoding_times_only:
            is_reordered = self._has_b_frames or not self._is_increasing
        else:  # the writer of the file stored decoding times as presentation times
            is_known = self._codec_name in _REORDERING_CODECS
            is_reordered = is_known and self._has_b_frames and self._is_increasing
        times = [time for time in self._times if time is not None]
        is_complete = len(times) == len(self._times) and not self.hidden
        return sorted(times) if is_reordered and is_complete else None

    @property
    def doubtful_pts(self) -> set[int]:
        """Return timestamps that several frames share, if other frames have none.

        In program streams, FFmpeg's parser gives some timestamps to an earlier frame, too.
        """
        if None not in self._times:
            return set()
        repeated = {time for time, n in Counter(self._times).items() if n > 1 and time is not None}
        return repeated - {self.start}  # the first frame has time 0 in any case

    def _add_frame(self, packet: "Packet[VideoStream]") -> None:
        if packet.pts is not None:
            if self._last_pts is not None and packet.pts <= self._last_pts:
                self._is_increasing = False
            self._last_pts = packet.pts
        if packet.pts is None or self._is_unexpected(packet, packet.pts):
            self.is_reliable = False
            self.packets = None
            return
        self._seen_pts.add(packet.pts)
        self.frames.append(
            CodedFrame(packet.pts, packet.duration or 0, packet.is_keyframe, not packet.is_discard)
        )
        self._kept_bytes += packet.size + _PACKET_BYTES
        if self._kept_bytes > _MAX_KEPT_BYTES:
            self.packets = None
        if self.packets is not None:
            self.packets.append(packet)

    def _is_unexpected(self, packet: "Packet[VideoStream]", pts: int) -> bool:
        if not self.frames:
            return not packet.is_keyframe
        # Frames shown before the first keyframe refer to frames that the file does not have.
        is_without_reference = not self._is_part and pts < self.frames[0].pts
        return pts in self._seen_pts or is_without_reference

    @property
    def seconds(self) -> float:
        """Return the time from the first frame to the end of the last one."""
        if self.start is None:
            return 0.0
        ticks = Fraction(self.end - self.start)
        if None in self._times:  # the last frames may have no timestamp
            ticks = max(ticks, (self.count - self.hidden) * self._usual_interval)
        return float(ticks * self.time_base)

    @property
    def first_pts(self) -> int | None:
        """Return the presentation time of the first shown frame, in ticks."""
        return min((frame.pts for frame in self.frames if frame.is_shown), default=None)

    @property
    def is_variable_rate(self) -> bool | None:
        """Return whether the rate varies; None if the times are not reliable."""
        return has_variable_rate(self._shown_pts()) if self.is_reliable else None

    @property
    def has_gap_at_end(self) -> bool:
        """Return whether frames seem to be missing after the last packet.

        Packets are in decoding order: the frames shown before the decoding time of the last
        packet are complete, later ones may lack frames in between. A longer interval after that
        time than before it means that the file was cut.
        """
        shown = self._shown_pts()
        if not self.is_reliable or self.last_dts is None or len(shown) < 2:
            return False
        longest_complete, longest_open = self._usual_interval, Fraction(0)
        for earlier, later in pairwise(shown):
            if later > self.last_dts:
                longest_open = max(longest_open, Fraction(later - earlier))
            else:
                longest_complete = max(longest_complete, Fraction(later - earlier))
        return longest_complete * Fraction(3, 2) < longest_open

    def _shown_pts(self) -> list[int]:
        return self.shown_at or sorted(frame.pts for frame in self.frames if frame.is_shown)


def has_variable_rate(ticks: Sequence[int] | NDArray[np.int64]) -> bool:
    """Return whether the intervals differ by more than 10 % and by more than rounding.

    Args:
        ticks: times in ascending order.
    """
    if len(ticks) < 2:
        return False
    intervals = np.diff(ticks)
    shortest, longest = int(intervals.min()), int(intervals.max())
    return longest - shortest > max(2, shortest / 10)
