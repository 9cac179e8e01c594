"""Refuse an mp4 whose index claims more frames than the file can hold; read the frames' times.

A table of a few bytes can claim any number of frames, and FFmpeg allocates 60 bytes for each before
it reads one. The boxes are searched as FFmpeg does: the same boxes contain others, at any depth,
and sizes beyond the parent are cut. In a sample entry, every occurrence of the name of a table
counts. Sources: ISO/IEC 14496-12; FFmpeg, libavformat/mov.c.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_FRAMES = 2_000_000  # of a video in any container: nine hours at 60 frames a second

_CONTAINERS = frozenset(
    b"dinf edts hoov ilst ipco iprp jp2h mdia meta minf moof moov mvex schi sinf stbl traf trak "
    b"tref udta wave".split()
)
_COUNTING_BOXES = (b"stsz", b"stz2", b"trun", b"iinf", b"iloc")
_COMPRESSED_INDEX = b"cmov"
# Names may overlap, as in "ilocmov": the patterns consume nothing.
_COUNTING_NAMES = re.compile(b"(?=%s)" % b"|".join((*_COUNTING_BOXES, _COMPRESSED_INDEX)))
_HANDLER = re.compile(b"(?=hdlr)")
_VIDEO_ENTRY_BYTES = 86  # without boxes
_TABLE = b"\0\0"  # at the end of these bytes: colours may follow
_LONG_BYTES = 0x7FFFF  # FFmpeg does not skip the rest of a longer entry
_DEEPEST_BOX = 12  # FFmpeg refuses deeper ones
_SEARCHED_BYTES = 1 << 20  # at a time
# QuickTime counts each sample of uncompressed sound, and codecs of speech pack many into a byte.
_SOUND_SAMPLES_PER_BYTE = 64


class _Box(NamedTuple):
    name: bytes
    body: int  # position of its first byte
    end: int
    is_cut: bool = False  # claims to exceed its parent


def index_fault(file: BinaryIO) -> str:
    """Return what is wrong with the index of an mp4; empty for other files.

    A valid index has at most one frame for each byte of the file.
    """
    size = file.seek(0, os.SEEK_END)
    part = _Part()
    parts = [part]
    for box in _all_boxes(file, size):
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


def time_offsets(file: BinaryIO, track_id: int) -> NDArray[np.int64] | None:
    """Return the presentation time minus the decoding time of each frame of a track, in ticks.

    Returns:
        An empty array if they are equal; None if the index has several tables of the track.
    """
    size = file.seek(0, os.SEEK_END)
    tables: list[NDArray[np.int64]] = []
    is_track = False
    for box in _boxes(file, 0, size, depth=0):
        head = _read(file, box.body, 24)
        if box.name == b"tkhd" and len(head) == 24:
            at = 20 if head[0] else 12  # after times of 64 or 32 bits
            is_track = int.from_bytes(head[at : at + 4], "big") == track_id
        elif box.name == b"ctts" and is_track:
            count = min(int.from_bytes(head[4:8], "big"), (box.end - box.body - 8) // 8)
            runs = np.frombuffer(_read(file, box.body + 8, 8 * count), ">i4").reshape(-1, 2)
            if (runs[:, 0] < 0).any() or int(runs[:, 0].sum(dtype=np.int64)) > MAX_FRAMES:
                return None
            tables.append(np.repeat(runs[:, 1].astype(np.int64), runs[:, 0]))
    if len(tables) > 1:
        return None
    return tables[0] if tables else np.zeros(0, np.int64)


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


def _all_boxes(file: BinaryIO, size: int) -> Iterator[_Box]:
    """Yield all boxes of a file, and at last what may be one in a box that FFmpeg does not cut."""
    uncut = size
    for box in _boxes(file, 0, size, depth=0):
        yield box
        exceeds = box.is_cut if box.name == b"ipco" else _has_odd_entries(file, box)
        uncut = min(uncut, box.body) if exceeds else uncut
    yield _Box(b"moof", uncut, size)  # what follows belongs to no track
    yield from _named_boxes(file, uncut, size)


def _boxes(file: BinaryIO, start: int, end: int, *, depth: int) -> Iterator[_Box]:
    """Yield the boxes between two positions, each followed by the boxes that it contains."""
    while (box := _box(file, start, end)) is not None:
        yield box
        if box.name == b"stsd":  # the headers of its entries have many lengths
            yield from _named_boxes(file, box.body, box.end)
        elif depth < _DEEPEST_BOX:
            yield from _boxes(file, _first_inner_box(file, box), box.end, depth=depth + 1)
        start = box.end


def _box(file: BinaryIO, start: int, end: int) -> _Box | None:
    """Return the box at ``start``, cut at ``end``; None if there is none."""
    if start + 8 > end:
        return None
    head = _read(file, start, 16)
    size, name, body = int.from_bytes(head[:4], "big"), head[4:8], start + 8
    if size == 1 and body + 8 <= end:  # a size of 64 bits follows the name
        size = int.from_bytes(head[8:], "big")
        body += 8
    box = _Box(name, body, min(end, start + size) if size else end, is_cut=start + size > end)
    return box if box.end >= body else None


def _named_boxes(file: BinaryIO, start: int, end: int) -> Iterator[_Box]:
    """Yield what has the name of a box that counts, at any position."""
    for at in _places(file, start, end, _COUNTING_NAMES):
        if (box := _box(file, at - 4, end)) is not None:
            yield box


def _has_odd_entries(file: BinaryIO, box: _Box) -> bool:
    """Return whether FFmpeg may read sample entries beyond the end of their stsd box.

    It reads entries that exceed the box. After a short one, it begins the next one too late.
    """
    if box.name != b"stsd":
        return False
    start = box.body + 8
    for following in reversed(range(int.from_bytes(_read(file, box.body + 4, 4), "big"))):
        size = int.from_bytes(_read(file, start, 4), "big")
        is_plain = _VIDEO_ENTRY_BYTES <= size < _LONG_BYTES and _read(file, start + 84, 2) != _TABLE
        if start + size > box.end or (following and not is_plain):
            return True
        start += size
    return False


def _first_inner_box(file: BinaryIO, box: _Box) -> int:
    """Return the position of the first box in ``box``; its end if it contains none."""
    match box.name:
        case b"free":  # FFmpeg repairs a movie that was marked as free
            is_movie = _read(file, box.body + 4, 4) in (b"mvhd", _COMPRESSED_INDEX)
            return box.body if is_movie else box.end
        case b"meta":  # FFmpeg searches the name of the first one at every fourth byte
            handlers = _places(file, box.body, box.end, _HANDLER)
            return next((at - 4 for at in handlers if (at - box.body) % 4 == 0), box.end)
        case name if name in _CONTAINERS:
            return box.body
    return box.end


def _places(file: BinaryIO, start: int, end: int, names: re.Pattern[bytes]) -> Iterator[int]:
    """Yield the position of each of the names between two positions."""
    for at in range(start, end, _SEARCHED_BYTES):
        count = min(_SEARCHED_BYTES + 3, end - at)  # and a name that begins in them
        for found in names.finditer(_read(file, at, count)):
            yield at + found.start()


def _read(file: BinaryIO, start: int, count: int) -> bytes:
    file.seek(start)
    return file.read(count)
