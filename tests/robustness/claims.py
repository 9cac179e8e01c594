"""Videos whose headers claim more than the file holds."""

import io
import struct

import av

from tests.made_videos import overwrite, rewrite_box, with_duration
from tests.robustness.intact import intact_video

HUGE = 10**9
WIDE = 100_000  # pixels
# FFmpeg's index of so many frames takes 720 MB; from about 90 million on, it builds none.
MANY = 3 * 10**7

_MP4 = "H.264 mp4, index first"
_STBL = "moov/trak/mdia/minf/stbl/"
_LARGEST = (1 << 16) - 1  # pixels that an mp4 can claim in 16 bits


def largest_mp4() -> bytes:
    """Claim 65,535 x 65,535 pixels in the track and in the sample entry.

    Source of all places in mp4: ISO/IEC 14496-12, 8.3 to 8.7.
    """
    mp4 = rewrite_box(
        intact_video(_MP4),
        _STBL + "stsd",
        lambda body: overwrite(body, 40, struct.pack(">HH", _LARGEST, _LARGEST)),
    )
    size = struct.pack(">II", _LARGEST << 16, _LARGEST << 16)
    return rewrite_box(mp4, "moov/trak/tkhd", lambda body: overwrite(body, 76, size))


def wide_mkv() -> bytes:
    """Claim 100,000 x 100,000 pixels in the header of the container."""
    content = io.BytesIO()
    with (
        av.open(io.BytesIO(intact_video(_MP4))) as source,
        av.open(content, "w", format="matroska", options={"fflags": "+bitexact"}) as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0])
        stream.width = stream.height = WIDE
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    return content.getvalue()


def h264_that_claims(width: int, height: int) -> bytes:
    """Claim a size, of whole macroblocks, in the H.264 stream itself (its parameter set)."""
    sps = b"\x67" + _sequence_parameter_set(width // 16, height // 16)

    def replace(stsd: bytes) -> bytes:
        start = stsd.index(b"avcC") + 4
        old_length = int.from_bytes(stsd[start + 6 : start + 8], "big")
        rest = stsd[start + 8 + old_length :]
        avcc = stsd[start : start + 6] + struct.pack(">H", len(sps)) + sps + rest
        # Of the sample entry and of avcC in it: their sizes change.
        entry = overwrite(stsd[8 : start - 8], 0, struct.pack(">I", start + len(avcc) - 8))
        return stsd[:8] + entry + struct.pack(">I4s", 8 + len(avcc), b"avcC") + avcc

    return rewrite_box(intact_video("H.264 mp4"), _STBL + "stsd", replace)


def _sequence_parameter_set(width_blocks: int, height_blocks: int) -> bytes:
    """Source: ITU-T H.264, 7.3.2.1.1 and 9.1. Baseline profile without optional fields."""
    # Number, frame numbers of 4 bits, output in decoding order, one reference.
    fields = [0, 0, 2, 1]
    bits = "".join(map(_exp_golomb, fields)) + "0"
    bits += _exp_golomb(width_blocks - 1) + _exp_golomb(height_blocks - 1)
    bits += "1" + "1" + "0" + "0" + "1"  # frames only, 8x8 inference, no crop, no VUI, stop
    bits += "0" * (-len(bits) % 8)
    payload = int(bits, 2).to_bytes(len(bits) // 8, "big")
    return bytes([66, 0, 51]) + payload


def _exp_golomb(number: int) -> str:
    digits = f"{number + 1:b}"
    return "0" * (len(digits) - 1) + digits


def frames_in_size_table(count: int) -> bytes:
    """Claim ``count`` frames, each with its own size, in a table of 45 sizes."""
    return rewrite_box(
        intact_video(_MP4),
        _STBL + "stsz",
        lambda body: overwrite(body, 8, struct.pack(">I", count)),
    )


def frames_of_one_byte(count: int) -> bytes:
    """Claim ``count`` frames of one byte each, all in one chunk, without a table."""
    mp4 = rewrite_box(
        intact_video(_MP4), _STBL + "stsz", lambda body: body[:4] + struct.pack(">II", 1, count)
    )
    one_chunk = struct.pack(">IIII", 1, 1, count, 1)
    return rewrite_box(mp4, _STBL + "stsc", lambda body: body[:4] + one_chunk)


def frames_in_time_table() -> bytes:
    """Claim times for 10^9 frames."""
    return rewrite_box(
        intact_video(_MP4),
        _STBL + "stts",
        lambda body: overwrite(body, 8, struct.pack(">I", HUGE)),
    )


def long_frames() -> bytes:
    """Claim that each frame is shown for 10^9 ticks."""
    return rewrite_box(
        intact_video(_MP4),
        _STBL + "stts",
        lambda body: overwrite(body, 12, struct.pack(">I", HUGE)),
    )


def long_headers() -> bytes:
    """Claim the largest duration in all headers of an mp4."""
    return with_duration(intact_video(_MP4), (1 << 32) - 1)


def avi_main_header() -> bytes:
    """Claim 10^9 frames in the main header, which does not describe the stream."""
    avi = intact_video("MPEG-4 avi")
    return overwrite(avi, avi.index(b"avih") + 8 + 16, struct.pack("<I", HUGE))


def avi_stream_header() -> bytes:
    """Claim 10^9 frames in the header of the stream."""
    avi = intact_video("MPEG-4 avi")
    return overwrite(avi, avi.index(b"strh") + 8 + 32, struct.pack("<I", HUGE))


def wide_avi() -> bytes:
    """Claim 100,000 x 100,000 pixels in the format of the stream."""
    avi = intact_video("MPEG-4 avi")
    return overwrite(avi, avi.index(b"strf") + 8 + 4, struct.pack("<II", WIDE, WIDE))
