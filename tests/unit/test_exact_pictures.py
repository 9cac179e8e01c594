"""What the frames of a whole file look like: size, direction, proportions and colours.

test_picture.py asks the same of single frames; here the file says it, in its own ways.
"""

import io
from fractions import Fraction

import av
import numpy as np
import pytest

from pipeline.video.reading import FrameSpec
from tests.made_videos import (
    B_FRAMES,
    HEVC,
    check_numbers,
    code_frames,
    code_picture,
    column_frame,
    made_video,
    read_both_ways,
    rgb_frame,
    with_turn,
)

SIX = [0, 1, 2, 3, 4, 5]
SIX_AT_4 = [0, 2, 5]  # at 0, 0.25 and 0.5 s


@pytest.mark.parametrize(
    ("pixel_format", "how"),
    [
        ("yuv444p", {"options": B_FRAMES}),
        ("yuv420p", {"codec": "mpeg4"}),
        ("yuv420p", {"codec": "libvpx-vp9", "container": "webm"}),
        ("yuv422p", {"codec": "ffv1", "container": "matroska"}),
    ],
    ids=["h264 4:4:4", "mpeg4 4:2:0", "vp9 4:2:0", "ffv1 4:2:2"],
)
def test_an_odd_width_and_height(pixel_format, how):
    frames = code_frames(6, pixel_format, height=65, width=97)
    check_numbers(made_video(frames, **how), at_10=SIX, at_4=SIX_AT_4)


@pytest.mark.parametrize(
    ("pixel_format", "how"),
    [
        ("yuv420p10le", {"options": B_FRAMES}),
        ("yuv420p10le", HEVC),
        ("yuv422p10le", {"options": B_FRAMES}),
    ],
    ids=["h264", "hevc", "h264 4:2:2"],
)
def test_ten_bits(pixel_format, how):
    content = made_video(code_frames(6, pixel_format), **how)
    with av.open(io.BytesIO(content)) as file:
        assert file.streams.video[0].pix_fmt == pixel_format
    check_numbers(content, at_10=SIX, at_4=SIX_AT_4)


