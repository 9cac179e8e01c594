"""Decoding only what is kept gives, bit for bit, what decoding everything gives."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.video.reading import WHOLE_VIDEO, FrameReader, FrameSpec, Segment
from pipeline.video.selective import UntrustedFrames, decode_selected
from pipeline.video.source import Limits, VideoError, open_video
from pipeline.video.survey import Survey, survey_video

LIMITS = Limits(max_seconds=600, max_pixels=40_000_000)
RATES = (25.0, 10.0, 1.0)

# Codec, container, options: groups closed and open, with and without B-frames, with frames
# that nothing refers to (B-frames, VP8's and VP9's hidden references) and without.
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
    """Forty-five frames of a moving texture, so that no frame is predicted for free."""
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


def outcome(path: Path, fps: float, *, selective: bool, segment=WHOLE_VIDEO):
    """Return the frames as an array, or the reason why there are none."""
    spec = FrameSpec(fps, 32, 32, "crop")
    reader = FrameReader(path, spec, limits=LIMITS, segment=segment, selective=selective)
    try:
        return np.stack(list(reader))
    except VideoError as error:
        return error.reason


def check_same(path: Path, fps: float, segment=WHOLE_VIDEO) -> None:
    expected = outcome(path, fps, selective=False, segment=segment)
    found = outcome(path, fps, selective=True, segment=segment)
    np.testing.assert_array_equal(found, expected, err_msg=f"{path.name} at {fps} fps")


@pytest.mark.parametrize("kind", KINDS)
def test_made_files(tmp_path, moving_noise, kind):
    path = tmp_path / "video"
    encode(path, moving_noise, *KINDS[kind])
    assert len(outcome(path, 25.0, selective=False)) in (45, 46)  # AVI starts with a repeat
    for fps in RATES:
        check_same(path, fps)
    for segment in (Segment(0.5, 0.9), Segment(1.0), Segment(end_seconds=0.3), Segment(9.0)):
        check_same(path, 10.0, segment)


@pytest.mark.parametrize("damage_at", [0.2, 0.5, 0.8, 0.95])
def test_damaged_files_have_the_same_outcome_where_frames_are_needed(
    tmp_path, moving_noise, damage_at
):
    """At the source's own rate every frame is needed, so every damage is met either way."""
    path = tmp_path / "damaged.mp4"
    encode(path, moving_noise, *KINDS["h264 without B-frames"])
    content = bytearray(path.read_bytes())
    start = int(damage_at * len(content))
    content[start : start + 40] = bytes(40)
    path.write_bytes(content)
    check_same(path, 25.0)


def test_real_clips(real_videos):
    files = [path for path in sorted(real_videos.glob("odd/*/*.*")) if path.stat().st_size < 3e6]
    files += sorted(real_videos.glob("survfight/*/*.mp4"))[::30]
    assert len(files) > 40
    for path in files:
        for fps in (10.0, 1.0):
            check_same(path, fps)


def survey(path: Path) -> Survey:
    with open_video(path, limits=LIMITS) as video:
        return survey_video(video, path, limits=LIMITS)


def trusted(path: Path) -> bool:
    return survey(path).frames is not None


def test_the_usual_files_are_decoded_selectively(tmp_path, moving_noise):
    """Otherwise everything above would compare the sequential way with itself."""
    for kind in ("h264", "h264 open groups", "hevc", "vp9", "mpeg4"):
        path = tmp_path / kind
        encode(path, moving_noise, *KINDS[kind])
        assert trusted(path), kind


def test_avi_with_b_frames_is_not_trusted(tmp_path, moving_noise):
    encode(tmp_path / "video", moving_noise, *KINDS["h264 in avi"])
    assert not trusted(tmp_path / "video")


class CountingCodec:
    """A codec that counts the packets it is given."""

    def __init__(self, codec) -> None:
        self.__dict__.update(codec=codec, packets=0)

    def __getattr__(self, name):
        return getattr(self.codec, name)

    def __setattr__(self, name, value):
        setattr(self.codec, name, value)

    def decode(self, packet):
        self.__dict__["packets"] += packet is not None
        return self.codec.decode(packet)


def test_a_frame_costs_its_group_and_not_the_whole_video(tmp_path, moving_noise):
    """Keyframes are frames 0, 12, 24 and 36: frame 40 needs frames 36 to 40 at the most."""
    path = tmp_path / "video.mp4"
    encode(path, moving_noise, "libx264", "mp4", {"g": "12", "bf": "0", "sc_threshold": "0"})
    with open_video(path, limits=LIMITS) as video:
        found = survey_video(video, path, limits=LIMITS)
        timestamps = [pts for _, pts in found.timed()]
        codec = CountingCodec(video.stream.codec_context)
        (frame,) = decode_selected(codec, found.frames, found.packets, [timestamps[40]])
    assert frame.pts == timestamps[40]
    assert codec.packets == 5


def test_a_frame_that_does_not_come_is_noticed(tmp_path, moving_noise):
    path = tmp_path / "video.mp4"
    encode(path, moving_noise, *KINDS["h264"])
    with open_video(path, limits=LIMITS) as video:
        found = survey_video(video, path, limits=LIMITS)
        wanted = [found.frames[0].pts, 10**9]
        with pytest.raises(UntrustedFrames):
            list(decode_selected(video.stream.codec_context, found.frames, found.packets, wanted))
