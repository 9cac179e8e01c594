"""Which frames are read from a file in which every frame shows its number.

Frame k is shown from k / 10 seconds on, unless stated otherwise. The expected lists are
worked out by hand: item k is the newest frame shown at or before k / 10 or k / 4 seconds after
the first one.
"""

import io
import struct
from fractions import Fraction

import av
import cv2
import pytest

from pipeline.video.opening import VideoError
from pipeline.video.reading import FrameReader, Segment
from pipeline.video.settings import DecodeSection
from tests.made_videos import (
    B_FRAMES,
    HEVC,
    NO_B_FRAMES,
    check_numbers,
    code_frames,
    encode_frames,
    overwrite,
    read_code,
    read_numbers,
    with_duration,
    with_edits,
    with_packed_b_frames,
)

TWELVE = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
TWELVE_AT_4 = [0, 2, 5, 7, 10]  # at 0, 0.25, 0.5, 0.75 and 1 s

# Six frames at these tenths of a second, the last one shown until 1.5 s.
UNEVEN = {"ticks": [0, 1, 4, 5, 9, 12], "last_ticks": 3}
UNEVEN_AT_10 = [0, 1, 1, 1, 2, 3, 3, 3, 3, 4, 4, 4, 5, 5, 5]
UNEVEN_AT_4 = [0, 1, 3, 3, 4, 5]  # at 0, 0.25, 0.5, 0.75, 1 and 1.25 s

MILLISECONDS = {"video_track_timescale": "1000"}


class TestTimes:
    @pytest.mark.parametrize(
        "encoding",
        [
            {"options": NO_B_FRAMES},
            {"options": B_FRAMES},
            HEVC,
            {"codec": "libvpx-vp9", "container": "webm"},
            {"codec": "mpeg4", "container": "avi"},
        ],
        ids=["h264", "h264 B-frames", "hevc", "vp9", "avi"],
    )
    def test_constant_rate(self, encoding):
        check_numbers(encode_frames(code_frames(12), **encoding), at_10=TWELVE, at_4=TWELVE_AT_4)

    @pytest.mark.parametrize(
        "encoding",
        [
            {"options": NO_B_FRAMES},
            {"options": B_FRAMES},
            HEVC,
            {"options": B_FRAMES, "container": "matroska"},
            {"options": B_FRAMES, "container": "mpegts"},
            {"options": B_FRAMES, "container": "flv"},
            {"codec": "mpeg4", "container": "avi"},
        ],
        ids=["h264", "h264 B-frames", "hevc", "matroska", "mpegts", "flv", "avi"],
    )
    def test_variable_rate(self, encoding):
        content = encode_frames(code_frames(6), **UNEVEN, **encoding)
        check_numbers(content, at_10=UNEVEN_AT_10, at_4=UNEVEN_AT_4)

    @pytest.mark.parametrize("container", ["matroska", "mpegts", "mp4", "flv"])
    def test_first_timestamp_of_five_seconds(self, container):
        late = [50 + tick for tick in UNEVEN["ticks"]]
        content = encode_frames(code_frames(6), ticks=late, last_ticks=3, container=container)
        with av.open(io.BytesIO(content)) as file:
            assert next(file.decode(video=0)).time >= 5
        check_numbers(content, at_10=UNEVEN_AT_10, at_4=UNEVEN_AT_4)
        # From 0.3 s after the first frame, not after zero: at 0.3, 0.4 and 0.5 s.
        assert read_numbers(content, 10, segment=Segment(0.3, 0.6)) == [1, 2, 3]

    def test_one_frame(self):
        check_numbers(encode_frames(code_frames(1)), at_10=[0], at_4=[0])

    def test_one_long_frame(self):
        check_numbers(encode_frames(code_frames(1), last_ticks=7), at_10=[0] * 7, at_4=[0, 0, 0])

    def test_two_frames(self):
        check_numbers(encode_frames(code_frames(2)), at_10=[0, 1], at_4=[0])

    @pytest.mark.parametrize(
        "encoding", [{"options": NO_B_FRAMES}, {"options": B_FRAMES, "container": "matroska"}]
    )
    def test_long_last_frame(self, encoding):
        content = encode_frames(code_frames(4), last_ticks=7, **encoding)
        check_numbers(content, at_10=[0, 1, 2, 3, 3, 3, 3, 3, 3, 3], at_4=[0, 2, 3, 3])

    @pytest.mark.parametrize(
        "encoding",
        [
            {"codec": "mpeg4", "options": {"bf": "3"}},
            {"options": {"bf": "3", "x264-params": "b-adapt=0:b-pyramid=none"}},
            {"options": B_FRAMES, "container": "matroska"},
            {"options": B_FRAMES, "container": "mpegts"},
        ],
        ids=["mpeg4", "h264", "matroska", "mpegts"],
    )
    def test_a_pause_does_not_prolong_the_last_frame(self, encoding):
        """The last frame is decoded before the pause, and an mp4 holds durations of decoding."""
        ticks = [0, 1, 2, 3, 4, 14, 15, 16]
        content = encode_frames(code_frames(8), ticks=ticks, **encoding)
        at_10 = [0, 1, 2, 3, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 5, 6, 7]
        check_numbers(content, at_10=at_10, at_4=[0, 2, 4, 4, 4, 4, 6])

    @pytest.mark.parametrize("container", ["mp4", "matroska"])
    def test_a_pause_just_before_the_end_is_not_damage(self, container):
        ticks = [0, 1, 2, 3, 4, 5, 15, 16]
        content = encode_frames(code_frames(8), ticks=ticks, options=B_FRAMES, container=container)
        at_10 = [0, 1, 2, 3, 4, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 6, 7]
        check_numbers(content, at_10=at_10, at_4=[0, 2, 5, 5, 5, 5, 6])

    def test_a_transport_stream_has_no_length_so_such_a_pause_counts_as_truncation(self):
        ticks = [0, 1, 2, 3, 4, 5, 15, 16]
        content = encode_frames(code_frames(8), ticks=ticks, options=B_FRAMES, container="mpegts")
        with pytest.raises(VideoError, match=r"truncated after 1\.7 s"):
            read_numbers(content, 10)


