"""A memory limit for decoder processes: a video can make FFmpeg allocate any amount."""

import resource
from contextlib import suppress

import psutil

from pipeline.video.settings import DecodeSection

_BASE_BYTES = 1 << 30  # packets, index, kept frames
# A codec with 16 reference frames in 4:2:0 with 10 bits uses 48; the rest is a margin.
_BYTES_PER_PIXEL = 64


def memory_limit(decode: DecodeSection) -> int:
    """Return the number of bytes that decoding a video may allocate."""
    return _BASE_BYTES + _BYTES_PER_PIXEL * decode.max_pixels


def limit_memory(decode: DecodeSection) -> None:
    """Limit what this process may allocate in addition to what it has; call it once.

    Beyond the limit, an allocation fails with a MemoryError.
    """
    limit = psutil.Process().memory_info().vms + memory_limit(decode)
    _, hard_limit = resource.getrlimit(resource.RLIMIT_AS)
    with suppress(ValueError, OSError):  # a lower limit of the system remains; macOS has none
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard_limit))
