"""Draw a data set: durations, frame rates, sizes, codecs, and videos by class and split."""

from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from typing import Any, TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from pipeline.common.charts import (
    NEUTRAL,
    PALETTE,
    plain_tick_labels,
    shorten_name,
    style_axes,
)
from pipeline.common.records import SPLITS, DecodeFacts, VideoRecord
from pipeline.common.tables import count_of, duration
from pipeline.data_report.summary import SplitSummary

BINS = 20  # of the histograms

_Item = TypeVar("_Item", str, float, tuple[int, int])

_Style = dict[str, Any]  # keyword arguments of bars
_Series = tuple[str, Sequence[float], _Style]  # label, values, style

_DAMAGED: _Style = {"hatch": "////", "edgecolor": "white"}
_USED: _Style = {"color": PALETTE[0]}
_VARIABLE_RATE: _Style = {"color": PALETTE[1], **_DAMAGED}
_UNKNOWN: _Style = {"color": "#999999"}
_UNUSED: _Style = {"color": "#cccccc", "hatch": "xxxx", "edgecolor": NEUTRAL}

_WIDTH_INCHES = 13.5
_PANELS_INCHES = 3.6
_MOST_SIZES, _MOST_CODECS, _MOST_RATES = 8, 8, 3
_MOST_CLASSES = 200  # with more, the classes with the most and with the fewest videos are drawn
_LOG_FROM = 50  # largest value over smallest from which an axis is logarithmic
_FINE_LABELS_BELOW = 300  # the same ratio, from which labels are at powers of ten only


def data_picture(
    records: Sequence[VideoRecord], summary: Sequence[SplitSummary], *, noun: str
) -> Figure:
    """Draw duration, frame rate, picture size and codec of all videos, and the class balance.

    For 1 to 200 classes and any number of videos. A panel shows the known values; its title
    counts the unknown ones.

    Args:
        records: decoded.
        summary: result of ``summarise`` for these records.
        noun: what a stratum of the summary is called, such as ``class``.

    Raises:
        ValueError: there are no records.
    """
    if not records:
        raise ValueError("records: expected at least one. Received: none")
    classes = [list(rows) for _, rows in groupby(summary, key=lambda row: row.target)]
    classes.sort(key=lambda rows: -sum(row.videos for row in rows))
    drawn = classes
    if len(classes) > _MOST_CLASSES:
        drawn = classes[: _MOST_CLASSES // 2] + classes[-_MOST_CLASSES // 2 :]
    row_inches = float(np.clip(7 / len(drawn), 0.16, 0.32))
    balance_inches = row_inches * len(drawn) + 1.4
    figure = Figure(figsize=(_WIDTH_INCHES, _PANELS_INCHES + balance_inches), layout="constrained")
    facts = [record.facts for record in records if record.facts is not None]
    status = Counter(fact.status for fact in facts)
    figure.suptitle(
        f"{count_of(len(records), 'video')} of {count_of(len(classes), noun)}: "
        f"{status['ok']:,} intact, {status['damaged']:,} damaged but kept, "
        f"{status['quarantined']:,} quarantined"
    )
    ratios = [_PANELS_INCHES, balance_inches]
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=ratios)[:, 0]
    above.suptitle(_codecs_line(facts), fontsize=9)
    duration, rate, size = above.subplots(1, 3)
    _draw_durations(duration, records)
    _draw_rates(rate, facts)
    _draw_sizes(size, facts)
    title = f"Videos by {noun} and split"
    if len(drawn) < len(classes):
        half = len(drawn) // 2
        title += f": the {half} largest and the {half} smallest of {count_of(len(classes), noun)}"
    below.suptitle(title, fontsize=10)
    _draw_balance(below.subplots(), drawn, points=min(10.0, 45 * row_inches))
    return figure


