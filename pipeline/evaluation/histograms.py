"""Histograms of what videos have much of or little: seconds, frames per second."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

_LOG_FROM = 50  # an axis is logarithmic where the largest value is as many times the smallest
_LABELS_WITHIN_DECADES_UP_TO = 300  # a wider log axis has labels at powers of ten only


@dataclass(frozen=True)
class Series:
    """Values that are drawn in one style, stacked on those of other series."""

    label: str
    values: Sequence[float]
    style: dict[str, Any]


def draw_histogram(axes: Axes, groups: Sequence[Series], bins: int) -> None:
    """Stack the histograms of ``groups``, of which empty ones are left out."""
    known = np.array([value for series in groups for value in series.values])
    if known.size:
        edges, is_log = _bin_edges(known, bins)
        bottom = np.zeros(len(edges) - 1, np.int64)
        for series in groups:
            if not series.values:
                continue
            counts, _ = np.histogram(np.clip(series.values, edges[0], edges[-1]), edges)
            axes.bar(
                edges[:-1],
                counts,
                width=np.diff(edges),
                bottom=bottom,
                align="edge",
                label=series.label,
                linewidth=0,
                **series.style,
            )
            bottom += counts
        axes.set_ylim(0, 1.25 * bottom.max())  # room for the legend
        axes.legend(loc="upper center", ncols=3, frameon=False, fontsize=8)
        _finish_values(axes, known, edges, is_log=is_log)
    else:
        axes.set_xticks([])
    axes.set_ylabel("Videos")
    finish_counts(axes, counts=axes.yaxis)


def _bin_edges(values: NDArray[np.float64], bins: int) -> tuple[NDArray[np.float64], bool]:
    """Return edges, float64 [bins + 1], and whether they are spaced evenly on a log axis.

    Equal values share one bin around them. On a log axis, 0 belongs in the first bin.
    """
    low, high = float(values.min()), float(values.max())
    if low == high:
        margin = 0.1 * low or 0.1
        return np.array([low - margin, low + margin]), False
    smallest = float(values[values > 0].min())
    if high >= _LOG_FROM * smallest:
        return np.geomspace(smallest, high, bins + 1), True
    return np.linspace(low, high, bins + 1), False


def _finish_values(
    axes: Axes, values: NDArray[np.float64], edges: NDArray[np.float64], *, is_log: bool
) -> None:
    low, high = float(values.min()), float(values.max())
    if low == high:
        axes.set_xlim(0, 2 * low or 1)  # a bar of middling width
        axes.set_xticks([low], [f"{low:g}"])
    elif is_log:
        axes.set_xscale("log")
        is_narrow = edges[-1] / edges[0] < _LABELS_WITHIN_DECADES_UP_TO
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if is_narrow else (1,)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6))


def finish_counts(axes: Axes, *, counts: Axis) -> None:
    """Give the axis that counts videos whole numbers and a grid."""
    counts.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    counts.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    counts.grid(alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
