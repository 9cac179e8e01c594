"""How a model does on videos that have something in common: their length, codec, camera.

A slice of few videos says nothing, so values that few videos have are put together.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.base import files
from pipeline.evaluation.intervals import Resampling, middle_of_shares, resampled_sums

# What is known of the videos, by name: one value a video. Numbers make ranges, texts stand for
# themselves. None and NaN: not known.
Facts = Mapping[str, Sequence[float | None] | Sequence[str | None]]

_NOT_KNOWN = "not known"
_MOST_RANGES = 4
_MOST_NUMBERS = 8  # a quantity with no more values than this is not cut into ranges


@dataclass(frozen=True)
class Slice:
    """The videos of one value or range of values; ``low`` to ``high`` is the interval."""

    slice_by: str
    slice: str
    videos: int
    accuracy: float
    low: float
    high: float


def slices(
    hits: NDArray[np.bool_],
    facts: Facts,
    *,
    units: Sequence[str],
    min_videos: int,
    resampling: Resampling,
) -> list[Slice]:
    """Score each slice; the worst come first.

    The worst is the one whose interval ends lowest: even with luck on its side it is bad. By
    the lower end, or by accuracy, the slices with the fewest videos would come first, which
    are the least sure. Slices that are too small in spite of merging stand last. A fact that
    all videos share makes no slice.

    The interval draws groups out of all videos, as those of the scores. It is one point where
    a slice has no mistake, or nothing else.

    Args:
        hits: bool [N], whether each video was predicted right.
        facts: of the same videos.
        units: of each video, what it is drawn with: ``Predictions.units``.
        min_videos: texts of fewer videos are put together as ``others``; ranges have as many.
    """
    members: list[tuple[str, str, NDArray[np.bool_]]] = []
    for name, values in facts.items():
        parts = np.array(slice_names(values, min_videos=min_videos))
        names = sorted(set(parts), key=list(parts).index)
        if len(names) > 1:
            members += [(name, part, parts == part) for part in names]
    if not members:
        return []
    inside = np.stack([member for *_, member in members], axis=1).astype(np.float64)
    added = np.concatenate([inside, inside * hits[:, None]], axis=1)
    sums = resampled_sums(added, units=units, samples=resampling.samples, seed=resampling.seed)
    with np.errstate(invalid="ignore"):  # 0 / 0: no video of the slice was drawn
        drawn = np.divide(*reversed(np.split(sums, 2, axis=1)))
    found = [
        Slice(
            name,
            part,
            int(member.sum()),
            float(hits[member].mean()),
            *middle_of_shares(draws, resampling.confidence),
        )
        for (name, part, member), draws in zip(members, drawn.T, strict=True)
    ]
    return sorted(
        found, key=lambda part: (part.videos < min_videos, part.high, part.accuracy, part.slice_by)
    )


def slice_names(
    values: Sequence[float | None] | Sequence[str | None], *, min_videos: int
) -> list[str]:
    """Name the slice that each video belongs to.

    Numbers: up to eight different ones stand for themselves, more are cut into up to four
    ranges of about equal size; neighbours are put together until each slice has ``min_videos``.
    Texts with fewer are put together as others.

    >>> slice_names([1.0, 1.0, 2.0, 3.0], min_videos=2)
    ['1', '1', '2 to 3', '2 to 3']
    >>> slice_names(["h264", "h264", "vp9", "av1"], min_videos=2)
    ['h264', 'h264', 'others (2 values)', 'others (2 values)']
    """
    numbers = [value for value in values if not isinstance(value, str)]
    if len(numbers) == len(values):
        return _ranges(np.array([math.nan if v is None else v for v in numbers]), min_videos)
    texts = [_NOT_KNOWN if value is None else str(value) for value in values]
    counts = Counter(texts)
    rare = {text for text, count in counts.items() if count < min_videos and text != _NOT_KNOWN}
    if len(rare) < 2:
        return texts
    others = f"others ({len(rare)} values)"
    return [others if text in rare else text for text in texts]


def write_slices_csv(path: Path, rows: Sequence[Slice]) -> None:
    """Write slice_by, slice, videos, and accuracy, low and high with six decimals."""
    columns = [column.name for column in fields(Slice)]
    shares = ("accuracy", "low", "high")
    files.write_csv(
        path,
        columns,
        [asdict(row) | {name: f"{getattr(row, name):.6f}" for name in shares} for row in rows],
    )


def _ranges(numbers: NDArray[np.float64], min_videos: int) -> list[str]:
    """Cut at values of which each part has enough videos; a rest goes to the last part."""
    known = numbers[~np.isnan(numbers)]
    if not known.size:
        return [_NOT_KNOWN] * len(numbers)
    distinct, counts = np.unique(known, return_counts=True)
    wanted = min_videos
    if len(distinct) > _MOST_NUMBERS:
        wanted = max(min_videos, math.ceil(len(known) / _MOST_RANGES))
    firsts, gathered = [0], 0
    for index, count in enumerate(counts):
        if gathered >= wanted:
            firsts.append(index)
            gathered = 0
        gathered += int(count)
    if gathered < min_videos and len(firsts) > 1:
        firsts.pop()
    lasts = [*(first - 1 for first in firsts[1:]), len(distinct) - 1]
    names = [
        f"{distinct[first]:.4g}"
        if first == last
        else f"{distinct[first]:.4g} to {distinct[last]:.4g}"
        for first, last in zip(firsts, lasts, strict=True)
    ]
    part = np.searchsorted(distinct[firsts], numbers, side="right") - 1
    return [
        _NOT_KNOWN if math.isnan(number) else names[index]
        for number, index in zip(numbers, part, strict=True)
    ]
