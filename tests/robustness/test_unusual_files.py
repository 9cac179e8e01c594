"""Sound files that are made in unusual ways, and files made to trouble a reader."""

import io
import struct
from fractions import Fraction

import av
import numpy as np
import pytest

from pipeline.base.files import sha256_of_file
from pipeline.video.batch import DecodeTask, update_store
from pipeline.video.boxes import most_frames_claimed
from pipeline.video.reading import WHOLE_VIDEO, FrameReader, FrameSpec
from pipeline.video.source import VideoError
from tests.made_videos import read_both_ways
from tests.robustness.sound import HEIGHT, LIMITS, SPEC, WIDTH, moving_noise, sound_video


def encoded(
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
    return encoded("libx264", "mpegts", options={"g": "12", "bf": "2"}, muxing=muxing)


def count(content: bytes) -> int:
    return sum(1 for _ in FrameReader(content, SPEC, limits=LIMITS))


def put_together(*parts: bytes) -> bytes:
    """Join transport streams, and let their packets count on. Source: ITU-T H.222.0, 2.4.3.3."""
    joined = bytearray(b"".join(parts))
    counters: dict[int, int] = {}
    for start in range(0, len(joined), 188):
        kind = int.from_bytes(joined[start + 1 : start + 3], "big") & 0x1FFF
        has_payload = joined[start + 3] & 0x10
        counters[kind] = (counters.get(kind, -1) + bool(has_payload)) % 16
        joined[start + 3] = joined[start + 3] & 0xF0 | counters[kind]
    return bytes(joined)


@pytest.mark.parametrize("fps", [25, 10, 4, 2])
def test_transport_streams_put_together_whose_time_starts_again(fps):
    """The second part begins 0.613 s after the first one did, between two of its frames."""
    first = transport_stream(output_ts_offset="0")
    second = transport_stream(output_ts_offset="0.613")
    frames = read_both_ways(put_together(first, second), FrameSpec(fps, 32, 32, "stretch"))
    # Time goes on where the first part ends, frame by frame.
    assert len(frames) == np.ceil(2 * len(moving_noise()) / 25 * fps)


@pytest.mark.parametrize("codec", ["msmpeg4v2", "msmpeg4", "wmv2"])
@pytest.mark.parametrize("fps", [4, 1])
def test_an_avi_without_its_index_calls_every_frame_a_keyframe(codec, fps):
    avi = encoded(codec, "avi", options={"g": "12"})
    without_index = avi.replace(b"idx1", b"JUNK")
    assert without_index != avi
    frames = read_both_ways(without_index, FrameSpec(fps, 32, 32, "stretch"))
    np.testing.assert_array_equal(frames, read_both_ways(avi, FrameSpec(fps, 32, 32, "stretch")))


def test_packets_of_camcorders_are_four_bytes_longer():
    content = transport_stream(mpegts_m2ts_mode="1")
    assert len(content) % 192 == 0
    assert len(content) % 188 != 0
    assert count(content) == len(moving_noise())
    with pytest.raises(VideoError, match=r"^<\d+ bytes>: (truncated|damaged) after"):
        count(content[: -192 * 3 + 100])


def test_bytes_after_the_last_packet_are_no_cut():
    assert count(transport_stream() + bytes(50)) == len(moving_noise())


def box(name: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I4s", 8 + len(body), name) + body


def test_boxes_in_boxes_without_end_are_no_video():
    content = b""
    for _ in range(3000):
        content = box(b"moov", content)
    with pytest.raises(VideoError, match="not a video that can be opened"):
        count(content)


@pytest.mark.parametrize(("kind", "claimed"), [(b"vide", 500_000), (b"soun", 0)])
def test_quicktime_counts_samples_of_sound_like_frames(kind, claimed):
    sizes = box(b"stsz", bytes(4), struct.pack(">II", 1, 500_000))
    media = box(b"mdia", box(b"hdlr", bytes(8), kind), box(b"minf", box(b"stbl", sizes)))
    movie = box(b"ftyp", b"qt  ") + box(b"moov", box(b"trak", media))
    assert most_frames_claimed(io.BytesIO(movie)) == claimed


def test_a_file_that_could_not_be_read_is_tried_again(tmp_path):
    path = tmp_path / "video.mp4"
    path.write_bytes(sound_video("H.264 mp4"))
    task = DecodeTask(path, sha256_of_file(path), WHOLE_VIDEO, SPEC, LIMITS)
    away = path.rename(tmp_path / "away")
    (stored,) = update_store(tmp_path / "store", [task], workers=1, timeout_seconds=30).values()
    assert stored.reason == "cannot be read (No such file or directory)"
    away.rename(path)
    (stored,) = update_store(tmp_path / "store", [task], workers=1, timeout_seconds=30).values()
    assert stored.frames == len(moving_noise())