def encode_25(codec: str, container: str, b_frames: int) -> bytes:
    """Return 24 frames of 1 / 25 s each."""
    options = {"g": "12", "bf": str(b_frames)}
    if codec == "libx264":
        options["x264-params"] = "b-adapt=0"
    tick = Fraction(1, 25)
    return encode_frames(
        code_frames(24), tick=tick, codec=codec, container=container, options=options
    )


def packed_25(b_frames: int, **options) -> bytes:
    return with_packed_b_frames(encode_25("mpeg4", "avi", b_frames), **options)


class TestNoPresentationTimes:
    """The file has times in decoding order only: frame i from the decoder is shown at i / rate."""

    @staticmethod
    def check(content: bytes) -> None:
        assert read_numbers(content, 25) == list(range(24))
        assert read_numbers(content, 10) == [0, 2, 5, 7, 10, 12, 15, 17, 20, 22]
        assert read_numbers(content, 50) == [k // 2 for k in range(48)]
        # At 0.2, 0.3, 0.4 and 0.5 s; from 0.84 s to the end.
        assert read_numbers(content, 10, segment=Segment(0.2, 0.6)) == [5, 7, 10, 12]
        assert read_numbers(content, 25, segment=Segment(0.84)) == [21, 22, 23]
        reader = FrameReader(content, DecodeSection(fps=25))
        assert len(list(reader)) == 24
        assert reader.facts is not None
        assert (reader.facts.source_seconds, reader.facts.source_fps) == (0.96, 25)

    @pytest.mark.parametrize("b_frames", [0, 1, 2, 3])
    @pytest.mark.parametrize("codec", ["mpeg4", "libx264", "mpeg2video", "mpeg1video"])
    def test_avi(self, codec, b_frames):
        self.check(encode_25(codec, "avi", b_frames))

    @pytest.mark.parametrize("b_frames", [1, 2, 3])
    def test_avi_with_packed_b_frames(self, b_frames):
        self.check(packed_25(b_frames))

    @pytest.mark.parametrize("b_frames", [1, 2, 3])
    def test_frames_of_avi_come_in_the_order_of_opencv(self, tmp_path, b_frames):
        path = tmp_path / "video.avi"
        for content in (
            encode_25("mpeg4", "avi", b_frames),
            encode_25("libx264", "avi", b_frames),
            packed_25(b_frames),
        ):
            path.write_bytes(content)
            capture, numbers = cv2.VideoCapture(str(path)), []
            while (picture := capture.read()[1]) is not None:
                numbers.append(read_code(picture))
            assert numbers == read_numbers(content, 25)

    @pytest.mark.parametrize("b_frames", [0, 1, 2, 3])
    @pytest.mark.parametrize(
        ("codec", "container"),
        [
            ("libx264", "asf"),
            ("mpeg4", "asf"),
            ("mpeg2video", "asf"),
            ("mpeg1video", "mpeg1video"),
            ("mpeg2video", "mpeg2video"),
            ("mpeg4", "m4v"),
            ("libx264", "h264"),
            ("libx264", "mxf"),
            ("mpeg2video", "vob"),
            ("libx264", "vob"),
        ],
    )
    def test_other_containers(self, codec, container, b_frames):
        content = encode_25(codec, container, b_frames)
        assert read_numbers(content, 25) == list(range(24))
        assert read_numbers(content, 10) == [0, 2, 5, 7, 10, 12, 15, 17, 20, 22]

    @pytest.mark.parametrize("codec", ["libx264", "libx265"])
    def test_rate_of_a_program_stream_with_few_timestamps(self, codec):
        """FFmpeg's muxer stores one timestamp in 2,048 bytes, which may hold many frames."""
        content = encode_frames(code_frames(24), codec=codec, container="vob", tick=Fraction(1, 25))
        reader = FrameReader(content, DecodeSection(fps=25, width=40, height=16, fit="stretch"))
        assert [read_code(frame) for frame in reader] == list(range(24))
        assert reader.facts is not None
        assert (reader.facts.source_fps, reader.facts.source_seconds) == (25, 0.96)

    def test_program_stream_with_the_same_timestamp_for_two_frames(self):
        """FFmpeg gives the timestamp of frame 20 to frame 15, too."""
        content = encode_frames(
            code_frames(24, height=160, width=320),
            container="vob",
            tick=Fraction(1, 25),
            options=B_FRAMES,
        )
        assert read_numbers(content, 25) == list(range(24))

    @pytest.mark.parametrize("b_frames", [1, 2, 3])
    @pytest.mark.parametrize("container", ["matroska", "nut", "mp4"])
    def test_packed_b_frames_copied_to_another_container(self, container, b_frames):
        self.check(packed_25(b_frames, container=container))

    @pytest.mark.parametrize("b_frames", [1, 2, 3])
    def test_packed_b_frames_copied_to_matroska_with_the_tag_of_avi(self, b_frames):
        self.check(packed_25(b_frames, container="matroska", as_in_avi=True))


class TestEditLists:
    """Frames that an edit list hides are not read; time 0 is the first shown frame."""

    @pytest.mark.parametrize("options", [NO_B_FRAMES, B_FRAMES], ids=["h264", "h264 B-frames"])
    def test_hidden_start(self, options):
        """FFmpeg writes an edit list for negative times: frames 0 to 2 are not shown."""
        content = encode_frames(code_frames(12), ticks=range(-3, 9), options=options)
        check_numbers(content, at_10=[3, 4, 5, 6, 7, 8, 9, 10, 11], at_4=[3, 5, 8, 10])

    @pytest.mark.parametrize(
        ("edits", "at_10", "at_4"),
        [
            ([(900, 300)], [3, 4, 5, 6, 7, 8, 9, 10, 11], [3, 5, 8, 10]),
            ([(500, -1), (1200, 0)], TWELVE, TWELVE_AT_4),
            ([(500, -1), (900, 300)], [3, 4, 5, 6, 7, 8, 9, 10, 11], [3, 5, 8, 10]),
            ([(700, 0)], [0, 1, 2, 3, 4, 5, 6], [0, 2, 5]),
            ([(400, 0), (400, 800)], [0, 1, 2, 3, 8, 9, 10, 11], [0, 2, 9, 11]),
            ([(300, 600), (300, 0)], [6, 7, 8, 0, 1, 2], [6, 8, 2]),
        ],
        ids=["skip", "empty", "empty and skip", "early end", "hole", "two parts swapped"],
    )
    def test_edits(self, edits, at_10, at_4):
        content = encode_frames(code_frames(12), options=NO_B_FRAMES, muxing=MILLISECONDS)
        check_numbers(with_edits(content, *edits), at_10=at_10, at_4=at_4)

    @pytest.mark.parametrize(
        ("edits", "at_10", "at_4"),
        [
            ([(600, 800)], [6, 7, 8, 9, 10, 11], [6, 8, 11]),
            ([(500, -1), (1200, 200)], TWELVE, TWELVE_AT_4),
            ([(700, 200)], [0, 1, 2, 3, 4, 5, 6], [0, 2, 5]),
        ],
        ids=["skip", "empty", "early end"],
    )
    def test_edits_with_b_frames(self, edits, at_10, at_4):
        """Frames are reordered by up to two ticks, so that frame 0 has media time 200."""
        content = encode_frames(code_frames(12), options=B_FRAMES, muxing=MILLISECONDS)
        check_numbers(with_edits(content, *edits), at_10=at_10, at_4=at_4)


class TestNoDuration:
    @pytest.mark.parametrize(
        "encoding",
        [
            {"container": "h264", "options": NO_B_FRAMES},
            {"container": "h264", "options": B_FRAMES},
            {"container": "hevc", **HEVC},
            {"container": "matroska", "options": B_FRAMES, "seekable": False},
        ],
        ids=["raw h264", "raw h264 B-frames", "raw hevc", "matroska through a pipe"],
    )
    def test_no_duration(self, encoding):
        content = encode_frames(code_frames(12), **encoding)
        with av.open(io.BytesIO(content)) as file:
            assert file.duration is None
        check_numbers(content, at_10=TWELVE, at_4=TWELVE_AT_4)

    @pytest.mark.parametrize("options", [NO_B_FRAMES, B_FRAMES], ids=["h264", "h264 B-frames"])
    def test_fragmented_mp4(self, options):
        content = encode_frames(
            code_frames(12),
            options={**options, "g": "5"},
            muxing={"movflags": "frag_keyframe+empty_moov"},
        )
        assert content.count(b"moof") == 3  # keyframes 0, 5 and 10
        check_numbers(content, at_10=TWELVE, at_4=TWELVE_AT_4)


class TestWrongHeaders:
    @pytest.mark.parametrize("options", [NO_B_FRAMES, B_FRAMES], ids=["h264", "h264 B-frames"])
    @pytest.mark.parametrize("duration", [0, 300])
    def test_mp4_that_claims_less(self, options, duration):
        content = encode_frames(code_frames(12), options=options, muxing=MILLISECONDS)
        check_numbers(with_duration(content, duration), at_10=TWELVE, at_4=TWELVE_AT_4)

    @pytest.mark.parametrize(
        ("header", "at", "count"), [(b"avih", 16, 4), (b"avih", 16, 100), (b"strh", 32, 4)]
    )
    def test_avi_with_a_wrong_count(self, header, at, count):
        """A stream header that claims more frames than there are means a truncated file."""
        content = encode_frames(code_frames(12), codec="mpeg4", container="avi")
        position = content.index(header) + 8 + at  # after the header's name and size
        assert content[position : position + 4] == struct.pack("<I", 12)
        content = overwrite(content, position, struct.pack("<I", count))
        check_numbers(content, at_10=TWELVE, at_4=TWELVE_AT_4)

    def test_matroska_that_claims_less(self):
        content = encode_frames(code_frames(12), container="matroska")
        position = content.index(b"\x44\x89\x88") + 3  # the element's name and its 8 bytes of size
        assert content[position : position + 8] == struct.pack(">d", 1200)
        content = overwrite(content, position, struct.pack(">d", 300))
        check_numbers(content, at_10=TWELVE, at_4=TWELVE_AT_4)


class TestStreamsWithoutStart:
    """A recording that starts in the middle: frames refer to missing ones."""

    @staticmethod
    def cut_at_the_second_group(container: str) -> bytes:
        """Frames 5 to 7 come after keyframe 8 in the file, and refer to frame 4."""
        options = {"x265-params": "keyint=8:min-keyint=8:bframes=3:b-adapt=0:log-level=none"}
        whole = encode_frames(
            code_frames(30), codec="libx265", container="matroska", options=options
        )
        target, keyframes = io.BytesIO(), 0
        with av.open(io.BytesIO(whole)) as source, av.open(target, "w", format=container) as file:
            stream = file.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(video=0):
                keyframes += packet.is_keyframe
                if keyframes > 1 and packet.size:
                    packet.stream = stream
                    file.mux(packet)
        return target.getvalue()

    @pytest.mark.parametrize("container", ["matroska", "mpegts", "mp4"])
    def test_time_starts_at_the_first_frame_that_can_be_shown(self, container):
        content = self.cut_at_the_second_group(container)
        assert read_numbers(content, 10) == list(range(8, 30))
        # 0.5, 0.6 and 0.7 s after frame 8.
        assert read_numbers(content, 10, segment=Segment(0.5, 0.8)) == [13, 14, 15]
