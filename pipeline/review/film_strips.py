"""Film strips: the frames of a clip side by side, with explanations; and animated previews."""

import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.font_manager import findfont
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pipeline.clips.sampling import Clip
from pipeline.common.charts import NEUTRAL, PALE, PALETTE, shorten_name
from pipeline.common.files import replacing_file
from pipeline.common.pictures import WEBP_QUALITY, thumbnail, webp
from pipeline.common.tables import count_of

logger = logging.getLogger(__name__)

# Film strips; sizes in pixels.
_COLUMNS = 10
_STRIP_FRAMES = 20
_FRAME_WIDTH = 72
_GAP = 3
_STRENGTH_HEIGHT = 12  # of the bars below Grad-CAM
_ATTENTION_HEIGHT = 26
_LABEL_HEIGHT, _LABEL_SIZE, _LABEL_LENGTH = 14, 10, 11  # bar, its text, and characters of that
_LEAST_STRENGTH = 0.01
_HEAT_OPACITY = 0.7
_LINE_GAP = 10
_SHEET_MARGIN = 14
_TEXT_SIZE = 15
_SHEET_STRIPS = 50
_LONGEST_HEADING = 120  # characters

# Previews.
_PREVIEW_SIDE = 128  # pixels
_PREVIEW_FRAMES = 40
_LAST_FRAME_MILLISECONDS = 600  # shows where the loop restarts


@dataclass(frozen=True, eq=False)
class SeenClip:
    """A clip of the model's input, with its explanations.

    Attributes:
        frames: uint8 [T, H, W, 3], RGB.
        mask: bool [T], True for a real frame, right-padded.
        heat: Grad-CAM of each stream, float32 [T, h, w], 0 to 1; empty where the CNN does not
            allow it.
        attention: of each stream, float64 [T], sum 1; empty where the model has no attention.
        side_inputs: cells by column.
        labels: the actual and the predicted label of each frame, as many as are real; an empty
            label is none. None where the model has one answer for the clip.
        colours: of the labels.
    """

    frames: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    heat: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    attention: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    side_inputs: Mapping[str, str] = field(default_factory=dict)
    labels: tuple[Sequence[str], Sequence[str]] | None = None
    colours: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Preview:
    """A clip as WebP pictures.

    Attributes:
        animation: an endless loop; None for a clip of one frame.
        still: the middle frame.
        width, height: in pixels.
    """

    animation: bytes | None
    still: bytes
    width: int
    height: int


def film_strip(clip: SeenClip) -> Image.Image:
    """Draw the frames in lines of ten, with Grad-CAM and attention below each line.

    Each stream of the model has its own Grad-CAM and attention, below those of the one before;
    of several streams, the name is written on the first frame.
    Grad-CAM is scaled within each frame; the blue bar below is the maximum of the frame, relative
    to the clip. A frame with a maximum below 0.01 stays grey. Orange bars are attention weights.
    The two lowest bars are the actual and the predicted label of each frame. Padding is a crossed
    frame. Of more than twenty frames, twenty are drawn, evenly spread. The
    background is transparent.
    """
    indices = frames_in_strip(len(clip.mask))
    height, width = clip.frames.shape[1:3]
    size = (_FRAME_WIDTH, max(round(height * _FRAME_WIDTH / width), 1))
    lines = [indices[start : start + _COLUMNS] for start in range(0, len(indices), _COLUMNS)]
    heights = [_line_height(clip, line, size[1]) + _LINE_GAP for line in lines]
    strip = Image.new("RGBA", (len(lines[0]) * (size[0] + _GAP) - _GAP, sum(heights) - _LINE_GAP))
    for top, line in zip(np.cumsum([0, *heights]).tolist(), lines, strict=False):
        for column, index in enumerate(line):
            corner = (column * (size[0] + _GAP), top)
            if clip.mask[index]:
                _draw_frame(strip, clip, index, size, corner)
            else:
                _draw_padding(strip, size, corner)
    return strip


def frames_in_strip(n_frames: int) -> list[int]:
    """Return the indices of the frames that a strip shows, evenly spread."""
    chosen = np.linspace(0, n_frames - 1, min(n_frames, _STRIP_FRAMES))
    frames: list[int] = np.round(chosen).astype(int).tolist()
    return frames


