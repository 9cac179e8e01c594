"""Videos whose headers claim more than the file holds."""

import io
import struct
import zlib

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


def hidden_claims() -> dict[str, bytes]:
    """Claim 3 * 10^7 frames where FFmpeg finds them, although no muxer writes them there."""
    mp4 = frames_of_one_byte(MANY)
    sizes = size_table(MANY)
    handler = box(b"hdlr", bytes(4), b"mdta", bytes(12))
    no_handler = b"\0\xff\xff\xff\xffhdlr\0\0\0"  # FFmpeg reads names at every fourth byte
    padding = bytes(3 << 20)
    movie = _first_box(mp4, b"moov")
    compressed = zlib.compress(movie)
    cmov = box(
        b"cmov",
        box(b"dcom", b"zlib"),
        box(b"cmvd", struct.pack(">I", len(movie)), compressed),
    )

    def with_end_of(path: str, added: bytes) -> bytes:
        return rewrite_box(intact_video(_MP4), path, lambda body: body + added)

    return {
        "another name of the table box": mp4.replace(b"stbl", b"dinf"),
        "a compressed index": mp4.replace(movie, box(b"moov", cmov)),
        "another box in front": box(b"pdin", bytes(12)) + mp4,
        "no box in front": movie + _first_box(mp4, b"mdat"),
        "in user data": with_end_of("moov", box(b"udta", sizes)),
        "in metadata": with_end_of("moov/trak", box(b"meta", bytes(8), handler, sizes)),
        "in metadata, after what looks like a handler": with_end_of(
            "moov/trak", box(b"meta", bytes(8), no_handler, handler, sizes)
        ),
        "in metadata, after padding": with_end_of(
            "moov/trak", box(b"meta", padding, handler, size_table(2 * MANY))
        ),
        "in a sample entry": in_sample_entry(sizes),
        "in a sample entry, with a size of 64 bits": in_sample_entry(
            struct.pack(">I4sQ", 1, b"stsz", 28) + sizes[8:]
        ),
        "in a sample entry, after what looks like a box": in_sample_entry(
            sizes, compressor=b"\xff\xff\xff\xffstsz"
        ),
        "in a sample entry, after what looks like part of it": in_sample_entry(
            sizes, compressor=b"\0\0\0\x08iloc\0\0\0\x10trun"
        ),
        "in a sample entry, after padding": in_sample_entry(
            box(b"free", padding), size_table(2 * MANY)
        ),
        "in a sample entry, between the parts that are searched": in_sample_entry(
            box(b"free", bytes((1 << 20) - 112)), sizes
        ),
        "after a sample entry that exceeds its box": _after_sample_entry(exceeds=True),
        "after a sample entry that is missing": _after_sample_entry(entries=2),
        "after a sample entry that is shorter than its header": _after_sample_entry(
            entries=2, exceeds=True, first=struct.pack(">I", 16)
        ),
        "after a sample entry with a colour table": _after_sample_entry(
            entries=2, exceeds=True, first=struct.pack(">I", 86), colours=True
        ),
        "after properties that exceed their box": with_end_of(
            "moov/trak",
            box(b"iprp", struct.pack(">I4sI4s", 24 + len(sizes), b"ipco", 16, b"skip"))
            + box(b"free", sizes, box(b"ipma", bytes(4), struct.pack(">IHBB", 1, 1, 1, 2))),
        ),
        "in a box without an end": with_end_of("moov/trak", b"\xff\xff\xff\xfftref" + sizes),
        "in a movie marked as free": mp4.replace(b"moov", b"free"),
        "in a movie marked as hoov": mp4.replace(b"moov", b"hoov"),
        "in a track of sound": mp4.replace(b"vide", b"soun", 1),
        "in many tracks": _in_many_tracks(),
        "items in a list": _with_items(box(b"iinf", b"\1\0\0\0", struct.pack(">I", 2 * MANY))),
        "items with places": _with_items(
            box(b"iloc", b"\2\0\0\0", bytes(2), struct.pack(">I", 2 * MANY))
        ),
    }


def box(name: bytes, *content: bytes) -> bytes:
    """Return a box of an mp4."""
    body = b"".join(content)
    return struct.pack(">I4s", 8 + len(body), name) + body


def size_table(count: int) -> bytes:
    """Return a box that claims ``count`` frames of one byte each."""
    return box(b"stsz", bytes(4), struct.pack(">II", 1, count))


def in_sample_entry(*boxes: bytes, compressor: bytes = b"") -> bytes:
    """Return an mp4 with boxes at the end of its sample entry, and a name of its encoder."""

    def add(body: bytes) -> bytes:
        entry = overwrite(body[8:], 51, compressor) + b"".join(boxes)
        return body[:8] + overwrite(entry, 0, struct.pack(">I", len(entry)))

    return rewrite_box(intact_video(_MP4), _STBL + "stsd", add)


def _after_sample_entry(
    *, entries: int = 1, exceeds: bool = False, first: bytes = b"", colours: bool = False
) -> bytes:
    """Hide a claim in a free box, where FFmpeg finds it because of the sizes of sample entries.

    Args:
        exceeds: the last entry and a box in it end in the free box.
        first: what to write into the first of two entries.
        colours: the first of them claims a colour table.
    """
    size_claim = size_table(MANY)

    def change(body: bytes) -> bytes:
        header, entry = body[:4] + struct.pack(">I", entries), body[8:]
        first_entry = overwrite(entry[:86], 0, first) if first else b""
        if colours:
            first_entry = overwrite(first_entry, 82, struct.pack(">HH", 8, 0))
        if exceeds:
            entry = overwrite(entry, 0, struct.pack(">I", len(entry) + 16 + len(size_claim)))
            entry += struct.pack(">I4s", 16, b"skip")
        return header + first_entry + entry

    mp4 = rewrite_box(intact_video(_MP4), _STBL + "stsd", change)
    stsd = _first_box(mp4, b"stsd")
    hidden = box(b"free", size_claim)
    if not exceeds:  # the free box is read as an entry
        hidden = box(b"free", bytes(78), size_claim)
    return rewrite_box(mp4, _STBL[:-1], lambda body: body.replace(stsd, b"") + stsd + hidden)


def _with_items(table: bytes) -> bytes:
    """Describe a picture file (HEIF) in front of the movie. Source: ISO/IEC 14496-12, 8.11."""
    mp4 = intact_video(_MP4)
    start = mp4.index(b"moov") - 4
    handler = box(b"hdlr", bytes(8), b"pict", bytes(13))
    return mp4[:start] + box(b"meta", bytes(4), handler, table) + mp4[start:]


def _in_many_tracks() -> bytes:
    """Claim in each track as many frames as the file has bytes."""
    mp4 = frames_of_one_byte(30_000)
    return rewrite_box(mp4, "moov", lambda body: body + 50 * _first_box(mp4, b"trak"))


def _first_box(mp4: bytes, name: bytes) -> bytes:
    start = mp4.index(name) - 4
    return mp4[start : start + int.from_bytes(mp4[start : start + 4], "big")]


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
