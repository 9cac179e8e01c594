"""Tables and chart of captions."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.common.charts import PALETTE, Chart, style_axes
from pipeline.tasks.task import Table

_SHOWN = 10  # captions of each table
_BINS = 20


def caption_tables(
    captions: Sequence[str],
    references: Sequence[str],
    *,
    rouge_l: NDArray[np.float64],
    cider_d: NDArray[np.float64],
) -> list[Table]:
    """Return the captions with the lowest and with the highest ROUGE-L beside their references."""
    best_first = np.lexsort((-cider_d, -rouge_l)).tolist()

    def table(name: str, title: str, order: Sequence[int]) -> Table:
        rows = [
            {
                "predicted": captions[index],
                "references": references[index],
                "rouge_l": f"{rouge_l[index]:.6f}",
                "cider_d": f"{cider_d[index]:.6f}",
            }
            for index in order[:_SHOWN]
        ]
        columns = ("predicted", "references", "rouge_l", "cider_d")
        return Table(name, title, columns, rows, videos=order[:_SHOWN])

    return [
        table("worst_captions", "Worst captions", best_first[::-1]),
        table("best_captions", "Best captions", best_first),
    ]


def score_chart(rouge_l: NDArray[np.float64], confidence: NDArray[np.float64]) -> Chart:
    """Chart the distribution of ROUGE-L, and ROUGE-L against the confidence.

    Args:
        rouge_l: float64 [N], 0 to 1.
        confidence: float64 [N], ``Caption.confidence``, 0 to 1.
    """

    def draw() -> Figure:
        figure = Figure(figsize=(7.6, 3.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        left.hist(rouge_l, bins=_BINS, range=(0, 1), color=PALETTE[0])
        left.set(xlabel="ROUGE-L", ylabel="Videos")
        right.scatter(confidence, rouge_l, s=14, color=PALETTE[0], alpha=0.5)
        right.set(xlabel="Confidence", ylabel="ROUGE-L", xlim=(0, 1.02), ylim=(0, 1.02))
        for axes in (left, right):
            style_axes(axes)
        return figure

    return Chart(
        name="caption_scores",
        title="Captions",
        alt=f"Distribution of ROUGE-L of {len(rouge_l)} test videos, from {rouge_l.min():.3f} to "
        f"{rouge_l.max():.3f} with a mean of {rouge_l.mean():.3f}, and ROUGE-L against confidence.",
        caption="ROUGE-L is 1 for a caption that is equal to a reference. The confidence is the "
        "geometric mean of the probabilities of the words and the end.",
        draw=draw,
    )
