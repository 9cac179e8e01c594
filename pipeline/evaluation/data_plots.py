"""A picture of a data set: how long, how fast and how large its videos are, and of what class."""

from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from typing import Any, TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.evaluation.data_summary import DescribedVideo, SplitSummary
from pipeline.evaluation.histograms import Series, draw_histogram, finish_counts
from pipeline.evaluation.plots import (
    NEUTRAL_COLOUR,
    TRAINING_COLOUR,
    VALIDATION_COLOUR,
    shortened,
)

_Item = TypeVar("_Item", str, float, tuple[int, int])

# Bluish green of Okabe and Ito's palette, as the two others.
TEST_COLOUR = "#009E73"

_SPLIT_COLOURS = {
    "train": TRAINING_COLOUR,
    "val": VALIDATION_COLOUR,
    "test": TEST_COLOUR,
}
_UNUSED: dict[str, Any] = {"color": "#cccccc", "hatch": "xxxx", "edgecolor": NEUTRAL_COLOUR}
_DAMAGED: dict[str, Any] = {"hatch": "////", "edgecolor": "white"}

_WIDTH_INCHES = 13.5
_PANELS_INCHES = 3.6
_MOST_SIZES = 8
_MOST_CODECS = 8
_MOST_CLASSES = 200  # with more classes, only those with the most and the fewest videos are drawn
_MOST_NAMED_RATES = 3


def videos_picture(
    videos: Sequence[DescribedVideo], summary: Sequence[SplitSummary], *, bins: int
) -> Figure:
    """Draw duration, frame rate and picture size of all videos, and the balance of the classes.

    Made for 2 to 100 classes and any number of videos. A panel counts the videos of which its
    value is known and names how many others there are.

    Args:
        summary: of the same videos, as ``summarise`` gives it; splits train, val and test.
        bins: of the histograms of duration and frame rate.

    Raises:
        ValueError: there is no video.
    """
    if not videos:
        raise ValueError("videos: expected at least one, got none")
    classes = _by_size(summary)
    drawn = classes
    if len(classes) > _MOST_CLASSES:
        drawn = classes[: _MOST_CLASSES // 2] + classes[-_MOST_CLASSES // 2 :]
    row_inches = float(np.clip(7 / len(drawn), 0.16, 0.32))
    balance_inches = row_inches * len(drawn) + 1.4
    figure = Figure(figsize=(_WIDTH_INCHES, _PANELS_INCHES + balance_inches), layout="constrained")
    figure.suptitle(_headline(videos, len(classes)))
    ratios = [_PANELS_INCHES, balance_inches]
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=ratios)[:, 0]
    above.suptitle(_codecs_line(videos), fontsize=9)
    duration, rate, size = above.subplots(1, 3)
    _draw_durations(duration, videos, bins)
    _draw_rates(rate, videos, bins)
    _draw_sizes(size, videos)
    below.suptitle(_balance_title(len(drawn), len(classes)), fontsize=10)
    _draw_balance(below.subplots(), drawn, points=min(10.0, 45 * row_inches))
    return figure


def _by_size(rows: Sequence[SplitSummary]) -> list[list[SplitSummary]]:
    """Return the rows of each class together, the class with the most videos first."""
    classes = [list(group) for _, group in groupby(rows, key=lambda row: row.label)]
    return sorted(classes, key=lambda group: -sum(row.videos for row in group))


def _headline(videos: Sequence[DescribedVideo], n_classes: int) -> str:
    status = Counter(video.status for video in videos)
    return (
        f"{_counted(len(videos), 'video')} of {_counted(n_classes, 'class', 'classes')}: "
        f"{status['ok']:,} intact, {status['damaged']:,} damaged but kept, "
        f"{status['quarantined']:,} quarantined"
    )


def _codecs_line(videos: Sequence[DescribedVideo]) -> str:
    codecs = Counter(video.codec for video in videos if video.codec)
    common = _most_common(codecs, _MOST_CODECS)
    parts = [f"{name} {count:,}" for name, count in common]
    if len(codecs) > len(common):
        others = codecs.total() - sum(count for _, count in common)
        parts.append(f"{len(codecs) - len(common)} others {others:,}")
    if unknown := len(videos) - codecs.total():
        parts.append(f"not known {unknown:,}")
    return f"Videos by codec: {', '.join(parts)}"


def _draw_durations(axes: Axes, videos: Sequence[DescribedVideo], bins: int) -> None:
    used, unused = (
        [
            video.seconds
            for video in videos
            if video.seconds is not None and (video.status == "quarantined") == is_unused
        ]
        for is_unused in (False, True)
    )
    known = used + unused
    middle = f"median {np.median(known):.3g} s" if known else ""
    _draw_title(axes, "Duration", middle, unknown=len(videos) - len(known))
    axes.set_xlabel("Seconds")
    series = [
        Series("used", used, {"color": TRAINING_COLOUR}),
        Series("quarantined", unused, _UNUSED),
    ]
    draw_histogram(axes, series, bins)


