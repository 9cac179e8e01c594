"""Read only the packets around an interval of a video, to list its frames.

The frames of the interval are those that the packet scan of the whole file lists. This follows
from a limit of the codecs: at most 16 frames precede a frame in the file and are shown after it.
So 17 packets with later times prove that all earlier frames have been read.
"""

import io
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import islice
from math import floor
from pathlib import Path

import numpy as np
from av.packet import Packet
from av.video.stream import VideoStream

from pipeline.video.container_header import duration_kind, is_truncated, read_header
from pipeline.video.ffmpeg_errors import DAMAGE_ERRORS, INDEXED_CONTAINER, capture_errors
from pipeline.video.frame_table import MATROSKA, FrameTable, has_variable_rate
from pipeline.video.mp4_index import time_offsets
from pipeline.video.opening import OpenedVideo, source_name
from pipeline.video.packet_scan import PacketScan, read_packets
from pipeline.video.settings import DecodeSection

# H.264 and HEVC allow the most. Source: ITU-T H.264, A.3.1, and H.265, A.4.2 (MaxDpbSize).
_MAX_REORDERED = 16


class _NeedsWholeFile(Exception):  # noqa: N818  (not an error that a user sees)
    """The packets around the interval do not suffice."""


def scan_interval(
    video: OpenedVideo,
    source: Path | bytes,
    decode: DecodeSection,
    *,
    start_seconds: Fraction,
    end_seconds: Fraction | None,
) -> PacketScan | None:
    """Read the packets from the keyframe before an interval to its end.

    Three parts of the file are read: the first packets, for the time of the first frame; those
    of the interval; and the last group of pictures, for the duration.

    Args:
        video: a video that was just opened.
        source: of ``video``.
        start_seconds, end_seconds: since the first frame; None for the end of the video.

    Returns:
        None if the whole file must be scanned: the container has no index, an edit list hides
        frames, times are missing or unexpected, or there is a sign of damage.

    Raises:
        VideoError: the video is encrypted.
    """
    try:
        return _scan(video, source, decode, start_seconds, end_seconds)
    except _NeedsWholeFile:
        return None


def _scan(
    video: OpenedVideo,
    source: Path | bytes,
    decode: DecodeSection,
    start_seconds: Fraction,
    end_seconds: Fraction | None,
) -> PacketScan:
    container, stream, _ = video
    name = source_name(source)
    index = _Index(video, source)
    time_base = stream.time_base or Fraction(1)
    head = FrameTable(container, stream)
    _read(video, islice(container.demux(stream), _MAX_REORDERED + 2), head, name)
    first_pts = head.frames[0].pts
    start_pts = first_pts + floor(start_seconds / time_base)
    end_pts = None if end_seconds is None else first_pts + end_seconds / time_base
    part = FrameTable(container, stream, is_part=True)
    seek_pts = _seek_shown(video, start_pts)
    _read(video, _until_shown(container.demux(stream), end_pts), part, name)
    tail = part
    has_later = end_pts is not None and _is_complete(part, end_pts)
    if has_later:
        tail = FrameTable(container, stream, is_part=True)
        _seek(video, index.end)
        _read(video, container.demux(stream), tail, name)
    claim = read_header(container, stream, hidden_frames=0)
    is_cut = not has_later and is_truncated(
        container,
        source,
        claim,
        frames=index.count,
        end_seconds=tail.end * time_base,
        has_gap_at_end=tail.has_gap_at_end,
        decode=decode,
    )
    if (
        is_cut
        or part.frames[0].pts > start_pts
        # The duration of the last frame may be the interval before it.
        or (not has_later and len(part.frames) < 2)
        or not index.agrees(head=head, part=part, tail=tail)
        # The times may be decoding times: no packet shows that frames are reordered.
        or (head.shown_at and part.shown_at and tail.shown_at)
    ):
        raise _NeedsWholeFile
    seconds = float((tail.end - first_pts) * time_base)
    around = _times_around(part, end_pts)
    if index.count:
        fps = index.count / seconds if seconds and index.count > 1 else None
    else:
        ticks = around[-1] - around[0]
        fps = float((len(around) - 1) / (ticks * time_base)) if ticks else None
    return PacketScan(
        time_base=time_base,
        frames=part.frames,
        first_pts=first_pts,
        packets=part.packets,
        shown_at=None,
        doubtful_pts=frozenset(),
        count=index.count or None,
        seconds=seconds,
        fps=fps,
        durations=duration_kind(container, stream),
        is_variable_rate=has_variable_rate(index.shown if index.count else around),
        claim=claim,
        seek_pts=seek_pts,
    )


