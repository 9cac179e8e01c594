"""Charts that do not depend on the task: scores of slices, balance of the splits."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.common.bootstrap import Score
from pipeline.common.charts import (
    NEUTRAL,
    PALETTE,
    Chart,
    plain_tick_labels,
    shorten_name,
    style_axes,
)
from pipeline.common.pages import words
from pipeline.common.records import SPLITS, VideoRecord
from pipeline.common.tables import count_of
from pipeline.evaluation.slices import Slice

_MOST_SLICES = 24
_MOST_STRATA = 40  # with more, only the most uneven are drawn
_LINE_STYLES = ("-", "--", "-.")

Shares = Mapping[str, Mapping[str, float]]  # stratum -> split -> its share of the split


def slices_chart(slices: Sequence[Slice], *, overall: Score, score_name: str) -> Chart | None:
    """Chart the scores of the worst slices; None without slices.

    Args:
        slices: worst first.
        overall: the score of all test videos.
        score_name: name of the score, such as ``accuracy``.
    """
    if not slices:
        return None
    worst, drawn = slices[0], slices[:_MOST_SLICES]
    name = words(score_name).capitalize()
    cut = f" Only the worst {len(drawn)} of {len(slices)} are drawn." * (len(drawn) < len(slices))
    return Chart(
        name="slices",
        title=f"{name} of slices",
        alt=f"{name} of {len(slices)} slices. The worst is {words(worst.slice_by)} "
        f"{worst.slice}: {worst.score:.3f} of {count_of(worst.videos, 'video')}.",
        caption=f"Dots and lines: {words(score_name)} of the test videos of a slice and its "
        f"interval. Dashed line: {words(score_name)} of all test videos. The worst slice is at "
        f"the top.{cut}",
        draw=lambda: _draw_slices(drawn, overall, name),
    )


def splits_chart(records: Sequence[VideoRecord], strata: Sequence[str]) -> Chart:
    """Chart the strata of the targets and the durations in each split.

    Args:
        records: usable videos, with facts and split, at least one.
        strata: the stratum of each record, such as its class.
    """
    shares = stratum_shares(records, strata)
    seconds: dict[str, list[float]] = {
        split: sorted(
            record.seconds
            for record in records
            if record.split == split and record.seconds is not None
        )
        for split in SPLITS
    }
    counts = ", ".join(
        f"{split} {sum(record.split == split for record in records):,}" for split in SPLITS
    )
    return Chart(
        name="splits",
        title="Splits",
        alt=f"Balance and durations of the splits: {counts} videos.",
        caption="The curves show the share of videos that are no longer than a duration. If the "
        "splits are similar, the curves coincide, and the bars of a row have the same length.",
        draw=lambda: _draw_splits(shares, seconds),
    )


def stratum_shares(records: Sequence[VideoRecord], strata: Sequence[str]) -> Shares:
    """Return the share of each stratum in each split that is not empty."""
    pairs = list(zip(records, strata, strict=True))
    counts = {
        split: Counter(stratum for record, stratum in pairs if record.split == split)
        for split in SPLITS
    }
    return {
        stratum: {
            split: counted[stratum] / counted.total()
            for split, counted in counts.items()
            if counted
        }
        for stratum in sorted(set(strata))
    }


def _draw_slices(slices: Sequence[Slice], overall: Score, score_name: str) -> Figure:
    figure = Figure(figsize=(7.2, 0.31 * len(slices) + 1.3), layout="constrained")
    axes = figure.subplots()
    beside = axes.get_yaxis_transform()
    for row, one in enumerate(slices):
        axes.plot([one.low, one.high], [row, row], color=PALETTE[0])
        axes.text(1.02, row, f"{one.videos}", transform=beside, va="center", fontsize=9)
    axes.text(1.02, 1.02, "videos", transform=axes.transAxes, fontsize=9)
    axes.scatter(
        [one.score for one in slices], range(len(slices)), color=PALETTE[0], zorder=3, s=28
    )
    axes.axvline(overall.value, color=NEUTRAL, linestyle="--", zorder=1)
    names = [shorten_name(f"{words(one.slice_by)}: {one.slice}", 40) for one in slices]
    axes.set_yticks(range(len(slices)), names)
    axes.set_ylim(len(slices) - 0.5, -0.5)
    axes.set(xlim=(-0.02, 1.02), xlabel=score_name)
    style_axes(axes)
    plain_tick_labels(axes)
    return figure


def _draw_splits(shares: Shares, seconds: Mapping[str, Sequence[float]]) -> Figure:
    """Draw bars of shares, if there is more than one stratum, beside curves of durations."""

    def spread(stratum: str) -> float:
        return max(shares[stratum].values()) - min(shares[stratum].values())

    drawn = sorted(sorted(shares, key=lambda stratum: -spread(stratum))[:_MOST_STRATA])
    if len(shares) > 1:
        height = float(np.clip(0.42 * len(drawn) + 1.2, 3.4, 14))
        figure = Figure(figsize=(9.5, height), layout="constrained")
        balance, durations = figure.subplots(1, 2)
        _draw_balance(balance, drawn, shares)
        if len(drawn) < len(shares):
            balance.set_title(f"The {len(drawn)} most uneven of {len(shares)}")
    else:
        figure = Figure(figsize=(5.6, 3.4), layout="constrained")
        durations = figure.subplots()
    for colour, style, split in zip(PALETTE, _LINE_STYLES, SPLITS, strict=False):
        if seconds[split]:
            durations.ecdf(seconds[split], color=colour, linestyle=style, linewidth=2, label=split)
    durations.set(xlabel="Seconds", ylabel="Share of videos")
    durations.set_xlim(left=0)
    style_axes(durations)
    if durations.lines:
        durations.legend(frameon=False, loc="lower right")
    return figure


def _draw_balance(axes: Axes, strata: Sequence[str], shares: Shares) -> None:
    for place, (split, colour) in enumerate(zip(SPLITS, PALETTE, strict=False)):
        rows = np.arange(len(strata)) + (place - 1) * 0.26
        percents = [100 * shares[stratum].get(split, 0.0) for stratum in strata]
        axes.barh(rows, percents, height=0.24, color=colour, label=split)
    axes.set_yticks(range(len(strata)), [shorten_name(stratum) for stratum in strata])
    axes.set_ylim(len(strata) - 0.4, -0.6)
    axes.set_xlabel("Percent of the split's videos")
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    style_axes(axes)
    axes.grid(visible=False, axis="y")
    plain_tick_labels(axes)
