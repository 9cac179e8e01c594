"""Frames, facts and errors of real and generated files."""

import os
import pickle
from fractions import Fraction

import av
import numpy as np
import pytest

from pipeline.video.opening import VideoError
from pipeline.video.reading import FrameReader, Segment, read_frames
from pipeline.video.settings import DecodeSection
from pipeline.video.writing import encode_mp4
from tests.conftest import numbered_frames, numbers_in

TEN_FPS = DecodeSection(fps=10, width=16, height=16)


def numbers(source, decode=TEN_FPS, **options) -> list[int]:
    return numbers_in(read_frames(source, decode, **options))


def test_every_third_frame_of_a_video_with_b_frames(numbered_mp4):
    assert numbers(numbered_mp4) == [0, 3, 6, 9, 12, 15, 18, 21, 24, 27]


def test_bytes_and_path_give_the_same_frames(numbered_mp4):
    by_path = read_frames(numbered_mp4, TEN_FPS)
    by_bytes = read_frames(numbered_mp4.read_bytes(), TEN_FPS)
    assert by_path.dtype == np.uint8
    assert by_path.shape == (10, 16, 16, 3)
    np.testing.assert_array_equal(by_path, by_bytes)


def test_a_rate_above_the_source_repeats_frames(numbered_mp4):
    decode = DecodeSection(fps=60, width=16, height=16)
    assert numbers(numbered_mp4, decode) == [n // 2 for n in range(60)]


def test_a_segment(numbered_mp4):
    assert numbers(numbered_mp4, segment=Segment(0.3, 0.6)) == [9, 12, 15]
    assert numbers(numbered_mp4, segment=Segment(start_seconds=0.85)) == [25, 28]


def test_the_facts_of_a_video(numbered_mp4):
    reader = FrameReader(numbered_mp4, TEN_FPS)
    assert reader.facts is None
    list(reader)
    assert reader.facts is not None
    assert (reader.facts.codec, reader.facts.width, reader.facts.height) == ("h264", 48, 32)
    assert (reader.facts.source_frames, reader.facts.source_fps) == (30, 30.0)
    assert (reader.facts.claimed_frames, reader.facts.claimed_seconds) == (30, 1.0)
    assert reader.facts.source_seconds == 1.0
    assert reader.facts.is_variable_rate is False


@pytest.mark.parametrize(
    ("container", "codec"), [("matroska", "libx264"), ("mp4", "mpeg4"), ("webm", "libvpx-vp9")]
)
def test_a_variable_rate_and_a_late_first_timestamp(tmp_path, container, codec):
    """Frames shown at 0, 0.1, 0.5 and 0.6 s after the first, which comes at 2 s."""
    path = tmp_path / "variable.video"
    ticks = [20, 21, 25, 26]
    with av.open(str(path), "w", format=container) as file:
        stream = file.add_stream(codec, rate=10, options={"bf": "0"})
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 10)
        for tick, picture in zip(ticks, numbered_frames(4), strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = tick, Fraction(1, 10)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    assert numbers(path) == [0, 1, 1, 1, 1, 2, 3]


class TestErrors:
    def reason(self, source, decode=TEN_FPS, **options) -> str:
        with pytest.raises(VideoError) as error:
            read_frames(source, decode, **options)
        assert str(error.value) == f"{error.value.name}: {error.value.reason}"
        return error.value.reason

    def test_empty(self, tmp_path):
        path = tmp_path / "empty.mp4"
        path.touch()
        assert self.reason(path) == "the file is empty"

    def test_text(self, tmp_path):
        path = tmp_path / "text.mp4"
        path.write_text("These are not the frames you are looking for.\n" * 99)
        assert self.reason(path).startswith("not a video that can be opened (")

    def test_missing(self, tmp_path):
        assert self.reason(tmp_path / "no.mp4") == "cannot be read (No such file or directory)"

    def test_a_fifo_does_not_hang(self, tmp_path):
        os.mkfifo(tmp_path / "pipe.mp4")
        assert self.reason(tmp_path / "pipe.mp4") == "not a regular file"

    def test_audio_only(self, tmp_path):
        path = tmp_path / "sound.mp4"
        with av.open(str(path), "w") as file:
            stream = file.add_stream("aac", rate=8000)
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            frame.sample_rate = 8000
            file.mux(stream.encode(frame))
            file.mux(stream.encode(None))
        assert self.reason(path) == "no video stream (streams found: audio)"

    def test_no_index(self, tmp_path, numbered_mp4):
        """An mp4 cut before its index (moov), as an interrupted upload leaves it."""
        path = tmp_path / "cut.mp4"
        path.write_bytes(numbered_mp4.read_bytes()[:600])
        assert self.reason(path) == "not a video that can be opened (moov atom not found)"

    def test_a_playlist_does_not_open_other_files(self, tmp_path, numbered_mp4):
        path = tmp_path / "list.mp4"
        path.write_text(f"ffconcat version 1.0\nfile '{numbered_mp4}'\n")
        assert self.reason(path).startswith("not a video that can be opened")

    def test_too_many_pixels(self, numbered_mp4):
        decode = DecodeSection(max_pixels=1000)
        assert self.reason(numbered_mp4, decode) == (
            "48 x 32 pixels are more than decode.max_pixels = 1000"
        )

    def test_too_long(self, numbered_mp4):
        decode = DecodeSection(max_seconds=0.5)
        assert self.reason(numbered_mp4, decode) == "longer than decode.max_seconds = 0.5"

    @pytest.mark.parametrize("is_selective", [True, False])
    def test_the_limit_of_seconds_holds_for_the_segment_wherever_it_lies(
        self, numbered_mp4, is_selective
    ):
        """The video has 1 s; a segment without an end ends with the video."""
        decode = DecodeSection(fps=10, width=16, height=16, max_seconds=0.4)

        def read(segment: Segment) -> list[int]:
            reader = FrameReader(numbered_mp4, decode, segment=segment, selective=is_selective)
            return numbers_in(np.stack(list(reader)))

        assert read(Segment(0.0, 0.4)) == [0, 3, 6, 9]
        assert read(Segment(0.6, 0.9)) == [18, 21, 24]
        assert read(Segment(0.7)) == [21, 24, 27]
        assert read(Segment(0.9, 60)) == [27]
        for segment in (Segment(0.0, 0.5), Segment(0.4, 0.9), Segment(0.5), Segment()):
            with pytest.raises(VideoError, match=r"longer than decode\.max_seconds = 0\.4"):
                read(segment)

    def test_a_segment_after_the_end(self, numbered_mp4):
        assert self.reason(numbered_mp4, segment=Segment(start_seconds=7.0)) == (
            "no frame between start_seconds = 7.0 and end_seconds = None; "
            "the last frame is at 0.97 s"
        )

    def test_the_error_can_be_pickled(self):
        error = pickle.loads(pickle.dumps(VideoError("a.mp4", "broken")))
        assert (error.name, error.reason, str(error)) == ("a.mp4", "broken", "a.mp4: broken")


def test_names_with_spaces_quotes_and_percent_signs(tmp_path):
    path = tmp_path / 'it\'s 100% "fine": ok.mp4'
    path.write_bytes(encode_mp4(numbered_frames(3), fps=10))
    assert numbers(path) == [0, 1, 2]


def test_the_rotation_of_a_real_phone_clip(real_videos):
    """An upright clip that is stored lying on its side is read upright."""
    path = real_videos / "odd/androidx-media/sample_edit_list.mp4"
    decode = DecodeSection(fps=1, width=54, height=96, fit="stretch")
    reader = FrameReader(path, decode, segment=Segment(end_seconds=0.5))
    frames = list(reader)
    assert reader.facts is not None
    assert reader.facts.rotation == -90
    assert frames[0].shape == (96, 54, 3)


def test_real_odd_clips_are_decoded_or_give_a_reason(real_videos):
    results: dict[str, int | str] = {}
    for path in sorted((real_videos / "odd").rglob("*.*")):
        if path.name.startswith(("long_", "8k")):
            continue
        try:
            results[path.name] = len(read_frames(path, TEN_FPS))
        except VideoError as error:
            results[path.name] = error.reason
    reasons = {name: reason for name, reason in results.items() if isinstance(reason, str)}
    assert reasons == {
        "bbb_1ch_48kHz_q10_opus.webm": "no video stream (streams found: audio)",
        "bbb_mono_16kHz_23.05kbps_amrwb.3gp": "no video stream (streams found: audio)",
        "dash_segment_init.mp4": "the video stream holds no frame that can be decoded",
        "sample_fragmented_clearkey.mp4": (
            "encrypted (hit EOF while reading sub-sample encryption info; error reading header)"
        ),
        "subsample_encrypted_altref.webm": "encrypted",
    }
    # The counts follow from presentation times, not from headers.
    assert results["nasa_13013.mp4"] == 130
    assert results["sample_12_5fps_720p_1s.mp4"] == 11
    assert results["av1_video.mkv"] == 50