class _Index:
    """What the container's index tells of all frames: of an mp4 their times.

    The index of Matroska lists keyframes only.

    Attributes:
        count: number of frames; 0 for Matroska.
        shown: presentation times of all frames since the first, in ascending order, in ticks;
            empty for Matroska.
        end: a time that the last keyframe is not after, in ticks.
    """

    def __init__(self, video: OpenedVideo, source: Path | bytes) -> None:
        container, stream, opening_error = video
        if opening_error or stream.time_base is None:
            raise _NeedsWholeFile
        self._stream = stream
        self._decoded = self.shown = np.zeros(0, np.int64)
        self.count = 0
        match container.format.name:
            case name if name == MATROSKA and container.duration:
                self.end = floor(container.duration / (1_000_000 * stream.time_base))
            case name if name == INDEXED_CONTAINER:
                self._read_mp4(source)
                self.end = int(self._decoded[-1])
            case _:
                raise _NeedsWholeFile

    def _read_mp4(self, source: Path | bytes) -> None:
        entries = ((entry.timestamp, entry.is_discard) for entry in self._stream.index_entries)
        table = np.fromiter(entries, np.dtype((np.int64, 2))).astype(np.int64)
        decoded, is_hidden = table[:, 0], table[:, 1]
        # Fragments are not in the index before they are read. Edits repeat or leave out frames.
        is_whole = 0 < len(decoded) == self._stream.frames
        if not is_whole or is_hidden.any() or (np.diff(decoded) <= 0).any():
            raise _NeedsWholeFile
        with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
            offsets = time_offsets(file, self._stream.id)
        if offsets is None or len(offsets) not in (0, len(decoded)):
            raise _NeedsWholeFile
        ticks = decoded + (offsets if len(offsets) else 0)
        shown = np.unique(ticks)
        if len(shown) < len(ticks) or shown[0] != ticks[0]:
            raise _NeedsWholeFile
        self.count, self._decoded = len(decoded), decoded
        self._since_first = ticks - ticks[0]
        self.shown = shown - shown[0]

    def agrees(self, *, head: FrameTable, part: FrameTable, tail: FrameTable) -> bool:
        """Return whether the index of an mp4 lists the packets that were read, and no others."""
        if not self.count:
            return True
        if len(self._stream.index_entries) != self.count:  # a fragment followed
            return False
        for table in (head, part, tail):
            if table.first_dts is None or table.last_dts is None:
                return False
            start = int(np.searchsorted(self._decoded, table.first_dts))
            expected = self._since_first[start : start + len(table.frames)].tolist()
            if [frame.pts - head.frames[0].pts for frame in table.frames] != expected:
                return False
        return tail.last_dts == self.end


def _seek(video: OpenedVideo, pts: int) -> None:
    """Continue at the keyframe before a time."""
    container, stream, _ = video
    with capture_errors() as errors:
        try:
            container.seek(pts, stream=stream)
        except MemoryError:  # an FFmpeg error, but not damage
            raise
        except DAMAGE_ERRORS:
            raise _NeedsWholeFile from None
    if errors:
        raise _NeedsWholeFile


def _seek_shown(video: OpenedVideo, pts: int) -> int:
    """Continue at a keyframe that is shown by a time; return the time that was sought."""
    container, stream, _ = video
    _seek(video, pts)
    with capture_errors():
        try:
            first = next(container.demux(stream))
        except MemoryError:  # an FFmpeg error, but not damage
            raise
        except (*DAMAGE_ERRORS, StopIteration):
            raise _NeedsWholeFile from None
    # The index of an mp4 has decoding times: its keyframe may be shown later.
    if first.pts is not None and first.dts is not None and first.pts > pts:
        pts = first.dts - 1
    _seek(video, pts)
    return pts


def _read(
    video: OpenedVideo,
    packets: "Iterable[Packet[VideoStream]]",
    table: FrameTable,
    name: str,
) -> None:
    damage = read_packets(video, packets, table, name)
    is_usable = table.is_reliable and not (table.hidden or table.has_decoding_times_only)
    if damage or not is_usable or not table.frames:
        raise _NeedsWholeFile


def _until_shown(
    packets: "Iterable[Packet[VideoStream]]", end_pts: Fraction | None
) -> "Iterator[Packet[VideoStream]]":
    """Yield packets until none that follows is shown before ``end_pts``; None for all."""
    n_later = 0
    for packet in packets:
        yield packet
        n_later += end_pts is not None and packet.pts is not None and packet.pts >= end_pts
        if n_later > _MAX_REORDERED:
            return


def _is_complete(table: FrameTable, end_pts: Fraction) -> bool:
    return sum(frame.pts >= end_pts for frame in table.frames) > _MAX_REORDERED


def _times_around(part: FrameTable, end_pts: Fraction | None) -> list[int]:
    """Return the times from the keyframe before an interval to the first frame after it."""
    times = sorted(frame.pts for frame in part.frames if frame.pts >= part.frames[0].pts)
    n_before = len(times) if end_pts is None else bisect_left(times, end_pts)
    return times[: n_before + 1]