def _codecs_line(facts: Sequence[DecodeFacts]) -> str:
    codecs = Counter(fact.codec for fact in facts if fact.codec)
    common = _most_common(codecs, _MOST_CODECS)
    parts = [f"{name} {count:,}" for name, count in common]
    if len(codecs) > len(common):
        others = codecs.total() - sum(count for _, count in common)
        parts.append(f"{len(codecs) - len(common)} others {others:,}")
    if n_unknown := len(facts) - codecs.total():
        parts.append(f"unknown {n_unknown:,}")
    return f"Videos by codec: {', '.join(parts)}"


def _draw_durations(axes: Axes, records: Sequence[VideoRecord]) -> None:
    seconds = [(record.is_usable, record.seconds) for record in records]
    used = [value for is_usable, value in seconds if is_usable and value is not None]
    unused = [value for is_usable, value in seconds if not is_usable and value is not None]
    known = used + unused
    median = f"median {duration(float(np.median(known)))}" if known else ""
    _set_title(axes, "Duration", median, n_unknown=len(records) - len(known))
    axes.set_xlabel("Seconds")
    _draw_histogram(axes, [("used", used, _USED), ("quarantined", unused, _UNUSED)])


def _draw_rates(axes: Axes, facts: Sequence[DecodeFacts]) -> None:
    known = [fact for fact in facts if fact.source_fps is not None]
    by_kind: dict[bool | None, list[float]] = {False: [], True: [], None: []}
    for fact in known:
        by_kind[fact.is_variable_rate].append(fact.source_fps or 0.0)
    series: list[_Series] = [
        ("constant", by_kind[False], _USED),
        ("variable", by_kind[True], _VARIABLE_RATE),
        ("unknown which", by_kind[None], _UNKNOWN),
    ]
    rates = Counter(round(rate, 2) for _, values, _ in series for rate in values)
    common = ", ".join(
        f"{rate:g} ({count_of(count, 'video')})" for rate, count in _most_common(rates, _MOST_RATES)
    )
    _set_title(
        axes,
        "Source fps",
        f"most common: {common}" if common else "",
        n_unknown=len(facts) - len(known),
    )
    axes.set_xlabel("Frames per second")
    _draw_histogram(axes, series)


def _draw_sizes(axes: Axes, facts: Sequence[DecodeFacts]) -> None:
    sizes = Counter(size for fact in facts if (size := fact.upright_size) is not None)
    common = _most_common(sizes, _MOST_SIZES)
    names = [f"{width}x{height}" for (width, height), _ in common]
    counts = [count for _, count in common]
    if len(sizes) > len(common):
        names.append(count_of(len(sizes) - len(common), "other size"))
        counts.append(sizes.total() - sum(counts))
    span = ""
    if len(sizes) > 1:
        by_area = sorted(sizes, key=lambda size: (size[0] * size[1], size))
        span = " to ".join(f"{width}x{height}" for width, height in (by_area[0], by_area[-1]))
    _set_title(axes, "Picture size, upright", span, n_unknown=len(facts) - sizes.total())
    axes.set_xlabel("Videos")
    colours = [_USED["color"]] * len(common) + [_UNKNOWN["color"]]
    bars = axes.barh(range(len(names)), counts, color=colours[: len(names)])
    axes.bar_label(bars, labels=[f"{count:,}" for count in counts], padding=3, fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_ylim(max(len(names), 4) - 0.5, -0.5)  # keeps the bars of few sizes thin
    axes.set_xlim(0, 1.2 * max(counts, default=1))
    _format_counts(axes, axes.xaxis)


def _draw_balance(axes: Axes, classes: Sequence[Sequence[SplitSummary]], *, points: float) -> None:
    """Draw one bar a class: used videos by split, then the quarantined ones."""
    rows = np.arange(len(classes))
    left = np.zeros(len(classes), np.int64)
    layers: list[tuple[str, list[int], _Style]] = []
    for index, split in enumerate(SPLITS):
        colour = {"color": PALETTE[index]}
        layers.append((split, [group[index].intact for group in classes], colour))
        damaged = [group[index].damaged for group in classes]
        layers.append((f"{split}, damaged", damaged, {**colour, **_DAMAGED}))
    unused = [sum(row.quarantined for row in group) for group in classes]
    layers.append(("quarantined", unused, _UNUSED))
    for label, widths, style in layers:
        if any(widths):
            axes.barh(rows, widths, left=left, height=0.8, label=label, linewidth=0, **style)
            left += widths
    axes.set_yticks(rows, [shorten_name(group[0].target) for group in classes], fontsize=points)
    plain_tick_labels(axes)
    beside = axes.get_yaxis_transform()
    for row, group in enumerate(classes):
        text = f"{sum(one.videos for one in group):,}"
        if n_damaged := sum(one.damaged for one in group):
            text += f", {n_damaged:,} damaged"
        if unused[row]:
            text += f", {unused[row]:,} quarantined"
        axes.text(1.01, row, text, transform=beside, va="center", fontsize=points)
    axes.set_ylim(len(classes) - 0.5, -0.5)
    axes.set_xlim(0, int(left.max()))
    axes.set_xlabel("Videos")
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=7, frameon=False, fontsize=9)
    _format_counts(axes, axes.xaxis)