def strip_alt(clip: SeenClip) -> str:
    """Describe a film strip in words."""
    real = int(clip.mask.sum())
    padding = len(clip.mask) - real
    alt = f"Film strip of {count_of(real, 'real frame')}"
    alt += f" and {count_of(padding, 'frame')} of padding." if padding else "."
    for stream, heat in clip.heat.items():
        strongest = int(heat.max(axis=(1, 2)).argmax()) + 1
        alt += f" Grad-CAM of {stream} is strongest in frame {strongest}."
    for stream, attention in clip.attention.items():
        largest = int(attention.argmax())
        alt += f" Attention of {stream} is largest at frame {largest + 1}: "
        alt += f"{attention[largest]:.2f}."
    if clip.labels is not None:
        wrong = sum(bool(one) and one != other for one, other in zip(*clip.labels, strict=True))
        alt += f" {count_of(wrong, 'labelled frame')} predicted wrong."
    return alt


def strip_sheet(strips: Sequence[Image.Image], headings: Sequence[str]) -> Image.Image:
    """Put strips, at least one, below each other on white, each with its heading."""
    font = ImageFont.truetype(findfont("DejaVu Sans"), _TEXT_SIZE)
    headings = [shorten_name(text, _LONGEST_HEADING) for text in headings]
    widest = max(
        *(strip.width for strip in strips), *(int(font.getlength(text)) for text in headings)
    )
    around = 2 * _TEXT_SIZE + _SHEET_MARGIN  # of a strip: its heading and the space below
    height = sum(strip.height + around for strip in strips) + _SHEET_MARGIN
    sheet = Image.new("RGB", (widest + 2 * _SHEET_MARGIN, height), "white")
    draw, top = ImageDraw.Draw(sheet), _SHEET_MARGIN
    for strip, text in zip(strips, headings, strict=True):
        draw.text((_SHEET_MARGIN, top), text, fill="black", font=font)
        sheet.paste(strip, (_SHEET_MARGIN, top + 2 * _TEXT_SIZE), strip)
        top += strip.height + around
    return sheet


def write_preview(path: Path, videos: Sequence[tuple[str, Sequence[Clip]]]) -> None:
    """Write one PNG with a film strip of each clip; warn about clips that are left out.

    Args:
        path: of the PNG file.
        videos: heading and clips of each video; the first fifty clips are drawn.
    """
    if not videos:
        logger.warning("%s is not written: no video has a clip.", path)
        return
    shown = [
        (shorten_name(heading, _LONGEST_HEADING), number, len(clips), clip)
        for heading, clips in videos
        for number, clip in enumerate(clips, start=1)
    ]
    if len(shown) > _SHEET_STRIPS:
        logger.warning("%s shows the first %d of %d clips.", path, _SHEET_STRIPS, len(shown))
    strips, headings = [], []
    for heading, number, n_clips, clip in shown[:_SHEET_STRIPS]:
        strips.append(film_strip(SeenClip(clip.frames, clip.mask)))
        headings.append(f"{heading}, clip {number} of {n_clips}" if n_clips > 1 else heading)
    with replacing_file(path) as temporary:
        strip_sheet(strips, headings).save(temporary, format="png", optimize=True)
    logger.info("Wrote %s", path)