def _draw_rates(axes: Axes, videos: Sequence[DescribedVideo], bins: int) -> None:
    styles = [
        ("constant", False, {"color": TRAINING_COLOUR}),
        ("variable", True, {"color": VALIDATION_COLOUR, "hatch": "////", "edgecolor": "white"}),
        ("not known which", None, {"color": "#999999"}),
    ]
    series = [
        Series(
            label,
            [
                video.fps
                for video in videos
                if video.fps is not None and video.is_variable_rate is is_variable
            ],
            style,
        )
        for label, is_variable, style in styles
    ]
    rates = Counter(round(rate, 2) for group in series for rate in group.values)
    common = ", ".join(
        f"{rate:g} ({count:,})" for rate, count in _most_common(rates, _MOST_NAMED_RATES)
    )
    _draw_title(axes, "Source fps", common, unknown=len(videos) - rates.total())
    axes.set_xlabel("Frames per second")
    draw_histogram(axes, series, bins)


def _draw_sizes(axes: Axes, videos: Sequence[DescribedVideo]) -> None:
    sizes = Counter(video.size for video in videos if video.size is not None)
    common = _most_common(sizes, _MOST_SIZES)
    names = [_size_text(size) for size, _ in common]
    counts = [count for _, count in common]
    if len(sizes) > len(common):
        names.append(_counted(len(sizes) - len(common), "other size"))
        counts.append(sizes.total() - sum(counts))
    span = ""
    if len(sizes) > 1:
        smallest, largest = (
            choose(sizes, key=lambda size: (size[0] * size[1], size)) for choose in (min, max)
        )
        span = f"{_size_text(smallest)} to {_size_text(largest)}"
    _draw_title(axes, "Picture size, upright", span, unknown=len(videos) - sizes.total())
    axes.set_xlabel("Videos")
    colours = [TRAINING_COLOUR] * len(common) + ["#999999"]
    bars = axes.barh(range(len(names)), counts, color=colours[: len(names)])
    axes.bar_label(bars, labels=[f"{count:,}" for count in counts], padding=3, fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_ylim(max(len(names), 4) - 0.5, -0.5)  # few sizes make no giant bars
    axes.set_xlim(0, 1.2 * max(counts, default=1))
    finish_counts(axes, counts=axes.xaxis)


def _draw_balance(axes: Axes, classes: Sequence[Sequence[SplitSummary]], *, points: float) -> None:
    """Draw one bar a class: used videos by split, then the quarantined ones."""
    rows = np.arange(len(classes))
    left = np.zeros(len(classes), np.int64)
    layers: list[tuple[str, list[int], dict[str, Any]]] = []
    for index, split in enumerate(row.split for row in classes[0]):
        colour = {"color": _SPLIT_COLOURS[split]}
        layers.append((split, [group[index].intact for group in classes], colour))
        damaged = [group[index].damaged for group in classes]
        layers.append((f"{split}, damaged", damaged, {**colour, **_DAMAGED}))
    unused = [sum(row.quarantined for row in group) for group in classes]
    layers.append(("quarantined", unused, _UNUSED))
    for label, widths, style in layers:
        if any(widths):
            axes.barh(rows, widths, left=left, height=0.8, label=label, linewidth=0, **style)
            left += widths
    names = [shortened(group[0].label) for group in classes]
    axes.set_yticks(rows, names, fontsize=points)
    for label_text in axes.get_yticklabels():
        label_text.set_parse_math(False)  # a class may be called $x^$
    beside = axes.get_yaxis_transform()
    for row, group in enumerate(classes):
        text = _balance_text(group)
        axes.text(1.01, row, text, transform=beside, va="center", fontsize=points)
    axes.set_ylim(len(classes) - 0.5, -0.5)
    axes.set_xlim(0, int(left.max()))
    axes.set_xlabel("Videos")
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=7, frameon=False, fontsize=9)
    finish_counts(axes, counts=axes.xaxis)


def _balance_title(drawn: int, n_classes: int) -> str:
    title = "Videos by class and split"
    if drawn == n_classes:
        return title
    return (
        f"{title}: the {drawn // 2} largest and the {drawn // 2} smallest of {n_classes:,} classes"
    )


def _balance_text(rows: Sequence[SplitSummary]) -> str:
    text = f"{sum(row.videos for row in rows):,}"
    if damaged := sum(row.damaged for row in rows):
        text += f", {damaged:,} damaged"
    if quarantined := sum(row.quarantined for row in rows):
        text += f", {quarantined:,} quarantined"
    return text


def _draw_title(axes: Axes, title: str, detail: str, *, unknown: int) -> None:
    details = [detail] if detail else []
    if unknown:
        details.append(f"{unknown:,} not known")
    axes.set_title(f"{title}\n{'; '.join(details)}", fontsize=9)


def _most_common(counter: Counter[_Item], most: int) -> list[tuple[_Item, int]]:
    """Return the ``most`` commonest items; equally common ones in their own order."""
    return sorted(counter.items(), key=lambda pair: (-pair[1], pair[0]))[:most]


def _size_text(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _counted(count: int, one: str, many: str = "") -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"
