import keras
import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from pipeline.common.errors import PipelineError
from pipeline.evaluation.settings import EvaluateSection
from pipeline.tasks.regression import Regression
from pipeline.tasks.settings import TaskSection
from pipeline.tasks.targets import targets_of
from pipeline.tasks.task import task_from_json, task_to_json
from tests.architectures import head_model

TARGETS = ["10", "20", "30", "40"]
TASK = Regression.learn(TARGETS, TaskSection(type="regression", unit="km/h"))
OUTPUTS = np.array([[12.0], [20.0], [27.0], [80.0]])
RESAMPLING = EvaluateSection(bootstrap_samples=50).resampling(list("abcd"))


def test_mean_and_deviation_are_learnt_from_the_training_targets():
    assert (TASK.mean, TASK.deviation) == (25, pytest.approx(np.std([10, 20, 30, 40])))
    assert TASK.summary() == ("a number in km/h (mean 25, standard deviation 11.18 in training)")
    assert task_from_json(task_to_json(TASK)) == TASK


def test_equal_training_targets_are_refused():
    with pytest.raises(PipelineError, match=r"no variance.* Received: 3 for all 2 videos"):
        Regression.learn(["3", "3"], TaskSection(type="regression"))


@pytest.mark.parametrize("cell", ["", "fast", "nan", "inf", "1,5", "1_000"])
def test_a_value_that_is_not_a_finite_number_names_its_row(cell):
    with pytest.raises(PipelineError, match=r"labels.csv, line 2: value must be a finite number"):
        targets_of("regression").read({"value": cell}, where="labels.csv, line 2")


def test_the_model_answers_in_the_unit_of_the_targets():
    model = head_model(TASK)
    inputs = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    standardised = keras.Model(model.input, model.get_layer("standardised").output)
    expected = standardised.predict_on_batch(inputs) * TASK.deviation + TASK.mean
    np.testing.assert_allclose(model.predict_on_batch(inputs), expected, rtol=1e-6)


def test_the_loss_does_not_depend_on_the_unit():
    loss = TASK.loss(label_smoothing=0)(TASK.encode(TARGETS), OUTPUTS.astype(np.float32))
    metres = Regression(TASK.mean * 1000, TASK.deviation * 1000)
    in_metres = metres.loss(label_smoothing=0)(
        TASK.encode(TARGETS) * 1000, OUTPUTS.astype(np.float32) * 1000
    )
    assert float(loss) == pytest.approx(float(in_metres), rel=1e-5)


def test_settings_of_classes_are_refused():
    with pytest.raises(PipelineError, match=r"train.label_smoothing: expected 0"):
        TASK.loss(label_smoothing=0.1)
    with pytest.raises(PipelineError, match=r"train.class_weights: expected none"):
        TASK.loss(label_smoothing=0, balanced_on=TASK.encode(TARGETS))


def test_the_scores_are_those_of_scikit_learn_and_scipy():
    scores = TASK.scores_with_intervals(TARGETS, OUTPUTS, RESAMPLING)
    scores |= TASK.other_scores(TARGETS, OUTPUTS, RESAMPLING)
    actual, predicted = [float(target) for target in TARGETS], OUTPUTS[:, 0]
    assert scores["mae"].value == pytest.approx(mean_absolute_error(actual, predicted))
    assert scores["rmse"].value == pytest.approx(root_mean_squared_error(actual, predicted))
    assert scores["r2"].value == pytest.approx(r2_score(actual, predicted))
    assert scores["spearman"].value == pytest.approx(spearmanr(actual, predicted).statistic)
    assert scores["closeness"].value == pytest.approx(TASK.video_scores(TARGETS, OUTPUTS).mean())


def test_closeness_falls_to_zero_at_an_error_of_one_standard_deviation():
    errors = np.array([0, 0.25, 1, 5]) * TASK.deviation
    outputs = np.array([[25 + error] for error in errors])
    assert TASK.video_scores(["25"] * 4, outputs) == pytest.approx([1, 0.75, 0, 0])


def test_the_interval_of_the_rank_correlation_repeats_the_videos():
    actual = np.array([float(target) for target in TARGETS])
    counts = np.concatenate(list(RESAMPLING.video_counts()))
    repeated = [np.repeat(np.arange(4), row) for row in counts]
    with np.errstate(invalid="ignore"):
        expected = [
            spearmanr(actual[videos], OUTPUTS[videos, 0]).statistic
            if len(set(videos)) > 1
            else np.nan
            for videos in repeated
        ]
    interval = TASK.other_scores(TARGETS, OUTPUTS, RESAMPLING)["spearman"].interval
    assert interval == pytest.approx(RESAMPLING.interval(np.array(expected)))


