"""Decode only the frames that are kept, with the same result as decoding everything.

The packet scan lists the frames, so it is known which ones are kept. Each group of pictures is
decoded from its keyframe to the last kept frame, and the codec skips frames that are neither kept
nor referred to. Damage in skipped frames is not noticed and has no effect. Files with an
unreliable packet scan are decoded by sequential.py.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass

import av
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType
from av.video.stream import VideoStream

from pipeline.video.ffmpeg_errors import DAMAGE_ERRORS, capture_errors
from pipeline.video.frame_table import CodedFrame


class UnreliableFrames(Exception):  # noqa: N818  (not an error that a user sees)
    """The file must be decoded from start to end."""


@dataclass(frozen=True)
class DecodePlan:
    """Which packets are decoded, by their numbers in decoding order.

    Attributes:
        sent: packets that the decoder receives.
        run_ends: packets after which the decoder is flushed.
        last: the last packet that is sent; -1 for none.
    """

    sent: Set[int]
    run_ends: Set[int]
    last: int


def decode_selected(
    codec: VideoCodecContext,
    frames: Sequence[CodedFrame],
    packets: "Iterable[Packet[VideoStream]]",
    wanted: Collection[int],
) -> Iterator[av.VideoFrame]:
    """Yield the frames with the timestamps ``wanted``, in presentation order.

    Args:
        frames: of the packet scan, in decoding order.
        packets: of the same frames.

    Raises:
        UnreliableFrames: the decoder does not return one of them, or returns it damaged.
    """
    left = set(wanted)
    for frame in _decode_planned(codec, packets, plan_packets(frames, left), frozenset(left)):
        if frame.pts in left:
            left.remove(frame.pts)
            yield frame
    if left:
        raise UnreliableFrames


def plan_packets(frames: Sequence[CodedFrame], wanted: Set[int]) -> DecodePlan:
    """Find the packets that are needed to decode the frames with the timestamps ``wanted``.

    With keyframes 0 and 4 and frame 5 wanted, packets 4 and 5 are sent.

    >>> frames = [CodedFrame(n, 1, is_keyframe=n % 4 == 0, is_shown=True) for n in range(8)]
    >>> sorted(plan_packets(frames, {5}).sent)
    [4, 5]
    """
    sent: set[int] = set()
    run_ends: set[int] = set()
    for run in _runs(frames, wanted):
        end = max(number for number in run if frames[number].pts in wanted)
        sent.update(number for number in run if number <= end)
        run_ends.add(end)
    return DecodePlan(sent, run_ends, last=max(run_ends, default=-1))


def _runs(frames: Sequence[CodedFrame], wanted: Set[int]) -> Iterator[list[int]]:
    """Yield runs with wanted frames: numbers of frames that are decodable without others.

    A run begins at a keyframe. Frames that follow a keyframe in the file but are shown before
    it (leading pictures) refer to the previous group, so that group is in the same run.
    """
    run: list[int] = []
    for group in _groups(frames):
        keyframe = frames[group[0]]
        leading = [number for number in group if frames[number].pts < keyframe.pts]
        if any(frames[number].pts in wanted for number in leading):
            run += group
            continue
        if any(frames[number].pts in wanted for number in run):
            yield run
        run = [number for number in group if frames[number].pts >= keyframe.pts]
    if any(frames[number].pts in wanted for number in run):
        yield run


def _groups(frames: Sequence[CodedFrame]) -> Iterator[range]:
    """Yield the numbers of the frames of each group of pictures."""
    start = 0
    for number, frame in enumerate(frames):
        if frame.is_keyframe and number:
            yield range(start, number)
            start = number
    yield range(start, len(frames))


def _decode_planned(
    codec: VideoCodecContext,
    packets: "Iterable[Packet[VideoStream]]",
    plan: DecodePlan,
    wanted: Set[int],
) -> Iterator[av.VideoFrame]:
    _open(codec)
    is_run_open = False
    for number, packet in enumerate(packets):
        frames: list[av.VideoFrame] = []
        if number in plan.sent:
            codec.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
            frames += _decode(codec, packet)
        if number in plan.run_ends:
            frames += _decode(codec, None)
            codec.flush_buffers()
        # Some containers flag every frame as a keyframe, and some decoders start at any frame.
        if frames and not is_run_open and frames[0].pict_type != PictureType.I:
            raise UnreliableFrames
        is_run_open = (is_run_open or bool(frames)) and number not in plan.run_ends
        yield from frames
        if number == plan.last:
            return


def _open(codec: VideoCodecContext) -> None:
    """Open the codec before ``skip_frame`` is set: some codecs read it only on opening."""
    with capture_errors() as errors:
        try:
            codec.open(strict=False)
        except DAMAGE_ERRORS:
            raise UnreliableFrames from None
    if errors:
        raise UnreliableFrames


def _decode(codec: VideoCodecContext, packet: "Packet[VideoStream] | None") -> list[av.VideoFrame]:
    with capture_errors() as errors:
        try:
            frames = codec.decode(packet)
        except MemoryError:
            raise
        except DAMAGE_ERRORS:
            raise UnreliableFrames from None
    # Frames that are not wanted count too, because wanted ones may refer to them.
    if errors or any(frame.is_corrupt for frame in frames):
        raise UnreliableFrames
    return frames
