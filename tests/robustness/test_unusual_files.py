"""Intact files of unusual encoders, and files that are written to break a reader."""

import io
import struct
from fractions import Fraction

import av
import numpy as np
import pytest

from pipeline.video.mp4_index import index_fault
from pipeline.video.opening import VideoError
from pipeline.video.reading import FrameReader
from pipeline.video.settings import DecodeSection
from tests.made_videos import read_both_ways
from tests.robustness.claims import box, frames_of_one_byte, hidden_claims
from tests.robustness.intact import DECODE, HEIGHT, WIDTH, moving_noise


def encode(
    codec: str, container: str, *, options: dict[str, str], muxing: dict[str, str] | None = None
) -> bytes:
    content = io.BytesIO()
    with av.open(content, "w", format=container, options=muxing or {}) as file:
        stream = file.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number, picture in enumerate(moving_noise()):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return content.getvalue()


def transport_stream(**muxing: str) -> bytes:
    return encode("libx264", "mpegts", options={"g": "12", "bf": "2"}, muxing=muxing)


def count(content: bytes) -> int:
    return sum(1 for _ in FrameReader(content, DECODE))


def concatenate(*parts: bytes) -> bytes:
    """Join transport streams and renumber their packets. Source: ITU-T H.222.0, 2.4.3.3."""
    joined = bytearray(b"".join(parts))
    counters: dict[int, int] = {}
    for start in range(0, len(joined), 188):
        kind = int.from_bytes(joined[start + 1 : start + 3], "big") & 0x1FFF
        has_payload = joined[start + 3] & 0x10
        counters[kind] = (counters.get(kind, -1) + bool(has_payload)) % 16
        joined[start + 3] = joined[start + 3] & 0xF0 | counters[kind]
    return bytes(joined)


@pytest.mark.parametrize("fps", [25, 10, 4, 2])
def test_concatenated_transport_streams_whose_times_overlap(fps):
    """The second part begins 0.613 s after the first one did, between two of its frames."""
    first = transport_stream(output_ts_offset="0")
    second = transport_stream(output_ts_offset="0.613")
    frames = read_both_ways(concatenate(first, second), DecodeSection(fps=fps, width=32, height=32))
    # The second part continues at the end of the first one.
    assert len(frames) == np.ceil(2 * len(moving_noise()) / 25 * fps)


@pytest.mark.parametrize("codec", ["msmpeg4v2", "msmpeg4", "wmv2"])
@pytest.mark.parametrize("fps", [4, 1])
def test_avi_without_index_in_which_every_frame_is_flagged_as_keyframe(codec, fps):
    avi = encode(codec, "avi", options={"g": "12"})
    without_index = avi.replace(b"idx1", b"JUNK")
    assert without_index != avi
    frames = read_both_ways(without_index, DecodeSection(fps=fps, width=32, height=32))
    np.testing.assert_array_equal(
        frames, read_both_ways(avi, DecodeSection(fps=fps, width=32, height=32))
    )


def test_packets_of_camcorders_have_four_more_bytes():
    content = transport_stream(mpegts_m2ts_mode="1")
    assert len(content) % 192 == 0
    assert len(content) % 188 != 0
    assert count(content) == len(moving_noise())
    with pytest.raises(VideoError, match=r"^<\d+ bytes>: (truncated|damaged) after"):
        count(content[: -192 * 3 + 100])


def test_bytes_after_the_last_packet_are_not_truncation():
    assert count(transport_stream() + bytes(50)) == len(moving_noise())


def test_endlessly_nested_boxes_are_not_a_video():
    content = b""
    for _ in range(3000):
        content = box(b"moov", content)
    with pytest.raises(VideoError, match="not a video that can be opened"):
        count(content)


@pytest.mark.parametrize("kind", hidden_claims())
def test_claims_are_found_wherever_ffmpeg_looks(kind):
    expected = r"index claims \d+ frames, but the file has \d+ bytes|compressed index \(cmov\)"
    with pytest.raises(VideoError, match=expected):
        count(hidden_claims()[kind])


@pytest.mark.parametrize("place", ["after the index", "in metadata"])
def test_names_of_tables_in_data_and_text_claim_nothing(place):
    """The index has two sample entries, as of a video whose encoder changed its settings."""
    entry = struct.pack(">I", 90) + b"avc1" + b"\xff" * 82
    entries = box(b"stsd", bytes(4), struct.pack(">I", 2), entry, entry)
    text = b"stsz kilocalories: 1000"
    handler = box(b"hdlr", bytes(8), b"mdir", bytes(13))
    meta = box(b"meta", bytes(4), handler, box(b"ilst", box(b"\xa9cmt", text)))
    track = box(b"trak", box(b"mdia", box(b"minf", box(b"stbl", entries))))
    data = text if place == "after the index" else b""
    movie = box(b"moov", track, b"" if data else meta) + box(b"mdat", data)
    assert index_fault(io.BytesIO(movie)) == ""


def test_an_index_of_more_frames_than_a_video_may_have_is_refused_in_a_large_file():
    content = frames_of_one_byte(2_000_001) + bytes(2_000_000)
    with pytest.raises(VideoError, match="more than 2000000 frames"):
        count(content)


@pytest.mark.parametrize(
    ("kind", "fault"),
    [(b"vide", "the index claims 500000 frames, but the file has 10092 bytes"), (b"soun", "")],
)
def test_samples_of_quicktime_sound_may_be_smaller_than_bytes(kind, fault):
    def movie(samples: int) -> bytes:
        sizes = box(b"stsz", bytes(4), struct.pack(">II", 1, samples))
        media = box(b"mdia", box(b"hdlr", bytes(8), kind), box(b"minf", box(b"stbl", sizes)))
        return box(b"ftyp", b"qt  ") + box(b"moov", box(b"trak", media)) + bytes(10_000)

    assert index_fault(io.BytesIO(movie(500_000))) == fault
    assert index_fault(io.BytesIO(movie(10**9))) != ""
