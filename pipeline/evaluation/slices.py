"""Scores of slices: test videos with a common property, such as length, codec or camera."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.common.records import DecodeFacts, VideoRecord
from pipeline.common.tables import write_table_csv
from pipeline.evaluation.predictions import Predictions
from pipeline.evaluation.settings import EvaluateSection

MIN_VIDEOS = 10  # of a slice

_UNKNOWN = "not known"
_MAX_RANGES = 4
_MAX_NUMBERS = 8  # more different numbers are cut into ranges
_MAX_SIZES = 8  # for more picture sizes, numbers of pixels are cut into ranges

# One value a video. Numbers are cut into ranges, each text is a slice. None and NaN: unknown.
Values = Sequence[float | None] | Sequence[str | None]


@dataclass(frozen=True)
class Slice:
    """Test videos with one value, or one range of values, of a property.

    Attributes:
        slice_by: name of the property.
        slice: the value or the range.
        score: mean video score.
        low, high: interval of ``score``.
    """

    slice_by: str
    slice: str
    videos: int
    score: float
    low: float
    high: float


def find_slices(
    predictions: Predictions,
    records: Sequence[VideoRecord],
    masks: NDArray[np.bool_],
    section: EvaluateSection,
) -> list[Slice]:
    """Score each slice of the videos, worst first.

    Args:
        records: with facts, at least those of the predicted videos.
        masks: bool [N, T], True for a real frame, of the first clip of each predicted video.
    """
    record_of = {record.name: record for record in records}
    properties = video_properties([record_of[video] for video in predictions.videos], masks)
    return score_slices(predictions, properties, section)


def video_properties(records: Sequence[VideoRecord], masks: NDArray[np.bool_]) -> dict[str, Values]:
    """Return property -> value of each video, by which slices are formed.

    To slice by another field of the decode index, add a line here.

    Args:
        records: N, with facts.
        masks: bool [N, T], True for a real frame.
    """
    padding = 1 - masks.mean(axis=1)
    facts = [record.facts or DecodeFacts(key="") for record in records]
    extra = records[0].extra if records else {}
    return {
        "clip_frames": [float(count) for count in masks.sum(axis=1)],
        "padding_share": np.select(
            [padding == 0, padding <= 0.5], ["none", "up to half"], "more than half"
        ).tolist(),
        "source_fps": [fact.source_fps for fact in facts],
        "resolution": _resolutions([fact.upright_size for fact in facts]),
        "duration_seconds": [record.seconds for record in records],
        "codec": [fact.codec for fact in facts],
        **{
            f"extra.{column}": _numbers_or_texts([record.extra[column] for record in records])
            for column in extra
        },
    }


def score_slices(
    predictions: Predictions,
    properties: Mapping[str, Values],
    section: EvaluateSection,
    *,
    min_videos: int = MIN_VIDEOS,
) -> list[Slice]:
    """Score each slice, worst first.

    Slices are sorted by the upper end of their interval: the first one is poor even at best. By
    the lower end or the score, the smallest and least certain slices would be first. Slices with
    fewer than ``min_videos`` are last. A property with one value for all videos gives no slice.

    Args:
        properties: name -> value of each predicted video.
        min_videos: values of fewer videos are merged; see ``slice_names``.
    """
    members: list[tuple[str, str, NDArray[np.bool_]]] = []
    for slice_by, values in properties.items():
        name_of_video = np.array(slice_names(values, min_videos=min_videos))
        names = sorted(set(name_of_video), key=list(name_of_video).index)
        if len(names) > 1:
            members += [(slice_by, name, name_of_video == name) for name in names]
    if not members:
        return []
    video_scores = predictions.video_scores
    is_member = np.stack([member for *_, member in members], axis=1).astype(np.float64)
    resampling = section.resampling(predictions.resampling_groups)
    scores = resampling.ratio_scores(is_member * video_scores[:, None], is_member)
    slices = []
    for (slice_by, name, member), score in zip(members, scores, strict=True):
        low, high = score.interval or (0.0, 1.0)
        slices.append(Slice(slice_by, name, int(member.sum()), score.value, low, high))
    return sorted(
        slices,
        key=lambda part: (part.videos < min_videos, part.high, part.score, part.slice_by),
    )


def slice_names(values: Values, *, min_videos: int) -> list[str]:
    """Return the name of the slice of each video.

    Up to eight different numbers are a slice each, more are cut into up to four ranges of about
    equal size; neighbours are merged until each slice has ``min_videos``. Texts with fewer videos
    are merged as ``others``.

    >>> slice_names([1.0, 1.0, 2.0, 3.0], min_videos=2)
    ['1', '1', '2 to 3', '2 to 3']
    >>> slice_names(["h264", "h264", "vp9", "av1"], min_videos=2)
    ['h264', 'h264', 'others (2 values)', 'others (2 values)']
    """
    numbers = [value for value in values if not isinstance(value, str)]
    if len(numbers) == len(values):
        return _ranges(
            np.array([math.nan if value is None else value for value in numbers]), min_videos
        )
    texts = [_UNKNOWN if value is None else str(value) for value in values]
    counts = Counter(texts)
    rare = {text for text, count in counts.items() if count < min_videos and text != _UNKNOWN}
    if len(rare) < 2:
        return texts
    others = f"others ({len(rare)} values)"
    return [others if text in rare else text for text in texts]


def write_slices_csv(path: Path, slices: Sequence[Slice]) -> None:
    """Write slice_by, slice, videos, and score, low and high with six decimals."""
    numbers = ("score", "low", "high")
    write_table_csv(
        path,
        [column.name for column in fields(Slice)],
        [asdict(row) | {name: f"{getattr(row, name):.6f}" for name in numbers} for row in slices],
    )


def _ranges(numbers: NDArray[np.float64], min_videos: int) -> list[str]:
    """Cut numbers into ranges that each have enough videos; the last one takes the rest."""
    known = numbers[~np.isnan(numbers)]
    if not known.size:
        return [_UNKNOWN] * len(numbers)
    distinct, counts = np.unique(known, return_counts=True)
    wanted = min_videos
    if len(distinct) > _MAX_NUMBERS:
        wanted = max(min_videos, math.ceil(len(known) / _MAX_RANGES))
    firsts, in_range = [0], 0
    for index, count in enumerate(counts):
        if in_range >= wanted:
            firsts.append(index)
            in_range = 0
        in_range += int(count)
    if in_range < min_videos and len(firsts) > 1:
        firsts.pop()
    lasts = [*(first - 1 for first in firsts[1:]), len(distinct) - 1]
    names = [
        f"{distinct[first]:.4g}"
        if first == last
        else f"{distinct[first]:.4g} to {distinct[last]:.4g}"
        for first, last in zip(firsts, lasts, strict=True)
    ]
    range_of_video = np.searchsorted(distinct[firsts], numbers, side="right") - 1
    return [
        _UNKNOWN if math.isnan(number) else names[index]
        for number, index in zip(numbers, range_of_video, strict=True)
    ]


def _resolutions(sizes: Sequence[tuple[int, int] | None]) -> Values:
    """Return sizes such as ``640x480``, or numbers of pixels when there are many sizes."""
    if len(set(sizes)) <= _MAX_SIZES:
        return [None if size is None else f"{size[0]}x{size[1]}" for size in sizes]
    return [None if size is None else float(size[0] * size[1]) for size in sizes]


def _numbers_or_texts(cells: Sequence[str]) -> Values:
    """Read a column as numbers if every non-empty cell is a finite number."""
    texts = [cell or None for cell in cells]
    try:
        numbers = [float(cell) if cell else None for cell in cells]
    except ValueError:
        return texts
    is_finite = all(number is None or math.isfinite(number) for number in numbers)
    return numbers if is_finite else texts
