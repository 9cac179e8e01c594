"""Real files, decoded by the real decoder."""

import os
import pickle
from fractions import Fraction

import av
import numpy as np
import pytest

from pipeline.video.reading import FrameReader, FrameSpec, Segment, read_frames
from pipeline.video.source import Limits, VideoError
from pipeline.video.writing import encode_mp4
from tests.conftest import numbered_frames, numbers_in

LIMITS = Limits(max_seconds=60, max_pixels=10_000_000)
TEN_FPS = FrameSpec(fps=10, width=16, height=16, fit="crop")


def numbers(source, spec=TEN_FPS, **options) -> list[int]:
    return numbers_in(read_frames(source, spec, limits=LIMITS, **options))


def test_every_third_frame_of_a_video_with_b_frames(numbered_mp4):
    assert numbers(numbered_mp4) == [0, 3, 6, 9, 12, 15, 18, 21, 24, 27]


def test_bytes_and_path_give_the_same_frames(numbered_mp4):
    by_path = read_frames(numbered_mp4, TEN_FPS, limits=LIMITS)
    by_bytes = read_frames(numbered_mp4.read_bytes(), TEN_FPS, limits=LIMITS)
    assert by_path.dtype == np.uint8
    assert by_path.shape == (10, 16, 16, 3)
    np.testing.assert_array_equal(by_path, by_bytes)


def test_a_rate_above_the_source_repeats_frames(numbered_mp4):
    spec = FrameSpec(fps=60, width=16, height=16, fit="crop")
    assert numbers(numbered_mp4, spec) == [n // 2 for n in range(60)]


def test_a_segment(numbered_mp4):
    assert numbers(numbered_mp4, segment=Segment(0.3, 0.6)) == [9, 12, 15]
    assert numbers(numbered_mp4, segment=Segment(start_seconds=0.85)) == [25, 28]


def test_what_was_found(numbered_mp4):
    reader = FrameReader(numbered_mp4, TEN_FPS, limits=LIMITS)
    assert reader.info is None
    list(reader)
    assert reader.info is not None
    assert (reader.info.codec, reader.info.width, reader.info.height) == ("h264", 48, 32)
    assert (reader.info.source_frames, reader.info.source_fps) == (30, 30.0)
    assert (reader.info.claimed_frames, reader.info.claimed_seconds) == (30, 1.0)
    assert reader.info.source_seconds == 1.0
    assert reader.info.is_variable_rate is False


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


class TestRefused:
    def reason(self, source, limits=LIMITS, **options) -> str:
        with pytest.raises(VideoError) as error:
            read_frames(source, TEN_FPS, limits=limits, **options)
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
        """An mp4 cut before its index (moov), as a broken upload leaves it."""
        path = tmp_path / "cut.mp4"
        path.write_bytes(numbered_mp4.read_bytes()[:600])
        assert self.reason(path) == "not a video that can be opened (moov atom not found)"

    def test_a_playlist_does_not_open_other_files(self, tmp_path, numbered_mp4):
        path = tmp_path / "list.mp4"
        path.write_text(f"ffconcat version 1.0\nfile '{numbered_mp4}'\n")
        assert self.reason(path).startswith("not a video that can be opened")

    def test_too_many_pixels(self, numbered_mp4):
        limits = Limits(max_seconds=60, max_pixels=1000)
        assert self.reason(numbered_mp4, limits) == (
            "48 x 32 pixels are more than decode.max_pixels = 1000"
        )

    def test_too_long(self, numbered_mp4):
        limits = Limits(max_seconds=0.5, max_pixels=10_000)
        assert self.reason(numbered_mp4, limits) == "longer than decode.max_seconds = 0.5"

    def test_a_segment_after_the_end(self, numbered_mp4):
        assert self.reason(numbered_mp4, segment=Segment(start_seconds=7.0)) == (
            "no frame between start_seconds = 7.0 and end_seconds = None; "
            "the last frame is at 0.97 s"
        )

    def test_the_error_comes_back_from_a_worker_process(self):
        error = pickle.loads(pickle.dumps(VideoError("a.mp4", "broken")))
        assert (error.name, error.reason, str(error)) == ("a.mp4", "broken", "a.mp4: broken")


def test_names_with_spaces_quotes_and_percent_signs(tmp_path):
    path = tmp_path / 'it\'s 100% "fine": ok.mp4'
    path.write_bytes(encode_mp4(numbered_frames(3), fps=10))
    assert numbers(path) == [0, 1, 2]


def test_the_rotation_of_a_real_phone_clip(real_videos):
    """An upright clip stored lying down comes out upright: its sky is lighter than its street."""
    path = real_videos / "odd/androidx-media/sample_edit_list.mp4"
    reader = FrameReader(path, FrameSpec(1, 54, 96, "stretch"), limits=LIMITS)
    frames = list(reader)
    assert reader.info is not None
    assert reader.info.rotation == -90
    assert frames[0].shape == (96, 54, 3)


def test_real_clips_decode_or_are_refused_with_a_reason(real_videos):
    outcomes = {}
    limits = Limits(max_seconds=600, max_pixels=40_000_000)
    for path in sorted((real_videos / "odd").rglob("*.*")):
        if path.name.startswith(("long_", "8k")):
            continue
        try:
            outcomes[path.name] = len(read_frames(path, TEN_FPS, limits=limits))
        except VideoError as error:
            outcomes[path.name] = error.reason
    refused = {name: reason for name, reason in outcomes.items() if isinstance(reason, str)}
    assert refused == {
        "bbb_1ch_48kHz_q10_opus.webm": "no video stream (streams found: audio)",
        "bbb_mono_16kHz_23.05kbps_amrwb.3gp": "no video stream (streams found: audio)",
        "dash_segment_init.mp4": "the video stream holds no frame that can be decoded",
        "sample_fragmented_clearkey.mp4": (
            "encrypted (hit EOF while reading sub-sample encryption info; error reading header)"
        ),
        "subsample_encrypted_altref.webm": "encrypted",
    }
    # 6 x 25 fps of 25 fps footage and so on: counts follow from the time shown, not from headers.
    assert outcomes["nasa_13013.mp4"] == 130
    assert outcomes["sample_12_5fps_720p_1s.mp4"] == 11
    assert outcomes["av1_video.mkv"] == 50
