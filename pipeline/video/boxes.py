"""How many frames the index of an mp4 claims, read before FFmpeg makes room for them."""

import os
import struct
from typing import BinaryIO

# Boxes that hold boxes, on the way to those that count frames. Source: ISO/IEC 14496-12, 8.
_PARENTS = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf"}
_COUNT_AT = {b"stsz": 8, b"stz2": 8, b"trun": 4}  # in the box, after its size and name
_DEEPEST = 6  # moov, trak, mdia, minf, stbl, stsz
_FIRST_BOXES = {b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide"}


def most_frames_claimed(file: BinaryIO) -> int:
    """Return the largest number of frames that one table of an mp4 claims; 0 for other files.

    Where all frames have one size, a few bytes claim any number, and FFmpeg takes 60 bytes of
    memory for each. No file holds more frames than bytes.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(4)
    is_mp4 = file.read(4) in _FIRST_BOXES
    most = _most_in(file, 0, size, depth=0) if is_mp4 else 0
    file.seek(0)
    return most


def _most_in(file: BinaryIO, start: int, end: int, *, depth: int) -> int:
    most = 0
    if depth > _DEEPEST:
        return most
    while start + 8 <= end:
        file.seek(start)
        size, name = struct.unpack(">I4s", file.read(8))
        body = start + 8
        if size == 1:  # the size is too large for 32 bits and follows
            size = int.from_bytes(file.read(8), "big")
            body = start + 16
        box_end = min(end, start + size) if size else end
        if box_end < body:
            break
        if name in _PARENTS:
            most = max(most, _most_in(file, body, box_end, depth=depth + 1))
        elif name == b"hdlr":
            file.seek(body + 8)
            if file.read(4) == b"soun":  # QuickTime counts samples of sound as frames
                return 0
        elif name in _COUNT_AT:
            file.seek(body + _COUNT_AT[name])
            most = max(most, int.from_bytes(file.read(4), "big"))
        start = box_end
    return most
