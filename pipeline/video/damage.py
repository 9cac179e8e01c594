"""How a damaged video shows: exceptions, marked packets and frames, and what FFmpeg logs.

FFmpeg hides most damage: it draws something plausible over what it could not decode and goes
on. What remains are the errors that it logs meanwhile, so they are read here like any other
sign. Damage that leaves a legal stream shows nowhere; docs/decoding.md counts it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import av
import av.logging
import cv2
from av.container import InputContainer
from av.video.stream import VideoStream

# What PyAV raises on damaged input: FFmpeg's own codes, and errors of the binding itself
# when a header holds nonsense (text that is not UTF-8, sizes that cannot be allocated).
DAMAGE_ERRORS = (
    av.FFmpegError,
    ValueError,  # UnicodeDecodeError is one
    AttributeError,
    MemoryError,
    OverflowError,
    ZeroDivisionError,
    RuntimeError,
)

# With faults of ours: nothing that one file does may end the work on all others.
UNEXPECTED_ERRORS = (*DAMAGE_ERRORS, cv2.error, AssertionError)

# FFmpeg's name for ISO base media files. Their index lists every frame, so missing ones are
# counted; what the demuxer complains of may be another track.
INDEXED_CONTAINER = "mov,mp4,m4a,3gp,3g2,mj2"


# An error that FFmpeg logged: level, name of the demuxer or decoder, text.
Complaint = tuple[int, str, str]


@contextmanager
def complaints() -> Iterator[list[Complaint]]:
    """Collect the errors that FFmpeg logs in this thread while the block runs."""
    av.logging.set_level(av.logging.ERROR)
    # Else a second file with the same damage would say nothing.
    av.logging.set_skip_repeated(False)
    with av.logging.Capture(local=True) as heard:
        yield heard


def complaint_about(heard: list[Complaint], container: InputContainer, stream: VideoStream) -> str:
    """Return the first error that concerns the pictures of ``stream``; empty if none does.

    What decoders of sound complain of does not, nor what is missing of other tracks.
    """
    speakers = {stream.codec_context.name, container.format.name} - {INDEXED_CONTAINER}
    for _, speaker, text in heard:
        if speaker in speakers:
            return text.strip()
    return ""


def detail(error: Exception) -> str:
    """Say what an exception of PyAV means."""
    if isinstance(error, av.FFmpegError) and error.strerror:
        return error.strerror
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def reason(
    word: str, *, after_seconds: float, of_seconds: float | None = None, because: str = ""
) -> str:
    """Say what is wrong, from where on, and why.

    >>> reason("truncated", after_seconds=3.21, of_seconds=10)
    'truncated after 3.2 of 10.0 s'
    >>> reason("damaged", after_seconds=0, because="no frame!")
    'damaged after 0.0 s (no frame!)'
    """
    where = f"{after_seconds:.1f} of {of_seconds:.1f} s" if of_seconds else f"{after_seconds:.1f} s"
    return f"{word} after {where}" + (f" ({because})" if because else "")
