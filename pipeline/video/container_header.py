"""Compare the length in a container's header with the content of the file."""

import io
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, NamedTuple

from av.container import InputContainer
from av.video.stream import VideoStream

from pipeline.video.ffmpeg_errors import DAMAGE_ERRORS, INDEXED_CONTAINER, capture_errors
from pipeline.video.opening import open_video
from pipeline.video.settings import DecodeSection
from pipeline.video.timing import DurationKind

# A complete video may end this much earlier than its header claims, because headers round.
_TOLERANCE_SECONDS = 0.25
_TOLERANCE_WITH_GAP_SECONDS = 0.1  # if frames seem to be missing near the end

# A packet of a transport stream begins with this byte. It has 188 bytes, 192 with a timestamp
# before it (M2TS: camcorders, Blu-ray), or 204 with parity bytes after it (broadcast). Source:
# ITU-T H.222.0, 2.4.3.2.
_TS_SYNC = b"\x47"
_TS_PACKETS = ((188, 0), (192, 4), (204, 0))  # bytes of a packet, offset of the sync byte
_TS_CHECKED_PACKETS = 4


class HeaderClaim(NamedTuple):
    """Length of the video according to the container's header; None if it has none."""

    seconds: float | None
    frames: int | None


def read_header(
    container: InputContainer, stream: VideoStream, *, hidden_frames: int
) -> HeaderClaim:
    """Read the claim of containers that have one; for the others, FFmpeg only estimates it.

    Args:
        hidden_frames: number of frames that an edit list hides. The index counts them too.
    """
    match container.format.name:
        case name if name == INDEXED_CONTAINER:
            ticks = stream.duration
            seconds = float(ticks * stream.time_base) if ticks and stream.time_base else None
            return HeaderClaim(seconds, len(stream.index_entries) - hidden_frames)
        case "avi" if stream.frames and stream.average_rate:
            return HeaderClaim(float(stream.frames / stream.average_rate), stream.frames)
        case "matroska,webm" | "flv" if container.duration:
            return HeaderClaim(container.duration / 1e6, None)
    return HeaderClaim(None, None)


def duration_kind(container: InputContainer, stream: VideoStream) -> DurationKind:
    """Return the meaning of the durations of the stream's packets."""
    if container.format.name != INDEXED_CONTAINER:
        return "estimated"
    return "decoding" if stream.codec_context.has_b_frames else "presentation"


def is_truncated(
    container: InputContainer,
    source: Path | bytes,
    claim: HeaderClaim,
    *,
    frames: int,
    end_seconds: Fraction,
    has_gap_at_end: bool,
    decode: DecodeSection,
) -> bool:
    """Return whether the file ends before its video does.

    Args:
        source: of ``container``.
        frames: number of packets in the file, without those that an edit list hides.
        end_seconds: end of the last of these frames, in container time.
        has_gap_at_end: frames seem to be missing near the end.
    """
    if container.format.name == INDEXED_CONTAINER:
        return claim.frames is not None and frames < claim.frames
    if container.format.name == "mpegts" and _ends_within_packet(source):
        return True
    if claim.seconds is None:
        return has_gap_at_end
    tolerance = _TOLERANCE_WITH_GAP_SECONDS if has_gap_at_end else _TOLERANCE_SECONDS
    expected_end = claim.seconds - tolerance
    if end_seconds >= expected_end:
        return False
    # The claim is the length of the longest stream, which may be the audio.
    has_other_streams = len(container.streams) > 1
    return not (has_other_streams and _end_of_all_streams(source, decode) >= expected_end)


def _ends_within_packet(source: Path | bytes) -> bool:
    """Return whether a transport stream ends within its last packet."""
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


def _end_of_all_streams(source: Path | bytes, decode: DecodeSection) -> float:
    """Return the end of the last packet of all streams, in seconds."""
    end = 0.0
    with open_video(source, decode) as (container, *_), capture_errors():
        try:
            for packet in container.demux():
                if packet.pts is not None and packet.time_base is not None:
                    end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        except MemoryError:  # an FFmpeg error, but not damage
            raise
        except DAMAGE_ERRORS:
            pass  # packets after the damage do not count
    return end