def _draw_histogram(axes: Axes, groups: Sequence[_Series]) -> None:
    """Stack the histograms of ``groups``; empty groups are left out."""
    axes.set_ylabel("Videos")
    known = np.array([value for _, values, _ in groups for value in values])
    if not known.size:
        axes.set_xticks([])
        _format_counts(axes, axes.yaxis)
        return
    edges, is_log = _bin_edges(known)
    bottom = np.zeros(len(edges) - 1, np.int64)
    bars: _Style = {"width": np.diff(edges), "align": "edge", "linewidth": 0}
    for label, values, style in groups:
        if values:
            counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
            axes.bar(edges[:-1], counts, bottom=bottom, label=label, **bars, **style)
            bottom += counts
    axes.set_ylim(0, 1.25 * bottom.max())  # room for the legend
    axes.legend(loc="upper center", ncols=3, frameon=False, fontsize=8)
    _format_counts(axes, axes.yaxis)
    low, high = float(known.min()), float(known.max())
    if low == high:
        axes.set_xlim(0, 2 * low or 1)  # a bar of moderate width
        axes.set_xticks([low], [f"{low:g}"])
    elif is_log:
        axes.set_xscale("log")
        has_fine_labels = edges[-1] / edges[0] < _FINE_LABELS_BELOW
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if has_fine_labels else (1,)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6))


def _bin_edges(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], bool]:
    """Return edges, float64 [BINS + 1], and whether the axis is logarithmic.

    If all values are equal, there is one bin around them. On a log axis, the first bin counts 0.
    """
    low, high = float(values.min()), float(values.max())
    if low == high:
        margin = 0.1 * low or 0.1
        return np.array([low - margin, low + margin]), False
    smallest = float(values[values > 0].min())
    if high >= _LOG_FROM * smallest:
        return np.geomspace(smallest, high, BINS + 1), True
    return np.linspace(low, high, BINS + 1), False


def _set_title(axes: Axes, title: str, detail: str, *, n_unknown: int) -> None:
    details = [detail] if detail else []
    if n_unknown:
        details.append(f"{n_unknown:,} unknown")
    axes.set_title(f"{title}\n{'; '.join(details)}", fontsize=9)


def _format_counts(axes: Axes, counts: Axis) -> None:
    """Label the axis that counts videos with whole numbers; only this axis has a grid."""
    counts.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    counts.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    style_axes(axes)
    (axes.yaxis if counts is axes.xaxis else axes.xaxis).grid(visible=False)


def _most_common(counter: Counter[_Item], most: int) -> list[tuple[_Item, int]]:
    """Return the ``most`` most common items; equally common ones sorted by value."""
    return sorted(counter.items(), key=lambda pair: (-pair[1], pair[0]))[:most]
