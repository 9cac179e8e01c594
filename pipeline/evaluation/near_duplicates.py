"""Find near-duplicates across splits, which would inflate the test scores.

Some frames of each video are hashed with a perceptual hash (``imagehash.phash``: the signs of the
lowest cosine coefficients, 64 bits), which compression, size and colours hardly change. Source:
Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions, 2010, section 3.2.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import combinations
from pathlib import Path

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from pipeline.common.records import VideoRecord
from pipeline.common.tables import write_table_csv
from pipeline.video.store import load_frames, read_frame_settings, stored_path

FRAMES_HASHED = 8  # of a video, evenly spread
MAX_DISTANCE = 6  # bits; of a near duplicate

_BITS = 64
_MIN_CONTRAST = 5.0  # grey levels; the hash of a flatter frame, such as a fade, is noise
_MAX_PAIRS = 1000  # that are kept: the closest
_CHUNK_CELLS = 1 << 18  # of a block of distances


@dataclass(frozen=True)
class HashedVideo:
    """The perceptual hashes of a video.

    Attributes:
        hashes: uint64 [F].
        mirrored: uint64 [F], of the frames mirrored left to right.
        seconds: float64 [F], time of each hashed frame in its file.
    """

    name: str
    split: str
    hashes: NDArray[np.uint64]
    mirrored: NDArray[np.uint64]
    seconds: NDArray[np.float64]


@dataclass(frozen=True)
class NearDuplicate:
    """Two videos of different splits that look alike, and their most similar frames.

    Attributes:
        seconds_a, seconds_b: time of these frames in their files.
        distance: of the videos in bits, see ``find_near_duplicates``.
    """

    video_a: str
    split_a: str
    seconds_a: float
    video_b: str
    split_b: str
    seconds_b: float
    distance: int


@dataclass(frozen=True)
class NearDuplicates:
    """The pairs of videos in different splits that look alike.

    Attributes:
        closest: at most 1,000 pairs, closest first.
        n_pairs: number of all pairs that look alike.
        n_compared: number of pairs of videos in different splits.
        n_test_videos: number of test videos that look like a video of another split.
    """

    closest: Sequence[NearDuplicate]
    n_pairs: int
    n_compared: int
    n_test_videos: int


def hash_stored_videos(folder: Path, records: Sequence[VideoRecord]) -> list[HashedVideo]:
    """Hash the usable videos of the frame store ``folder`` that have a frame with contrast."""
    decode = read_frame_settings(folder)
    usable = [(record, record.facts.key) for record in records if record.facts and record.is_usable]
    hashed = (
        hash_video(
            load_frames(stored_path(folder, key), decode),
            name=record.name,
            split=record.split or "",
            fps=decode.fps,
            start_seconds=record.start_seconds or 0.0,
        )
        for record, key in tqdm(usable, desc="hashes", unit="video", disable=None)
    )
    return [video for video in hashed if video is not None]


def hash_video(
    frames: NDArray[np.uint8], *, name: str, split: str, fps: float, start_seconds: float = 0.0
) -> HashedVideo | None:
    """Hash evenly spread frames of a video; None when all of them lack contrast.

    Args:
        frames: uint8 [N, H, W, 3], RGB, ``fps`` of them a second.
        start_seconds: time of the first frame in its file.
    """
    parts = np.arange(FRAMES_HASHED)
    chosen = (2 * parts + 1) * len(frames) // (2 * FRAMES_HASHED)
    chosen = chosen[[frames[index].std() >= _MIN_CONTRAST for index in chosen]]
    if not len(chosen):
        return None
    chosen = chosen[parts * len(chosen) // FRAMES_HASHED]  # again FRAMES_HASHED, some repeated
    hashes = np.array([_hash(frames[index]) for index in chosen], np.uint64)
    mirrored = np.array([_hash(frames[index, :, ::-1]) for index in chosen], np.uint64)
    return HashedVideo(name, split, hashes, mirrored, start_seconds + chosen / fps)


def find_near_duplicates(
    videos: Sequence[HashedVideo], *, max_distance: int = MAX_DISTANCE
) -> NearDuplicates:
    """Find the pairs of videos of different splits that look alike, mirrored or not.

    The distance of video A to B is the median, over the frames of A, of the distance to the
    nearest frame of B, in bits. The smaller of A to B and B to A counts, and the smaller of A
    and A mirrored. One common frame, such as a title, is not enough.
    """
    by_split: dict[str, list[HashedVideo]] = {}
    for video in videos:
        by_split.setdefault(video.split, []).append(video)
    closest: list[NearDuplicate] = []
    test_videos: set[str] = set()
    n_pairs = n_compared = 0
    for videos_a, videos_b in combinations(by_split.values(), 2):
        n_compared += len(videos_a) * len(videos_b)
        for start, distances in _distance_blocks(videos_a, videos_b):
            is_close = distances <= max_distance
            n_pairs += int(is_close.sum())
            for side, axis in ((videos_a[start:], 1), (videos_b, 0)):
                if side[0].split == "test":
                    alike = np.flatnonzero(is_close.any(axis=axis)).tolist()
                    test_videos.update(side[index].name for index in alike)
            rows, columns = np.nonzero(is_close)
            nearest = np.argsort(distances[rows, columns], kind="stable")[:_MAX_PAIRS]
            closest += [
                _pair(videos_a[start + row], videos_b[column], int(distances[row, column]))
                for row, column in zip(
                    rows[nearest].tolist(), columns[nearest].tolist(), strict=True
                )
            ]
            closest.sort(key=lambda pair: (pair.distance, pair.video_a, pair.video_b))
            del closest[_MAX_PAIRS:]
    return NearDuplicates(closest, n_pairs, n_compared, len(test_videos))


def write_near_duplicates_csv(path: Path, pairs: Sequence[NearDuplicate]) -> None:
    """Write one row a pair, in their order."""
    rows = []
    for pair in pairs:
        times = {name: f"{getattr(pair, name):.3f}" for name in ("seconds_a", "seconds_b")}
        rows.append(vars(pair) | times)
    write_table_csv(path, [column.name for column in fields(NearDuplicate)], rows)


def _hash(frame: NDArray[np.uint8]) -> int:
    """Return the perceptual hash of a frame uint8 [H, W, 3]."""
    bits = imagehash.phash(Image.fromarray(np.ascontiguousarray(frame))).hash
    return int.from_bytes(np.packbits(bits).tobytes())


def _pair(a: HashedVideo, b: HashedVideo, distance: int) -> NearDuplicate:
    bits = np.minimum(
        *(np.bitwise_count(one[:, None] ^ b.hashes) for one in (a.hashes, a.mirrored))
    )
    row, column = np.unravel_index(int(bits.argmin()), bits.shape)
    times = float(a.seconds[row]), float(b.seconds[column])
    return NearDuplicate(a.name, a.split, times[0], b.name, b.split, times[1], distance)


def _distance_blocks(
    videos_a: Sequence[HashedVideo], videos_b: Sequence[HashedVideo]
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield the first row and the distances of blocks of rows, to limit the memory."""
    hashes_b = np.stack([video.hashes for video in videos_b])
    rows = max(1, _CHUNK_CELLS // (len(videos_b) * FRAMES_HASHED))
    for start in range(0, len(videos_a), rows):
        block = videos_a[start : start + rows]
        yield (
            start,
            np.minimum(
                _distances(np.stack([video.hashes for video in block]), hashes_b),
                _distances(np.stack([video.mirrored for video in block]), hashes_b),
            ),
        )


def _distances(hashes_a: NDArray[np.uint64], hashes_b: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Return uint8 [A, B], the distances of videos [A, F] and videos [B, F]."""
    shape = (len(hashes_a), len(hashes_b), hashes_b.shape[1])
    nearest_to_b = np.full(shape, _BITS, np.uint8)
    nearest_to_a = np.empty((*shape[:2], hashes_a.shape[1]), np.uint8)
    for index, column in enumerate(hashes_a.T):
        bits = np.bitwise_count(column[:, None, None] ^ hashes_b[None])
        nearest_to_a[:, :, index] = bits.min(axis=2)
        np.minimum(nearest_to_b, bits, out=nearest_to_b)
    medians = [
        np.sort(nearest, axis=2)[:, :, (nearest.shape[2] - 1) // 2]
        for nearest in (nearest_to_a, nearest_to_b)
    ]
    return np.minimum(*medians)
