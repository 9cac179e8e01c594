"""Pictures of how a model was trained and what it confuses.

Figures are built without pyplot: no global state, no window, nothing to close.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from pipeline.base import files

# Blue and vermilion of Okabe and Ito's palette: told apart by every kind of colour vision.
TRAINING_COLOUR = "#0072B2"
VALIDATION_COLOUR = "#D55E00"
NEUTRAL_COLOUR = "#767676"  # shows on white and on black

_DPI = 120
_POINTS_PER_INCH = 72
_LONGEST_NAME = 24  # characters of a class name beside a matrix
_SMALLEST_NUMBER_POINTS = 5.0  # smaller numbers in cells are left out
_SMALLEST_CELL_INCHES = 0.16  # holds the three digits of 100 at the smallest size
_MOST_MARKED_EPOCHS = 40  # with more epochs, a marker each would be a smear


def confusion_picture(matrix: NDArray[np.int64], class_names: Sequence[str]) -> Figure:
    """Draw a confusion matrix twice: as counts, and as percentages of each actual class.

    Made for 2 to 100 classes: cells shrink with their number, and numbers that would be
    too small to read are left to the colours. Cells of 0 are empty; the row of a class
    without videos is grey in the percentages.

    Args:
        matrix: int64 [C, C], rows actual, columns predicted.
        class_names: length C; long names are cut in the picture.
    """
    n_classes = len(class_names)
    if matrix.shape != (n_classes, n_classes):
        raise ValueError(f"matrix: expected shape {(n_classes, n_classes)}, got {matrix.shape}")
    videos = matrix.sum(axis=1, keepdims=True)
    percent = np.ma.masked_array(
        100 * matrix / np.maximum(videos, 1),
        mask=np.broadcast_to(videos == 0, matrix.shape),
    )
    names = [shortened(name) for name in class_names]
    cell_inches = float(np.clip(4.2 / n_classes, _SMALLEST_CELL_INCHES, 0.8))
    side_inches = max(cell_inches * n_classes, 2.2)
    names_inches = max(map(len, names)) * _letter_inches(_name_points(cell_inches))
    below_inches = names_inches if _names_upright(names, cell_inches) else 0.1
    figure = Figure(
        figsize=(2 * side_inches + names_inches + 2.6, side_inches + below_inches + 1.1),
        layout="constrained",
    )
    left, right = figure.subplots(1, 2, sharey=True)
    counts_text = [[str(count) if count else "" for count in row] for row in matrix.tolist()]
    percent_text = [[_percent_text(value) for value in row] for row in percent.filled(0).tolist()]
    largest = max(int(matrix.max()), 1)
    _draw_matrix(left, np.ma.masked_array(matrix), counts_text, largest, names, cell_inches)
    _draw_matrix(right, percent, percent_text, 100, names, cell_inches)
    left.set_title("Videos")
    right.set_title("Percent of each actual class")
    left.set_ylabel("Actual class")
    figure.suptitle(f"Confusion matrix: {int(matrix.sum())} videos, {n_classes} classes")
    return figure


def training_curves_picture(
    history: Sequence[Mapping[str, float]], *, restored_epoch: int | None = None
) -> Figure:
    """Draw loss and accuracy of training and validation by epoch.

    Args:
        history: one mapping an epoch with the keys epoch, loss, accuracy, val_loss,
            val_accuracy, and learning_rate, drawn too where every epoch has it.
        restored_epoch: the epoch, as in ``history``, whose weights were kept; marked.
    """
    if not history:
        raise ValueError("history: expected at least one epoch, got none")
    with_rate = all("learning_rate" in row for row in history)
    figure = Figure(figsize=(13.5 if with_rate else 9.5, 4.2), layout="constrained")
    panels = figure.subplots(1, 3 if with_rate else 2)
    loss, accuracy = panels[:2]
    _draw_curves(loss, history, "loss", restored_epoch)
    loss.set_ylabel("Loss")
    losses = np.array([[row["loss"], row["val_loss"]] for row in history])
    loss.set_ylim(0, 1.08 * losses.max(where=np.isfinite(losses), initial=1e-3))
    _draw_curves(accuracy, history, "accuracy", restored_epoch)
    accuracy.set_ylabel("Accuracy")
    accuracy.set_ylim(0, 1.02)
    if with_rate:
        _draw_learning_rate(panels[2], history)
    figure.legend(
        *loss.get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False
    )
    return figure


def save_png(figure: Figure, path: Path) -> None:
    """Write ``figure`` to ``path``: the same figure gives the same bytes."""
    FigureCanvasAgg(figure)
    with files.replacing_file(path) as temporary:
        # Matplotlib would sign the file with its version.
        figure.savefig(temporary, format="png", dpi=_DPI, metadata={"Software": None})


def _draw_matrix(
    axes: Axes,
    values: np.ma.MaskedArray,
    text: Sequence[Sequence[str]],
    largest: int,
    names: Sequence[str],
    cell_inches: float,
) -> None:
    image = axes.imshow(values, cmap="Blues", vmin=0, vmax=largest)
    axes.set_facecolor("#dddddd")  # shows where values are masked
    points = _name_points(cell_inches)
    upright = _names_upright(names, cell_inches)
    axes.set_xticks(range(len(names)), names, rotation=90 if upright else 0, fontsize=points)
    axes.set_yticks(range(len(names)), names, fontsize=points)
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        label.set_parse_math(False)  # a class may be called $x^$
    axes.set_xlabel("Predicted class")
    widest = max(len(cell) for row in text for cell in row)
    # Numbers fill four fifths of a cell.
    points = min(11.0, 0.8 * cell_inches / (max(widest, 2) * _letter_inches(1)))
    if points >= _SMALLEST_NUMBER_POINTS:
        _write_cells(axes, image, values, text, points)
    figure = axes.get_figure()
    if figure is not None:
        ticks = MaxNLocator(nbins=5, steps=[1, 2, 5, 10], integer=True)
        figure.colorbar(image, ax=axes, fraction=0.046, pad=0.02, ticks=ticks)


def _write_cells(
    axes: Axes,
    image: ScalarMappable,
    values: np.ma.MaskedArray,
    text: Sequence[Sequence[str]],
    points: float,
) -> None:
    colours = image.to_rgba(values)
    for row, cells in enumerate(text):
        for column, cell in enumerate(cells):
            if cell:
                ink = _readable_ink(colours[row, column])
                axes.text(column, row, cell, ha="center", va="center", color=ink, fontsize=points)


def _readable_ink(background: NDArray[np.float64]) -> str:
    """Return black or white, whichever contrasts more by WCAG 2's relative luminance."""
    red, green, blue = np.where(
        background[:3] <= 0.04045, background[:3] / 12.92, ((background[:3] + 0.055) / 1.055) ** 2.4
    )
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return "black" if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else "white"


