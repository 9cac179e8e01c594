"""Listing the packets of a video before one is decoded: the true table of its frames.

It costs little (1 to 8 % of decoding everything), says which frames there are and when they
are shown, and finds out what is missing of a file that was cut short.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from pipeline.video.claims import Claim, claim_of, durations_of, is_cut_short
from pipeline.video.damage import DAMAGE_ERRORS, complaint_about, complaints, detail, reason
from pipeline.video.source import Limits, OpenedVideo, VideoError, source_name
from pipeline.video.timing import Durations, TimedFrame

# Compressed bytes that are held in memory; the packets of a larger file are read twice.
_MAX_HELD_BYTES = 16 << 20
_PACKET_BYTES = 400  # what holding one takes besides its content
_MAX_PACKETS = 2_000_000  # nine hours at 60 frames a second


class CodedFrame(NamedTuple):
    """What a packet says of its frame; times in ticks of the stream's time base."""

    pts: int
    duration: int  # 0 when the file does not say
    is_keyframe: bool
    is_shown: bool  # False where an edit list leaves the frame out


@dataclass(frozen=True)
class Survey:
    """What the packets of a video stream say of its frames.

    Attributes:
        frames: in the order of decoding; None when they do not tell reliably which frames
            decoding will give, and when these are shown.
        packets: those of ``frames``; None when they are too large to be held.
        count: frames that will be shown, as far as their packets were found.
        seconds: from the first frame to the end of the last one.
        durations: what the durations of the frames are worth.
        is_variable: whether the time from frame to frame varies; None when it is not known.
        claim: what the container says.
        damage: such as ``truncated after 3.2 of 10.0 s``; empty for a whole file.
    """

    time_base: Fraction
    frames: Sequence[CodedFrame] | None
    packets: "Sequence[Packet[VideoStream]] | None"
    count: int
    seconds: float
    durations: Durations
    is_variable: bool | None
    claim: Claim
    damage: str

    def timed(self) -> Iterator[tuple[TimedFrame, int]]:
        """Yield the shown frames in presentation order, each with its timestamp."""
        shown = sorted(frame for frame in self.frames or () if frame.is_shown)
        for frame in shown:
            since_first = (frame.pts - shown[0].pts) * self.time_base
            yield TimedFrame(since_first, frame.duration * self.time_base), frame.pts


def survey_video(video: OpenedVideo, source: Path | bytes, *, limits: Limits) -> Survey:
    """List the packets of an opened video, which is left at its end.

    Args:
        source: what it was opened from; a video that ends early is opened again, to see
            whether its sound goes on.

    Raises:
        VideoError: it is encrypted, or damaged in a place that only opening it showed.
    """
    container, stream, complaint = video
    tally = _Tally(container, stream)
    trouble = _list_packets(container, stream, tally, source_name(source))
    claim = claim_of(container, stream, hidden=tally.hidden)
    is_cut = is_cut_short(
        container,
        source,
        claim,
        frames=tally.count - tally.hidden,
        end_seconds=tally.end * tally.time_base,
        has_hole_at_end=tally.has_hole_at_end,
        limits=limits,
    )
    damage = ""
    if complaint and not (is_cut or trouble):
        raise VideoError(source_name(source), f"damaged ({complaint})")
    if is_cut or trouble:
        damage = reason(
            "truncated" if is_cut else "damaged",
            after_seconds=tally.seconds,
            of_seconds=claim.seconds if is_cut else None,
            because=trouble,
        )
    is_trusted = tally.is_trusted and not damage and bool(tally.frames)
    return Survey(
        time_base=tally.time_base,
        frames=tally.frames if is_trusted else None,
        packets=tally.packets if is_trusted else None,
        count=tally.count - tally.hidden,
        seconds=tally.seconds,
        durations=durations_of(container, stream),
        is_variable=tally.is_variable,
        claim=claim,
        damage=damage,
    )


def _list_packets(
    container: InputContainer, stream: VideoStream, tally: "_Tally", name: str
) -> str:
    """Count packets until the end or the first sign of damage, and return that."""
    with complaints() as heard:
        try:
            for packet in container.demux(stream):
                if packet.is_keyframe and packet.has_sidedata("encryption_info"):
                    raise VideoError(name, "encrypted")
                tally.add(packet)
                if tally.count > _MAX_PACKETS:
                    raise VideoError(name, f"more than {_MAX_PACKETS} frames")
                if heard and (trouble := complaint_about(heard, container, stream)):
                    return trouble
                if packet.is_corrupt:
                    return "a part of a frame is missing"
        except DAMAGE_ERRORS as error:
            return detail(error)
    return ""


