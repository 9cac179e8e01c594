"""An interval of a long video is read without the rest of the file, with the same result."""

import io
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.common.records import DecodeFacts
from pipeline.video.interval_scan import scan_interval
from pipeline.video.opening import VideoError, open_video
from pipeline.video.packet_scan import PacketScan
from pipeline.video.reading import FrameReader, Segment
from pipeline.video.settings import DecodeSection
from tests.made_videos import check_both_ways, encode_frames, overwrite, rewrite_box, rgb_frame

DECODE = DecodeSection(fps=10, width=32, height=32)
TICK = Fraction(1, 25)
FRAMES = 200  # 8 s, in groups of 12 frames
GROUPS = "keyint=12:min-keyint=12:scenecut=0"
VARIABLE = np.cumsum(np.tile([1, 1, 2, 5], FRAMES // 4)).tolist()

H264 = {"options": {"bf": "3", "x264-params": GROUPS}}
OPEN_GROUPS = {"options": {"bf": "3", "x264-params": f"{GROUPS}:open-gop=1"}}
HEVC_OPEN_GROUPS = {
    "codec": "libx265",
    "options": {"x265-params": f"{GROUPS}:open-gop=1:bframes=4:log-level=none"},
}
VP9 = {"codec": "libvpx-vp9", "container": "webm", "options": {"g": "12", "cpu-used": "8"}}
READ_IN_PARTS = {
    "mp4": H264,
    "mp4, index first": {**H264, "muxing": {"moov_size": "65536"}},
    "mp4, open groups": OPEN_GROUPS,
    "mp4, hevc, open groups": HEVC_OPEN_GROUPS,
    "mp4, variable rate": {**H264, "ticks": VARIABLE},
    "mp4, late start": {**H264, "ticks": range(50, 50 + FRAMES)},
    "mov": {**OPEN_GROUPS, "container": "mov"},
    "mkv": {**H264, "container": "matroska"},
    "mkv, open groups": {**OPEN_GROUPS, "container": "matroska"},
    "mkv, variable rate": {**H264, "container": "matroska", "ticks": VARIABLE},
    "webm": VP9,
}
READ_WHOLE = {
    "mov, hidden start": {**H264, "container": "mov", "ticks": range(-7, FRAMES - 7)},
    "mp4, fragments": {**H264, "muxing": {"movflags": "frag_keyframe+empty_moov"}},
    "avi": {"codec": "mpeg4", "container": "avi", "options": {"g": "12"}},
    "mpegts": {**H264, "container": "mpegts"},
    "flv": {**H264, "container": "flv"},
}
INTERVALS = (
    Segment(0.0, 0.4),
    Segment(end_seconds=1.0),
    Segment(0.43, 0.5),  # within one group of pictures
    Segment(3.9, 4.7),
    Segment(4.001, 4.002),  # shorter than a frame
    Segment(7.5, 7.9),
    Segment(7.5, 30.0),
    Segment(7.6),
    Segment(60.0, 61.0),
    Segment(60.0),
)


def encode(kind: dict) -> bytes:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (16, 24, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
    frames = [rgb_frame(np.roll(noise, (n, 2 * n), (0, 1))) for n in range(FRAMES)]
    return encode_frames(frames, tick=TICK, **kind)


def scan(source: Path | bytes, segment: Segment) -> PacketScan | None:
    start = Fraction(str(segment.start_seconds or 0))
    end = None if segment.end_seconds is None else Fraction(str(segment.end_seconds))
    with open_video(source, DECODE) as video:
        return scan_interval(video, source, DECODE, start_seconds=start, end_seconds=end)


def facts(source: Path | bytes, segment: Segment, *, selective: bool = True) -> DecodeFacts:
    reader = FrameReader(source, DECODE, segment=segment, selective=selective)
    assert list(reader)
    assert reader.facts is not None
    return reader.facts


@pytest.mark.parametrize("kind", [*READ_IN_PARTS, *READ_WHOLE])
def test_frames_and_reasons_are_those_of_decoding_everything(tmp_path, kind):
    path = tmp_path / "video"
    path.write_bytes(encode({**READ_IN_PARTS, **READ_WHOLE}[kind]))
    for segment in INTERVALS:
        for fps in (4.0, 25.0):
            check_both_ways(path, fps, segment=segment)


@pytest.mark.parametrize("kind", READ_IN_PARTS)
def test_few_packets_are_read(kind):
    content = encode(READ_IN_PARTS[kind])
    for segment in INTERVALS[:6]:
        packets = scan(content, segment)
        assert packets is not None
        assert packets.frames is not None
        # A group, a leading one, the frames that may be reordered, and those of the interval.
        assert len(packets.frames) <= 12 + 12 + 17 + 25


@pytest.mark.parametrize("kind", READ_WHOLE)
def test_the_whole_file_is_read_where_an_interval_may_be_read_wrongly(kind):
    assert scan(encode(READ_WHOLE[kind]), Segment(3.9, 4.7)) is None


def test_the_whole_file_is_read_if_two_frames_of_an_mp4_have_the_same_time(tmp_path):
    """Each later frame is then shown one interval later, as in decoding everything."""

    def repeat_a_time(ctts: bytes) -> bytes:
        """Show the frames of the run number 40 when earlier frames are shown."""
        return overwrite(ctts, 8 + 40 * 8 + 4, bytes(4))

    box = "moov/trak/mdia/minf/stbl/ctts"
    path = tmp_path / "video.mp4"
    path.write_bytes(rewrite_box(encode(READ_IN_PARTS["mp4"]), box, repeat_a_time))
    for segment in INTERVALS:
        assert scan(path, segment) is None
        check_both_ways(path, 25.0, segment=segment)


@pytest.mark.parametrize("kind", ["mp4", "mp4, variable rate", "mp4, late start", "mov"])
def test_the_facts_of_an_mp4_are_those_of_the_whole_file(kind):
    content = encode(READ_IN_PARTS[kind])
    for segment in (Segment(0.0, 0.4), Segment(3.9, 4.7), Segment(7.5)):
        assert facts(content, segment) == facts(content, segment, selective=False)


@pytest.mark.parametrize("kind", ["mkv", "webm"])
def test_the_number_of_frames_of_matroska_is_unknown(kind):
    content = encode(READ_IN_PARTS[kind])
    whole = asdict(facts(content, Segment(3.9, 4.7), selective=False))
    assert (whole["source_frames"], whole["source_fps"]) == (FRAMES, 25.0)
    assert asdict(facts(content, Segment(3.9, 4.7))) == {**whole, "source_frames": None}


@pytest.mark.parametrize("kind", ["mp4", "mkv"])
def test_only_damage_in_the_interval_matters(kind):
    """Frames 50 to 52, at 2 s, are overwritten."""
    content = encode(READ_IN_PARTS[kind])
    damaged = bytearray(content)
    with av.open(io.BytesIO(content)) as file:
        packets = [bytes(packet) for packet in file.demux(video=0) if packet.size]
    for packet in packets[50:53]:
        at = content.index(packet)
        damaged[at : at + len(packet)] = b"\xff" * len(packet)
    for segment in (Segment(0.0, 1.0), Segment(4.0, 5.0)):
        expected = list(FrameReader(content, DECODE, segment=segment))
        for on_damage in ("quarantine", "keep"):
            decode = DECODE.model_copy(update={"on_damage": on_damage})
            reader = FrameReader(bytes(damaged), decode, segment=segment)
            np.testing.assert_array_equal(list(reader), expected)
            assert reader.facts is not None
            assert reader.facts.reason == ""
    reasons = []
    for selective in (True, False):
        reader = FrameReader(
            bytes(damaged),
            DECODE.model_copy(update={"fps": 25}),
            segment=Segment(1.0, 3.0),
            selective=selective,
        )
        with pytest.raises(VideoError, match=r"after (1\.9|2\.0|2\.1) ") as error:
            list(reader)
        reasons.append(error.value.reason)
    assert reasons[0] == reasons[1]


def test_a_file_cut_after_the_interval():
    content = encode(READ_IN_PARTS["mp4, index first"])
    cut = content[: len(content) * 3 // 4]
    segment = Segment(2.0, 3.0)
    expected = list(FrameReader(content, DECODE, segment=segment))
    np.testing.assert_array_equal(list(FrameReader(cut, DECODE, segment=segment)), expected)
    with pytest.raises(VideoError, match="truncated after"):
        list(FrameReader(cut, DECODE, segment=Segment(7.0, 7.5)))


def test_a_selection_of_the_frames_of_an_interval():
    content = encode(READ_IN_PARTS["mp4"])
    segment = Segment(3.9, 5.9)
    expected = list(FrameReader(content, DECODE, segment=segment))
    reader = FrameReader(content, DECODE, segment=segment, select=lambda count: [0, 7, count - 1])
    selected = dict(reader.numbered())
    assert (reader.count, list(selected)) == (20, [0, 7, 19])
    for index, frame in selected.items():
        np.testing.assert_array_equal(frame, expected[index])


@pytest.mark.parametrize("container", ["mov", "matroska"])
def test_an_interval_whose_packets_are_not_kept_in_memory(tmp_path, container):
    """Noise without loss, half a megabyte a picture: the interval is larger than 16 MiB."""
    path = tmp_path / "large"
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (480, 640, 3), dtype=np.uint8)
    frames = [rgb_frame(np.roll(picture, n, 0)) for n in range(80)]
    lossless = {"qp": "0", "g": "1", "preset": "ultrafast"}
    path.write_bytes(encode_frames(frames, tick=TICK, container=container, options=lossless))
    packets = scan(path, Segment(1.0, 2.0))
    assert packets is not None
    assert packets.packets is None
    check_both_ways(path, 10.0, segment=Segment(1.0, 2.0))


def test_real_clips(real_videos):
    odd = [path for path in sorted(real_videos.glob("odd/*/*.*")) if path.stat().st_size < 5e5]
    fights = sorted(real_videos.glob("survfight/*/*.mp4"))[::60]
    assert len(odd) > 15
    for path in [*odd, *fights]:
        for segment in (Segment(0.0, 0.3), Segment(0.47, 0.7), Segment(0.9), Segment(90.0)):
            for fps in (4.0, 25.0):
                check_both_ways(path, fps, segment=segment)
