"""Charts of probabilities: precision against recall, and how far they can be believed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, precision_recall_curve

from pipeline.evaluation.metrics import calibration_bin
from pipeline.evaluation.plots import shortened
from pipeline.evaluation.predictions import Predictions
from pipeline.review.charts import PALETTE, QUIET, Chart, finish

_MOST_NAMED = len(PALETTE)  # curves with a colour of their own
_STYLES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)))


@dataclass(frozen=True)
class ReliabilityBin:
    """Videos whose top probability lies in one bin."""

    low: float
    high: float
    videos: int
    confidence: float  # mean top probability
    accuracy: float


def precision_recall_chart(predictions: Predictions) -> Chart:
    """Chart every class against all others; the worst have a colour, where there are many."""
    present = np.unique(predictions.labels).tolist()
    precision = {
        index: float(
            average_precision_score(
                predictions.labels == index, predictions.probabilities[:, index]
            )
        )
        for index in present
    }
    worst_first = sorted(present, key=lambda index: (precision[index], index))
    names = predictions.class_names
    worst, best = worst_first[0], worst_first[-1]
    alt = (
        f"Precision against recall for {len(present)} classes. Average precision goes from "
        f"{precision[worst]:.3f} ({names[worst]}) to {precision[best]:.3f} ({names[best]})."
    )
    some = " The six worst are named." if len(present) > _MOST_NAMED else ""

    def draw() -> Figure:
        return _draw_precision_recall(predictions, worst_first, precision)

    return Chart(
        name="precision_recall",
        title="Precision and recall by class",
        alt=alt,
        caption="Each class against all others as the threshold on its probability falls; "
        f"AP is average precision. Up and to the right is better.{some}",
        draw=draw,
    )


def reliability_bins(predictions: Predictions, bins: int) -> list[ReliabilityBin]:
    """Return the bins of (0, 1] that hold videos, as the calibration error has them."""
    confidence = predictions.probabilities.max(axis=1)
    hit = predictions.predicted == predictions.labels
    member = calibration_bin(confidence, bins)
    return [
        ReliabilityBin(
            low=index / bins,
            high=(index + 1) / bins,
            videos=int((member == index).sum()),
            confidence=float(confidence[member == index].mean()),
            accuracy=float(hit[member == index].mean()),
        )
        for index in np.unique(member).tolist()
    ]


def reliability_chart(predictions: Predictions, *, bins: int) -> Chart:
    """Chart accuracy against confidence, and how many videos stand behind each point."""
    found = reliability_bins(predictions, bins)
    widest = max(found, key=lambda one: one.videos * abs(one.accuracy - one.confidence))
    gap = widest.accuracy - widest.confidence
    alt = (
        f"Accuracy against confidence in {len(found)} of {bins} bins that hold videos. Where it "
        f"matters most, at confidence {widest.confidence:.2f} ({widest.videos} videos), accuracy "
        f"is {abs(gap):.3f} {'higher' if gap > 0 else 'lower'} than confidence."
    )

    def draw() -> Figure:
        return _draw_reliability(found, predictions.probabilities.max(axis=1), bins)

    return Chart(
        name="reliability",
        title="Reliability",
        alt=alt,
        caption="On the diagonal, of videos predicted with 80 % confidence 80 % are right. "
        "Below it the model is too sure, above it not sure enough. The bars count videos.",
        draw=draw,
    )


def _draw_precision_recall(
    predictions: Predictions, worst_first: Sequence[int], average: dict[int, float]
) -> Figure:
    figure = Figure(figsize=(5.6, 4.2), layout="constrained")
    axes = figure.subplots()
    for index in reversed(worst_first):
        precision, recall, _ = precision_recall_curve(
            predictions.labels == index, predictions.probabilities[:, index]
        )
        rank = worst_first.index(index)
        is_named = rank < _MOST_NAMED
        (line,) = axes.step(
            recall,
            precision,
            where="post",
            color=PALETTE[rank] if is_named else QUIET,
            linestyle=_STYLES[rank] if is_named else "-",
            linewidth=2 if is_named else 0.7,
            label=f"{shortened(predictions.class_names[index])}: AP {average[index]:.3f}"
            if is_named
            else None,
        )
        line.set_zorder(3 if is_named else 2)
    axes.set(xlabel="Recall", ylabel="Precision", xlim=(-0.02, 1.02), ylim=(0, 1.04))
    finish(axes)
    handles, labels = axes.get_legend_handles_labels()
    legend = axes.legend(handles[::-1], labels[::-1], loc="lower left", frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def _draw_reliability(
    found: Sequence[ReliabilityBin], confidence: NDArray[np.float64], bins: int
) -> Figure:
    figure = Figure(figsize=(5.6, 4.8), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    above.plot([0, 1], [0, 1], color=QUIET, linestyle="--", label="perfectly calibrated")
    above.plot(
        [one.confidence for one in found],
        [one.accuracy for one in found],
        color=PALETTE[0],
        marker="o",
        label="test videos",
    )
    above.vlines(
        [one.confidence for one in found],
        [one.confidence for one in found],
        [one.accuracy for one in found],
        color=PALETTE[1],
        linewidth=2,
        label="gap",
    )
    above.set(ylabel="Accuracy", ylim=(-0.03, 1.05))
    above.legend(loc="upper left", frameon=False)
    _, _, bars = below.hist(confidence, bins=np.linspace(0, 1, bins + 1), color=PALETTE[0])
    below.bar_label(
        bars, labels=[f"{int(bar.get_height())}" if bar.get_height() else "" for bar in bars]
    )
    below.margins(y=0.3)
    below.set(xlabel="Confidence (probability of the predicted class)", ylabel="Videos")
    below.set_xlim(-0.02, 1.02)
    finish(above)
    finish(below)
    return figure
