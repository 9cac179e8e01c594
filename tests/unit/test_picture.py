"""Size, rotation, proportions and colours of frames: of single frames, and of whole files.

Expected colours follow from ITU-R BT.601 and BT.709.
"""

import io
from fractions import Fraction

import av
import numpy as np
import pytest

from pipeline.video.picture import Window, fit_window, small_picture
from pipeline.video.settings import DecodeSection
from tests.made_videos import (
    B_FRAMES,
    HEVC,
    check_numbers,
    code_frames,
    code_picture,
    column_frame,
    encode_frames,
    read_both_ways,
    rgb_frame,
    with_rotation,
)

SIX = [0, 1, 2, 3, 4, 5]
SIX_AT_4 = [0, 2, 5]  # at 0, 0.25 and 0.5 s


def yuv_frame(y: int, u: int, v: int, *, colorspace: int = 2, color_range: int = 1):
    """Return a frame of 64 x 48 pixels in one colour, 4:2:0."""
    planes = np.concatenate([np.full(64 * 48, y), np.full(32 * 24, u), np.full(32 * 24, v)]).astype(
        np.uint8
    )
    frame = av.VideoFrame.from_ndarray(planes.reshape(72, 64), format="yuv420p")
    frame.colorspace, frame.color_range = colorspace, color_range
    return frame


def colour_of(frame) -> list[int]:
    picture = small_picture(
        frame, pixel_aspect=1.0, decode=DecodeSection(width=16, height=12, fit="stretch")
    )
    assert picture.shape == (12, 16, 3)
    assert (picture == picture[0, 0]).all()
    return picture[0, 0].tolist()


