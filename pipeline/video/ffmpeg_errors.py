"""Detect damage: exceptions of PyAV, corrupt packets and frames, errors in FFmpeg's log.

FFmpeg conceals most damage: it replaces what it cannot decode and continues. Only its log shows
such damage, so logged errors count like exceptions. Damage that leaves a valid stream cannot be
detected; docs/decoding.md has its frequency.
"""

import av
import av.logging
import cv2
from av.container import InputContainer
from av.video.stream import VideoStream

# Exceptions of PyAV on damaged input: FFmpeg's own errors, and Python's where a header is not
# valid (text that is not UTF-8). PyAV's MemoryError is one of FFmpeg's errors, but not damage.
DAMAGE_ERRORS = (
    av.FFmpegError,
    ValueError,  # includes UnicodeDecodeError
    AttributeError,
    OverflowError,
    ZeroDivisionError,
    RuntimeError,
)

# Includes defects of the pipeline: an error in one file must not stop the decoding of others.
UNEXPECTED_ERRORS = (*DAMAGE_ERRORS, MemoryError, cv2.error, AssertionError)

# FFmpeg's name for ISO base media files. Their index counts every frame, which shows missing
# ones. Their demuxer's errors do not count, because they may concern another track.
INDEXED_CONTAINER = "mov,mp4,m4a,3gp,3g2,mj2"

# An error in FFmpeg's log: level, name of the demuxer or decoder, text.
LoggedError = tuple[int, str, str]


def capture_errors() -> av.logging.Capture:
    """Return a context manager that collects the errors FFmpeg logs in this thread.

    It runs for every packet; a generator as context manager takes three times as long.
    """
    av.logging.set_level(av.logging.ERROR)
    # By default, FFmpeg omits an error that repeats the previous one, even of another file.
    av.logging.set_skip_repeated(False)
    return av.logging.Capture(local=True)


def relevant_error(
    errors: list[LoggedError], container: InputContainer, stream: VideoStream
) -> str:
    """Return the first error of the decoder of ``stream`` or of the demuxer; empty if none."""
    sources = {stream.codec_context.name, container.format.name} - {INDEXED_CONTAINER}
    for _, source, text in errors:
        if source in sources:
            return text.strip()
    return ""


def describe(error: Exception) -> str:
    """Return the message of an exception of PyAV."""
    if isinstance(error, av.FFmpegError) and error.strerror:
        return error.strerror
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def damage_reason(
    kind: str, *, after_seconds: float, total_seconds: float | None = None, cause: str = ""
) -> str:
    """Return a message with the kind, the time and the cause of damage.

    >>> damage_reason("truncated", after_seconds=3.21, total_seconds=10)
    'truncated after 3.2 of 10.0 s'
    >>> damage_reason("damaged", after_seconds=0, cause="no frame!")
    'damaged after 0.0 s (no frame!)'
    """
    total = f" of {total_seconds:.1f}" if total_seconds else ""
    return f"{kind} after {after_seconds:.1f}{total} s" + (f" ({cause})" if cause else "")
