"""Colours by hand from ITU-R BT.601 and BT.709; geometry by eye."""

import av
import numpy as np
import pytest

from pipeline.video.picture import Window, fit_window, small_picture


def yuv_frame(y: int, u: int, v: int, *, colorspace: int = 2, color_range: int = 1):
    """One 64 x 48 frame of a single colour, 4:2:0."""
    planes = np.concatenate([np.full(64 * 48, y), np.full(32 * 24, u), np.full(32 * 24, v)]).astype(
        np.uint8
    )
    frame = av.VideoFrame.from_ndarray(planes.reshape(72, 64), format="yuv420p")
    frame.colorspace, frame.color_range = colorspace, color_range
    return frame


def colour_of(frame) -> list[int]:
    picture = small_picture(frame, pixel_aspect=1.0, width=16, height=12, fit="stretch")
    assert picture.shape == (12, 16, 3)
    assert (picture == picture[0, 0]).all()
    return picture[0, 0].tolist()


@pytest.mark.parametrize(
    ("yuv", "options", "rgb"),
    [
        ((16, 128, 128), {}, [0, 0, 0]),
        ((235, 128, 128), {}, [255, 255, 255]),
        ((126, 128, 128), {}, [128, 128, 128]),  # (126 - 16) * 255 / 219 = 128.1
        ((81, 90, 240), {}, [254, 0, 0]),  # BT.601 red, as every test card has it
        ((145, 54, 34), {}, [0, 255, 1]),  # BT.601 green
        ((41, 240, 110), {}, [0, 0, 255]),  # BT.601 blue
        ((63, 102, 240), {"colorspace": 1}, [255, 1, 0]),  # BT.709 red
        ((126, 128, 128), {"color_range": 2}, [126, 126, 126]),  # full range
        ((0, 128, 128), {"color_range": 2}, [0, 0, 0]),
    ],
)
def test_colours(yuv, options, rgb):
    assert colour_of(yuv_frame(*yuv, **options)) == pytest.approx(rgb, abs=1)


def test_grey_and_rgb_sources_keep_their_colours():
    grey = av.VideoFrame.from_ndarray(np.full((48, 64), 77, np.uint8), format="gray")
    assert colour_of(grey) == [77, 77, 77]
    rgb = np.broadcast_to(np.array([10, 200, 90], np.uint8), (48, 64, 3)).copy()
    assert colour_of(av.VideoFrame.from_ndarray(rgb, format="rgb24")) == [10, 200, 90]


def test_ten_bits_become_eight():
    plane = np.full((72, 64), 126 << 2, np.uint16)
    plane[48:] = 128 << 2
    frame = av.VideoFrame.from_ndarray(plane, format="yuv420p10le")
    assert colour_of(frame) == pytest.approx([128, 128, 128], abs=1)


@pytest.mark.parametrize(
    ("source", "aspect", "fit", "window"),
    [
        ((1280, 720), 1.0, "crop", Window(280, 0, 720, 720, 64, 64)),
        ((720, 1280), 1.0, "crop", Window(0, 280, 720, 720, 64, 64)),
        ((1280, 720), 1.0, "letterbox", Window(0, 0, 1280, 720, 64, 36)),
        ((720, 1280), 1.0, "letterbox", Window(0, 0, 720, 1280, 36, 64)),
        ((1280, 720), 1.0, "stretch", Window(0, 0, 1280, 720, 64, 64)),
        # 720 x 576 with pixels 64:45 is shown at 16:9: the middle 576 / (64/45) = 405 columns.
        ((720, 576), 64 / 45, "crop", Window(157, 0, 405, 576, 64, 64)),
    ],
)
def test_fit_window(source, aspect, fit, window):
    assert fit_window(*source, aspect, (64, 64), fit) == window


def picture_of_halves(fit: str) -> np.ndarray:
    """A 128 x 64 source, left half black, right half white, made 32 x 32."""
    rgb = np.zeros((64, 128, 3), np.uint8)
    rgb[:, 64:] = 255
    frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
    return small_picture(frame, pixel_aspect=1.0, width=32, height=32, fit=fit)[..., 0]


def test_crop_fills_the_picture_with_the_middle():
    picture = picture_of_halves("crop")
    assert (picture[:, :16] == 0).all()
    assert (picture[:, 16:] == 255).all()


def test_letterbox_has_black_bars_above_and_below():
    picture = picture_of_halves("letterbox")
    assert (picture[:8] == 0).all()
    assert (picture[24:] == 0).all()
    assert (picture[8:24, 16:] == 255).all()


def test_shrinking_averages_and_does_not_alias():
    # Black and white columns in turn: picking pixels gives stripes or one colour, the mean is grey.
    rgb = np.zeros((240, 320, 3), np.uint8)
    rgb[:, ::2] = 255
    frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
    picture = small_picture(frame, pixel_aspect=1.0, width=50, height=40, fit="stretch")
    assert picture.mean() == pytest.approx(127.5, abs=2)
    assert picture.std() < 2


def test_odd_sizes_and_enlarging():
    frame = av.VideoFrame.from_ndarray(np.full((33, 17, 3), 90, np.uint8), format="rgb24")
    odd = frame.reformat(format="yuv420p")
    picture = small_picture(odd, pixel_aspect=1.0, width=40, height=50, fit="crop")
    assert picture.shape == (50, 40, 3)
    assert picture.mean() == pytest.approx(90, abs=2)
