"""Read picture files: one is a video of one frame, a folder of numbered ones is a video.

OpenCV decodes a picture after Pillow has read the size in its header. OpenCV reports most damage,
but not that within the data of a JPEG or TIFF file; FFmpeg and Pillow detect much of it.
"""

import io
import stat
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin, WebPImagePlugin  # noqa: F401  # they register the formats

from pipeline.common.records import DecodeFacts
from pipeline.common.video_files import numbering_fault, picture_number, pictures_in
from pipeline.video.ffmpeg_errors import DAMAGE_ERRORS, capture_errors, damage_reason, describe
from pipeline.video.opening import VideoError, source_name
from pipeline.video.settings import DecodeSection
from pipeline.video.timing import exact_rate

warnings.filterwarnings("ignore", module="PIL")  # of a damaged header; the reason says it

_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0", b"MM\0*")
_SIGNATURE_BYTES = 12
# A JPEG file with further pictures, such as a depth map of a phone; the first one is the picture.
_MULTI_PICTURE_JPEG = "MPO"

_BORDER_PIXELS = 1 << 20

# Bytes of a picture file, at most: four channels of 32 bits, and metadata.
_BYTES_PER_PIXEL = 16
_METADATA_BYTES = 1 << 24

_PILLOW_LIMIT = 2 * (Image.MAX_IMAGE_PIXELS or 0)  # Pillow raises a bomb error above it

# Pillow raises these for invalid headers.
_HEADER_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, RuntimeError,
    Image.DecompressionBombError,
)  # fmt: skip


class DecodedPicture(NamedTuple):
    """An upright picture, uint8 [height, width, 3], RGB, and its format, such as ``jpeg``."""

    pixels: NDArray[np.uint8]
    codec: str


@dataclass(frozen=True)
class PictureSeries:
    """Picture files in the order in which they are shown.

    Attributes:
        files: paths, or the bytes of one file; one or more.
        rate: pictures per second; None for a single picture file.
        gap: time and number of the pictures that are missing after the last of ``files``; empty
            if none is.
    """

    files: Sequence[Path | bytes]
    rate: Fraction | None = None
    gap: str = ""

    @property
    def interval(self) -> Fraction:
        """Return the seconds for which a picture is shown; 0 for a single picture file."""
        return 1 / self.rate if self.rate else Fraction(0)

    def facts(self) -> DecodeFacts:
        """Return the facts that are known before decoding."""
        count = len(self.files)
        return DecodeFacts(
            key="",
            container="pictures" if self.rate else "picture",
            source_fps=round(float(self.rate), 3) if self.rate and count > 1 else None,
            is_variable_rate=False if count > 1 else None,
            source_seconds=round(float(count * self.interval), 3) if self.rate else None,
            source_frames=count,
        )

    def read(
        self, number: int, decode: DecodeSection, *, like: DecodedPicture | None
    ) -> DecodedPicture:
        """Decode the picture ``number``, counted from 0.

        Args:
            like: an earlier picture of the series, which has the same size.

        Raises:
            VideoError: as ``read_picture``, or another size.
        """
        file = self.files[number]
        try:
            picture = read_picture(file, decode)
        except VideoError as error:
            if isinstance(file, bytes) or self.rate is None:
                raise
            raise self._error(number, file, error.reason, error.is_lasting) from None
        if like is not None and like.pixels.shape != picture.pixels.shape:
            assert isinstance(file, Path)
            (height, width, _), (old_height, old_width, _) = picture.pixels.shape, like.pixels.shape
            reason = f"{width} x {height} pixels, earlier pictures {old_width} x {old_height}"
            raise self._error(number, file, reason)
        return picture

    def _error(self, number: int, file: Path, reason: str, is_lasting: bool = True) -> VideoError:
        cause = f"{file.name}: {reason}"
        seconds = float(number * self.interval)
        reason = damage_reason("damaged", after_seconds=seconds, cause=cause)
        return VideoError(str(file.parent), reason, is_lasting)


def picture_series(source: Path | bytes, decode: DecodeSection) -> PictureSeries | None:
    """Return the pictures of a picture file or of a folder; None for other sources.

    Raises:
        VideoError: a folder without numbered pictures.
    """
    if isinstance(source, bytes):
        return PictureSeries([source]) if _is_picture(source[:_SIGNATURE_BYTES]) else None
    try:
        if source.is_dir():
            return _numbered_pictures(source, decode)
        if not source.is_file():  # open_video says what it is
            return None
        with source.open("rb") as file:
            return PictureSeries([source]) if _is_picture(file.read(_SIGNATURE_BYTES)) else None
    except OSError:
        return None


