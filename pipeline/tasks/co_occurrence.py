"""Table and chart of the labels that occur together, of a multi-label model."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from pipeline.common.charts import Chart, plain_tick_labels, shorten_name
from pipeline.tasks.task import Table

_MAX_LABELS = 30  # in the picture
_MAX_PAIRS = 10  # in the table


def co_occurrence_table(
    actual: NDArray[np.bool_], predicted: NDArray[np.bool_], label_names: Sequence[str]
) -> Table:
    """Return the ten pairs of labels that occur together most often, actual and predicted.

    Args:
        actual, predicted: bool [N, L].
    """
    both_actual, both_predicted = (
        side.T.astype(np.int64) @ side.astype(np.int64) for side in (actual, predicted)
    )
    first, second = np.triu_indices(len(label_names), k=1)
    counts = both_actual[first, second]
    order = [index for index in np.argsort(-counts, kind="stable")[:_MAX_PAIRS] if counts[index]]
    return Table(
        name="co_occurrence",
        title="Labels that occur together",
        columns=["label", "other", "videos", "predicted"],
        rows=[
            {
                "label": label_names[first[index]],
                "other": label_names[second[index]],
                "videos": str(counts[index]),
                "predicted": str(both_predicted[first[index], second[index]]),
            }
            for index in order
        ],
    )


def co_occurrence_chart(
    actual: NDArray[np.bool_], predicted: NDArray[np.bool_], label_names: Sequence[str]
) -> Chart:
    """Chart the proportion of videos with one label that also have another.

    Of more than thirty labels, the thirty most frequent are drawn.

    Args:
        actual, predicted: bool [N, L].
    """
    support = actual.sum(axis=0)
    shown = np.sort(np.argsort(-support, kind="stable")[:_MAX_LABELS])
    names = [shorten_name(label_names[index]) for index in shown]

    def share(side: NDArray[np.bool_]) -> NDArray[np.float64]:
        counted = side[:, shown].astype(np.float64)
        videos = np.maximum(counted.sum(axis=0), 1)
        return np.asarray(counted.T @ counted / videos[:, None], np.float64)

    def draw() -> Figure:
        side = max(0.32 * len(names), 2.4)
        names_inches = 0.09 * max(map(len, names))
        figure = Figure(
            figsize=(2 * side + names_inches + 1.6, side + names_inches + 1.0),
            layout="constrained",
        )
        left, right = figure.subplots(1, 2, sharey=True)
        for axes, title, values in (
            (left, "Actual", share(actual)),
            (right, "Predicted", share(predicted)),
        ):
            image = axes.imshow(values, cmap="Blues", vmin=0, vmax=1)
            axes.set_xticks(range(len(names)), names, rotation=90)
            axes.set_yticks(range(len(names)), names)
            plain_tick_labels(axes)
            axes.set(title=title, xlabel="... also has this label")
        left.set_ylabel("A video with this label ...")
        ticks = MaxNLocator(nbins=5)
        figure.colorbar(image, ax=[left, right], fraction=0.046, pad=0.02, ticks=ticks)
        return figure

    more = (
        f" Only the {_MAX_LABELS} most frequent labels are drawn."
        if len(support) > _MAX_LABELS
        else ""
    )
    return Chart(
        name="co_occurrence",
        title="Labels that occur together",
        alt=f"Proportion of the videos with one of {len(names)} labels that also have another, "
        "actual and predicted.",
        caption="Both sides should look the same. A darker cell on the right means that the model "
        f"takes one label as a sign of another.{more}",
        draw=draw,
    )
