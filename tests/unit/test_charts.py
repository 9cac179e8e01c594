import io
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import colors
from PIL import Image

from pipeline.common.charts import png_bytes, save_png
from pipeline.evaluation.plots import training_chart, training_figure
from pipeline.tasks.class_charts import (
    confusion_chart,
    confusion_figure,
    precision_recall_chart,
    reliability_chart,
)
from pipeline.tasks.class_scores import one_hot

MATRIX = np.array([[3, 1, 0], [0, 0, 0], [2, 0, 998]])
NAMES = ["left", "right", "counter-clockwise"]

# Highest probabilities: .9 .8 .95 .4 .36 .7 .7 .6; wrong are .8, .95 and .4.
LABELS = np.array([0, 1, 1, 2, 1, 1, 0, 0])
PROBABILITIES = np.array(
    [
        [0.90, 0.05, 0.05],
        [0.80, 0.10, 0.10],
        [0.95, 0.03, 0.02],
        [0.40, 0.35, 0.25],
        [0.30, 0.36, 0.34],
        [0.10, 0.70, 0.20],
        [0.70, 0.20, 0.10],
        [0.60, 0.20, 0.20],
    ]
)


def texts(axes):
    """Numbers written in the cells, by (row, column)."""
    return {(round(t.get_position()[1]), round(t.get_position()[0])): t for t in axes.texts}


def labelled(axes, label):
    return next(line for line in axes.lines if line.get_label().startswith(label))


def history(n_epochs, **extra):
    return [
        {
            "epoch": epoch,
            "loss": 2 / epoch,
            "accuracy": 1 - 1 / (epoch + 1),
            "val_loss": 3 / epoch,
            "val_accuracy": 1 - 2 / (epoch + 2),
            **extra,
        }
        for epoch in range(1, n_epochs + 1)
    ]


def training(rows, kept_epoch=1):
    return training_figure(rows, kept_epoch=kept_epoch, metric="accuracy")


def test_counts_are_on_the_left_and_percentages_of_rows_on_the_right():
    counts, percent = confusion_figure(MATRIX, NAMES).axes[:2]
    shown = {cell: text.get_text() for cell, text in texts(counts).items()}
    assert shown == {(0, 0): "3", (0, 1): "1", (2, 0): "2", (2, 2): "998"}
    # 3 of 4 and 1 of 4; 2 of 1000 is not 0 and 998 of 1000 is not 100.
    shown = {cell: text.get_text() for cell, text in texts(percent).items()}
    assert shown == {(0, 0): "75", (0, 1): "25", (2, 0): "<1", (2, 2): ">99"}


def test_the_axes_name_actual_and_predicted_classes():
    figure = confusion_figure(MATRIX, NAMES)
    counts, percent = figure.axes[:2]
    assert counts.get_ylabel() == "Actual class"
    assert counts.get_xlabel() == percent.get_xlabel() == "Predicted class"
    assert [label.get_text() for label in counts.get_xticklabels()] == NAMES
    assert [label.get_text() for label in counts.get_yticklabels()] == NAMES
    assert figure.get_suptitle() == "Confusion matrix: 1,004 videos, 3 classes"


def test_the_row_of_a_class_without_videos_is_masked_in_the_percentages():
    percent = confusion_figure(MATRIX, NAMES).axes[1].images[0].get_array()
    assert np.ma.getmaskarray(percent).tolist() == [[False] * 3, [True] * 3, [False] * 3]


def relative_luminance(colour):
    """By WCAG 2.2."""
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in colors.to_rgb(colour)
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_every_number_has_the_contrast_that_wcag_asks_for():
    matrix = np.arange(1, 145).reshape(12, 12)
    counts = confusion_figure(matrix, [f"c{index}" for index in range(12)]).axes[0]
    image = counts.images[0]
    written = texts(counts)
    assert len(written) == 144
    for cell, text in written.items():
        cell_colour = image.cmap(image.norm(matrix[cell]))
        light, dark = sorted(
            map(relative_luminance, (text.get_color(), cell_colour[:3])), reverse=True
        )
        assert (light + 0.05) / (dark + 0.05) >= 4.5, text.get_text()


def overlapping(boxes):
    return [
        (first, second)
        for index, first in enumerate(boxes)
        for second in boxes[index + 1 :]
        if first.overlaps(second)
    ]


