"""Charts of a regression: predicted against actual values, and errors."""

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.common.charts import NEUTRAL, PALETTE, Chart, style_axes

_BINS = 30


def scatter_chart(
    actual: NDArray[np.float64],
    predicted: NDArray[np.float64],
    *,
    margin: float | None,
    unit: str,
) -> Chart:
    """Chart predicted against actual values, with the prediction interval as a band.

    Args:
        actual, predicted: float64 [N].
        margin: half of the width of the prediction interval; None without one.
        unit: of the values; may be empty.
    """
    low = float(min(actual.min(), predicted.min()))
    high = float(max(actual.max(), predicted.max()))
    pad = 0.05 * (high - low) or 1.0
    ends = np.array([low - pad, high + pad])

    def draw() -> Figure:
        figure = Figure(figsize=(5.2, 5.0), layout="constrained")
        axes = figure.subplots()
        if margin is not None:
            label = "90 % prediction interval"
            axes.fill_between(
                ends, ends - margin, ends + margin, color=NEUTRAL, alpha=0.15, label=label, lw=0
            )
        axes.plot(ends, ends, color=NEUTRAL, linestyle="--", label="predicted = actual")
        axes.scatter(actual, predicted, s=18, color=PALETTE[0], alpha=0.7, label="test videos")
        axes.set(
            xlabel=_with_unit("Actual", unit),
            ylabel=_with_unit("Predicted", unit),
            xlim=tuple(ends),
            ylim=tuple(ends),
        )
        style_axes(axes)
        axes.legend(loc="upper left", frameon=False)
        return figure

    inside = "" if margin is None else " Inside the band, the prediction interval has the value."
    mean_error = float(np.abs(predicted - actual).mean())
    return Chart(
        name="scatter",
        title="Predicted against actual",
        alt=f"Predicted against actual values of {len(actual)} test videos, from {low:.4g} to "
        f"{high:.4g}. The mean absolute error is {mean_error:.4g}.",
        caption=f"On the diagonal, the prediction is exact.{inside}",
        draw=draw,
    )


def residual_chart(
    actual: NDArray[np.float64], predicted: NDArray[np.float64], *, unit: str
) -> Chart:
    """Chart the distribution of the errors, and the errors against the actual values."""
    errors = predicted - actual

    def draw() -> Figure:
        figure = Figure(figsize=(7.6, 3.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        left.hist(errors, bins=min(_BINS, max(len(errors) // 3, 5)), color=PALETTE[0])
        left.set(xlabel=_with_unit("Error", unit), ylabel="Videos")
        right.scatter(actual, errors, s=14, color=PALETTE[0], alpha=0.7)
        right.axhline(0, color=NEUTRAL, linestyle="--")
        right.set(xlabel=_with_unit("Actual", unit), ylabel=_with_unit("Error", unit))
        for axes in (left, right):
            style_axes(axes)
        return figure

    return Chart(
        name="residuals",
        title="Errors",
        alt=f"Distribution of the errors of {len(errors)} test videos: mean {errors.mean():.4g}, "
        f"standard deviation {errors.std():.4g}.",
        caption="An error is the predicted minus the actual value. A slope on the right means "
        "that the model predicts values too close to the mean.",
        draw=draw,
    )


def _with_unit(name: str, unit: str) -> str:
    return f"{name} ({unit})" if unit else name
