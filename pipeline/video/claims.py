"""What a container says of its video, and whether the file holds that much."""

import io
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, NamedTuple

from av.container import InputContainer
from av.video.stream import VideoStream

from pipeline.video.damage import DAMAGE_ERRORS, INDEXED_CONTAINER, complaints
from pipeline.video.source import Limits, open_video
from pipeline.video.timing import Durations

# How much earlier than its header says a video may end and count as whole: headers round.
_SHORTFALL_SECONDS = 0.25
_SHORTFALL_WITH_HOLE_SECONDS = 0.1  # where frames seem to be missing among the last ones

# A transport stream is a row of packets that begin with this byte: 188 bytes long, 192 with a
# time before each (camcorders, Blu-ray: M2TS), 204 with check bytes after each (broadcast).
# Source: ITU-T H.222.0, 2.4.3.2.
_TS_SYNC = b"\x47"
_TS_PACKETS = ((188, 0), (192, 4), (204, 0))  # bytes of a packet, place of the sync byte
_TS_CHECKED_PACKETS = 4


class Claim(NamedTuple):
    """What a container says of its video, before anyone looked; None where it says nothing."""

    seconds: float | None
    frames: int | None


def claim_of(container: InputContainer, stream: VideoStream, *, hidden: int) -> Claim:
    """Read the claim of those containers that have one; FFmpeg estimates it for the others.

    Args:
        hidden: frames that an edit list leaves out. They are in the index all the same.
    """
    match container.format.name:
        case name if name == INDEXED_CONTAINER:
            ticks = stream.duration
            seconds = float(ticks * stream.time_base) if ticks and stream.time_base else None
            return Claim(seconds, len(stream.index_entries) - hidden)
        case "avi" if stream.frames and stream.average_rate:
            return Claim(float(stream.frames / stream.average_rate), stream.frames)
        case "matroska,webm" | "flv" if container.duration:
            return Claim(container.duration / 1e6, None)
    return Claim(None, None)


def durations_of(container: InputContainer, stream: VideoStream) -> Durations:
    """Say what the durations of the stream's packets are worth."""
    if container.format.name != INDEXED_CONTAINER:
        return "guessed"
    return "of decoding" if stream.codec_context.has_b_frames else "stated"


def is_cut_short(
    container: InputContainer,
    source: Path | bytes,
    claim: Claim,
    *,
    frames: int,
    end_seconds: Fraction,
    has_hole_at_end: bool,
    limits: Limits,
) -> bool:
    """Whether ``source`` ends before its video does.

    Args:
        frames: packets found, without those that an edit list leaves out.
        end_seconds: when the last of them ends, on the container's clock.
        has_hole_at_end: frames seem to be missing among the last ones.
    """
    if container.format.name == INDEXED_CONTAINER:
        return claim.frames is not None and frames < claim.frames
    if container.format.name == "mpegts" and _ends_within_packet(source):
        return True
    if claim.seconds is None:
        return has_hole_at_end
    shortfall = _SHORTFALL_WITH_HOLE_SECONDS if has_hole_at_end else _SHORTFALL_SECONDS
    enough = claim.seconds - shortfall
    if end_seconds >= enough:
        return False
    # The claim counts the longest stream, which may be the sound.
    has_others = len(container.streams) > 1
    return not (has_others and _end_of_any_stream(source, limits) >= enough)


def _ends_within_packet(source: Path | bytes) -> bool:
    """Whether the last packet of a transport stream is there, but not all of it."""
    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        for length, sync_at in _TS_PACKETS:
            starts = [length * number + sync_at for number in range(_TS_CHECKED_PACKETS)]
            if all(_byte_at(file, start) == _TS_SYNC for start in starts):
                rest = size % length
                return rest > sync_at and _byte_at(file, size - rest + sync_at) == _TS_SYNC
    return False


def _byte_at(file: BinaryIO, position: int) -> bytes:
    file.seek(position)
    return file.read(1)


def _end_of_any_stream(source: Path | bytes, limits: Limits) -> float:
    """Return when the last packet of all streams ends, in seconds."""
    end = 0.0
    with open_video(source, limits=limits) as (container, *_), complaints():
        try:
            for packet in container.demux():
                if packet.pts is not None and packet.time_base is not None:
                    end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        except DAMAGE_ERRORS:
            pass  # what comes after the damage does not count
    return end
