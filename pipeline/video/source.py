"""Opening a video file that nobody vouches for."""

import io
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from pipeline.base.errors import PipelineError
from pipeline.video.boxes import most_frames_claimed
from pipeline.video.damage import (
    DAMAGE_ERRORS,
    Complaint,
    complaint_about,
    complaints,
    detail,
)

# Containers that hold pictures themselves. Everything else that FFmpeg opens (playlists,
# concat scripts, DASH manifests, devices, ...) may name other files and is refused.
_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,asf,flv,mpeg,mpegts,mpegvideo,ogg,"
    "h264,hevc,av1,obu,ivf,m4v,mxf,gif,rm,dv,nut,vob,swf"
)
_OPEN_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": _CONTAINERS}
_KEY_ID = "enc_key_id"  # in the metadata of an encrypted Matroska track


class VideoError(PipelineError):
    """A video that cannot be used. ``reason`` says why, without the file's name.

    ``is_lasting`` is False where another try may end better: the file could not be read, or
    there was no memory.
    """

    def __init__(self, name: str, reason: str, is_lasting: bool = True) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason
        self.is_lasting = is_lasting

    def __reduce__(self) -> tuple[type["VideoError"], tuple[str, str, bool]]:
        # So that worker processes can raise it.
        return VideoError, (self.name, self.reason, self.is_lasting)


@dataclass(frozen=True)
class Limits:
    """What is too much for one video."""

    max_seconds: float
    max_pixels: int


class OpenedVideo(NamedTuple):
    """A container, its first picture stream, and what FFmpeg said of it when it looked."""

    container: InputContainer
    stream: VideoStream
    complaint: str  # empty for a sound file


@contextmanager
def open_video(source: Path | bytes, *, limits: Limits) -> Iterator[OpenedVideo]:
    """Open the first picture stream of ``source`` for decoding in one thread.

    Args:
        source: a path of a regular file, or the bytes of a video file.
        limits: larger pictures are refused before a frame is decoded.

    Raises:
        VideoError: not a regular file, not a video, no codec, or over a limit.
    """
    name = source_name(source)
    # FFmpeg decodes some frames to look at them, so the limit goes along. Pictures may also
    # be larger than the container says.
    max_pixels = {"max_pixels": str(limits.max_pixels)}
    target = _checked_bytes(source) if isinstance(source, bytes) else _checked_url(source)
    with complaints() as heard:
        try:
            container = av.open(
                target, "r", options={**_OPEN_OPTIONS, **max_pixels}, metadata_errors="replace"
            )
        except DAMAGE_ERRORS as error:
            is_lasting = not isinstance(error, OSError | MemoryError)
            raise VideoError(name, _why_not_opened(error, heard), is_lasting) from None
    with container:
        stream = _picture_stream(container, name)
        if stream.width * stream.height > limits.max_pixels:
            raise VideoError(
                name,
                f"{stream.width} x {stream.height} pixels are more than "
                f"decode.max_pixels = {limits.max_pixels}",
            )
        stream.codec_context.thread_count = 1
        stream.codec_context.options = max_pixels
        yield OpenedVideo(container, stream, complaint_about(heard, container, stream))


def too_long(name: str, max_seconds: float) -> VideoError:
    """Say that a video goes on for more than ``max_seconds``."""
    return VideoError(name, f"longer than decode.max_seconds = {max_seconds:g}")


def source_name(source: Path | bytes) -> str:
    """Name ``source`` in messages."""
    return f"<{len(source)} bytes>" if isinstance(source, bytes) else str(source)


def _checked_url(path: Path) -> str:
    """Return ``path`` in a form that FFmpeg cannot take for another protocol."""
    name = str(path)
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):  # opening a FIFO or a device would wait for ever
            raise VideoError(name, "not a regular file")
        with path.open("rb") as file:
            _check_index(file, name, path.stat().st_size)
    except OSError as error:
        reason = f"cannot be read ({error.strerror})"
        raise VideoError(name, reason, is_lasting=False) from None
    return f"file:{path.resolve()}"


def _checked_bytes(content: bytes) -> io.BytesIO:
    file = io.BytesIO(content)
    _check_index(file, source_name(content), len(content))
    return file


def _check_index(file: BinaryIO, name: str, size: int) -> None:
    if size == 0:
        raise VideoError(name, "the file is empty")
    claimed = most_frames_claimed(file)
    if claimed > size:
        raise VideoError(name, f"its index claims {claimed} frames, its size is {size} bytes")


def _why_not_opened(error: Exception, heard: list[Complaint]) -> str:
    said = "; ".join(text.strip() for _, _, text in heard) or detail(error)
    if "encrypt" in said:
        return f"encrypted ({said})"
    if "not on whitelist" in said:
        return "not a video that can be opened (files of its format may name other files)"
    return f"not a video that can be opened ({said})"


def _picture_stream(container: InputContainer, name: str) -> VideoStream:
    for stream in container.streams.video:
        is_cover_art = bool(stream.disposition & av.stream.Disposition.attached_pic)
        if is_cover_art:
            continue
        if stream.codec_context is None:
            raise VideoError(name, "the video stream's codec is not known")
        if _KEY_ID in stream.metadata:
            raise VideoError(name, "encrypted")
        return stream
    kinds = sorted({stream.type for stream in container.streams})
    raise VideoError(name, f"no video stream (streams found: {', '.join(kinds) or 'none'})")
