"""Videos of different splits that show the same: a test on them tests memory.

Each video is a few frames, each frame a perceptual hash (``imagehash.phash``: the signs of its
coarsest cosine coefficients, 64 bits), which compression, size and colours hardly change. Source:
Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions, 2010, section 3.2.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.base import files
from pipeline.base.errors import PipelineError
from pipeline.evaluation.audits import Audit

FRAMES_HASHED = 8  # of a video, evenly spread

_BITS = 64
_LEAST_CONTRAST = 5.0  # grey levels; the hash of a flatter frame, such as a fade, is noise
_VIDEOS_AT_ONCE = 32
_OTHERS_AT_ONCE = 1024
_MOST_PAIRS = 1000  # in the table: the closest


@dataclass(frozen=True)
class HashedVideo:
    """A video as its hashes: ``hashes`` uint64 [F], of the frames shown at ``seconds`` [F]."""

    name: str
    split: str
    hashes: NDArray[np.uint64]
    seconds: NDArray[np.float64]


@dataclass(frozen=True)
class Leak:
    """Two videos of different splits that look alike, and where they do most."""

    video_a: str
    split_a: str
    seconds_a: float
    video_b: str
    split_b: str
    seconds_b: float
    distance: int  # bits, see find_leaks


def hash_video(
    frames: NDArray[np.uint8], *, name: str, split: str, fps: float, start_seconds: float = 0.0
) -> HashedVideo | None:
    """Hash evenly spread frames of a video; None where all of them are flat.

    Args:
        frames: uint8 [N, H, W, 3], RGB, ``fps`` of them a second.
        start_seconds: of the first one in its file.
    """
    parts = np.arange(FRAMES_HASHED)
    chosen = (2 * parts + 1) * len(frames) // (2 * FRAMES_HASHED)
    chosen = chosen[[frames[index].std() >= _LEAST_CONTRAST for index in chosen]]
    if not len(chosen):
        return None
    chosen = chosen[parts * len(chosen) // FRAMES_HASHED]  # others stand in for flat ones
    hashes = np.array([_hash(frames[index]) for index in chosen], np.uint64)
    return HashedVideo(name, split, hashes, start_seconds + chosen / fps)


def find_leaks(videos: Sequence[HashedVideo], *, max_distance: int) -> list[Leak]:
    """Return the pairs of videos of different splits that look alike, the closest first.

    The distance of two videos is that of the median frame of one to its nearest frame in the
    other, in bits; of the two directions the smaller. One frame alone is not asked: a title or
    a plain background would make a pair.
    """
    by_split: dict[str, list[HashedVideo]] = {}
    for video in videos:
        by_split.setdefault(video.split, []).append(video)
    found = [
        _leak(some[a], others[b], distance)
        for some, others in combinations(by_split.values(), 2)
        for a, b, distance in _close(some, others, max_distance)
    ]
    return sorted(found, key=lambda leak: (leak.distance, leak.video_a, leak.video_b))


def check_groups_apart(names: Sequence[str], groups: Sequence[str], splits: Sequence[str]) -> None:
    """Refuse a group that lies in two splits.

    Raises:
        PipelineError: names two of its videos.
    """
    first: dict[str, tuple[str, str]] = {}
    for name, group, split in zip(names, groups, splits, strict=True):
        other, other_split = first.setdefault(group, (name, split))
        if group and other_split != split:
            raise PipelineError(
                f"{other} ({other_split}) and {name} ({split}) are of one group ({group}), so "
                "the scores are worth nothing. Make the catalog again (dvc repro --force catalog)."
            )


def leaks_audit(leaks: Sequence[Leak], *, videos: int, max_distance: int) -> Audit:
    """Report pairs across splits; there should be none."""
    tested = {
        name
        for leak in leaks
        for name, split in ((leak.video_a, leak.split_a), (leak.video_b, leak.split_b))
        if split == "test"
    }
    pairs = f"{len(leaks):,} pair{'' if len(leaks) == 1 else 's'}"
    sentence = (
        f"{pairs} of videos in different splits look alike, with {len(tested):,} test videos "
        "among them: look at them (eval/leaks.csv). If they are of one scene, give them one "
        "group in a table of labels, so that they stay in one split."
        if leaks
        else f"No two of {videos:,} videos in different splits look alike."
    )
    return Audit(
        name="leaks",
        value=len(leaks),
        threshold=0,
        ok=not leaks,
        sentence=sentence,
        details={"distance": max_distance, "videos": videos, "test_videos": len(tested)},
    )


def champion_audit(met: Sequence[str], *, videos: int, version: int) -> Audit:
    """Report test videos that the champion was trained on; there should be none.

    Args:
        met: their names.
        videos: number of all test videos.
        version: of the champion.
    """
    sentence = (
        f"The champion, version {version}, was trained on {len(met):,} of the {videos:,} test "
        "videos: its score on them means nothing. The gate leaves them out."
        if met
        else f"The champion, version {version}, was trained on none of the {videos:,} test videos."
    )
    return Audit(
        name="champion",
        value=len(met),
        threshold=0,
        ok=not met,
        sentence=sentence,
        details={"version": version, "videos": list(met[:_MOST_PAIRS])},
    )


def write_leaks_csv(path: Path, leaks: Sequence[Leak]) -> None:
    """Write one line a pair, the closest first, a thousand at most."""
    files.write_csv(
        path,
        ["video_a", "split_a", "seconds_a", "video_b", "split_b", "seconds_b", "distance"],
        [
            {
                **vars(leak),
                "seconds_a": f"{leak.seconds_a:.3f}",
                "seconds_b": f"{leak.seconds_b:.3f}",
            }
            for leak in leaks[:_MOST_PAIRS]
        ],
    )


def _hash(frame: NDArray[np.uint8]) -> int:
    bits = imagehash.phash(Image.fromarray(frame)).hash
    return int.from_bytes(np.packbits(bits).tobytes())


def _close(
    some: Sequence[HashedVideo], others: Sequence[HashedVideo], max_distance: int
) -> Iterator[tuple[int, int, int]]:
    """Yield the numbers of two videos and their distance, block by block."""
    hashes, other_hashes = (np.stack([v.hashes for v in part]) for part in (some, others))
    for start in range(0, len(some), _VIDEOS_AT_ONCE):
        for other_start in range(0, len(others), _OTHERS_AT_ONCE):
            distances = _distances(
                hashes[start : start + _VIDEOS_AT_ONCE],
                other_hashes[other_start : other_start + _OTHERS_AT_ONCE],
            )
            for a, b in np.argwhere(distances <= max_distance):
                yield int(start + a), int(other_start + b), int(distances[a, b])


def _distances(some: NDArray[np.uint64], others: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Return uint8 [A, B], the distances of videos [A, F] to videos [B, F]."""
    shape = (len(some), len(others), others.shape[1])
    nearest_of_others = np.full(shape, _BITS, np.uint8)
    nearest_of_some = np.empty((*shape[:2], some.shape[1]), np.uint8)
    for index, column in enumerate(some.T):
        bits = np.bitwise_count(column[:, None, None] ^ others[None])
        nearest_of_some[:, :, index] = bits.min(axis=2)
        np.minimum(nearest_of_others, bits, out=nearest_of_others)
    both = [np.sort(nearest, axis=2) for nearest in (nearest_of_some, nearest_of_others)]
    return np.minimum(*(nearest[:, :, (nearest.shape[2] - 1) // 2] for nearest in both))


def _leak(a: HashedVideo, b: HashedVideo, distance: int) -> Leak:
    bits = np.bitwise_count(a.hashes[:, None] ^ b.hashes[None])
    row, column = np.unravel_index(int(bits.argmin()), bits.shape)
    return Leak(
        video_a=a.name,
        split_a=a.split,
        seconds_a=float(a.seconds[row]),
        video_b=b.name,
        split_b=b.split,
        seconds_b=float(b.seconds[column]),
        distance=distance,
    )
