import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import colors
from PIL import Image

from pipeline.evaluation.plots import confusion_picture, save_png, training_curves_picture

MATRIX = np.array([[3, 1, 0], [0, 0, 0], [2, 0, 998]])
NAMES = ["left", "right", "counter-clockwise"]


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


def test_counts_are_on_the_left_and_percentages_of_rows_on_the_right():
    counts, percent = confusion_picture(MATRIX, NAMES).axes[:2]
    shown = {cell: text.get_text() for cell, text in texts(counts).items()}
    assert shown == {(0, 0): "3", (0, 1): "1", (2, 0): "2", (2, 2): "998"}
    # 3 of 4 and 1 of 4; 2 of 1000 is not 0 and 998 of 1000 is not 100.
    shown = {cell: text.get_text() for cell, text in texts(percent).items()}
    assert shown == {(0, 0): "75", (0, 1): "25", (2, 0): "<1", (2, 2): ">99"}


def test_the_axes_say_which_is_actual_and_which_predicted():
    figure = confusion_picture(MATRIX, NAMES)
    counts, percent = figure.axes[:2]
    assert counts.get_ylabel() == "Actual class"
    assert counts.get_xlabel() == percent.get_xlabel() == "Predicted class"
    assert [label.get_text() for label in counts.get_xticklabels()] == NAMES
    assert [label.get_text() for label in counts.get_yticklabels()] == NAMES
    assert figure.get_suptitle() == "Confusion matrix: 1004 videos, 3 classes"


def test_the_row_of_a_class_without_videos_is_masked_in_the_percentages():
    percent = confusion_picture(MATRIX, NAMES).axes[1].images[0].get_array()
    assert np.ma.getmaskarray(percent).tolist() == [[False] * 3, [True] * 3, [False] * 3]


def relative_luminance(colour):
    """By WCAG 2.2."""
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in colors.to_rgb(colour)
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_every_number_contrasts_with_its_cell_as_wcag_asks():
    matrix = np.arange(1, 145).reshape(12, 12)
    counts = confusion_picture(matrix, [f"c{index}" for index in range(12)]).axes[0]
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


@pytest.mark.parametrize("n_classes", [2, 6, 30, 100])
def test_nothing_overlaps_or_leaves_the_picture(n_classes):
    names = [f"SomeClassOfVideos{index}" for index in range(n_classes)]
    matrix = np.diag(np.full(n_classes, 20)) + np.eye(n_classes, k=1, dtype=int)
    figure = confusion_picture(matrix, names)
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


def test_numbers_too_wide_for_small_cells_are_left_out():
    matrix = np.diag(np.full(100, 12345))
    counts, percent = confusion_picture(matrix, [str(index) for index in range(100)]).axes[:2]
    assert not counts.texts
    assert len(percent.texts) == 100


def test_long_names_are_cut():
    names = ["a" * 24, "b" * 25]
    labels = confusion_picture(np.eye(2, dtype=int), names).axes[0].get_yticklabels()
    assert [label.get_text() for label in labels] == ["a" * 24, "b" * 23 + "…"]


def test_a_matrix_without_videos_is_drawn(tmp_path):
    figure = confusion_picture(np.zeros((2, 2), int), ["a", "b"])
    assert figure.axes[0].images[0].get_clim() == (0, 1)
    save_png(figure, tmp_path / "empty.png")
    assert (tmp_path / "empty.png").exists()


def test_a_matrix_must_fit_the_names():
    with pytest.raises(ValueError, match=r"matrix: expected shape \(2, 2\), got \(3, 3\)"):
        confusion_picture(MATRIX, ["a", "b"])


def test_curves_are_those_of_the_history():
    rows = history(5)
    loss, accuracy = training_curves_picture(rows).axes
    for axes, key in [(loss, "loss"), (accuracy, "accuracy")]:
        for label, name in [("training", key), ("validation", f"val_{key}")]:
            line = labelled(axes, label)
            assert list(line.get_xdata()) == [1, 2, 3, 4, 5]
            assert list(line.get_ydata()) == [row[name] for row in rows]
    assert (loss.get_ylabel(), accuracy.get_ylabel()) == ("Loss", "Accuracy")
    assert loss.get_xlabel() == accuracy.get_xlabel() == "Epoch"


def test_the_restored_epoch_is_marked_in_both_panels_and_named():
    figure = training_curves_picture(history(9), restored_epoch=4)
    for axes in figure.axes:
        assert list(labelled(axes, "weights kept").get_xdata()) == [4, 4]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["training", "validation", "weights kept: epoch 4"]


def test_without_a_restored_epoch_nothing_is_marked():
    assert [len(axes.lines) for axes in training_curves_picture(history(9)).axes] == [2, 2]


def test_the_learning_rate_has_a_panel_where_every_epoch_has_it():
    assert len(training_curves_picture(history(3, learning_rate=0.0)).axes) == 3
    partial = history(2, learning_rate=0.1) + history(3)[2:]
    assert len(training_curves_picture(partial).axes) == 2


def test_a_single_epoch_is_visible():
    loss = training_curves_picture(history(1)).axes[0]
    assert labelled(loss, "training").get_marker() == "o"
    assert loss.get_xlim() == (0.5, 1.5)
    assert loss.get_ylim()[1] > 3


def test_a_loss_that_is_not_finite_leaves_a_gap(tmp_path):
    rows = [*history(2), {**history(3)[2], "loss": np.nan, "val_loss": np.inf}]
    figure = training_curves_picture(rows)
    save_png(figure, tmp_path / "training.png")
    assert figure.axes[0].get_ylim()[1] == pytest.approx(3 * 1.08)


def test_a_history_has_an_epoch():
    with pytest.raises(ValueError, match="history: expected at least one epoch, got none"):
        training_curves_picture([])


def test_the_same_figure_gives_the_same_bytes_and_no_metadata_but_dpi(tmp_path):
    first, second = tmp_path / "plots" / "a.png", tmp_path / "plots" / "b.png"
    save_png(confusion_picture(MATRIX, NAMES), first)
    save_png(confusion_picture(MATRIX, NAMES), second)
    assert first.read_bytes() == second.read_bytes()
    with Image.open(first) as picture:
        assert picture.format == "PNG"
        assert set(picture.info) == {"dpi"}
    assert sorted(path.name for path in first.parent.iterdir()) == ["a.png", "b.png"]


def test_drawing_leaves_matplotlibs_settings_alone(tmp_path):
    before = dict(mpl.rcParams)
    save_png(confusion_picture(MATRIX, NAMES), tmp_path / "a.png")
    save_png(training_curves_picture(history(3)), tmp_path / "b.png")
    assert dict(mpl.rcParams) == before


def test_evaluation_imports_no_pyplot_tensorflow_mlflow_or_dvc():
    script = (
        "import sys\n"
        "import pipeline.evaluation.intervals, pipeline.evaluation.metrics\n"
        "import pipeline.evaluation.data_plots\n"
        "import pipeline.evaluation.plots, pipeline.evaluation.predictions\n"
        "heavy = {'matplotlib.pyplot', 'tensorflow', 'keras', 'mlflow', 'dvc'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert found.stdout == "[]\n"


def test_class_names_are_no_formulas(tmp_path):
    figure = confusion_picture(np.eye(2, dtype=np.int64), ["$x^$", "cost$$"])
    save_png(figure, tmp_path / "confusion.png")
    assert (tmp_path / "confusion.png").stat().st_size > 0
