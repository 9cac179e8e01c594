"""Find near-duplicates across splits, which would inflate the test scores.

Some frames of each video are hashed with a perceptual hash (``imagehash.phash``: the signs of the
lowest cosine coefficients, 64 bits), which compression, size and colours hardly change. Source:
Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions, 2010, section 3.2.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import chain, combinations
from pathlib import Path

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from pipeline.common.records import VideoRecord
from pipeline.common.tables import write_table_csv
from pipeline.evaluation.hash_search import HashSearch
from pipeline.video.settings import DecodeSection
from pipeline.video.store import load_frames, read_frame_settings, stored_path

FRAMES_HASHED = 8  # of a video, evenly spread
# Of near-duplicates, in bits. Above the smaller distance, the colours must agree, too. Measured on
# the groups of 300 real clips: a largest distance of 10 joins 173 pairs of clips of one source and
# 75 pairs of different sources; a largest distance of 8 joins 135 and 75.
MAX_DISTANCE = 10
_MAX_DISTANCE_OF_OTHER_COLOURS = 6
_MAX_COLOUR_DIFFERENCE = 12.0  # grey levels, mean over the fields and channels
ALIKE_RULE = (
    "Videos look alike if half of their frames have perceptual hashes that differ in at most "
    f"{_MAX_DISTANCE_OF_OTHER_COLOURS} of 64 bits, or {MAX_DISTANCE} if the colours agree."
)

_COLOUR_FIELDS = (4, 4)  # columns, rows
_MIN_CONTRAST = 5.0  # grey levels; the hash of a flatter frame, such as a fade, is noise
_MAX_PAIRS = 1000  # that are kept: the closest
_MAX_COMPARISONS = 1 << 26  # of videos without the index: less than a minute


@dataclass(frozen=True)
class HashedVideo:
    """The perceptual hashes of a video.

    Attributes:
        hashes: uint64 [F].
        mirrored: uint64 [F], of the frames mirrored left to right.
        seconds: float64 [F], time of each hashed frame in its file.
        colours: uint8 [4, 4, 3], mean of the hashed frames in 16 fields, RGB.
    """

    name: str
    split: str
    hashes: NDArray[np.uint64]
    mirrored: NDArray[np.uint64]
    seconds: NDArray[np.float64]
    colours: NDArray[np.uint8]


@dataclass(frozen=True)
class NearDuplicate:
    """Two videos of different splits that look alike, and their most similar frames.

    Attributes:
        seconds_a, seconds_b: time of these frames in their files.
        distance: of the videos in bits, see ``HashSearch``.
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
        n_compared: number of pairs of videos in different splits that were searched.
        n_test_videos: number of test videos that look like a video of another split.
        is_complete: whether all pairs were searched; otherwise there may be more.
    """

    closest: Sequence[NearDuplicate]
    n_pairs: int
    n_compared: int
    n_test_videos: int
    is_complete: bool = True


def hash_stored_videos(folder: Path, records: Sequence[VideoRecord]) -> list[HashedVideo]:
    """Hash the usable videos of the frame store ``folder`` that have a frame with contrast."""
    decode = read_frame_settings(folder)
    usable = [(record, record.facts) for record in records if record.facts and record.is_usable]
    hashed = []
    for record, facts in tqdm(usable, desc="hashes", unit="video", disable=None):
        path = stored_path(folder, facts.key)
        hashed.append(hash_stored_video(path, record, decode, n_frames=facts.frames))
    return [video for video in hashed if video is not None]


def hash_stored_video(
    path: Path, record: VideoRecord, decode: DecodeSection, *, n_frames: int
) -> HashedVideo | None:
    """Hash the video of the frame store at ``path``; None when all frames lack contrast."""
    chosen = spread_frames(n_frames)
    frames = load_frames(path, decode, chosen.tolist())
    return hash_chosen_frames(frames, chosen, record, fps=decode.fps)


def hash_chosen_frames(
    frames: NDArray[np.uint8], chosen: NDArray[np.int64], record: VideoRecord, *, fps: float
) -> HashedVideo | None:
    """Hash some frames of a record; None when all lack contrast.

    Args:
        frames: uint8 [F, H, W, 3], RGB.
        chosen: int64 [F], number of each among the frames of the record.
        fps: frames a second.
    """
    seconds = (record.start_seconds or 0.0) + chosen / fps
    return hash_video(frames, seconds, name=record.name, split=record.split or "")


def spread_frames(n_frames: int) -> NDArray[np.int64]:
    """Return the indices of FRAMES_HASHED evenly spread frames; of a short video, some repeated."""
    return (2 * np.arange(FRAMES_HASHED) + 1) * n_frames // (2 * FRAMES_HASHED)


def hash_video(
    frames: NDArray[np.uint8], seconds: NDArray[np.float64], *, name: str, split: str
) -> HashedVideo | None:
    """Hash some frames of a video, others in place of flat ones; None when all lack contrast.

    Args:
        frames: uint8 [F, H, W, 3], RGB.
        seconds: float64 [F], time of each in its file.
    """
    chosen = np.flatnonzero([frame.std() >= _MIN_CONTRAST for frame in frames])
    if not len(chosen):
        return None
    chosen = chosen[np.arange(len(frames)) * len(chosen) // len(frames)]
    hashes = np.array([_hash(frames[index]) for index in chosen], np.uint64)
    mirrored = np.array([_hash(frames[index, :, ::-1]) for index in chosen], np.uint64)
    mean = Image.fromarray(frames[chosen].mean(axis=0).astype(np.uint8))
    colours = np.asarray(mean.resize(_COLOUR_FIELDS, Image.Resampling.BOX))
    return HashedVideo(name, split, hashes, mirrored, seconds[chosen], colours)


def find_near_duplicates(
    videos: Sequence[HashedVideo],
    *,
    max_distance: int = MAX_DISTANCE,
    max_comparisons: int = _MAX_COMPARISONS,
) -> NearDuplicates:
    """Find the pairs of videos of different splits that look alike, mirrored or not.

    The distance is that of ``HashSearch``. One common frame, such as a title, is not enough. At
    more than 6 bits, the colours must agree.

    Args:
        max_comparisons: of two splits, pairs of videos that are compared without the index, which
            is of no use where most hashes are alike. Beyond it, the pairs are a sample.
    """
    splits = list(dict.fromkeys(video.split for video in videos))
    videos = sorted(videos, key=lambda video: (video.name, video.split))
    members = {
        split: np.array([index for index, video in enumerate(videos) if video.split == split])
        for split in splits
    }
    colours = colours_of(videos)
    closest = np.empty(0, np.int64)  # (distance * len(videos) + video a) * len(videos) + video b
    limit = np.iinfo(np.int64).max
    has_near_duplicate = np.zeros(len(videos), bool)
    n_pairs = n_compared = 0
    is_complete = True
    for indices_a, indices_b in combinations(members.values(), 2):
        hashes_b = np.stack([videos[index].hashes for index in indices_b])
        search = HashSearch(
            np.stack([videos[index].hashes for index in indices_a]),
            np.stack([videos[index].mirrored for index in indices_a]),
            hashes_b,
            max_distance=max_distance,
        )
        crowded = search.crowded_rows
        n_affordable = max(1, max_comparisons // len(indices_b))
        if len(crowded) > n_affordable:
            crowded = crowded[np.arange(n_affordable) * len(crowded) // n_affordable]
            is_complete = False
        n_compared += (len(search.indexed_rows) + len(crowded)) * len(indices_b)
        for pairs in chain(search.indexed_pairs(), search.compared_pairs(crowded)):
            is_alike = are_alike(
                pairs.distances, colours, indices_a[pairs.rows], indices_b[pairs.columns]
            )
            a, b = indices_a[pairs.rows[is_alike]], indices_b[pairs.columns[is_alike]]
            n_pairs += len(a)
            has_near_duplicate[a] = has_near_duplicate[b] = True
            codes = (pairs.distances[is_alike].astype(np.int64) * len(videos) + a) * len(videos) + b
            closest = np.concatenate([closest, codes[codes < limit]])
            if len(closest) > _MAX_PAIRS:
                closest = np.partition(closest, _MAX_PAIRS - 1)[:_MAX_PAIRS]
                limit = closest.max()
    test_videos = [
        index for index in np.flatnonzero(has_near_duplicate) if videos[index].split == "test"
    ]
    return NearDuplicates(
        [_pair(videos, code) for code in np.sort(closest).tolist()],
        n_pairs=n_pairs,
        n_compared=n_compared,
        n_test_videos=len(test_videos),
        is_complete=is_complete,
    )


def colours_of(videos: Sequence[HashedVideo]) -> NDArray[np.float32]:
    """Return the colours of videos for ``are_alike``, float32 [N, 4, 4, 3]."""
    fields_shape = (len(videos), *_COLOUR_FIELDS[::-1], 3)
    return np.array([video.colours for video in videos], np.float32).reshape(fields_shape)


def are_alike(
    distances: NDArray[np.uint8],
    colours: NDArray[np.float32],
    a: NDArray[np.int64],
    b: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Return bool [P]: whether pairs at most MAX_DISTANCE apart look alike, mirrored or not.

    Args:
        distances: uint8 [P], of ``HashSearch``.
        colours: of all videos, see ``colours_of``.
        a, b: int64 [P], index of each video.
    """
    is_alike = np.ones(len(distances), np.bool_)
    is_far = np.flatnonzero(distances > _MAX_DISTANCE_OF_OTHER_COLOURS)
    colours_a, colours_b = colours[a[is_far]], colours[b[is_far]]
    as_is, mirrored = (
        np.abs(one - colours_b).mean(axis=(1, 2, 3), dtype=np.float32)
        for one in (colours_a, colours_a[:, :, ::-1])
    )
    is_alike[is_far] = np.minimum(as_is, mirrored) <= _MAX_COLOUR_DIFFERENCE
    return is_alike


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


def _pair(videos: Sequence[HashedVideo], code: int) -> NearDuplicate:
    code, index_b = divmod(code, len(videos))
    distance, index_a = divmod(code, len(videos))
    a, b = videos[index_a], videos[index_b]
    bits = np.minimum(
        *(np.bitwise_count(one[:, None] ^ b.hashes) for one in (a.hashes, a.mirrored))
    )
    row, column = np.unravel_index(int(bits.argmin()), bits.shape)
    times = float(a.seconds[row]), float(b.seconds[column])
    return NearDuplicate(a.name, a.split, times[0], b.name, b.split, times[1], distance)
