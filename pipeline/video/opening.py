"""Open untrusted video files.

Without these checks, a playlist named ``a.mp4`` reads other files, a FIFO blocks forever, and an
index of a few bytes makes FFmpeg allocate gigabytes.
"""

import io
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from pipeline.common.errors import PipelineError
from pipeline.video.ffmpeg_errors import (
    DAMAGE_ERRORS,
    LoggedError,
    capture_errors,
    describe,
    relevant_error,
)
from pipeline.video.mp4_index import index_fault
from pipeline.video.settings import DecodeSection

# Containers that include their video data. Other formats that FFmpeg opens (playlists, concat
# scripts, DASH manifests, devices, ...) may refer to other files and are refused.
_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,asf,flv,mpeg,mpegts,mpegvideo,ogg,"
    "h264,hevc,av1,obu,ivf,m4v,mxf,gif,rm,dv,nut,vob,swf"
)
_OPEN_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": _CONTAINERS}
_ENCRYPTION_KEY_ID = "enc_key_id"  # in the metadata of an encrypted Matroska track


class VideoError(PipelineError):
    """A video that cannot be used.

    Attributes:
        name: of the video.
        reason: why, without the name.
        is_lasting: False if another attempt may succeed, because the file could not be read or
            memory ran out.
    """

    def __init__(self, name: str, reason: str, is_lasting: bool = True) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason
        self.is_lasting = is_lasting

    def __reduce__(self) -> tuple[type["VideoError"], tuple[str, str, bool]]:
        # Pickle rebuilds exceptions from ``args``, which is the message only.
        return VideoError, (self.name, self.reason, self.is_lasting)


class OpenedVideo(NamedTuple):
    """A container, its first video stream, and the error that FFmpeg logged on opening."""

    container: InputContainer
    stream: VideoStream
    error: str  # empty if there is none


@contextmanager
def open_video(source: Path | bytes, decode: DecodeSection) -> Iterator[OpenedVideo]:
    """Open the first video stream that is not cover art, to decode it in one thread.

    Args:
        source: path of a regular file, or the bytes of a video file.

    Raises:
        MemoryError: FFmpeg needs more memory than this process may use.
        VideoError: not a regular file, not a video, no known codec, encrypted, or frames larger
            than ``decode.max_pixels``.
    """
    name = source_name(source)
    # The demuxer decodes some frames to probe them, and frames may be larger than the container
    # claims: demuxer and decoder both have the limit.
    max_pixels = {"max_pixels": str(decode.max_pixels)}
    target: str | io.BytesIO
    if isinstance(source, bytes):
        target = io.BytesIO(source)
        _check_index(target, name, len(source))
    else:
        target = _checked_url(source)
    with capture_errors() as errors:
        try:
            container = av.open(
                target, "r", options={**_OPEN_OPTIONS, **max_pixels}, metadata_errors="replace"
            )
        except MemoryError:  # an FFmpeg error, but not damage
            raise
        except DAMAGE_ERRORS as error:
            is_lasting = not isinstance(error, OSError)
            raise VideoError(name, _opening_failure(error, errors), is_lasting) from None
    with container:
        stream = _video_stream(container, name)
        if stream.width * stream.height > decode.max_pixels:
            raise VideoError(
                name,
                f"{stream.width} x {stream.height} pixels are more than "
                f"decode.max_pixels = {decode.max_pixels}",
            )
        stream.codec_context.thread_count = 1
        stream.codec_context.options = max_pixels
        yield OpenedVideo(container, stream, relevant_error(errors, container, stream))


def source_name(source: Path | bytes) -> str:
    """Return the name of ``source`` in messages."""
    return f"<{len(source)} bytes>" if isinstance(source, bytes) else str(source)


def _checked_url(path: Path) -> str:
    """Return ``path`` in a form that FFmpeg cannot mistake for another protocol."""
    name = str(path)
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):  # opening a FIFO or a device can block forever
            raise VideoError(name, "not a regular file")
        with path.open("rb") as file:
            _check_index(file, name, path.stat().st_size)
    except OSError as error:
        reason = f"cannot be read ({error.strerror})"
        raise VideoError(name, reason, is_lasting=False) from None
    return f"file:{path.resolve()}"


def _check_index(file: BinaryIO, name: str, size_bytes: int) -> None:
    if size_bytes == 0:
        raise VideoError(name, "the file is empty")
    if fault := index_fault(file):
        raise VideoError(name, fault)
    file.seek(0)


def _opening_failure(error: Exception, errors: list[LoggedError]) -> str:
    message = "; ".join(text.strip() for _, _, text in errors) or describe(error)
    if "encrypt" in message:
        return f"encrypted ({message})"
    if "not on whitelist" in message:
        return "not a video that can be opened (files of this format can refer to other files)"
    return f"not a video that can be opened ({message})"


def _video_stream(container: InputContainer, name: str) -> VideoStream:
    for stream in container.streams.video:
        if stream.disposition & av.stream.Disposition.attached_pic:  # cover art
            continue
        if stream.codec_context is None:
            raise VideoError(name, "the codec of the video stream is unknown")
        if _ENCRYPTION_KEY_ID in stream.metadata:
            raise VideoError(name, "encrypted")
        return stream
    kinds = sorted({stream.type for stream in container.streams})
    raise VideoError(name, f"no video stream (streams found: {', '.join(kinds) or 'none'})")