def frame_packets(
    container: InputContainer, stream: VideoStream
) -> "Iterator[Packet[VideoStream]]":
    """Yield the packets that hold frames: those of ``Survey.frames``, in that order."""
    # Empty ones are the end of the file, and repeated frames in AVI.
    return (packet for packet in container.demux(stream) if packet.size)


class _Tally:
    """What is known of a stream after some of its packets."""

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        self.time_base = stream.time_base or Fraction(1)
        # AVI has the times of decoding only.
        is_reordered_avi = container.format.name == "avi" and stream.codec_context.has_b_frames
        self.is_trusted = stream.time_base is not None and not is_reordered_avi
        self.frames: list[CodedFrame] = []
        self.packets: list[Packet[VideoStream]] | None = []
        self.count = 0
        self.hidden = 0
        self.start: int | None = None
        self.end = 0
        self.last_dts: int | None = None
        rate = stream.guessed_rate
        self._usual_interval = 1 / (rate * self.time_base) if rate else Fraction(0)
        self._held_bytes = 0
        self._seen: set[int] = set()

    def add(self, packet: "Packet[VideoStream]") -> None:
        shown_at = packet.dts if packet.pts is None else packet.pts
        if shown_at is None and not packet.size:
            return  # the end of the file
        self.count += 1
        self._follow(packet)
        self.hidden += packet.is_discard
        if shown_at is not None and not packet.is_discard:
            self.start = shown_at if self.start is None else min(self.start, shown_at)
            self.end = max(self.end, shown_at + (packet.duration or 0))
        if packet.size:
            self._add_frame(packet)

    def _follow(self, packet: "Packet[VideoStream]") -> None:
        """Keep the time of decoding, which goes back where files were put together."""
        if packet.dts is not None:
            if self.last_dts is not None and packet.dts < self.last_dts:
                self.is_trusted = False
            self.last_dts = packet.dts

    def _add_frame(self, packet: "Packet[VideoStream]") -> None:
        if packet.pts is None or self._is_odd(packet, packet.pts):
            self.is_trusted = False
            self.packets = None
            return
        self._seen.add(packet.pts)
        self.frames.append(
            CodedFrame(packet.pts, packet.duration or 0, packet.is_keyframe, not packet.is_discard)
        )
        self._held_bytes += packet.size + _PACKET_BYTES
        if self._held_bytes > _MAX_HELD_BYTES:
            self.packets = None
        if self.packets is not None:
            self.packets.append(packet)

    def _is_odd(self, packet: "Packet[VideoStream]", pts: int) -> bool:
        if not self.frames:
            return not packet.is_keyframe
        # Frames that are shown before the first keyframe need others that are not there.
        return pts in self._seen or pts < self.frames[0].pts

    @property
    def seconds(self) -> float:
        """From the first frame to the end of the last one."""
        return 0.0 if self.start is None else float((self.end - self.start) * self.time_base)

    @property
    def is_variable(self) -> bool | None:
        """Whether some interval is longer than another by a tenth, and not only by rounding."""
        if not self.is_trusted:
            return None
        intervals = [later - earlier for earlier, later in pairwise(self._shown())]
        return bool(intervals) and max(intervals) - min(intervals) > max(2, min(intervals) / 10)

    @property
    def has_hole_at_end(self) -> bool:
        """Whether frames are missing that should have come after the last packet.

        Frames come in the order of decoding; one that is shown before others may come after
        them. What is shown up to the time of decoding of the last packet is complete, so a
        longer interval after that than any before it is what a cut leaves.
        """
        shown = self._shown()
        if not self.is_trusted or self.last_dts is None or len(shown) < 2:
            return False
        longest = {False: self._usual_interval, True: Fraction(0)}
        for earlier, later in pairwise(shown):
            is_open = later > self.last_dts
            longest[is_open] = max(longest[is_open], Fraction(later - earlier))
        return longest[False] * Fraction(3, 2) < longest[True]

    def _shown(self) -> list[int]:
        return sorted(frame.pts for frame in self.frames if frame.is_shown)
