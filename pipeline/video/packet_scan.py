"""Read all packets of a video before decoding, to list its frames.

The scan takes 1 to 8 % of the time of decoding everything. Without it, truncated files would not
be noticed, and every frame would have to be decoded to know which ones are kept. Of an interval
of a long video, interval_scan.py reads only the packets around it.
"""

from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from fractions import Fraction
from itertools import dropwhile
from pathlib import Path

from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from pipeline.common.records import DecodeFacts
from pipeline.video.container_header import (
    HeaderClaim,
    duration_kind,
    is_truncated,
    read_header,
)
from pipeline.video.ffmpeg_errors import (
    DAMAGE_ERRORS,
    capture_errors,
    damage_reason,
    describe,
    relevant_error,
)
from pipeline.video.frame_table import CodedFrame, FrameTable
from pipeline.video.mp4_index import MAX_FRAMES
from pipeline.video.opening import OpenedVideo, VideoError, source_name
from pipeline.video.settings import DecodeSection
from pipeline.video.timing import DurationKind, TimedFrame

# Transfer characteristics of HDR pictures: PQ and HLG. Source: ITU-T H.273, table 3.
_HDR_TRANSFERS = (16, 18)


@dataclass(frozen=True)
class PacketScan:
    """The frames of a video stream or of a part of it, according to its packets.

    Attributes:
        frames: in decoding order; None if the packets do not reliably determine the decoded
            frames and their presentation times.
        first_pts: of the first shown frame of the video; None without reliable frames.
        seek_pts: of a part, the time to seek to before its packets are read, in ticks; None for
            the start of the file.
        packets: of ``frames``; None if they are too large to be kept.
        shown_at: the times of all frames in ascending order, in ticks, of a stream whose packets do
            not tell which frame is shown when: the i-th frame from the decoder is shown at
            ``shown_at[i]``. None if the frames have times of their own.
        doubtful_pts: timestamps that may belong to another frame; they must not place a frame.
        count: number of shown frames with packets in the file; None when unknown.
        seconds: from the first frame to the end of the last one, of the whole video.
        fps: None when unknown.
        durations: meaning of the durations of the frames.
        is_variable_rate: None when unknown.
        claim: according to the container's header.
        damage: such as ``truncated after 3.2 of 10.0 s``; empty for an intact file.
    """

    time_base: Fraction
    frames: Sequence[CodedFrame] | None
    first_pts: int | None
    packets: "Sequence[Packet[VideoStream]] | None"
    shown_at: Sequence[int] | None
    doubtful_pts: Set[int]
    count: int | None
    seconds: float
    fps: float | None
    durations: DurationKind
    is_variable_rate: bool | None
    claim: HeaderClaim
    damage: str = ""
    seek_pts: int | None = None

    def timed_frames(self) -> Iterator[tuple[TimedFrame, int]]:
        """Yield the time and the pts of each shown frame, in presentation order."""
        shown = sorted(frame for frame in self.frames or () if frame.is_shown)
        for frame in shown:
            since_first = (frame.pts - (self.first_pts or 0)) * self.time_base
            yield TimedFrame(since_first, frame.duration * self.time_base), frame.pts


def scan_packets(video: OpenedVideo, source: Path | bytes, decode: DecodeSection) -> PacketScan:
    """Read all packets of an opened video.

    Args:
        source: of ``video``. A video that ends early is opened again, to check whether its audio
            continues.

    Raises:
        VideoError: the video is encrypted, has too many frames, or has damage that FFmpeg
            reported only on opening.
    """
    container, stream, opening_error = video
    name = source_name(source)
    table = FrameTable(container, stream)
    error = read_packets(video, container.demux(stream), table, name)
    claim = read_header(container, stream, hidden_frames=table.hidden)
    is_cut = is_truncated(
        container,
        source,
        claim,
        frames=table.count - table.hidden,
        end_seconds=table.end * table.time_base,
        has_gap_at_end=table.has_gap_at_end,
        decode=decode,
    )
    damage = ""
    if opening_error and not (is_cut or error):
        raise VideoError(name, f"damaged ({opening_error})")
    if is_cut or error:
        damage = damage_reason(
            "truncated" if is_cut else "damaged",
            after_seconds=table.seconds,
            total_seconds=claim.seconds if is_cut else None,
            cause=error,
        )
    is_reliable = table.is_reliable and not (damage or table.shown_at) and bool(table.frames)
    count = table.count - table.hidden
    return PacketScan(
        time_base=table.time_base,
        frames=table.frames if is_reliable else None,
        first_pts=table.first_pts if is_reliable else None,
        packets=table.packets if is_reliable else None,
        shown_at=table.shown_at,
        doubtful_pts=table.doubtful_pts,
        count=count,
        seconds=table.seconds,
        fps=count / table.seconds if table.seconds and count > 1 else None,
        durations=duration_kind(container, stream),
        is_variable_rate=table.is_variable_rate,
        claim=claim,
        damage=damage,
    )


def frame_packets(
    container: InputContainer, stream: VideoStream, scan: PacketScan
) -> "Iterator[Packet[VideoStream]]":
    """Yield the packets of ``scan.frames``, in that order, from a newly opened container."""
    if scan.seek_pts is not None:
        container.seek(scan.seek_pts, stream=stream)
    first_pts = scan.frames[0].pts if scan.frames else None
    # Empty packets mark the end of the file and repeated frames in AVI.
    packets = (packet for packet in container.demux(stream) if packet.size)
    # A Matroska demuxer that has read less of the file may know of fewer keyframes.
    return dropwhile(lambda packet: packet.pts != first_pts, packets)


def read_packets(
    video: OpenedVideo, packets: "Iterable[Packet[VideoStream]]", table: FrameTable, name: str
) -> str:
    """Add packets to ``table`` up to the end or the first sign of damage; return the damage.

    Raises:
        VideoError: the video is encrypted or has too many frames.
    """
    container, stream, _ = video
    with capture_errors() as errors:
        try:
            for packet in packets:
                if packet.is_keyframe and packet.has_sidedata("encryption_info"):
                    raise VideoError(name, "encrypted")
                table.add(packet)
                if table.count > MAX_FRAMES:
                    raise VideoError(name, f"more than {MAX_FRAMES} frames")
                if errors and (error := relevant_error(errors, container, stream)):
                    return error
                if packet.is_corrupt:
                    return "a part of a frame is missing"
        except MemoryError:  # an FFmpeg error, but not damage
            raise
        except DAMAGE_ERRORS as error:
            return describe(error)
    return ""


def scan_facts(container: InputContainer, stream: VideoStream, scan: PacketScan) -> DecodeFacts:
    """Return the facts that are known before decoding."""
    codec = stream.codec_context
    claimed_seconds = scan.claim.seconds
    return DecodeFacts(
        key="",
        container=container.format.name,
        codec=codec.codec.canonical_name,
        width=stream.width,
        height=stream.height,
        is_hdr=codec.color_trc in _HDR_TRANSFERS,
        source_fps=None if scan.fps is None else round(scan.fps, 3),
        is_variable_rate=scan.is_variable_rate,
        source_seconds=round(scan.seconds, 3),
        source_frames=scan.count,
        claimed_seconds=None if claimed_seconds is None else round(claimed_seconds, 3),
        claimed_frames=scan.claim.frames,
    )