@pytest.mark.parametrize(
    ("yuv", "options", "rgb"),
    [
        ((16, 128, 128), {}, [0, 0, 0]),
        ((235, 128, 128), {}, [255, 255, 255]),
        ((126, 128, 128), {}, [128, 128, 128]),  # (126 - 16) * 255 / 219 = 128.1
        ((81, 90, 240), {}, [254, 0, 0]),  # BT.601 red, as on test cards
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
    assert fit_window(source, (64, 64), aspect, fit) == window


def picture_of_halves(fit: str) -> np.ndarray:
    """Shrink 128 x 64 pixels, left half black, right half white, to 32 x 32."""
    rgb = np.zeros((64, 128, 3), np.uint8)
    rgb[:, 64:] = 255
    frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
    return small_picture(
        frame, pixel_aspect=1.0, decode=DecodeSection(width=32, height=32, fit=fit)
    )[..., 0]


def test_crop_keeps_the_centre():
    picture = picture_of_halves("crop")
    assert (picture[:, :16] == 0).all()
    assert (picture[:, 16:] == 255).all()


def test_letterbox_has_black_bars_above_and_below():
    picture = picture_of_halves("letterbox")
    assert (picture[:8] == 0).all()
    assert (picture[24:] == 0).all()
    assert (picture[8:24, 16:] == 255).all()


def test_shrinking_averages_and_does_not_alias():
    # Alternating black and white columns: sampling gives stripes or one colour, the mean is grey.
    rgb = np.zeros((240, 320, 3), np.uint8)
    rgb[:, ::2] = 255
    frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
    picture = small_picture(
        frame, pixel_aspect=1.0, decode=DecodeSection(width=50, height=40, fit="stretch")
    )
    assert picture.mean() == pytest.approx(127.5, abs=2)
    assert picture.std() < 2


def test_odd_sizes_and_enlarging():
    frame = av.VideoFrame.from_ndarray(np.full((33, 17, 3), 90, np.uint8), format="rgb24")
    odd = frame.reformat(format="yuv420p")
    picture = small_picture(
        odd, pixel_aspect=1.0, decode=DecodeSection(width=40, height=50, fit="crop")
    )
    assert picture.shape == (50, 40, 3)
    assert picture.mean() == pytest.approx(90, abs=2)


@pytest.mark.parametrize(
    ("pixel_format", "encoding"),
    [
        ("yuv444p", {"options": B_FRAMES}),
        ("yuv420p", {"codec": "mpeg4"}),
        ("yuv420p", {"codec": "libvpx-vp9", "container": "webm"}),
        ("yuv422p", {"codec": "ffv1", "container": "matroska"}),
    ],
    ids=["h264 4:4:4", "mpeg4 4:2:0", "vp9 4:2:0", "ffv1 4:2:2"],
)
def test_odd_width_and_height_of_a_file(pixel_format, encoding):
    frames = code_frames(6, pixel_format, height=65, width=97)
    check_numbers(encode_frames(frames, **encoding), at_10=SIX, at_4=SIX_AT_4)


@pytest.mark.parametrize(
    ("pixel_format", "encoding"),
    [
        ("yuv420p10le", {"options": B_FRAMES}),
        ("yuv420p10le", HEVC),
        ("yuv422p10le", {"options": B_FRAMES}),
    ],
    ids=["h264", "hevc", "h264 4:2:2"],
)
def test_ten_bits(pixel_format, encoding):
    content = encode_frames(code_frames(6, pixel_format), **encoding)
    with av.open(io.BytesIO(content)) as file:
        assert file.streams.video[0].pix_fmt == pixel_format
    check_numbers(content, at_10=SIX, at_4=SIX_AT_4)


class TestRotation:
    """A track header that rotates the picture clockwise."""

    @pytest.mark.parametrize("degrees", [90, 180, 270])
    def test_numbers_are_upright(self, degrees):
        """The coded frames are rotated counter-clockwise by the same angle."""
        coded = [rgb_frame(np.rot90(code_picture(number), degrees // 90)) for number in range(6)]
        check_numbers(with_rotation(encode_frames(coded), degrees), at_10=SIX, at_4=SIX_AT_4)

    @pytest.mark.parametrize(
        ("degrees", "size", "corners"),
        [
            # Coded: red and green above blue and white. A quarter turn brings the left to the top.
            (90, (32, 48), ["blue", "red", "white", "green"]),
            (180, (48, 32), ["white", "blue", "green", "red"]),
            (270, (32, 48), ["green", "white", "red", "blue"]),
        ],
    )
    def test_corners_are_in_place(self, degrees, size, corners):
        rgb = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255,) * 3}
        quarters = np.array(list(rgb.values()), np.uint8).reshape(2, 2, 3)
        coded = rgb_frame(quarters.repeat(32, axis=0).repeat(48, axis=1), "yuv444p")
        content = with_rotation(encode_frames([coded], options={"crf": "5"}), degrees)
        width, height = size
        (picture,) = read_both_ways(content, DecodeSection(width=width, height=height, fit="crop"))
        assert picture.shape == (height, width, 3)
        colours = [picture[y, x] for y in (4, height - 5) for x in (4, width - 5)]
        np.testing.assert_allclose(colours, [rgb[name] for name in corners], atol=6)


class TestPixelAspect:
    """A white block in a grey picture of 64 x 64 pixels, which is shown as a square."""

    @staticmethod
    def file_with_a_square(aspect: Fraction, **encoding) -> bytes:
        rows, columns = (16, 8) if aspect > 1 else (8, 16)  # on each side of the middle
        picture = np.full((64, 64, 3), 100, np.uint8)
        picture[32 - rows : 32 + rows, 32 - columns : 32 + columns] = 255
        return encode_frames([rgb_frame(picture)], pixel_aspect=aspect, **encoding)

    @staticmethod
    def bounds(is_inside: np.ndarray) -> tuple[int, int, int, int]:
        """Return top, bottom, left, right."""
        rows, columns = is_inside.any(axis=1).nonzero()[0], is_inside.any(axis=0).nonzero()[0]
        return rows[0], rows[-1] + 1, columns[0], columns[-1] + 1

    def check(self, content: bytes, fit, *, square, shown) -> None:
        (picture,) = read_both_ways(content, DecodeSection(width=64, height=64, fit=fit))
        assert self.bounds(picture[..., 1] > 178) == pytest.approx(square, abs=1)
        assert self.bounds(picture[..., 1] > 50) == pytest.approx(shown, abs=1)

    @pytest.mark.parametrize(
        ("aspect", "degrees", "letterboxed"),
        [
            (Fraction(2), 0, (16, 48, 0, 64)),  # shown as 128 x 64
            (Fraction(1, 2), 0, (0, 64, 16, 48)),  # shown as 64 x 128
            (Fraction(2), 90, (0, 64, 16, 48)),  # 128 x 64, then rotated
        ],
        ids=["2:1", "1:2", "2:1 rotated"],
    )
    def test_a_square_stays_a_square(self, aspect, degrees, letterboxed):
        content = self.file_with_a_square(aspect)
        if degrees:
            content = with_rotation(content, degrees)
        self.check(content, "crop", square=(16, 48, 16, 48), shown=(0, 64, 0, 64))
        self.check(content, "letterbox", square=(24, 40, 24, 40), shown=letterboxed)

    @pytest.mark.parametrize(
        "encoding",
        [
            {"codec": "libvpx-vp9"},
            {"container": "h264"},
            {"container": "matroska"},
            {"codec": "mpeg4", "container": "avi"},
        ],
        ids=["mp4 only", "h264 stream only", "matroska", "avi"],
    )
    def test_the_aspect_is_read_from_container_or_stream(self, encoding):
        content = self.file_with_a_square(Fraction(2), **encoding)
        self.check(content, "letterbox", square=(24, 40, 24, 40), shown=(16, 48, 0, 64))


class TestColours:
    @staticmethod
    def colours_in_file(frame: av.VideoFrame, **encoding) -> list[list[int]]:
        """Return RGB at the middle of every column of ``frame``."""
        content = encode_frames([frame], **encoding)
        (picture,) = read_both_ways(
            content, DecodeSection(width=frame.width // 2, height=16, fit="stretch")
        )
        return picture[8, 4::8].tolist()

    @pytest.mark.parametrize(
        ("color_range", "red_yuv", "greys"),
        [
            (1, (81, 90, 240), [0, 51, 128, 191, 255]),  # limited: (Y - 16) x 255 / 219
            (2, (76, 85, 255), [16, 60, 126, 180, 235]),  # full: Y
        ],
        ids=["limited", "full"],
    )
    @pytest.mark.parametrize(
        ("pixel_format", "encoding"),
        [
            ("yuv420p", {"options": {"crf": "1"}}),
            ("yuv420p10le", {"options": {"crf": "1"}}),
            ("yuv422p10le", {"options": {"crf": "1"}}),
            ("yuv420p", {"codec": "ffv1", "container": "matroska"}),
            ("yuv444p10le", {"codec": "ffv1", "container": "matroska"}),
        ],
        ids=["h264", "h264 10-bit", "h264 10-bit 4:2:2", "ffv1", "ffv1 10-bit 4:4:4"],
    )
    def test_full_and_limited_range(self, pixel_format, encoding, color_range, red_yuv, greys):
        columns = [(luma, 128, 128) for luma in (16, 60, 126, 180, 235)]
        frame = column_frame([*columns, red_yuv], pixel_format)
        frame.color_range = color_range
        expected = [[grey] * 3 for grey in greys] + [[254, 0, 0]]
        np.testing.assert_allclose(self.colours_in_file(frame, **encoding), expected, atol=2)

    def test_the_colour_space_of_the_file(self):
        """(63, 102, 240) is the red of BT.709; converted as BT.601 it is (234, 0, 2)."""
        frame = column_frame([(63, 102, 240), (126, 128, 128)])
        frame.color_range, frame.colorspace = 1, 1
        colours = self.colours_in_file(frame, options={"crf": "1"})
        np.testing.assert_allclose(colours, [[255, 1, 0], [128, 128, 128]], atol=2)