def _percent_text(percent: float) -> str:
    """Round without calling a rare mistake 0 or an almost perfect class 100."""
    if percent == 0:
        return ""
    if percent < 0.5:
        return "<1"
    if 99.5 <= percent < 100:
        return ">99"
    return f"{percent:.0f}"


def _name_points(cell_inches: float) -> float:
    return float(np.clip(cell_inches * _POINTS_PER_INCH * 0.6, 5, 10))


def _names_upright(names: Sequence[str], cell_inches: float) -> bool:
    """Return whether some name below a matrix is wider than its cell."""
    return max(map(len, names)) * _letter_inches(_name_points(cell_inches)) > cell_inches


def _letter_inches(points: float) -> float:
    """Return how wide a letter or digit of this size is on average, rounded up."""
    return 0.6 * points / _POINTS_PER_INCH


def shortened(name: str, longest: int = _LONGEST_NAME) -> str:
    """Cut a long class name."""
    return name if len(name) <= longest else name[: longest - 1] + "…"


def _draw_curves(
    axes: Axes,
    history: Sequence[Mapping[str, float]],
    name: str,
    restored_epoch: int | None,
) -> None:
    epochs = [row["epoch"] for row in history]
    marked = len(epochs) <= _MOST_MARKED_EPOCHS
    axes.plot(
        epochs,
        [row[name] for row in history],
        color=TRAINING_COLOUR,
        marker="o" if marked else "",
        markersize=4,
        label="training",
    )
    axes.plot(
        epochs,
        [row[f"val_{name}"] for row in history],
        color=VALIDATION_COLOUR,
        linestyle="--",
        marker="s" if marked else "",
        markersize=4,
        label="validation",
    )
    if restored_epoch is not None:
        axes.axvline(
            restored_epoch,
            color=NEUTRAL_COLOUR,
            linestyle=":",
            label=f"weights kept: epoch {restored_epoch}",
        )
    _finish_epoch_axis(axes, epochs)


def _draw_learning_rate(axes: Axes, history: Sequence[Mapping[str, float]]) -> None:
    epochs = [row["epoch"] for row in history]
    axes.step(
        epochs,
        [row["learning_rate"] for row in history],
        color=NEUTRAL_COLOUR,
        marker="o",
        markersize=4,
        where="mid",
    )
    axes.set_ylabel("Learning rate")
    axes.set_ylim(bottom=0)
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    _finish_epoch_axis(axes, epochs)


def _finish_epoch_axis(axes: Axes, epochs: Sequence[float]) -> None:
    axes.set_xlabel("Epoch")
    axes.set_xlim(min(epochs) - 0.5, max(epochs) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
