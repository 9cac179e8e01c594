"""Exact search for videos with close hashes, without comparing every pair of videos.

If two hashes differ in at most 6 bits, at least one of their four bands differs in at most one bit
(pigeonhole principle). So an index of each band, probed with all keys at that distance, finds all
close hashes. Source: Norouzi, Punjani and Fleet, Fast Search in Hamming Space with Multi-Index
Hashing, 2012.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_BANDS = 4
_BAND_BITS = 16
_KEYS = 1 << _BAND_BITS
_HASH_BITS = _BANDS * _BAND_BITS
_CHUNK_CELLS = 1 << 17  # pairs of videos or of hashes in memory at once
# Fraction of all pairs of hashes that the index may give for a video. Beyond it, comparing all
# pairs is faster.
_CROWDED = 1 / 64


class ClosePairs(NamedTuple):
    """Pairs of videos that are close.

    Attributes:
        rows, columns: int64 [P], indices of the videos in A and in B.
        distances: uint8 [P], in bits.
    """

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    distances: NDArray[np.uint8]


class HashSearch:
    """Search for pairs of a video of A and a video of B that are close, mirrored or not.

    The distance of video A to B is the median (the lower of the middle two), over the frames of
    A, of the distance to the nearest frame of B. The smaller of A to B and B to A counts, and the
    smaller of A and A mirrored.

    Attributes:
        indexed_rows: indices of the videos of A that ``indexed_pairs`` searches.
        crowded_rows: indices of the others, whose hashes resemble too many hashes of B for the
            index; see ``compared_pairs``.
    """

    def __init__(
        self,
        hashes_a: NDArray[np.uint64],
        mirrored_a: NDArray[np.uint64],
        hashes_b: NDArray[np.uint64],
        *,
        max_distance: int,
    ) -> None:
        """Index the hashes uint64 [B, F] of the videos of B for those of A, uint64 [A, F]."""
        self._a = np.stack([hashes_a, mirrored_a], axis=1)
        self._b = hashes_b
        self._max_distance = max_distance
        # Such as 0, 1, 1, 1 bits for 6: hashes that exceed all of them differ in at least 7 bits.
        radii = [(max_distance + 1 - _BANDS + band) // _BANDS for band in range(_BANDS)]
        keys = np.arange(_KEYS, dtype=np.uint16)
        self._radii = radii
        self._masks = [keys[np.bitwise_count(keys).astype(np.int64) <= radius] for radius in radii]
        self._frames, self._starts = [], []
        for band in range(_BANDS):
            band_keys = _band(hashes_b.ravel(), band)
            order = np.argsort(band_keys, kind="stable")
            self._frames.append(order)
            self._starts.append(np.searchsorted(band_keys[order], np.arange(_KEYS + 1)))
        self._n_probed = self._count_probed()
        is_crowded = self._n_probed > _CROWDED * self._a[0].size * hashes_b.size
        self.indexed_rows = np.flatnonzero(~is_crowded)
        self.crowded_rows = np.flatnonzero(is_crowded)

    def indexed_pairs(self) -> Iterator[ClosePairs]:
        """Yield the close pairs of ``indexed_rows``."""
        n_lookups = self._a[0].size * _BAND_BITS
        parts = np.cumsum(self._n_probed[self.indexed_rows] + n_lookups) // _CHUNK_CELLS
        for rows in np.split(self.indexed_rows, np.flatnonzero(np.diff(parts)) + 1):
            candidates = self._candidates(rows)
            for start in range(0, len(candidates), _CHUNK_CELLS):
                chosen, columns = np.divmod(candidates[start : start + _CHUNK_CELLS], len(self._b))
                distances = _distances(self._a[chosen], self._b[columns])
                yield self._close(chosen, columns, distances)

    def compared_pairs(self, rows: NDArray[np.int64]) -> Iterator[ClosePairs]:
        """Yield the close pairs of ``rows``, each compared with every video of B."""
        size = max(1, _CHUNK_CELLS // len(self._b))
        columns = np.arange(len(self._b))
        for start in range(0, len(rows), size):
            block = rows[start : start + size]
            distances = _distances(self._a[block, None], self._b[None])
            yield self._close(
                np.repeat(block, len(columns)), np.tile(columns, len(block)), distances.ravel()
            )

    def _close(
        self, rows: NDArray[np.int64], columns: NDArray[np.int64], distances: NDArray[np.uint8]
    ) -> ClosePairs:
        is_close = distances <= self._max_distance
        return ClosePairs(rows[is_close], columns[is_close], distances[is_close])

    def _count_probed(self) -> NDArray[np.int64]:
        """Return int64 [A], the hashes of B that the index gives for each video of A."""
        counts = np.zeros(len(self._a), np.int64)
        size = max(1, _CHUNK_CELLS // (self._a[0].size * _BAND_BITS))
        for start in range(0, len(self._a), size):
            block = self._a[start : start + size].reshape(-1)
            total = sum(
                np.diff(self._ranges(block, band), axis=0)[0].sum(axis=1) for band in range(_BANDS)
            )
            counts[start : start + size] = np.reshape(total, (-1, self._a[0].size)).sum(axis=1)
        return counts

    def _ranges(self, hashes: NDArray[np.uint64], band: int) -> NDArray[np.int64]:
        """Return int64 [2, Q, masks]: where the hashes of each probe start and end in the index."""
        keys = _band(hashes, band)[:, None] ^ self._masks[band]
        starts = self._starts[band]
        return np.stack([starts[keys], starts[keys.astype(np.int64) + 1]])

    def _candidates(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the pairs, as row * B + column, with enough close hashes to be close videos."""
        n_frames = self._b.shape[1]
        queries = self._a[rows].reshape(-1)
        hashes_b = self._b.reshape(-1)
        pairs = []
        for band in range(_BANDS):
            starts, ends = self._ranges(queries, band)
            query = np.repeat(np.arange(len(queries)), (ends - starts).sum(axis=1))
            counts = (ends - starts).ravel()
            offsets = np.repeat(starts.ravel() - np.cumsum(counts) + counts, counts)
            frame = self._frames[band][offsets + np.arange(len(offsets))]
            bits = queries[query] ^ hashes_b[frame]
            is_new = np.bitwise_count(bits) <= self._max_distance
            for earlier in range(band):  # a pair found in an earlier band is counted once
                is_new &= np.bitwise_count(_band(bits, earlier)) > self._radii[earlier]
            row = rows[query[is_new] // (2 * n_frames)]
            pairs.append(row * len(self._b) + frame[is_new] // n_frames)
        codes, counts = np.unique(np.concatenate(pairs), return_counts=True)
        candidates: NDArray[np.int64] = codes[counts > _median_rank(n_frames)]
        return candidates


def _band(hashes: NDArray[np.uint64], band: int) -> NDArray[np.uint16]:
    return (hashes >> np.uint64(band * _BAND_BITS)).astype(np.uint16)


def _median_rank(n_frames: int) -> int:
    return (n_frames - 1) // 2


def _distances(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Return uint8 [...], the distances of videos [..., 2, F] and [..., F], by broadcasting."""
    n_frames = b.shape[-1]
    shape = np.broadcast_shapes(a.shape[:-2], b.shape[:-1])
    smallest = np.full(shape, _HASH_BITS, np.uint8)
    xor, bits = np.empty(shape, np.uint64), np.empty(shape, np.uint8)
    frames_b = np.moveaxis(b, -1, 0).copy()
    for orientation in range(2):
        frames_a = np.moveaxis(a[..., orientation, :], -1, 0).copy()
        nearest = np.full((2, n_frames, *shape), _HASH_BITS, np.uint8)
        for index_a, frame_a in enumerate(frames_a):
            for index_b, frame_b in enumerate(frames_b):
                np.bitwise_count(np.bitwise_xor(frame_a, frame_b, out=xor), out=bits)
                np.minimum(nearest[0, index_a], bits, out=nearest[0, index_a])
                np.minimum(nearest[1, index_b], bits, out=nearest[1, index_b])
        for distances in nearest:
            _sort_first_axis(distances)
            np.minimum(smallest, distances[_median_rank(n_frames)], out=smallest)
    return smallest


def _sort_first_axis(values: NDArray[np.uint8]) -> None:
    """Sort in place, by odd-even transposition: for few long rows, faster than ``np.sort``."""
    lower = np.empty_like(values[0])
    for turn in range(len(values)):
        for index in range(turn % 2, len(values) - 1, 2):
            np.minimum(values[index], values[index + 1], out=lower)
            np.maximum(values[index], values[index + 1], out=values[index + 1])
            values[index] = lower
