"""Timelines of actual and predicted segments."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from pipeline.common.charts import PALE, Chart, name_colours, plain_tick_labels, shorten_name
from pipeline.tasks.intervals import runs

_EACH = 4  # videos of the lowest and of the highest accuracy
_MAX_LEGEND = 24  # classes
_LONGEST_NAME = 32  # characters of the name of a video


def timelines_chart(
    videos: Sequence[str],
    pairs: Sequence[tuple[Sequence[str], Sequence[str]]],
    accuracies: NDArray[np.float64],
    class_names: Sequence[str],
    *,
    fps: float,
) -> Chart:
    """Chart the segments of the videos with the lowest and the highest accuracy.

    Args:
        videos: name of each video.
        pairs: actual and predicted label of each frame of each video; empty: unlabelled.
        accuracies: float64 [N], of the frames of each video.
        fps: frames per second.
    """
    order = np.argsort(accuracies, kind="stable").tolist()
    is_all = len(order) <= 2 * _EACH
    shown = order if is_all else order[:_EACH] + order[-_EACH:]
    colours = {"": PALE, **name_colours(class_names)}

    def draw() -> Figure:
        height = 0.62 * len(shown) + 1.3
        figure = Figure(figsize=(8.0, height), layout="constrained")
        axes = figure.subplots()
        for row, video in enumerate(shown):
            for place, labels in zip((-0.2, 0.2), pairs[video], strict=True):
                _draw_segments(axes, labels, row + place, colours, fps=fps)
        names = [
            f"{shorten_name(videos[video], _LONGEST_NAME)}\naccuracy {accuracies[video]:.2f}"
            for video in shown
        ]
        axes.set_yticks(range(len(shown)), names)
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.set_xlim(0, max(len(pairs[video][0]) for video in shown) / fps)
        axes.set_xlabel("Seconds. Upper bars: actual; lower bars: predicted")
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        plain_tick_labels(axes)
        legend = figure.legend(
            handles=[
                Patch(color=colour, label=shorten_name(name or "unlabelled"))
                for name, colour in list(colours.items())[: _MAX_LEGEND + 1]
            ],
            loc="outside lower center",
            ncols=4,
            frameon=False,
        )
        for text in legend.get_texts():
            text.set_parse_math(False)
        return figure

    which = (
        f"all {len(order)} test videos, the lowest accuracy first"
        if is_all
        else f"the {_EACH} test videos with the lowest accuracy and the {_EACH} with the highest"
    )
    return Chart(
        name="timelines",
        title="Timelines",
        alt=f"Actual and predicted segments of {which}. Accuracies range from "
        f"{accuracies.min():.3f} to {accuracies.max():.3f}.",
        caption=f"Actual segments above predicted ones, of {which}. Grey is unlabelled: it does "
        "not count.",
        draw=draw,
    )


def _draw_segments(
    axes: Axes, labels: Sequence[str], centre: float, colours: dict[str, str], *, fps: float
) -> None:
    segments = list(runs(labels))
    axes.broken_barh(
        [(start / fps, (stop - start) / fps) for start, stop in segments],
        (centre - 0.18, 0.36),
        facecolors=[colours[labels[start]] for start, _ in segments],
    )
