"""Selective decoding gives the same bits as decoding everything."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.video.opening import VideoError, open_video
from pipeline.video.packet_scan import PacketScan, scan_packets
from pipeline.video.reading import FrameReader, Segment
from pipeline.video.selective import UnreliableFrames, decode_selected
from pipeline.video.settings import DecodeSection
from tests.made_videos import check_both_ways

DECODE = DecodeSection(fps=25, width=32, height=32)
RATES = (25.0, 10.0, 1.0)

# Codec, container, options: closed and open groups, with and without B-frames, with and
# without frames that no other frame refers to (B-frames, hidden references of VP8 and VP9).
KINDS = {
    "h264": ("libx264", "mp4", {"g": "12", "bf": "3"}),
    "h264 without B-frames": ("libx264", "mp4", {"g": "12", "bf": "0"}),
    "h264 open groups": ("libx264", "mp4", {"g": "12", "bf": "3", "x264-params": "open-gop=1"}),
    "h264 pyramid": ("libx264", "matroska", {"g": "30", "bf": "7", "x264-params": "b-pyramid=2"}),
    "h264 in mpegts": ("libx264", "mpegts", {"g": "12", "bf": "2"}),
    "h264 in avi": ("libx264", "avi", {"g": "12", "bf": "2"}),
    "h264 intra refresh": ("libx264", "mp4", {"g": "12", "x264-params": "intra-refresh=1"}),
    "hevc": ("libx265", "mp4", {"x265-params": "keyint=12:bframes=4:log-level=none"}),
    "hevc open groups": ("libx265", "mp4", {"x265-params": "keyint=12:open-gop=1:log-level=none"}),
    "mpeg4": ("mpeg4", "mp4", {"g": "12", "bf": "2"}),
    "mpeg4 in avi": ("mpeg4", "avi", {"g": "12"}),
    "mpeg2": ("mpeg2video", "mpegts", {"g": "12", "bf": "2"}),
    "vp8": ("libvpx", "webm", {"g": "12", "auto-alt-ref": "1", "lag-in-frames": "8"}),
    "vp9": ("libvpx-vp9", "webm", {"g": "12", "cpu-used": "8", "lag-in-frames": "10"}),
}


@pytest.fixture(scope="session")
def moving_noise() -> np.ndarray:
    """Return 45 frames of a moving texture, so that every frame needs data of its own."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (24, 40, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
    return np.stack([np.roll(noise, (n, 2 * n), (0, 1))[:64, :96] for n in range(45)])


def encode(path: Path, frames: np.ndarray, codec: str, container: str, options: dict) -> None:
    with av.open(str(path), "w", format=container) as file:
        stream = file.add_stream(codec, rate=25, options=options)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        for number, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))


@pytest.mark.parametrize("kind", KINDS)
def test_generated_files(tmp_path, moving_noise, kind):
    path = tmp_path / "video"
    encode(path, moving_noise, *KINDS[kind])
    n_frames = len(list(FrameReader(path, DECODE, selective=False)))
    assert n_frames in (45, 46)  # AVI starts with a repeated frame
    for fps in RATES:
        check_both_ways(path, fps)
    for segment in (Segment(0.5, 0.9), Segment(1.0), Segment(end_seconds=0.3), Segment(9.0)):
        check_both_ways(path, 10.0, segment=segment)


# The packet scan does not tell the times of the frames, or not where decoding can begin.
READ_WHOLE = ("h264 in avi", "h264 intra refresh")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("indices", [[1, 4, 7], [5, 12, 17], [3, 4, 5, 17]])
def test_selected_frames_are_those_of_the_whole_video(tmp_path, moving_noise, kind, indices):
    path = tmp_path / "video"
    encode(path, moving_noise, *KINDS[kind])
    decode = DECODE.model_copy(update={"fps": 10})
    expected = list(FrameReader(path, decode))
    reader = FrameReader(path, decode, select=lambda count: indices if count == 18 else [])
    selected = dict(reader.numbered())
    assert reader.count == len(expected) == 18
    assert sorted(selected) == (list(range(18)) if kind in READ_WHOLE else indices)
    for index, frame in selected.items():
        np.testing.assert_array_equal(frame, expected[index])


@pytest.fixture
def damaged(tmp_path, moving_noise) -> Path:
    """A video of one group of 45 frames, with damage behind the middle."""
    path = tmp_path / "damaged.mp4"
    encode(path, moving_noise, "libx264", "mp4", {"g": "250", "bf": "0"})
    content = bytearray(path.read_bytes())
    start = int(0.7 * len(content))
    content[start : start + 40] = b"\xff" * 40
    path.write_bytes(content)
    return path


