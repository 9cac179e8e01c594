"""Damaged copies of intact videos, the same in every run."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tests.robustness.intact import KINDS, intact_video

Damage = Literal["cut short", "bit flipped", "blocks swapped"]

# One for each family of codecs, in its usual container.
FUZZED = ("H.264 mp4, index first", "MPEG-4 avi", "VP9 webm", "HEVC mkv")

CUTS = 20
FLIPS = 125  # of each kind
SWAPS = 125
_BLOCK_BYTES = 64


@dataclass(frozen=True)
class Case:
    """A damaged file."""

    kind: str  # a key of intact.KINDS
    damage: Damage
    number: int
    content: bytes

    @property
    def file_name(self) -> str:
        return f"{self.kind}, {self.damage} {self.number:03d}{KINDS[self.kind].suffix}"


def cuts() -> Iterator[Case]:
    """Truncate every kind of file after 1/20, 2/20, ... of its bytes, and before the last byte."""
    for kind in KINDS:
        content = intact_video(kind)
        ends = [len(content) * part // CUTS for part in range(1, CUTS)] + [len(content) - 1]
        for number, end in enumerate(ends):
            yield Case(kind, "cut short", number, content[:end])


def flips_and_swaps() -> Iterator[Case]:
    """Flip one bit of a file, or swap two blocks of 64 bytes, anywhere in the file."""
    for seed, kind in enumerate(FUZZED):
        rng = np.random.default_rng(seed)
        content = intact_video(kind)
        for number, damaged in enumerate(_distinct(_with_bit_flipped, content, rng, FLIPS)):
            yield Case(kind, "bit flipped", number, damaged)
        for number, damaged in enumerate(_distinct(_with_blocks_swapped, content, rng, SWAPS)):
            yield Case(kind, "blocks swapped", number, damaged)


def _distinct(
    damage: Callable[[bytes, np.random.Generator], bytes],
    content: bytes,
    rng: np.random.Generator,
    count: int,
) -> list[bytes]:
    """Return ``count`` different damaged copies of ``content``."""
    copies = {content: None}  # a dict keeps the order
    while len(copies) <= count:
        copies[damage(content, rng)] = None
    return list(copies)[1:]


def _with_bit_flipped(content: bytes, rng: np.random.Generator) -> bytes:
    damaged = bytearray(content)
    damaged[rng.integers(len(damaged))] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def _with_blocks_swapped(content: bytes, rng: np.random.Generator) -> bytes:
    first, second = sorted(
        rng.choice(len(content) // _BLOCK_BYTES, 2, replace=False) * _BLOCK_BYTES
    )
    damaged = bytearray(content)
    damaged[first : first + _BLOCK_BYTES] = content[second : second + _BLOCK_BYTES]
    damaged[second : second + _BLOCK_BYTES] = content[first : first + _BLOCK_BYTES]
    return bytes(damaged)
