"""Charts of a classifier: confusion matrix, precision-recall curves, reliability."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve

from pipeline.common.charts import (
    NEUTRAL,
    PALETTE,
    Chart,
    plain_tick_labels,
    shorten_name,
    style_axes,
)
from pipeline.common.paths import TABLES
from pipeline.tasks.class_scores import (
    CALIBRATION_BINS,
    average_precisions,
    calibration_bin,
    confusion_matrix,
)

_POINTS_PER_INCH = 72
_MIN_NUMBER_POINTS = 5.0  # font size; smaller numbers are not drawn
_MIN_CELL_INCHES = 0.16  # fits the three digits of 100 at that font size

_MAX_CLASSES = 100  # in a confusion matrix
_MAX_CURVES = 60

_CURVE_STYLES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)))


def confusion_chart(
    labels: NDArray[np.int64], probabilities: NDArray[np.float64], class_names: Sequence[str]
) -> Chart:
    """Chart the confusion matrix as counts and as percentages of each actual class."""
    matrix = confusion_matrix(labels, probabilities.argmax(axis=1), len(class_names))
    selection = ""
    if len(class_names) > _MAX_CLASSES:
        selection = (
            f" Only the {_MAX_CLASSES} classes with the most confusions are drawn; "
            f"{TABLES / 'confusions.csv'} has all."
        )
    return Chart(
        name="confusion",
        title="Confusion matrix",
        alt=f"Confusion matrix of {len(class_names)} classes: {matrix.trace()} of {matrix.sum()} "
        "test videos are on the diagonal, which is correct.",
        caption="Left: videos by actual and predicted class. Right: the same in percent of each "
        f"actual class.{selection}",
        draw=lambda: confusion_figure(matrix, class_names),
    )


def confusion_figure(matrix: NDArray[np.int64], class_names: Sequence[str]) -> Figure:
    """Draw a confusion matrix twice: as counts, and as percentages of each actual class.

    More classes have smaller cells, and numbers too small to read are left out. Of more than 100
    classes, the 100 with the most confusions are drawn. Cells of 0 are empty. In the percentages,
    the row of a class without videos is grey.

    Args:
        matrix: int64 [C, C], rows actual, columns predicted.
        class_names: length C; long names are shortened.
    """
    if matrix.shape != (len(class_names), len(class_names)):
        raise ValueError(
            f"matrix: expected shape {(len(class_names),) * 2}. Received: {matrix.shape}"
        )
    heading = f"Confusion matrix: {matrix.sum():,} videos, {len(class_names):,} classes"
    videos = matrix.sum(axis=1, keepdims=True)
    if len(class_names) > _MAX_CLASSES:
        confusions = matrix.sum(axis=0) + matrix.sum(axis=1) - 2 * matrix.diagonal()
        drawn = np.sort(np.argsort(-confusions, kind="stable")[:_MAX_CLASSES])
        matrix, videos = matrix[np.ix_(drawn, drawn)], videos[drawn]
        class_names = [class_names[index] for index in drawn]
        heading += f", the {_MAX_CLASSES} with the most confusions"
    n_classes = len(class_names)
    percent = np.ma.masked_array(
        100 * matrix / np.maximum(videos, 1), mask=np.broadcast_to(videos == 0, matrix.shape)
    )
    names = [shorten_name(name) for name in class_names]
    cell_inches = float(np.clip(4.2 / n_classes, _MIN_CELL_INCHES, 0.8))
    name_points = float(np.clip(cell_inches * _POINTS_PER_INCH * 0.6, 5, 10))
    name_inches = max(map(len, names)) * _letter_inches(name_points)
    is_vertical = name_inches > cell_inches  # names below the matrix
    side_inches = max(cell_inches * n_classes, 2.2)
    figure = Figure(
        figsize=(
            2 * side_inches + name_inches + 2.6,
            side_inches + (name_inches if is_vertical else 0.1) + 1.1,
        ),
        layout="constrained",
    )
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, title, values, largest, text in (
        (
            left,
            "Videos",
            np.ma.masked_array(matrix),
            max(int(matrix.max()), 1),
            [[str(count) if count else "" for count in row] for row in matrix.tolist()],
        ),
        (
            right,
            "Percent of each actual class",
            percent,
            100,
            [[_percent_text(value) for value in row] for row in percent.filled(0).tolist()],
        ),
    ):
        image = axes.imshow(values, cmap="Blues", vmin=0, vmax=largest)
        axes.set_facecolor("#dddddd")  # of masked cells
        axes.set_xticks(
            range(n_classes), names, rotation=90 if is_vertical else 0, fontsize=name_points
        )
        axes.set_yticks(range(n_classes), names, fontsize=name_points)
        plain_tick_labels(axes)
        axes.set(title=title, xlabel="Predicted class")
        _write_numbers(axes, image.to_rgba(values), text, cell_inches)
        ticks = MaxNLocator(nbins=5, steps=[1, 2, 5, 10], integer=True)
        figure.colorbar(image, ax=axes, fraction=0.046, pad=0.02, ticks=ticks)
    left.set_ylabel("Actual class")
    figure.suptitle(heading)
    return figure


def precision_recall_chart(
    is_positive: NDArray[np.bool_], probabilities: NDArray[np.float64], class_names: Sequence[str]
) -> Chart:
    """Chart precision against recall of each class, the six worst in colour and named.

    Args:
        is_positive: bool [N, C], whether each video belongs to each class.
        probabilities: float64 [N, C].
    """
    average = average_precisions(is_positive, probabilities)
    present = np.flatnonzero(is_positive.any(axis=0)).tolist()
    worst_first = sorted(present, key=lambda index: (average[index], index))
    worst, best = worst_first[0], worst_first[-1]
    selection = " The six worst are named." if len(present) > len(PALETTE) else ""
    if len(present) > _MAX_CURVES:
        selection += f" Only the {_MAX_CURVES} worst of {len(present):,} are drawn."

    def draw() -> Figure:
        figure = Figure(figsize=(5.6, 4.2), layout="constrained")
        axes = figure.subplots()
        for rank, index in reversed(list(enumerate(worst_first[:_MAX_CURVES]))):
            precision, recall, _ = precision_recall_curve(
                is_positive[:, index], probabilities[:, index]
            )
            is_named = rank < len(PALETTE)
            axes.step(
                recall,
                precision,
                where="post",
                color=PALETTE[rank] if is_named else NEUTRAL,
                linestyle=_CURVE_STYLES[rank] if is_named else "-",
                linewidth=2 if is_named else 0.7,
                zorder=3 if is_named else 2,
                label=f"{shorten_name(class_names[index])}: AP {average[index]:.3f}"
                if is_named
                else None,
            )
        axes.set(xlabel="Recall", ylabel="Precision", xlim=(-0.02, 1.02), ylim=(0, 1.04))
        style_axes(axes)
        handles, names = axes.get_legend_handles_labels()
        legend = axes.legend(handles[::-1], names[::-1], loc="lower left", frameon=False)
        for text in legend.get_texts():
            text.set_parse_math(False)
        return figure

    return Chart(
        name="precision_recall",
        title="Precision and recall by class",
        alt=f"Precision against recall for {len(present)} classes. Average precision ranges from "
        f"{average[worst]:.3f} ({class_names[worst]}) to {average[best]:.3f} "
        f"({class_names[best]}).",
        caption="Each class against all others at every threshold on its probability; AP is "
        f"average precision. Up and to the right is better.{selection}",
        draw=draw,
    )


def reliability_chart(
    labels: NDArray[np.int64], probabilities: NDArray[np.float64], bins: int = CALIBRATION_BINS
) -> Chart:
    """Chart accuracy against confidence, and the number of videos in each bin."""
    confidences = probabilities.max(axis=1)
    is_correct = probabilities.argmax(axis=1) == labels
    bin_of_video = calibration_bin(confidences, bins)
    members = [bin_of_video == index for index in np.unique(bin_of_video)]
    confidence = np.array([confidences[is_member].mean() for is_member in members])
    accuracy = np.array([is_correct[is_member].mean() for is_member in members])
    videos = np.array([is_member.sum() for is_member in members])
    gaps = accuracy - confidence
    largest = int(np.argmax(videos * np.abs(gaps)))

    def draw() -> Figure:
        figure = Figure(figsize=(5.6, 4.8), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        above.plot([0, 1], [0, 1], color=NEUTRAL, linestyle="--", label="perfectly calibrated")
        above.plot(confidence, accuracy, color=PALETTE[0], marker="o", label="test videos")
        above.vlines(confidence, confidence, accuracy, color=PALETTE[1], linewidth=2, label="gap")
        above.set(ylabel="Accuracy", ylim=(-0.03, 1.05))
        above.legend(loc="upper left", frameon=False)
        counts, _, bars = below.hist(
            confidences, bins=np.linspace(0, 1, bins + 1), color=PALETTE[0]
        )
        below.bar_label(bars, labels=[f"{int(count)}" if count else "" for count in counts])
        below.margins(y=0.3)
        below.set(xlabel="Confidence (probability of the predicted class)", ylabel="Videos")
        below.set_xlim(-0.02, 1.02)
        style_axes(above)
        style_axes(below)
        return figure

    return Chart(
        name="reliability",
        title="Reliability",
        alt=f"Accuracy against confidence in the {len(members)} of {bins} bins with videos. The "
        f"largest gap, weighted by videos, is at confidence {confidence[largest]:.2f} "
        f"({videos[largest]} videos), where accuracy is {abs(gaps[largest]):.3f} "
        f"{'higher' if gaps[largest] > 0 else 'lower'} than confidence.",
        caption="On the diagonal, 80 % of the videos predicted with 80 % confidence are correct. "
        "Below it the model is overconfident, above it underconfident. The bars count videos.",
        draw=draw,
    )


def _write_numbers(
    axes: Axes,
    colours: NDArray[np.float64],
    text: Sequence[Sequence[str]],
    cell_inches: float,
) -> None:
    """Write ``text`` into the cells, 80 % of their width, if it is then large enough to read."""
    widest = max(len(cell) for row in text for cell in row)
    points = min(11.0, 0.8 * cell_inches / (max(widest, 2) * _letter_inches(1)))
    if points < _MIN_NUMBER_POINTS:
        return
    for row, cells in enumerate(text):
        for column, cell in enumerate(cells):
            if cell:
                ink = _readable_ink(colours[row, column])
                axes.text(column, row, cell, ha="center", va="center", color=ink, fontsize=points)


def _readable_ink(background: NDArray[np.float64]) -> str:
    """Return black or white, whichever has the higher contrast by WCAG 2."""
    red, green, blue = np.where(
        background[:3] <= 0.04045, background[:3] / 12.92, ((background[:3] + 0.055) / 1.055) ** 2.4
    )
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return "black" if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else "white"


def _percent_text(percent: float) -> str:
    """Format a percentage; no mistake is rounded to 0 and no class with mistakes to 100."""
    if percent == 0:
        return ""
    if percent < 0.5:
        return "<1"
    if 99.5 <= percent < 100:
        return ">99"
    return f"{percent:.0f}"


def _letter_inches(points: float) -> float:
    """Return the average width of a letter or digit of this size, rounded up."""
    return 0.6 * points / _POINTS_PER_INCH
