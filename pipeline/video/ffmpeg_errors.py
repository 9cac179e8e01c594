"""Recognise damage: exceptions of PyAV, flagged packets and frames, and FFmpeg's log.

FFmpeg conceals most damage: it draws something plausible in place of what it could not decode
and continues. Its log is then the only evidence, so the errors in it count like exceptions.
Damage that leaves a valid stream cannot be recognised; docs/decoding.md gives its frequency.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import av
import av.logging
import cv2
from av.container import InputContainer
from av.video.stream import VideoStream

# What PyAV raises on damaged input: FFmpeg's own codes, and errors of the binding itself when
# a header is nonsense (text that is not UTF-8, sizes that cannot be allocated).
DAMAGE_ERRORS = (
    av.FFmpegError,
    ValueError,  # includes UnicodeDecodeError
    AttributeError,
    MemoryError,
    OverflowError,
    ZeroDivisionError,
    RuntimeError,
)

# Includes defects of the pipeline: one file must not end the work on all others.
UNEXPECTED_ERRORS = (*DAMAGE_ERRORS, cv2.error, AssertionError)

# FFmpeg's name for ISO base media files. Their index lists every frame, so missing ones are
# counted; the demuxer's errors may concern another track.
INDEXED_CONTAINER = "mov,mp4,m4a,3gp,3g2,mj2"

# An error that FFmpeg logged: level, name of the demuxer or decoder, text.
LoggedError = tuple[int, str, str]


@contextmanager
def capture_errors() -> Iterator[list[LoggedError]]:
    """Collect the errors that FFmpeg logs in this thread while the block runs."""
    av.logging.set_level(av.logging.ERROR)
    # By default, FFmpeg suppresses an error that repeats the one before, even of another file.
    av.logging.set_skip_repeated(False)
    with av.logging.Capture(local=True) as errors:
        yield errors


def relevant_error(
    errors: list[LoggedError], container: InputContainer, stream: VideoStream
) -> str:
    """Return the first error that concerns the pictures of ``stream``; empty if there is none.

    Errors of audio decoders do not, nor do errors about other tracks.
    """
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
    """Return what is wrong with a video, from which time on, and the cause.

    >>> damage_reason("truncated", after_seconds=3.21, total_seconds=10)
    'truncated after 3.2 of 10.0 s'
    >>> damage_reason("damaged", after_seconds=0, cause="no frame!")
    'damaged after 0.0 s (no frame!)'
    """
    total = f" of {total_seconds:.1f}" if total_seconds else ""
    return f"{kind} after {after_seconds:.1f}{total} s" + (f" ({cause})" if cause else "")