@pytest.mark.parametrize("n_classes", [2, 30, pytest.param(100, marks=pytest.mark.long)])
def test_nothing_overlaps_or_leaves_the_confusion_matrix(n_classes):
    names = [f"SomeClassOfVideos{index}" for index in range(n_classes)]
    matrix = np.diag(np.full(n_classes, 20)) + np.eye(n_classes, k=1, dtype=int)
    figure = confusion_figure(matrix, names)
    figure.draw_without_rendering()
    whole = figure.bbox
    for axes in figure.axes[:2]:
        cell_pixels = axes.get_window_extent().width / n_classes
        for text in axes.texts:
            assert text.get_window_extent().width <= cell_pixels
        along_x = [label.get_window_extent() for label in axes.get_xticklabels()]
        assert not overlapping(along_x)
        assert all(box.y0 >= whole.y0 for box in along_x)
    along_y = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    assert not overlapping(along_y)
    assert all(box.x0 >= whole.x0 for box in along_y)


def test_of_a_thousand_classes_the_most_confused_are_drawn():
    matrix = np.diag(np.full(1000, 3))
    matrix[700, 20] = 2  # the only confusion of these two
    matrix[range(100, 197), range(101, 198)] = 1
    figure = confusion_figure(matrix, [f"class {index}" for index in range(1000)])
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert len(names) == 100
    assert {"class 20", "class 100", "class 197", "class 700"} < set(names)
    assert figure.get_suptitle() == (
        "Confusion matrix: 3,099 videos, 1,000 classes, the 100 with the most confusions"
    )
    # Percentages are of all videos of a class, also of those predicted as a class not drawn.
    image = figure.axes[1].images[0].get_array()
    assert image[names.index("class 700"), names.index("class 20")] == pytest.approx(40)
    assert max(Image.open(io.BytesIO(png_bytes(figure))).size) < 6000


def test_charts_of_a_thousand_classes_have_a_moderate_size():
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(1000), 2)
    probabilities = generator.dirichlet(np.full(1000, 0.1), size=2000)
    names = [f"class {index}" for index in range(1000)]
    curves = precision_recall_chart(one_hot(labels, 1000), probabilities, names)
    assert "Only the 60 worst of 1,000 are drawn." in curves.caption
    confusions = confusion_chart(labels, probabilities, names)
    assert "Only the 100 classes with the most confusions are drawn" in confusions.caption
    assert "eval/tables/confusions.csv has all" in confusions.caption
    for chart in (curves, reliability_chart(labels, probabilities)):
        assert max(Image.open(io.BytesIO(png_bytes(chart.draw()))).size) < 1000


def test_numbers_too_wide_for_small_cells_are_left_out():
    matrix = np.diag(np.full(100, 12345))
    counts, percent = confusion_figure(matrix, [str(index) for index in range(100)]).axes[:2]
    assert not counts.texts
    assert len(percent.texts) == 100


def test_long_names_are_shortened_and_names_are_not_formulas():
    labels = confusion_figure(np.eye(2, dtype=int), ["a" * 24, "b" * 25]).axes[0].get_yticklabels()
    assert [label.get_text() for label in labels] == ["a" * 24, "b" * 23 + "…"]
    assert png_bytes(confusion_figure(np.eye(2, dtype=int), ["$x^$", "cost$$"]))


def test_a_matrix_without_videos_is_drawn():
    figure = confusion_figure(np.zeros((2, 2), int), ["a", "b"])
    assert figure.axes[0].images[0].get_clim() == (0, 1)
    assert png_bytes(figure)


def test_a_matrix_must_have_one_row_for_each_name():
    with pytest.raises(ValueError, match=r"matrix: expected shape \(2, 2\)\. Received: \(3, 3\)"):
        confusion_figure(MATRIX, ["a", "b"])


def test_the_alternative_text_counts_the_correct_videos():
    assert "3 classes: 5 of 8 test videos" in confusion_chart(LABELS, PROBABILITIES, "abc").alt


def test_the_reliability_chart_has_confidence_and_accuracy_of_each_bin_with_videos():
    axes = reliability_chart(LABELS, PROBABILITIES, bins=2).draw().axes[0]
    line = labelled(axes, "test videos")
    assert list(line.get_xdata()) == pytest.approx([0.38, 4.65 / 6])
    assert list(line.get_ydata()) == pytest.approx([1 / 2, 4 / 6])


def test_the_reliability_chart_names_the_gap_that_weighs_most():
    # Gaps: 2 videos * 0.12, 6 videos * 0.108.
    chart = reliability_chart(LABELS, PROBABILITIES, bins=2)
    assert "at confidence 0.78 (6 videos), where accuracy is 0.108 lower" in chart.alt
    counts = [text.get_text() for text in chart.draw().axes[1].texts]
    assert counts == ["2", "6"]


def test_the_precision_recall_chart_names_the_worst_class():
    # Precision at each correct video, down the ranking: c 1/2; a 1/2, 2/4, 3/5; b 1/1, 2/2, 3/6,
    # 4/8.
    chart = precision_recall_chart(one_hot(LABELS, 3), PROBABILITIES, "abc")
    assert chart.alt.endswith("Average precision ranges from 0.500 (c) to 0.750 (b).")
    legend = chart.draw().axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == [
        "c: AP 0.500",
        "a: AP 0.533",
        "b: AP 0.750",
    ]