def preview(frames: NDArray[np.uint8], *, fps: float) -> Preview:
    """Encode frames as an animation at the speed of the video.

    Of more than forty frames, forty are kept, evenly spread, and shown for longer.

    Args:
        frames: uint8 [N, H, W, 3], RGB, at least one.
        fps: frames per second.
    """
    kept = frames_in_preview(len(frames))
    images = [thumbnail(frames[index], _PREVIEW_SIDE) for index in kept]
    still = images[len(images) // 2]
    animation = None
    if len(images) > 1:
        each = max(round(1000 * len(frames) / fps / len(images)), 20)  # milliseconds
        encoded = io.BytesIO()
        images[0].save(
            encoded,
            format="WEBP",
            save_all=True,
            append_images=images[1:],
            duration=[each] * (len(images) - 1) + [_LAST_FRAME_MILLISECONDS],
            loop=0,
            quality=WEBP_QUALITY,
            method=4,
        )
        animation = encoded.getvalue()
    return Preview(animation, webp(still), still.width, still.height)


def frames_in_preview(n_frames: int) -> list[int]:
    """Return the indices of the frames that a preview keeps, evenly spread."""
    chosen = np.linspace(0, n_frames - 1, min(n_frames, _PREVIEW_FRAMES))
    frames: list[int] = np.round(chosen).astype(int).tolist()
    return frames


def _draw_frame(
    strip: Image.Image, clip: SeenClip, index: int, size: tuple[int, int], corner: tuple[int, int]
) -> None:
    left, top = corner
    frame = Image.fromarray(clip.frames[index]).resize(size, Image.Resampling.BICUBIC)
    strip.paste(frame, corner)
    top += size[1] + _GAP
    for stream, heat in clip.heat.items():
        strength = float(heat[index].max())
        scaled = heat[index] / strength if strength >= _LEAST_STRENGTH else None
        strip.paste(_heat_overlay(frame, scaled), (left, top))
        if index == 0 and len(clip.heat) > 1:
            font = ImageFont.truetype(findfont("DejaVu Sans"), _LABEL_SIZE)
            ImageDraw.Draw(strip).text((left + 2, top), stream, fill="white", font=font)
        top += size[1] + _GAP
        _draw_bar(strip, strength, (left, top), (size[0], _STRENGTH_HEIGHT), PALETTE[0])
        top += _STRENGTH_HEIGHT + _GAP
    for attention in clip.attention.values():
        share = float(attention[index] / attention.max())
        _draw_bar(strip, share, (left, top), (size[0], _ATTENTION_HEIGHT), PALETTE[1])
        top += _ATTENTION_HEIGHT + _GAP
    for labels in clip.labels or ():
        _draw_label(strip, labels[index], (left, top), size[0], clip.colours)
        top += _LABEL_HEIGHT


def _draw_label(
    strip: Image.Image, label: str, corner: tuple[int, int], width: int, colours: Mapping[str, str]
) -> None:
    """Draw a bar that continues in the gap to the next frame, with the label in it."""
    (left, top), draw = corner, ImageDraw.Draw(strip)
    box = (left, top, left + width + _GAP - 1, top + _LABEL_HEIGHT - 2)
    draw.rectangle(box, fill=colours.get(label, PALE))
    font = ImageFont.truetype(findfont("DejaVu Sans"), _LABEL_SIZE)
    text = shorten_name(label, _LABEL_LENGTH)
    draw.text((left + 2, top), text, fill="white", font=font)


def _draw_bar(
    strip: Image.Image, share: float, corner: tuple[int, int], size: tuple[int, int], colour: str
) -> None:
    (left, top), (width, height) = corner, size
    bar = max(round(share * height), 1)
    box = (left, top + height - bar, left + width - 1, top + height - 1)
    ImageDraw.Draw(strip).rectangle(box, fill=colour)


def _draw_padding(strip: Image.Image, size: tuple[int, int], corner: tuple[int, int]) -> None:
    (left, top), right, bottom = corner, corner[0] + size[0] - 1, corner[1] + size[1] - 1
    draw = ImageDraw.Draw(strip)
    draw.rectangle((left, top, right, bottom), outline=NEUTRAL)
    draw.line((left, top, right, bottom), fill=NEUTRAL)
    draw.line((left, bottom, right, top), fill=NEUTRAL)


def _heat_overlay(frame: Image.Image, heat: NDArray[np.float32] | None) -> Image.Image:
    """Blend heat [h, w], if any, over a grey copy of the frame."""
    if heat is None:
        return frame.convert("L")
    grey = np.repeat(np.asarray(frame.convert("L"), np.float32)[:, :, None], 3, axis=2)
    resized = Image.fromarray(heat.astype(np.float32)).resize(frame.size, Image.Resampling.BILINEAR)
    warmth = np.clip(np.asarray(resized), 0, 1)
    colours = 255 * mpl.colormaps["inferno"](warmth)[:, :, :3]
    opacity = _HEAT_OPACITY * warmth[:, :, None]
    return Image.fromarray(np.rint(grey * (1 - opacity) + colours * opacity).astype(np.uint8))


def _line_height(clip: SeenClip, line: Sequence[int], frame_height: int) -> int:
    height = frame_height
    if not clip.mask[line[0]]:  # the line is padding
        return height
    height += len(clip.heat) * (frame_height + _STRENGTH_HEIGHT + 2 * _GAP)
    height += len(clip.attention) * (_ATTENTION_HEIGHT + _GAP)
    if clip.labels is not None:
        height += 2 * _LABEL_HEIGHT + _GAP
    return height
