"""The accuracy of parts of the test set, with intervals."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from pipeline.evaluation.plots import shortened
from pipeline.evaluation.slices import Slice
from pipeline.review.charts import PALETTE, QUIET, Chart, finish, plain
from pipeline.review.findings import Estimate

_MOST_DRAWN = 24


def slices_chart(slices: Sequence[Slice], *, overall: Estimate) -> Chart:
    """Chart the worst slices, in the order given.

    Args:
        slices: the worst first, at least one.
        overall: accuracy of all test videos.
    """
    worst = slices[0]
    drawn = slices[:_MOST_DRAWN]
    cut = f" Drawn are the worst {len(drawn)} of {len(slices)}." if len(drawn) < len(slices) else ""
    alt = (
        f"Accuracy of {len(slices)} slices of the test set. The worst is "
        f"{_words(worst.slice_by)} {worst.slice}: {worst.accuracy:.3f} of {worst.videos} "
        f"{'video' if worst.videos == 1 else 'videos'}; all test videos: {overall.value:.3f}."
    )

    def draw() -> Figure:
        return _draw(drawn, overall)

    return Chart(
        name="slices",
        title="Accuracy of slices",
        alt=alt,
        caption="A dot is the accuracy of the test videos of a slice, the line through it its "
        f"interval; the dashed line is the accuracy of all. The worst are on top.{cut}",
        draw=draw,
    )


def _draw(slices: Sequence[Slice], overall: Estimate) -> Figure:
    figure = Figure(figsize=(7.2, 0.31 * len(slices) + 1.3), layout="constrained")
    axes = figure.subplots()
    rows = np.arange(len(slices))
    for row, one in enumerate(slices):
        axes.plot([one.low, one.high], [row, row], color=PALETTE[0])
    axes.scatter([one.accuracy for one in slices], rows, color=PALETTE[0], zorder=3, s=28)
    axes.axvline(overall.value, color=QUIET, linestyle="--", zorder=1)
    names = [shortened(f"{_words(one.slice_by)}: {one.slice}", 40) for one in slices]
    axes.set_yticks(rows, names)
    beside = axes.get_yaxis_transform()
    for row, one in enumerate(slices):
        axes.text(1.02, row, f"{one.videos}", transform=beside, va="center", fontsize=9)
    axes.text(1.02, -0.9, "videos", transform=beside, va="center", fontsize=9)
    axes.set_ylim(len(slices) - 0.5, -0.5)
    axes.set(xlim=(-0.02, 1.02), xlabel="Accuracy")
    finish(axes)
    plain(axes)
    return figure


def _words(name: str) -> str:
    return name.replace("_", " ")
