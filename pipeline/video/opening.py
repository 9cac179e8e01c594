"""Open untrusted video files.

Without these checks, a playlist named ``a.mp4`` reads other files, a FIFO blocks forever, and an
index of a few bytes makes FFmpeg allocate gigabytes.
"""

import io
import os
import stat
import struct
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
from pipeline.video.settings import DecodeSection

# Containers that include their video data. Other formats that FFmpeg opens (playlists, concat
# scripts, DASH manifests, devices, ...) may refer to other files and are refused.
_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,asf,flv,mpeg,mpegts,mpegvideo,ogg,"
    "h264,hevc,av1,obu,ivf,m4v,mxf,gif,rm,dv,nut,vob,swf"
)
_OPEN_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": _CONTAINERS}
_ENCRYPTION_KEY_ID = "enc_key_id"  # in the metadata of an encrypted Matroska track

# Parent boxes of the mp4 boxes that count frames. Source: ISO/IEC 14496-12, 8.
_PARENT_BOXES = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf"}
_FRAME_COUNT_OFFSET = {b"stsz": 8, b"stz2": 8, b"trun": 4}  # after size and name of the box
_DEEPEST_BOX = 6  # moov, trak, mdia, minf, stbl, stsz
_FIRST_BOXES = {b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide"}


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
        except DAMAGE_ERRORS as error:
            is_lasting = not isinstance(error, OSError | MemoryError)
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


def most_frames_claimed(file: BinaryIO) -> int:
    """Return the largest number of frames that one table of an mp4 claims; 0 for other files.

    If all frames have one size, a table of a few bytes can claim any number, and FFmpeg allocates
    60 bytes for each. No file has more frames than bytes.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(4)
    is_mp4 = file.read(4) in _FIRST_BOXES
    most = _most_frames_in_boxes(file, 0, size, depth=0) if is_mp4 else 0
    file.seek(0)
    return most


def _most_frames_in_boxes(file: BinaryIO, start: int, end: int, *, depth: int) -> int:
    most = 0
    if depth > _DEEPEST_BOX:
        return most
    while start + 8 <= end:
        file.seek(start)
        size, name = struct.unpack(">I4s", file.read(8))
        body = start + 8
        if size == 1:  # a size of 64 bits follows the name
            size = int.from_bytes(file.read(8), "big")
            body = start + 16
        box_end = min(end, start + size) if size else end
        if box_end < body:
            break
        if name in _PARENT_BOXES:
            most = max(most, _most_frames_in_boxes(file, body, box_end, depth=depth + 1))
        elif name == b"hdlr":
            file.seek(body + 8)
            if file.read(4) == b"soun":  # QuickTime counts audio samples as frames
                return 0
        elif name in _FRAME_COUNT_OFFSET:
            file.seek(body + _FRAME_COUNT_OFFSET[name])
            most = max(most, int.from_bytes(file.read(4), "big"))
        start = box_end
    return most


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
    claimed = most_frames_claimed(file)
    if claimed > size_bytes:
        raise VideoError(
            name, f"the index claims {claimed} frames, but the file has {size_bytes} bytes"
        )


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
