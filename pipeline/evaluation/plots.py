"""Training curves by epoch."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.common.charts import NEUTRAL, PALETTE, Chart, style_axes
from pipeline.common.files import read_csv

_MAX_MARKED_EPOCHS = 40  # with more epochs, one marker each would overlap


def read_history(path: Path) -> list[dict[str, float]]:
    """Return one row an epoch of models/history.csv, by column."""
    return [{column: float(cell) for column, cell in row.items()} for row in read_csv(path)]


def training_chart(
    history: Sequence[Mapping[str, float]], *, kept_epoch: int, metric: str
) -> Chart:
    """Chart loss, metric and, if recorded, learning rate by epoch.

    Args:
        history: one row an epoch: epoch, loss, val_loss, the metric and ``val_<metric>``;
            learning_rate is drawn when every epoch has it.
        kept_epoch: the epoch, as in ``history``, whose weights were kept.
        metric: such as accuracy.
    """
    if not history:
        raise ValueError("history: expected at least one epoch. Received: none")
    kept = next(row for row in history if row["epoch"] == kept_epoch)
    label = metric.replace("_", " ")
    return Chart(
        name="training",
        title="Training curves",
        alt=f"Loss and {label} over {len(history)} epochs. The weights of epoch {kept_epoch} were "
        f"kept, with a validation loss of {kept['val_loss']:.3f} and a validation {label} of "
        f"{kept[f'val_{metric}']:.3f}.",
        caption="The dotted line is the epoch whose weights were kept. Where the validation loss "
        "rises while the training loss falls, the model overfits the training videos.",
        draw=lambda: training_figure(history, kept_epoch=kept_epoch, metric=metric),
    )


def training_figure(
    history: Sequence[Mapping[str, float]], *, kept_epoch: int, metric: str
) -> Figure:
    """Draw the panels of ``training_chart``."""
    has_rate = all("learning_rate" in row for row in history)
    figure = Figure(figsize=(13.5 if has_rate else 9.5, 4.2), layout="constrained")
    panels = figure.subplots(1, 3 if has_rate else 2)
    for axes, name in zip(panels, ("loss", metric), strict=False):
        _draw_curves(axes, history, name, kept_epoch)
        axes.set_ylabel(name.replace("_", " ").capitalize())
    losses = np.array([[row["loss"], row["val_loss"]] for row in history])
    panels[0].set_ylim(0, 1.08 * losses.max(where=np.isfinite(losses), initial=1e-3))
    values = np.array([[row[metric], row[f"val_{metric}"]] for row in history])
    if np.nanmin(values) >= 0:
        panels[1].set_ylim(0, 1.02 if np.nanmax(values) <= 1 else None)
    if has_rate:
        axes = panels[2]
        epochs = [row["epoch"] for row in history]
        rates = [row["learning_rate"] for row in history]
        axes.step(epochs, rates, color=NEUTRAL, marker="o", markersize=4, where="mid")
        axes.set_ylabel("Learning rate")
        axes.set_ylim(bottom=0)
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
        _style_epoch_axis(axes, epochs)
    figure.legend(
        *panels[0].get_legend_handles_labels(),
        loc="outside upper center",
        ncols=3,
        frameon=False,
    )
    return figure


def _draw_curves(
    axes: Axes, history: Sequence[Mapping[str, float]], name: str, kept_epoch: int
) -> None:
    epochs = [row["epoch"] for row in history]
    has_markers = len(epochs) <= _MAX_MARKED_EPOCHS
    for label, key, color, style, marker in (
        ("training", name, PALETTE[0], "-", "o"),
        ("validation", f"val_{name}", PALETTE[1], "--", "s"),
    ):
        axes.plot(
            epochs,
            [row[key] for row in history],
            color=color,
            linestyle=style,
            marker=marker if has_markers else "",
            markersize=4,
            label=label,
        )
    axes.axvline(
        kept_epoch, color=NEUTRAL, linestyle=":", label=f"weights kept: epoch {kept_epoch}"
    )
    _style_epoch_axis(axes, epochs)


def _style_epoch_axis(axes: Axes, epochs: Sequence[float]) -> None:
    axes.set_xlabel("Epoch")
    axes.set_xlim(min(epochs) - 0.5, max(epochs) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    style_axes(axes)