def test_of_many_classes_six_curves_are_named():
    probabilities = np.random.default_rng(0).dirichlet(np.ones(9), 50)
    chart = precision_recall_chart(one_hot(np.arange(50) % 9, 9), probabilities, "abcdefghi")
    axes = chart.draw().axes[0]
    assert len(axes.lines) == 9
    assert len(axes.get_legend().get_texts()) == 6
    assert "six worst are named" in chart.caption


def test_a_class_without_test_videos_has_no_curve():
    chart = precision_recall_chart(one_hot(np.array([0, 1]), 3), PROBABILITIES[:2], "abc")
    assert len(chart.draw().axes[0].lines) == 2


def test_curves_are_those_of_the_history():
    rows = history(5)
    loss, accuracy = training(rows).axes
    for axes, key in [(loss, "loss"), (accuracy, "accuracy")]:
        for label, name in [("training", key), ("validation", f"val_{key}")]:
            line = labelled(axes, label)
            assert list(line.get_xdata()) == [1, 2, 3, 4, 5]
            assert list(line.get_ydata()) == [row[name] for row in rows]
    assert (loss.get_ylabel(), accuracy.get_ylabel()) == ("Loss", "Accuracy")
    assert loss.get_xlabel() == accuracy.get_xlabel() == "Epoch"


def test_the_best_epoch_is_marked_and_named():
    chart = training_chart(history(9), kept_epoch=4, metric="accuracy")
    figure = chart.draw()
    for axes in figure.axes:
        assert list(labelled(axes, "weights kept").get_xdata()) == [4, 4]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["training", "validation", "weights kept: epoch 4"]
    assert chart.alt.endswith(
        "The weights of epoch 4 were kept, with a validation loss of 0.750 and a validation "
        "accuracy of 0.667."
    )


def test_a_metric_above_1_has_an_axis_that_fits():
    rows = [{**row, "error": 5.0, "val_error": 7.0} for row in history(3)]
    axes = training_figure(rows, kept_epoch=1, metric="error").axes[1]
    assert axes.get_ylabel() == "Error"
    assert axes.get_ylim()[1] > 7


def test_the_learning_rate_has_a_panel_when_every_epoch_has_it():
    assert len(training(history(3, learning_rate=0.0)).axes) == 3
    assert len(training(history(2, learning_rate=0.1) + history(3)[2:]).axes) == 2


def test_a_single_epoch_is_visible():
    loss = training(history(1)).axes[0]
    assert labelled(loss, "training").get_marker() == "o"
    assert loss.get_xlim() == (0.5, 1.5)
    assert loss.get_ylim()[1] > 3


def test_a_loss_that_is_not_finite_leaves_a_gap():
    figure = training([*history(2), {**history(3)[2], "loss": np.nan, "val_loss": np.inf}])
    assert png_bytes(figure)
    assert figure.axes[0].get_ylim()[1] == pytest.approx(3 * 1.08)


def test_a_history_needs_an_epoch():
    with pytest.raises(ValueError, match=r"history: expected at least one epoch\. Received: none"):
        training_chart([], kept_epoch=1, metric="accuracy")


def test_the_same_figure_gives_the_same_bytes_and_no_metadata_but_dpi(tmp_path):
    first, second = tmp_path / "plots" / "a.png", tmp_path / "plots" / "b.png"
    before = dict(mpl.rcParams)
    save_png(confusion_figure(MATRIX, NAMES), first)
    save_png(confusion_figure(MATRIX, NAMES), second)
    assert first.read_bytes() == second.read_bytes()
    assert dict(mpl.rcParams) == before
    with Image.open(first) as picture:
        assert picture.format == "PNG"
        assert set(picture.info) == {"dpi"}
    assert sorted(path.name for path in first.parent.iterdir()) == ["a.png", "b.png"]


def test_evaluation_and_tasks_import_no_pyplot_tensorflow_mlflow_or_dvc():
    script = (
        "import sys\n"
        "import pipeline.evaluation.audits, pipeline.evaluation.plots\n"
        "import pipeline.evaluation.scores, pipeline.evaluation.slices\n"
        "import pipeline.tasks.class_charts, pipeline.tasks.classification\n"
        "heavy = {'matplotlib.pyplot', 'tensorflow', 'keras', 'mlflow', 'dvc'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"


def test_a_served_model_needs_no_matplotlib_scipy_or_scikit_learn():
    script = (
        "import sys\n"
        "import pipeline.tasks.classification\n"
        "print(sorted({'matplotlib', 'scipy', 'sklearn', 'cleanlab'} & set(sys.modules)))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"
