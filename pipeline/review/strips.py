"""Film strips: the frames of a clip side by side, with what the model made of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.font_manager import findfont
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pipeline.review.charts import PALETTE, QUIET

_COLUMNS = 10
_MOST_FRAMES = 20
_THUMB_WIDTH = 72
_GAP = 3
_STRENGTH_HEIGHT = 12  # of the bars of Grad-CAM
_ATTENTION_HEIGHT = 26
_LEAST_STRENGTH = 0.01
_LINE_GAP = 10
_SHEET_MARGIN = 14
_TEXT_POINTS = 15
_HEAT_OPACITY = 0.7


@dataclass(frozen=True, eq=False)
class Seen:
    """A clip as the model saw it, and what it made of it.

    frames: uint8 [T, H, W, 3], RGB.
    mask: bool [T], True for a real frame, right-padded.
    heat: float [T, h, w], 0 to 1, of Grad-CAM; None where the CNN allows none.
    attention: float [T], sum 1; None where the model has none.
    """

    frames: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    heat: NDArray[np.float32] | None = None
    attention: NDArray[np.float64] | None = None

    @property
    def real_frames(self) -> int:
        return int(self.mask.sum())


def film_strip(seen: Seen) -> Image.Image:
    """Draw the frames in lines of ten; below each line Grad-CAM and attention, where there are.

    The colours of Grad-CAM say where in a frame, each frame by its own maximum; the blue bar
    below says how strong that maximum is, against the strongest frame of the clip. Frames
    below a hundredth of it stay grey. Orange bars are attention weights. Padding is an empty,
    crossed frame. Of a clip of more than twenty frames, twenty are drawn, evenly spread. The
    background is transparent: the strip fits light and dark pages.
    """
    indices = drawn_frames(len(seen.mask))
    size = _thumb_size(seen.frames)
    lines = [indices[start : start + _COLUMNS] for start in range(0, len(indices), _COLUMNS)]
    heights = [_line_height(seen, line, size) + _LINE_GAP for line in lines]
    width = len(lines[0]) * (size[0] + _GAP) - _GAP
    strip = Image.new("RGBA", (width, sum(heights) - _LINE_GAP))
    for top, line in zip(np.cumsum([0, *heights]).tolist(), lines, strict=False):
        for column, index in enumerate(line):
            _draw_frame(strip, seen, index, size, (column * (size[0] + _GAP), top))
    return strip


def drawn_frames(n_frames: int) -> list[int]:
    """Return which of T frames a strip shows."""
    chosen = np.linspace(0, n_frames - 1, min(n_frames, _MOST_FRAMES))
    frames: list[int] = np.round(chosen).astype(int).tolist()
    return frames


def strip_alt(seen: Seen) -> str:
    """Say in words what a film strip shows."""
    padding = len(seen.mask) - seen.real_frames
    parts = [f"Film strip of {_counted(seen.real_frames, 'real frame')}"]
    parts.append(f" and {_counted(padding, 'frame')} of padding." if padding else ".")
    if seen.heat is not None:
        strongest = int(seen.heat.max(axis=(1, 2)).argmax())
        parts.append(f" Grad-CAM is strongest in frame {strongest + 1}.")
    if seen.attention is not None:
        most = int(seen.attention.argmax())
        parts.append(f" Attention is largest at frame {most + 1}: {seen.attention[most]:.2f}.")
    return "".join(parts)


def strip_sheet(strips: Sequence[Image.Image], headings: Sequence[str]) -> Image.Image:
    """Put strips below each other on white, a heading above each: one picture for a file."""
    font = ImageFont.truetype(findfont("DejaVu Sans"), _TEXT_POINTS)
    text_height = 2 * _TEXT_POINTS
    widest = max(
        *(strip.width for strip in strips), *(int(font.getlength(text)) for text in headings)
    )
    height = sum(strip.height + text_height + _SHEET_MARGIN for strip in strips)
    sheet = Image.new("RGB", (widest + 2 * _SHEET_MARGIN, height + _SHEET_MARGIN), "white")
    draw, top = ImageDraw.Draw(sheet), _SHEET_MARGIN
    for strip, text in zip(strips, headings, strict=True):
        draw.text((_SHEET_MARGIN, top), text, fill="black", font=font)
        sheet.paste(strip, (_SHEET_MARGIN, top + text_height), strip)
        top += strip.height + text_height + _SHEET_MARGIN
    return sheet


def _draw_frame(
    strip: Image.Image, seen: Seen, index: int, size: tuple[int, int], at: tuple[int, int]
) -> None:
    if not seen.mask[index]:
        _draw_padding(strip, size, at)
        return
    left, top = at
    frame = Image.fromarray(seen.frames[index]).resize(size, Image.Resampling.BICUBIC)
    strip.paste(frame, at)
    top += size[1] + _GAP
    if seen.heat is not None:
        strength = float(seen.heat[index].max())
        shown = seen.heat[index] / strength if strength >= _LEAST_STRENGTH else None
        strip.paste(_overlay(frame, shown), (left, top))
        top += size[1] + _GAP
        _draw_bar(strip, strength, (left, top), (size[0], _STRENGTH_HEIGHT), PALETTE[0])
        top += _STRENGTH_HEIGHT + _GAP
    if seen.attention is not None:
        share = float(seen.attention[index] / seen.attention.max())
        _draw_bar(strip, share, (left, top), (size[0], _ATTENTION_HEIGHT), PALETTE[1])


def _draw_bar(
    strip: Image.Image, share: float, at: tuple[int, int], size: tuple[int, int], colour: str
) -> None:
    (left, top), (width, height) = at, size
    bar = max(round(share * height), 1)
    box = (left, top + height - bar, left + width - 1, top + height - 1)
    ImageDraw.Draw(strip).rectangle(box, fill=colour)


def _draw_padding(strip: Image.Image, size: tuple[int, int], at: tuple[int, int]) -> None:
    (left, top), right, bottom = at, at[0] + size[0] - 1, at[1] + size[1] - 1
    draw = ImageDraw.Draw(strip)
    draw.rectangle((left, top, right, bottom), outline=QUIET)
    draw.line((left, top, right, bottom), fill=QUIET)
    draw.line((left, bottom, right, top), fill=QUIET)


def _overlay(frame: Image.Image, heat: NDArray[np.float32] | None) -> Image.Image:
    """Lay the heat, if any, over a grey copy of the frame."""
    if heat is None:
        return frame.convert("L")
    grey = np.repeat(np.asarray(frame.convert("L"), np.float32)[:, :, None], 3, axis=2)
    spread = Image.fromarray(heat.astype(np.float32)).resize(frame.size, Image.Resampling.BILINEAR)
    warmth = np.clip(np.asarray(spread), 0, 1)
    colours = 255 * mpl.colormaps["inferno"](warmth)[:, :, :3]
    opacity = _HEAT_OPACITY * warmth[:, :, None]
    return Image.fromarray(np.rint(grey * (1 - opacity) + colours * opacity).astype(np.uint8))


def _thumb_size(frames: NDArray[np.uint8]) -> tuple[int, int]:
    height, width = frames.shape[1:3]
    return _THUMB_WIDTH, max(round(height * _THUMB_WIDTH / width), 1)


def _line_height(seen: Seen, line: Sequence[int], size: tuple[int, int]) -> int:
    height = size[1]
    if not seen.mask[line[0]]:  # nothing but padding
        return height
    if seen.heat is not None:
        height += size[1] + _STRENGTH_HEIGHT + 2 * _GAP
    if seen.attention is not None:
        height += _ATTENTION_HEIGHT + _GAP
    return height


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
