"""Convert a decoded frame to a small RGB picture, for training and serving alike.

The Y, U and V planes are resized first and then converted to RGB, so only the small picture is
converted.
"""

from dataclasses import dataclass
from functools import cache

import av
import cv2
import numpy as np
from av.video.plane import VideoPlane
from numpy.typing import NDArray

from pipeline.video.settings import DecodeSection, Fit

Picture = NDArray[np.uint8]  # [H, W, 3], RGB

# Luma weights (Kr, Kb) by FFmpeg's number of the colour space: BT.709, FCC, BT.601 (PAL and
# NTSC), SMPTE 240M, BT.2020. Source: ITU-T H.273, table 4. Unspecified means BT.601, as in
# FFmpeg's and OpenCV's own converters.
_LUMA_WEIGHTS = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
    10: (0.2627, 0.0593),
}
_BT601 = _LUMA_WEIGHTS[6]
_FULL_RANGE = 2
_PLANAR_YUV = ("yuv420p", "yuv422p", "yuv444p", "yuvj420p", "yuvj422p", "yuvj444p")


@dataclass(frozen=True)
class Window:
    """The part of the source that is kept and the size that it is resized to, in pixels."""

    left: int
    top: int
    width: int
    height: int
    out_width: int
    out_height: int


def small_picture(frame: av.VideoFrame, *, pixel_aspect: float, decode: DecodeSection) -> Picture:
    """Return ``frame`` as uint8 [decode.height, decode.width, 3], RGB, upright, square pixels.

    Args:
        pixel_aspect: width of a source pixel over its height; 1 for square pixels.
    """
    quarter_turns = round(frame.rotation / 90) % 4  # counter-clockwise
    is_turned = quarter_turns % 2 == 1
    target = (decode.height, decode.width) if is_turned else (decode.width, decode.height)
    window = fit_window((frame.width, frame.height), target, pixel_aspect, decode.fit)
    small = _to_rgb(frame, window)
    if (window.out_width, window.out_height) != target:
        small = _on_black(small, width=target[0], height=target[1])
    return np.ascontiguousarray(np.rot90(small, quarter_turns)) if quarter_turns else small


@cache
def fit_window(
    source: tuple[int, int], target: tuple[int, int], pixel_aspect: float, fit: Fit
) -> Window:
    """Return the part of a source picture that is kept, and its size in the target picture.

    To add a fit: add it to ``Fit`` in settings.py and a case here.

    Args:
        source: width and height.
        target: width and height.
        pixel_aspect: width of a source pixel over its height; 1 for square pixels.

    >>> fit_window((1280, 720), (64, 64), 1.0, "crop")
    Window(left=280, top=0, width=720, height=720, out_width=64, out_height=64)
    >>> fit_window((1280, 720), (64, 64), 1.0, "letterbox")
    Window(left=0, top=0, width=1280, height=720, out_width=64, out_height=36)
    """
    width, height = source
    out_width, out_height = target
    source_aspect = width * pixel_aspect / height
    target_aspect = out_width / out_height
    is_wider = source_aspect > target_aspect
    match fit:
        case "stretch":
            return Window(0, 0, width, height, out_width, out_height)
        case "letterbox":
            if is_wider:
                out_height = max(1, round(out_width / source_aspect))
            else:
                out_width = max(1, round(out_height * source_aspect))
            return Window(0, 0, width, height, out_width, out_height)
        case "crop":
            kept_width, kept_height = width, height
            if is_wider:
                kept_width = max(1, round(height * target_aspect / pixel_aspect))
            else:
                kept_height = max(1, round(width * pixel_aspect / target_aspect))
            left, top = (width - kept_width) // 2, (height - kept_height) // 2
            return Window(left, top, kept_width, kept_height, out_width, out_height)