def _is_picture(start: bytes) -> bool:
    return start.startswith(_SIGNATURES) or (start[:4] == b"RIFF" and start[8:12] == b"WEBP")


def _numbered_pictures(folder: Path, decode: DecodeSection) -> PictureSeries:
    pictures = pictures_in(folder)
    if fault := numbering_fault(pictures):
        raise VideoError(str(folder), f"not a folder of numbered pictures ({fault})")
    rate = exact_rate(decode.image_fps)
    for count, (path, following) in enumerate(pairwise(pictures), start=1):
        first, last = picture_number(path) + 1, picture_number(following) - 1
        if first <= last:
            cause = f"picture {first} is missing"
            if first < last:
                cause = f"pictures {first} to {last} are missing"
            gap = damage_reason("damaged", after_seconds=float(count / rate), cause=cause)
            return PictureSeries(pictures[:count], rate, gap)
    return PictureSeries(pictures, rate)


def read_picture(source: Path | bytes, decode: DecodeSection) -> DecodedPicture:
    """Decode a picture file; OpenCV applies the orientation in its EXIF data.

    Transparency is ignored; 16-bit values are divided by 256.

    Raises:
        VideoError: not a regular file, not a picture, several pictures, more than
            ``decode.max_pixels`` or the pixels that Pillow opens, or damaged.
    """
    name = source_name(source)
    content = source if isinstance(source, bytes) else _read(source, decode)
    try:
        header = Image.open(io.BytesIO(content), formats=_FORMATS)
        is_animated = getattr(header, "is_animated", False)
    except Image.DecompressionBombError:
        limit = f"Pillow's limit of {_PILLOW_LIMIT}"
        if decode.max_pixels < _PILLOW_LIMIT:
            limit = f"decode.max_pixels = {decode.max_pixels}"
        raise VideoError(name, f"more pixels than {limit}") from None
    except _HEADER_ERRORS:
        raise VideoError(name, "not a picture that can be opened") from None
    width, height = header.size
    if width * height > decode.max_pixels:
        reason = f"{width} x {height} pixels are more than decode.max_pixels = {decode.max_pixels}"
        raise VideoError(name, reason)
    if is_animated and header.format != _MULTI_PICTURE_JPEG:
        raise VideoError(name, "several pictures in one file. Convert it to a video")
    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error:
        pixels = None
    if pixels is None or pixels.size != 3 * width * height:
        raise VideoError(name, "damaged (the picture cannot be decoded)")
    if fault := _hidden_damage(header, content, decode):
        raise VideoError(name, f"damaged ({fault})")
    codec = "jpeg" if header.format == _MULTI_PICTURE_JPEG else str(header.format).lower()
    return DecodedPicture(np.asarray(pixels, np.uint8), codec)


def _read(path: Path, decode: DecodeSection) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a FIFO or a device can block forever
            raise VideoError(str(path), "not a regular file")
        if status.st_size > _BYTES_PER_PIXEL * decode.max_pixels + _METADATA_BYTES:
            reason = (
                f"{status.st_size} bytes are too many for a picture of at most "
                f"decode.max_pixels = {decode.max_pixels}"
            )
            raise VideoError(str(path), reason)
        return path.read_bytes()
    except OSError as error:
        reason = f"cannot be read ({error.strerror})"
        raise VideoError(str(path), reason, is_lasting=False) from None


def _hidden_damage(header: Image.Image, content: bytes, decode: DecodeSection) -> str:
    """Return the damage of a picture that OpenCV fills in without an error; empty if none."""
    match header.format:
        case "JPEG" | "MPO":
            return _jpeg_damage(content, decode)
        case "TIFF":
            try:
                header.load()
            except _HEADER_ERRORS as error:
                return str(error)
    return ""


def _jpeg_damage(content: bytes, decode: DecodeSection) -> str:
    """Return the first error of FFmpeg's decoder; empty if none, or for an unknown kind of JPEG."""
    codec = av.CodecContext.create("mjpeg", "r")
    codec.thread_count = 1
    # The size is checked already; FFmpeg counts the whole blocks at the borders, too.
    codec.options = {"max_pixels": str(2 * decode.max_pixels + _BORDER_PIXELS)}
    fault = ""
    with capture_errors() as errors:
        try:
            codec.decode(av.Packet(content))
        except MemoryError:  # an FFmpeg error, but not damage
            raise
        except av.error.PatchWelcomeError:
            return ""
        except DAMAGE_ERRORS as error:
            fault = describe(error)
    messages = [text.strip() for _, _, text in errors]
    if any("unsupported" in message for message in messages):
        return ""
    return next(iter(messages), fault)