def test_nine_of_ten_new_values_are_in_the_prediction_interval():
    rng = np.random.default_rng(0)
    once = EvaluateSection(bootstrap_samples=10).resampling([str(n) for n in range(30)])
    coverages = []
    for _ in range(200):
        values, noise = rng.normal(size=(2, 60))
        targets = [str(value) for value in values]
        outputs = (values + noise)[:, None]
        fitted = TASK.calibrate(None, outputs[:30], targets[:30], np.arange(30))
        new = fitted.other_scores(targets[30:], outputs[30:], once)
        coverages.append(new["interval_coverage"].value)
    assert 0.89 < np.mean(coverages) < 0.94  # 28 of 31 is 0.903


def test_eight_validation_videos_are_too_few_for_prediction_intervals():
    outputs = np.zeros((9, 1))
    targets = [str(number) for number in range(9)]
    assert TASK.calibrate(None, outputs[:8], targets[:8], np.arange(8)).margin is None
    assert TASK.calibrate(None, outputs, targets, np.arange(9)).margin == 8


def test_the_residuals_of_averaged_clips_are_calibrated():
    outputs = np.repeat([[0.0], [4.0]], 9, axis=0)  # two clips a video, on both sides of 2
    fitted = TASK.calibrate(None, outputs, ["2"] * 9, np.tile(np.arange(9), 2))
    assert fitted.margin == 0


def test_predictions_survive_a_csv_file():
    fitted = Regression(25.0, 11.0, "km/h", margin=5.0)
    rows = [
        fitted.prediction_cells(target, output)
        for target, output in zip(TARGETS, OUTPUTS, strict=True)
    ]
    task, targets, outputs = Regression.read_predictions(rows, where="predictions.csv")
    assert targets == TARGETS
    assert outputs.tolist() == OUTPUTS.tolist()
    assert (task.deviation, task.margin) == (11, 5)
    assert task.video_scores(targets, outputs) == pytest.approx(
        fitted.video_scores(TARGETS, OUTPUTS)
    )
    for row, column, cell in (
        (1, "predicted", "x"),
        (1, "value", "nan"),
        (0, "value", "inf"),
        (0, "high", "x"),
        (0, "scale", "x"),
        (1, "scale", ""),
    ):
        wrong = [dict(each) for each in rows]
        wrong[row][column] = cell
        with pytest.raises(PipelineError, match=rf"predictions.csv, line {row + 2}: expected .*"):
            Regression.read_predictions(wrong, where="predictions.csv")


def test_an_answer_has_the_value_and_the_prediction_interval():
    assert TASK.answer(OUTPUTS[0], top_k=0) == {"value": 12, "low": None, "high": None}
    fitted = Regression(25.0, 11.0, "km/h", margin=5.0)
    answer = fitted.answer(OUTPUTS[0], top_k=0)
    assert answer == {"value": 12, "low": 7, "high": 17}
    assert answer.keys() == fitted.answer_types.keys()
    assert fitted.answer_line(answer, shown=3) == ["12 km/h (7 to 17)"]
    assert fitted.answer_cells(answer) == {"predicted": "12", "low": "7", "high": "17"}


def test_answers_of_two_models_become_outputs_on_one_scale():
    answers = [TASK.answer(output, top_k=0) for output in OUTPUTS]
    task, outputs = Regression.outputs_from_answers(answers, TARGETS)
    assert outputs.tolist() == OUTPUTS.tolist()
    assert task.convert(outputs, task.union(TASK)).tolist() == OUTPUTS.tolist()


def test_clip_lengths_that_tell_the_value_are_found():
    frames = np.repeat([10, 20, 30], 10)
    groups = [str(number) for number in range(30)]
    targets = [str(count / 2) for count in frames]
    assert TASK.length_baseline(frames, targets, groups).mean() == 1
    assert TASK.constant_baseline(targets) < 0.8


def test_tables_and_charts_have_the_names_of_their_files():
    assert [table.name for table in TASK.tables(TARGETS, OUTPUTS, RESAMPLING)] == ["residuals"]
    worst = TASK.tables(TARGETS, OUTPUTS, RESAMPLING)[0].rows[0]
    assert worst == {"actual": "40", "predicted": "80", "error": "40"}
    charts = TASK.charts(TARGETS, OUTPUTS, ["a.mp4"] * len(TARGETS))
    assert [chart.name for chart in charts] == ["scatter", "residuals"]
    for chart in charts:
        chart.draw()