def test_a_selection_does_not_apply_where_damage_changes_the_number_of_frames(damaged):
    keep = DECODE.model_copy(update={"on_damage": "keep"})
    expected = list(FrameReader(damaged, keep))
    assert 20 < len(expected) < 45
    reader = FrameReader(damaged, keep, select=lambda _: [0, 2])
    np.testing.assert_array_equal(list(reader), expected)
    assert reader.count == len(expected)


def test_damage_before_a_selected_frame_is_noticed_and_later_damage_is_not(damaged):
    reader = FrameReader(damaged, DECODE, select=lambda count: [0, 2, count - 1])
    with pytest.raises(VideoError, match="damaged after"):
        list(reader)
    early = FrameReader(damaged, DECODE, select=lambda _: [0, 2])
    assert [index for index, _ in early.numbered()] == [0, 2]
    assert early.count == 45


@pytest.mark.parametrize("damage_at", [0.2, 0.5, 0.8, 0.95])
def test_damaged_files_give_the_same_result_when_every_frame_is_needed(
    tmp_path, moving_noise, damage_at
):
    """At the rate of the source every frame is needed, so any damage is noticed both ways."""
    path = tmp_path / "damaged.mp4"
    encode(path, moving_noise, *KINDS["h264 without B-frames"])
    content = bytearray(path.read_bytes())
    start = int(damage_at * len(content))
    content[start : start + 40] = bytes(40)
    path.write_bytes(content)
    check_both_ways(path, 25.0)


def test_real_clips(real_videos):
    odd = [path for path in sorted(real_videos.glob("odd/*/*.*")) if path.stat().st_size < 5e5]
    fights = sorted(real_videos.glob("survfight/*/*.mp4"))[::60]
    assert len(odd) > 15
    for path in [*odd, *fights]:
        check_both_ways(path, 4.0)


@pytest.mark.long
@pytest.mark.parametrize("fps", [10.0, 4.0, 1.0])
def test_more_real_clips(real_videos, fps):
    odd = [path for path in sorted(real_videos.glob("odd/*/*.*")) if path.name[:2] != "8k"]
    fights = sorted(real_videos.glob("survfight/*/*.mp4"))[::10]
    assert len(odd) == 39
    assert len(fights) == 30
    for path in [*odd, *fights]:
        check_both_ways(path, fps)


def scan(path: Path) -> PacketScan:
    with open_video(path, DECODE) as video:
        return scan_packets(video, path, DECODE)


def is_reliable(path: Path) -> bool:
    return scan(path).frames is not None


def test_the_usual_files_are_decoded_selectively(tmp_path, moving_noise):
    """Otherwise the tests above would compare sequential decoding with itself."""
    for kind in ("h264", "h264 open groups", "hevc", "vp9", "mpeg4"):
        path = tmp_path / kind
        encode(path, moving_noise, *KINDS[kind])
        assert is_reliable(path), kind


def test_avi_with_b_frames_is_decoded_sequentially(tmp_path, moving_noise):
    encode(tmp_path / "video", moving_noise, *KINDS["h264 in avi"])
    assert not is_reliable(tmp_path / "video")


class CountingCodec:
    """A codec that counts the packets that it receives."""

    def __init__(self, codec) -> None:
        self.__dict__.update(codec=codec, packets=0)

    def __getattr__(self, name):
        return getattr(self.codec, name)

    def __setattr__(self, name, value):
        setattr(self.codec, name, value)

    def decode(self, packet):
        self.__dict__["packets"] += packet is not None
        return self.codec.decode(packet)


def test_a_frame_needs_its_group_and_not_the_whole_video(tmp_path, moving_noise):
    """Keyframes are frames 0, 12, 24 and 36: frame 40 needs at most frames 36 to 40."""
    path = tmp_path / "video.mp4"
    encode(path, moving_noise, "libx264", "mp4", {"g": "12", "bf": "0", "sc_threshold": "0"})
    with open_video(path, DECODE) as video:
        packets = scan_packets(video, path, DECODE)
        timestamps = [pts for _, pts in packets.timed_frames()]
        codec = CountingCodec(video.stream.codec_context)
        (frame,) = decode_selected(codec, packets.frames, packets.packets, [timestamps[40]])
    assert frame.pts == timestamps[40]
    assert codec.packets == 5


def test_a_frame_that_the_decoder_does_not_return_is_noticed(tmp_path, moving_noise):
    path = tmp_path / "video.mp4"
    encode(path, moving_noise, *KINDS["h264"])
    with open_video(path, DECODE) as video:
        packets = scan_packets(video, path, DECODE)
        codec = video.stream.codec_context
        wanted = [packets.frames[0].pts, 10**9]
        with pytest.raises(UnreliableFrames):
            list(decode_selected(codec, packets.frames, packets.packets, wanted))
