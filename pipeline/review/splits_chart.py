"""Class balance and durations of the splits: whether they are alike."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.evaluation.data_summary import DescribedVideo
from pipeline.evaluation.plots import shortened
from pipeline.review.charts import PALETTE, Chart, finish, plain

_SPLITS = ("train", "val", "test")
_STYLES = ("-", "--", "-.")
_MOST_CLASSES = 40  # with more, only the most uneven are drawn


def splits_chart(videos: Sequence[DescribedVideo]) -> Chart:
    """Chart the share of each class in each split, and how long the videos of each are.

    Videos that were quarantined are in no split.

    Raises:
        ValueError: no video is usable.
    """
    used = [video for video in videos if video.status != "quarantined"]
    if not used:
        raise ValueError("videos: expected at least one that is not quarantined")
    counts = {split: sum(video.split == split for video in used) for split in _SPLITS}
    shares = class_shares(used)
    medians = {
        split: float(np.median(seconds)) for split in _SPLITS if (seconds := _seconds(used, split))
    }
    uneven = max(shares, key=lambda name: _spread(shares[name]))
    alt = (
        f"{', '.join(f'{split} {count:,}' for split, count in counts.items())} videos of "
        f"{len(shares)} classes. Most uneven is {uneven}: "
        f"{', '.join(f'{100 * share:.1f} % of {split}' for split, share in shares[uneven].items())}"
        f". Median duration: "
        f"{', '.join(f'{split} {median:.3g} s' for split, median in medians.items())}."
    )

    def draw() -> Figure:
        return _draw(used, shares)

    return Chart(
        name="splits",
        title="Class balance and durations by split",
        alt=alt,
        caption="Where the splits are alike, the three bars of a class are of one length, and the "
        "three curves lie on each other.",
        draw=draw,
    )


def class_shares(videos: Sequence[DescribedVideo]) -> dict[str, dict[str, float]]:
    """Return, of every class, what share of each split it is: class -> split -> share."""
    by_split = {
        split: Counter(video.label for video in videos if video.split == split) for split in _SPLITS
    }
    return {
        label: {
            split: counted[label] / counted.total()
            for split, counted in by_split.items()
            if counted
        }
        for label in sorted({video.label for video in videos})
    }


def _spread(shares: dict[str, float]) -> float:
    return max(shares.values()) - min(shares.values())


def _seconds(videos: Sequence[DescribedVideo], split: str) -> list[float]:
    return sorted(
        video.seconds for video in videos if video.split == split and video.seconds is not None
    )


def _draw(videos: Sequence[DescribedVideo], shares: dict[str, dict[str, float]]) -> Figure:
    drawn = sorted(shares, key=lambda name: -_spread(shares[name]))[:_MOST_CLASSES]
    drawn.sort()
    height = float(np.clip(0.42 * len(drawn) + 1.2, 3.4, 14))
    figure = Figure(figsize=(9.5, height), layout="constrained")
    balance, durations = figure.subplots(1, 2)
    _draw_balance(balance, drawn, shares)
    if len(drawn) < len(shares):
        balance.set_title(f"The {len(drawn)} most uneven of {len(shares)} classes")
    for colour, style, split in zip(PALETTE, _STYLES, _SPLITS, strict=False):
        if seconds := _seconds(videos, split):
            durations.ecdf(seconds, color=colour, linestyle=style, linewidth=2, label=split)
    durations.set(xlabel="Seconds", ylabel="Share of videos that are no longer")
    durations.set_xlim(left=0)
    finish(durations)
    if durations.lines:
        durations.legend(frameon=False, loc="lower right")
    return figure


def _draw_balance(axes: Axes, classes: Sequence[str], shares: dict[str, dict[str, float]]) -> None:
    for place, (split, colour) in enumerate(zip(_SPLITS, PALETTE, strict=False)):
        rows = np.arange(len(classes)) + (place - 1) * 0.26
        percents = [100 * shares[name].get(split, 0.0) for name in classes]
        axes.barh(rows, percents, height=0.24, color=colour, label=split)
    axes.set_yticks(range(len(classes)), [shortened(name) for name in classes])
    axes.set_ylim(len(classes) - 0.4, -0.6)
    axes.set_xlabel("Percent of the split's videos")
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    finish(axes)
    axes.grid(visible=False, axis="y")
    plain(axes)