def _to_rgb(frame: av.VideoFrame, window: Window) -> Picture:
    """Cut ``window`` out of ``frame``, resize it and convert it to RGB."""
    if frame.format.name not in _PLANAR_YUV:
        if frame.format.is_rgb or len(frame.format.components) < 3:  # RGB, palettes, grey
            pixels = _pixels(frame.reformat(format="rgb24").planes[0], 3)
            return _shrink(_cut(pixels, window), window)
        frame = frame.reformat(format=_nearest_planar(frame.format))
    planes = []
    for plane in frame.planes:
        step_x, step_y = frame.width / plane.width, frame.height / plane.height
        planes.append(_shrink(_cut(_pixels(plane, 1), window, step_x, step_y), window))
    is_full_range = frame.color_range == _FULL_RANGE or frame.format.name.startswith("yuvj")
    matrix = _yuv_to_rgb(frame.colorspace, is_full_range=is_full_range)
    return np.asarray(cv2.transform(cv2.merge(planes), matrix), np.uint8)


def _nearest_planar(pixel_format: av.VideoFormat) -> str:
    """Return the 8-bit planar format with the chroma subsampling of ``pixel_format``."""
    name = pixel_format.name
    if "444" in name:
        return "yuv444p"
    return "yuv422p" if "422" in name else "yuv420p"


def _pixels(plane: VideoPlane, channels: int) -> Picture:
    """Return a view of a plane without the padding at the end of its rows."""
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    pixels = rows[: plane.height, : plane.width * channels]
    return pixels if channels == 1 else pixels.reshape(plane.height, plane.width, channels)


def _cut(pixels: Picture, window: Window, step_x: float = 1, step_y: float = 1) -> Picture:
    """Cut ``window`` out of a plane that has one sample every step_x by step_y pixels."""
    left, top = int(window.left / step_x), int(window.top / step_y)
    width = max(1, round(window.width / step_x))
    height = max(1, round(window.height / step_y))
    return pixels[top : top + height, left : left + width]


def _shrink(pixels: Picture, window: Window) -> Picture:
    """Resize to the output size: exact halving while possible, then one bilinear step.

    Halving averages 2 x 2 pixels. It does not alias and is about seven times faster than OpenCV's
    INTER_AREA at any other ratio. If only one axis is halved, the other one is doubled first.
    """
    while True:
        halve_y = pixels.shape[0] >= 2 * window.out_height
        halve_x = pixels.shape[1] >= 2 * window.out_width
        if not (halve_x or halve_y):
            break
        if not (halve_x and halve_y):
            pixels = pixels.repeat(2, axis=0 if halve_x else 1)
        rows, columns = pixels.shape[0] // 2, pixels.shape[1] // 2
        even = pixels[: 2 * rows, : 2 * columns]
        pixels = _resize(even, (columns, rows), cv2.INTER_AREA)
    return _resize(pixels, (window.out_width, window.out_height), cv2.INTER_LINEAR)


def _resize(pixels: Picture, size: tuple[int, int], interpolation: int) -> Picture:
    return np.asarray(cv2.resize(pixels, size, interpolation=interpolation), np.uint8)


@cache
def _yuv_to_rgb(colorspace: int, *, is_full_range: bool) -> NDArray[np.float32]:
    """Return float32 [3, 4]: RGB = matrix @ (Y, U, V, 1), all in 0..255. Source: ITU-T H.273."""
    red, blue = _LUMA_WEIGHTS.get(colorspace, _BT601)
    green = 1 - red - blue
    y_scale, uv_scale, y_offset = (1.0, 1.0, 0.0) if is_full_range else (255 / 219, 255 / 224, 16.0)
    v_to_red, u_to_blue = 2 * (1 - red) * uv_scale, 2 * (1 - blue) * uv_scale
    weights = np.array(
        [
            [y_scale, 0.0, v_to_red],
            [y_scale, -u_to_blue * blue / green, -v_to_red * red / green],
            [y_scale, u_to_blue, 0.0],
        ]
    )
    offsets = weights @ np.array([[y_offset], [128.0], [128.0]])
    return np.hstack([weights, -offsets]).astype(np.float32)


def _on_black(picture: Picture, *, width: int, height: int) -> Picture:
    canvas = np.zeros((height, width, 3), np.uint8)
    top, left = (height - picture.shape[0]) // 2, (width - picture.shape[1]) // 2
    canvas[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return canvas
