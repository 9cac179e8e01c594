"""Decoding only what is kept: the very frames that decoding everything gives of a sound file.

The survey of a file says which frames there are and so which will be kept. Each group of
pictures is decoded from its keyframe to the last frame that is kept, and the codec is told to
skip frames that no other frame refers to wherever they are not kept themselves. Files whose
packets do not tell enough are left to sequential.py. Damage in frames that are neither kept
nor referred to goes unnoticed, as it touches nothing.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass

import av
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType
from av.video.stream import VideoStream

from pipeline.video.damage import DAMAGE_ERRORS, complaints
from pipeline.video.survey import CodedFrame


class UntrustedFrames(Exception):  # noqa: N818  (not an error that a user sees)
    """The file must be decoded from start to end to know its frames."""


@dataclass(frozen=True)
class Plan:
    """Which packets are decoded, by their numbers in the order of decoding."""

    sent: Set[int]
    run_ends: Set[int]  # after these the decoder gives what it holds and starts anew
    last: int


def decode_selected(
    codec: VideoCodecContext,
    frames: Sequence[CodedFrame],
    packets: "Iterable[Packet[VideoStream]]",
    wanted: Collection[int],
) -> Iterator[av.VideoFrame]:
    """Yield the frames with the timestamps ``wanted``, in presentation order.

    Args:
        frames: of the survey, in the order of decoding.
        packets: of the same frames.

    Raises:
        UntrustedFrames: one of them does not come out, or comes out damaged.
    """
    left = set(wanted)
    for frame in _decode_planned(codec, packets, plan_packets(frames, left), frozenset(left)):
        if frame.pts in left:
            left.remove(frame.pts)
            yield frame
    if left:
        raise UntrustedFrames


def plan_packets(frames: Sequence[CodedFrame], wanted: Set[int]) -> Plan:
    """Find the packets that the frames with the timestamps ``wanted`` need.

    Keyframes at 0 and 4, frame 5 wanted: packets 4 and 5 are sent.

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
    return Plan(sent, run_ends, last=max(run_ends, default=-1))


def _runs(frames: Sequence[CodedFrame], wanted: Set[int]) -> Iterator[list[int]]:
    """Yield numbers of frames that hold wanted ones and can be decoded by themselves.

    A run begins at a keyframe. Frames that follow a keyframe in the file but are shown
    before it (leading pictures) refer to the group before, so that group comes along.
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
    start = 0
    for number, frame in enumerate(frames):
        if frame.is_keyframe and number:
            yield range(start, number)
            start = number
    yield range(start, len(frames))


def _decode_planned(
    codec: VideoCodecContext,
    packets: "Iterable[Packet[VideoStream]]",
    plan: Plan,
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
        # Some containers call every frame a keyframe, and some decoders begin anywhere.
        if frames and not is_run_open and frames[0].pict_type != PictureType.I:
            raise UntrustedFrames
        is_run_open = (is_run_open or bool(frames)) and number not in plan.run_ends
        yield from frames
        if number == plan.last:
            return


def _open(codec: VideoCodecContext) -> None:
    """Open the codec before it is told what to skip: some read that now, and keep to it."""
    with complaints() as heard:
        try:
            codec.open(strict=False)
        except DAMAGE_ERRORS:
            raise UntrustedFrames from None
    if heard:
        raise UntrustedFrames


def _decode(codec: VideoCodecContext, packet: "Packet[VideoStream] | None") -> list[av.VideoFrame]:
    with complaints() as heard:
        try:
            frames = codec.decode(packet)
        except DAMAGE_ERRORS:
            raise UntrustedFrames from None
    # Wanted or not: others may refer to them.
    if heard or any(frame.is_corrupt for frame in frames):
        raise UntrustedFrames
    return frames
