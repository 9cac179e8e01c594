"""Refuse an mp4 whose index claims more frames than the file can hold.

A table of a few bytes can claim any number of frames, and FFmpeg allocates 60 bytes for each before
it reads one. The boxes are searched as FFmpeg does: the same boxes contain others, at any depth,
and sizes beyond the parent are cut. Sources: ISO/IEC 14496-12; FFmpeg, libavformat/mov.c.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple

MAX_FRAMES = 2_000_000  # of a video in any container: nine hours at 60 frames a second

_CONTAINERS = frozenset(
    b"dinf edts hoov ilst ipco iprp jp2h mdia meta minf moof moov mvex schi sinf stbl traf trak "
    b"tref udta wave".split()
)
_COUNTING_BOXES = (b"stsz", b"stz2", b"trun", b"iinf", b"iloc")
_COMPRESSED_INDEX = b"cmov"
_DEEPEST_BOX = 12  # FFmpeg refuses deeper ones
_SEARCHED_BYTES = 1 << 20  # of a box whose boxes have no fixed place
# QuickTime counts each sample of uncompressed sound, and codecs of speech pack many into a byte.
_SOUND_SAMPLES_PER_BYTE = 64


class _Box(NamedTuple):
    name: bytes
    body: int  # position of its first byte
    end: int


def index_fault(file: BinaryIO) -> str:
    """Return what is wrong with the index of an mp4; empty for other files.

    A valid index has at most one frame for each byte of the file.
    """
    size = file.seek(0, os.SEEK_END)
    part = _Part()
    parts = [part]
    for box in _boxes(file, 0, size, depth=0):
        if box.name == _COMPRESSED_INDEX:
            return "a compressed index (cmov) is not supported"
        if box.name in (b"trak", b"moof"):
            part = _Part()
            parts.append(part)
        elif box.name == b"hdlr":
            part.handlers.add(_read(file, box.body + 8, 4))
        else:
            part.samples += _count(file, box)
    claimed = sum(part.frames for part in parts)
    if claimed > size:
        return f"the index claims {claimed} frames, but the file has {size} bytes"
    if max(part.frames for part in parts if not part.is_sound) > MAX_FRAMES:
        return f"more than {MAX_FRAMES} frames"
    return ""


@dataclass
class _Part:
    """A track or a fragment, and what its tables claim."""

    samples: int = 0
    handlers: set[bytes] = field(default_factory=set)

    @property
    def is_sound(self) -> bool:
        return b"soun" in self.handlers and b"vide" not in self.handlers

    @property
    def frames(self) -> int:
        return self.samples // _SOUND_SAMPLES_PER_BYTE if self.is_sound else self.samples


def _count(file: BinaryIO, box: _Box) -> int:
    """Return how many frames, or items of a picture file, a table claims to describe."""
    if box.name not in _COUNTING_BOXES:
        return 0
    head = _read(file, box.body, 12)
    version, offset = head[0] if head else 0, 0
    match box.name:
        case b"stsz" | b"stz2":
            offset = 8
        case b"trun":
            offset = 4
        case b"iinf" if version >= 1:
            offset = 4
        case b"iloc" if version >= 2:
            offset = 6
    return int.from_bytes(head[offset : offset + 4], "big") if offset else 0  # 0: of 16 bits


def _boxes(file: BinaryIO, start: int, end: int, *, depth: int) -> Iterator[_Box]:
    """Yield the boxes between two positions, each followed by the boxes that it contains."""
    while start + 8 <= end:
        size, name = int.from_bytes(_read(file, start, 4), "big"), _read(file, start + 4, 4)
        body = start + 8
        if size == 1 and body + 8 <= end:  # a size of 64 bits follows the name
            size = int.from_bytes(_read(file, body, 8), "big")
            body += 8
        box = _Box(name, body, min(end, start + size) if size else end)
        if box.end < body:
            return
        yield box
        inner = _first_inner_box(file, box)
        if inner is not None and depth < _DEEPEST_BOX:
            yield from _boxes(file, inner, box.end, depth=depth + 1)
        start = box.end


def _first_inner_box(file: BinaryIO, box: _Box) -> int | None:
    """Return the position of the first box in ``box``; None if it contains none."""
    searched: tuple[bytes, ...] = ()
    match box.name:
        case b"free":  # FFmpeg repairs a movie that was marked as free
            is_movie = _read(file, box.body + 4, 4) in (b"mvhd", _COMPRESSED_INDEX)
            return box.body if is_movie else None
        case b"meta":
            searched = (b"hdlr",)
        case b"stsd":  # its entries have headers of many lengths
            searched = (*_COUNTING_BOXES, _COMPRESSED_INDEX)
        case name if name in _CONTAINERS:
            return box.body
    content = _read(file, box.body, min(box.end - box.body, _SEARCHED_BYTES)) if searched else b""
    places = [at for name in searched if (at := content.find(name)) >= 4]
    return box.body + min(places) - 4 if places else None


def _read(file: BinaryIO, start: int, count: int) -> bytes:
    file.seek(start)
    return file.read(count)
