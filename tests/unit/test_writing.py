import hashlib
import io
import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest

from pipeline.video.writing import encode_mp4


def moving_texture(count, *, height=48, width=66):
    """A smooth texture that moves by 2 pixels a frame: uint8 [count, height, width, 3]."""
    x = np.linspace(0, 4 * np.pi, width, endpoint=False)
    y = np.linspace(0, 2 * np.pi, height, endpoint=False)[:, None]
    red, green, blue = np.sin(x) + 0 * y, np.cos(y) + 0 * x, np.sin(x + y)
    picture = np.rint(128 + 100 * np.stack([red, green, blue], axis=2)).astype(np.uint8)
    return np.stack([np.roll(picture, 2 * number, axis=1) for number in range(count)])


def decoded(mp4):
    """Return the video's only stream, closed, and its decoded frames."""
    with av.open(io.BytesIO(mp4)) as container:
        (stream,) = container.streams
        return stream, list(container.decode(stream))


@pytest.mark.parametrize("count", [1, 2, 25])
def test_decoding_gives_the_frames_in_order_and_nearly_equal(count):
    frames = moving_texture(count)
    _, shown = decoded(encode_mp4(frames, fps=10))
    pictures = np.stack([frame.to_ndarray(format="rgb24") for frame in shown])
    assert pictures.shape == frames.shape
    error = np.abs(pictures.astype(int) - frames)
    assert error.mean() < 6  # most of it from one colour sample for 2 x 2 pixels
    # A frame in a wrong position would be shifted by 2 pixels, which is more than the loss.
    distance = np.abs(pictures[:, None].astype(int) - frames[None]).mean(axis=(2, 3, 4))
    assert distance.argmin(axis=1).tolist() == list(range(count))


def test_the_format_is_h264_in_yuv420p():
    stream, shown = decoded(encode_mp4(moving_texture(3), fps=10))
    assert stream.codec_context.codec.canonical_name == "h264"
    assert {frame.format.name for frame in shown} == {"yuv420p"}
    assert {(frame.width, frame.height) for frame in shown} == {(66, 48)}


@pytest.mark.parametrize(
    ("fps", "rate"),
    [(10, Fraction(10)), (30000 / 1001, Fraction(30000, 1001)), (0.5, Fraction(1, 2))],
)
def test_every_frame_lasts_one_interval_including_the_last(fps, rate):
    stream, shown = decoded(encode_mp4(moving_texture(7), fps=fps))
    assert stream.average_rate == rate
    assert [frame.pts * frame.time_base for frame in shown] == [n / rate for n in range(7)]
    assert shown[-1].duration * shown[-1].time_base == 1 / rate
    assert stream.duration * stream.time_base == 7 / rate


def test_keyframes_have_a_fixed_distance_even_at_a_scene_change():
    frames = moving_texture(12)
    frames[6:] = 255 - frames[6:]
    _, shown = decoded(encode_mp4(frames, fps=10, keyframe_every=5))
    assert [n for n, frame in enumerate(shown) if frame.key_frame] == [0, 5, 10]


def test_a_higher_crf_gives_a_smaller_file():
    frames = moving_texture(10)
    assert len(encode_mp4(frames, fps=10, crf=40)) < len(encode_mp4(frames, fps=10, crf=10))


def test_the_same_frames_give_the_same_bytes_whatever_uninitialised_memory_holds():
    textures = np.random.default_rng(0).integers(0, 256, (50, 66, 3), dtype=np.uint8)
    frames = np.stack([np.roll(textures, (n, 2 * n), axis=(0, 1)) for n in range(20)])
    digests = set()
    for value in range(10):
        # Uninitialised memory of the encoder comes from blocks that were just freed.
        blocks = [np.full(size, value * 25, np.uint8) for size in range(100, 60_000, 100)]
        del blocks
        digests.add(hashlib.sha256(encode_mp4(frames, fps=10)).hexdigest())
    assert len(digests) == 1


def test_no_muxer_version_is_in_the_file():
    assert b"Lavf" not in encode_mp4(moving_texture(1), fps=10)


def test_another_process_gives_the_same_bytes():
    code = (
        "import hashlib; from tests.unit.test_writing import moving_texture, encode_mp4;"
        "print(hashlib.sha256(encode_mp4(moving_texture(20), fps=10)).hexdigest())"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert printed.strip() == hashlib.sha256(encode_mp4(moving_texture(20), fps=10)).hexdigest()


def test_a_view_with_gaps_in_memory_is_encoded_like_its_copy():
    view = moving_texture(8, width=132)[::2, :, ::2]
    assert encode_mp4(view, fps=10) == encode_mp4(view.copy(), fps=10)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (np.zeros((2, 4, 4, 3), np.float32), "Received: float32 [2, 4, 4, 3]"),
        (np.zeros((4, 4, 3), np.uint8), "Received: uint8 [4, 4, 3]"),
        (np.zeros((2, 4, 4, 1), np.uint8), "Received: uint8 [2, 4, 4, 1]"),
        (np.zeros((0, 4, 4, 3), np.uint8), "Received: uint8 [0, 4, 4, 3]"),
        (np.zeros((2, 5, 4, 3), np.uint8), "Received: 5 x 4"),
        (np.zeros((2, 4, 5, 3), np.uint8), "Received: 4 x 5"),
        (np.zeros((2, 0, 4, 3), np.uint8), "Received: 0 x 4"),
    ],
)
def test_frames_that_cannot_be_encoded_are_refused(frames, message):
    with pytest.raises(ValueError, match="frames: expected") as refused:
        encode_mp4(frames, fps=10)
    assert str(refused.value).endswith(message)


@pytest.mark.parametrize("fps", [0, -1, float("nan")])
def test_fps_must_be_above_zero(fps):
    with pytest.raises(ValueError, match=f"fps: expected a number above 0. Received: {fps}"):
        encode_mp4(np.zeros((1, 4, 4, 3), np.uint8), fps=fps)