class TestTurned:
    """A track header that turns the picture clockwise."""

    @pytest.mark.parametrize("degrees", [90, 180, 270])
    def test_numbers_are_upright(self, degrees):
        """They are coded turned counter-clockwise by as much."""
        turned = [rgb_frame(np.rot90(code_picture(number), degrees // 90)) for number in range(6)]
        check_numbers(with_turn(made_video(turned), degrees), at_10=SIX, at_4=SIX_AT_4)

    @pytest.mark.parametrize(
        ("degrees", "size", "corners"),
        [
            # Coded: red and green above blue and white. A quarter turn brings the left to the top.
            (90, (32, 48), ["blue", "red", "white", "green"]),
            (180, (48, 32), ["white", "blue", "green", "red"]),
            (270, (32, 48), ["green", "white", "red", "blue"]),
        ],
    )
    def test_corners_are_where_they_belong(self, degrees, size, corners):
        rgb = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255,) * 3}
        quarters = np.array(list(rgb.values()), np.uint8).reshape(2, 2, 3)
        coded = rgb_frame(quarters.repeat(32, axis=0).repeat(48, axis=1), "yuv444p")
        content = with_turn(made_video([coded], options={"crf": "5"}), degrees)
        width, height = size
        (picture,) = read_both_ways(content, FrameSpec(10, width, height, "crop"))
        assert picture.shape == (height, width, 3)
        found = [picture[y, x] for y in (4, height - 5) for x in (4, width - 5)]
        np.testing.assert_allclose(found, [rgb[name] for name in corners], atol=6)


class TestPixelAspect:
    """A white block in a grey picture of 64 x 64 pixels, shown as a square of 32 x 32."""

    @staticmethod
    def file_with_a_square(aspect: Fraction, **how) -> bytes:
        rows, columns = (16, 8) if aspect > 1 else (8, 16)  # on either side of the middle
        picture = np.full((64, 64, 3), 100, np.uint8)
        picture[32 - rows : 32 + rows, 32 - columns : 32 + columns] = 255
        return made_video([rgb_frame(picture)], pixel_aspect=aspect, **how)

    @staticmethod
    def bounds(is_inside: np.ndarray) -> tuple[int, int, int, int]:
        """Top, bottom, left, right."""
        rows, columns = is_inside.any(axis=1).nonzero()[0], is_inside.any(axis=0).nonzero()[0]
        return rows[0], rows[-1] + 1, columns[0], columns[-1] + 1

    def check(self, content: bytes, fit, *, square, shown) -> None:
        (picture,) = read_both_ways(content, FrameSpec(10, 64, 64, fit))
        assert self.bounds(picture[..., 1] > 178) == pytest.approx(square, abs=1)
        assert self.bounds(picture[..., 1] > 50) == pytest.approx(shown, abs=1)

    @pytest.mark.parametrize(
        ("aspect", "degrees", "letterboxed"),
        [
            (Fraction(2), 0, (16, 48, 0, 64)),  # shown as 128 x 64
            (Fraction(1, 2), 0, (0, 64, 16, 48)),  # shown as 64 x 128
            (Fraction(2), 90, (0, 64, 16, 48)),  # 128 x 64, then turned
        ],
        ids=["2:1", "1:2", "2:1 turned"],
    )
    def test_a_square_stays_a_square(self, aspect, degrees, letterboxed):
        content = self.file_with_a_square(aspect)
        if degrees:
            content = with_turn(content, degrees)
        self.check(content, "crop", square=(16, 48, 16, 48), shown=(0, 64, 0, 64))
        self.check(content, "letterbox", square=(24, 40, 24, 40), shown=letterboxed)

    @pytest.mark.parametrize(
        "how",
        [
            {"codec": "libvpx-vp9"},
            {"container": "h264"},
            {"container": "matroska"},
            {"codec": "mpeg4", "container": "avi"},
        ],
        ids=["mp4 only", "h264 stream only", "matroska", "avi"],
    )
    def test_wherever_it_is_written(self, how):
        content = self.file_with_a_square(Fraction(2), **how)
        self.check(content, "letterbox", square=(24, 40, 24, 40), shown=(16, 48, 0, 64))


class TestColours:
    @staticmethod
    def colours_in_file(frame: av.VideoFrame, **how) -> list[list[int]]:
        """RGB at the middle of every column of ``frame``."""
        content = made_video([frame], **how)
        (picture,) = read_both_ways(content, FrameSpec(10, frame.width // 2, 16, "stretch"))
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
        ("pixel_format", "how"),
        [
            ("yuv420p", {"options": {"crf": "1"}}),
            ("yuv420p10le", {"options": {"crf": "1"}}),
            ("yuv422p10le", {"options": {"crf": "1"}}),
            ("yuv420p", {"codec": "ffv1", "container": "matroska"}),
            ("yuv444p10le", {"codec": "ffv1", "container": "matroska"}),
        ],
        ids=["h264", "h264 10-bit", "h264 10-bit 4:2:2", "ffv1", "ffv1 10-bit 4:4:4"],
    )
    def test_full_and_limited_range(self, pixel_format, how, color_range, red_yuv, greys):
        columns = [(luma, 128, 128) for luma in (16, 60, 126, 180, 235)]
        frame = column_frame([*columns, red_yuv], pixel_format)
        frame.color_range = color_range
        expected = [[grey] * 3 for grey in greys] + [[254, 0, 0]]
        np.testing.assert_allclose(self.colours_in_file(frame, **how), expected, atol=2)

    def test_the_colour_space_of_the_file(self):
        """(63, 102, 240) is the red of BT.709; taken for BT.601 it is (234, 0, 2)."""
        frame = column_frame([(63, 102, 240), (126, 128, 128)])
        frame.color_range, frame.colorspace = 1, 1
        found = self.colours_in_file(frame, options={"crf": "1"})
        np.testing.assert_allclose(found, [[255, 1, 0], [128, 128, 128]], atol=2)
