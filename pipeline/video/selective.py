"""Decoding only what is kept: the very frames that decoding everything gives of a sound file.

The packets of a file are listed first, which costs little: their sorted timestamps are the
true table of frames, and say which will be kept. Then each group of pictures is
decoded from its keyframe to the last frame that is kept, and the codec is told to skip
frames that no other frame refers to wherever they are not kept themselves. Files whose
timestamps cannot be trusted are left to sequential.py. Damage in
frames that are neither kept nor referred to goes unnoticed, as it touches nothing.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from pipeline.video.source import DAMAGE_ERRORS
from pipeline.video.timing import TimedFrame

# Compressed bytes that are held in memory; a larger file is decoded sequentially.
_MAX_BYTES = 64 << 20


class UntrustedTimestamps(Exception):  # noqa: N818  (not an error that a user sees)
    """The file must be decoded from start to end to know its frames."""


class CodedFrame(NamedTuple):
    """A packet with what is known of its frame before decoding."""

    pts: int
    is_keyframe: bool
    packet: "Packet[VideoStream]"


@dataclass(frozen=True)
class FrameTable:
    """The frames of a video as its packets announce them, none decoded yet."""

    packets: Sequence[CodedFrame]  # in the order of decoding
    timed: Sequence[tuple[TimedFrame, int]]  # in presentation order, each with its timestamp

    @property
    def seconds(self) -> float:
        """When the last frame is shown, since the first one."""
        return float(self.timed[-1][0].seconds)

    @property
    def end_seconds(self) -> float:
        """When the last frame ends, as far as it says."""
        last = self.timed[-1][0]
        return float(last.seconds + last.duration_seconds)


def frame_table(container: InputContainer, stream: VideoStream) -> FrameTable:
    """List the frames of ``stream``.

    Raises:
        UntrustedTimestamps: a timestamp is missing or doubled, the first packet is no
            keyframe, a packet is damaged, or the file is too large to be held in memory.
    """
    if container.format.name == "avi" and stream.codec_context.has_b_frames:
        raise UntrustedTimestamps  # AVI has the times of decoding only
    try:
        packets = _trusted_packets(container, stream)
    except DAMAGE_ERRORS:
        raise UntrustedTimestamps from None
    time_base = stream.time_base
    in_order = sorted((coded.pts, coded.packet.duration or 0) for coded in packets)
    if not in_order or time_base is None:
        raise UntrustedTimestamps
    origin = in_order[0][0]
    timed = [
        (TimedFrame((pts - origin) * time_base, duration * time_base), pts)
        for pts, duration in in_order
    ]
    return FrameTable(packets, timed)


def decode_selected(
    codec: VideoCodecContext, packets: Sequence[CodedFrame], wanted: Iterable[int]
) -> Iterator[av.VideoFrame]:
    """Yield the frames with the timestamps ``wanted``, in presentation order.

    Raises:
        UntrustedTimestamps: one of them does not come out, or comes out damaged.
    """
    left = set(wanted)
    try:
        if not codec.is_open:
            codec.open()  # some codecs read what to skip when they are opened, and keep to it
        for run in _runs(packets, left):
            last = max(number for number, coded in enumerate(run) if coded.pts in left)
            for frame in _decode_run(codec, run[: last + 1], left):
                left.remove(frame.pts or 0)
                yield frame
    except DAMAGE_ERRORS:
        raise UntrustedTimestamps from None
    if left:
        raise UntrustedTimestamps


def _trusted_packets(container: InputContainer, stream: VideoStream) -> list[CodedFrame]:
    packets: list[CodedFrame] = []
    seen: set[int] = set()
    size = 0
    for packet in container.demux(stream):
        if packet.size == 0:  # the end of the file, and repeated frames in AVI
            continue
        size += packet.size
        is_start_wrong = not packets and not packet.is_keyframe
        is_odd = packet.is_corrupt or packet.is_discard  # discarded by an edit list
        if packet.pts is None or packet.pts in seen or is_start_wrong or is_odd:
            raise UntrustedTimestamps
        if size > _MAX_BYTES:
            raise UntrustedTimestamps
        seen.add(packet.pts)
        packets.append(CodedFrame(packet.pts, packet.is_keyframe, packet))
    return packets


def _runs(packets: Sequence[CodedFrame], wanted: set[int]) -> Iterator[list[CodedFrame]]:
    """Yield stretches of packets that hold wanted frames and can be decoded by themselves.

    A stretch begins at a keyframe. Frames that follow a keyframe in the file but are shown
    before it (leading pictures) refer to the group before, so that group comes along.
    """
    run: list[CodedFrame] = []
    for group in _groups(packets):
        leading = [coded for coded in group if coded.pts < group[0].pts]
        if any(coded.pts in wanted for coded in leading):
            run += group
            continue
        if any(coded.pts in wanted for coded in run):
            yield run
        run = [coded for coded in group if coded.pts >= group[0].pts]
    if any(coded.pts in wanted for coded in run):
        yield run


def _groups(packets: Sequence[CodedFrame]) -> Iterator[list[CodedFrame]]:
    group: list[CodedFrame] = []
    for coded in packets:
        if coded.is_keyframe and group:
            yield group
            group = []
        group.append(coded)
    yield group


def _decode_run(
    codec: VideoCodecContext, run: Sequence[CodedFrame], wanted: set[int]
) -> Iterator[av.VideoFrame]:
    """Yield the wanted frames of a run, then leave the codec ready for another."""
    for coded in run:
        codec.skip_frame = "DEFAULT" if coded.pts in wanted else "NONREF"
        yield from _those_in(wanted, codec.decode(coded.packet))
    yield from _those_in(wanted, codec.decode(None))
    codec.flush_buffers()


def _those_in(wanted: set[int], frames: Sequence[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    for frame in frames:
        if frame.is_corrupt:  # wanted or not: others may refer to it
            raise UntrustedTimestamps
        if frame.pts in wanted:
            yield frame
