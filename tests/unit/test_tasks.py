import math

import numpy as np
import pytest

from pipeline.common.errors import PipelineError
from pipeline.evaluation.settings import EvaluateSection
from pipeline.tasks.calibration import apply_temperature, fit_abstention, fit_temperature
from pipeline.tasks.classification import Classification
from pipeline.tasks.settings import TaskSection
from pipeline.tasks.targets import targets_of
from pipeline.tasks.task import LimitedValue, task_from_json, task_to_json
from tests.architectures import head_model
from tests.other_task import Brightness, register_brightness

SECTION = TaskSection(target_accuracy=0.9)
TASK = Classification.learn(["run", "jump", "run", "walk"], SECTION)

OUTPUTS = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])  # jump, run, walk


# Classification: what is learnt, and its form on disk


def test_the_class_names_are_learnt_in_alphabetical_order():
    expected = Classification(("jump", "run", "walk"), target_accuracy=0.9)
    assert expected == TASK
    assert TASK.summary() == "3 classes: jump, run, walk"
    assert TASK.encode(["walk", "jump"]).tolist() == [2, 0]


def test_a_task_survives_json():
    fitted = Classification(("a", "b"), target_accuracy=0.9, abstain_below=0.75)
    assert task_to_json(fitted)["type"] == "classification"
    assert task_from_json(task_to_json(fitted)) == fitted
    assert task_from_json(task_to_json(TASK)).abstain_below is None


def test_an_unknown_class_is_named():
    with pytest.raises(PipelineError, match=r"Class 'swim' is unknown .* one of jump, run, walk"):
        TASK.encode(["jump", "swim"])


def test_class_names_are_unique():
    with pytest.raises(ValueError, match="class_names: expected no name twice"):
        Classification(("run", "run"), target_accuracy=0.9)


def test_balanced_weights_make_all_classes_count_the_same():
    labels = np.array([0, 1, 1, 2])
    uniform = np.full((4, 3), 1 / 3, np.float32)  # the loss of every clip is ln 3
    loss = TASK.loss(label_smoothing=0, balanced_on=labels)
    by_clip = [float(loss(labels[[row]], uniform[[row]])) / math.log(3) for row in range(4)]
    assert by_clip == pytest.approx([4 / 3, 2 / 3, 2 / 3, 4 / 3])


def test_a_mirror_swaps_the_named_classes():
    task = Classification(("left", "right", "up"), target_accuracy=0.9)
    task.check_mirror([["left", "right"]])
    mirrored = task.mirrored(np.array([0, 1, 2]), [["left", "right"]])
    assert mirrored.numpy().tolist() == [1, 0, 2]
    with pytest.raises(PipelineError, match=r"flip_swaps.*left, right, up.* Received: down"):
        task.check_mirror([["left", "down"]])


# Classification: the head


def test_the_head_gives_probabilities_from_logits_and_a_temperature():
    model = head_model(TASK)
    assert [layer.name for layer in model.layers] == [
        "clip",
        "classes",
        "fusion",
        "temperature",
        "probabilities",
    ]
    outputs = model.predict_on_batch(np.ones((5, 4), np.float32))
    assert (outputs.shape, outputs.dtype) == ((5, 3), np.float32)
    assert TASK.find_invalid(outputs.astype(np.float64)) is None
    names = [weight.name for weight in model.non_trainable_weights]
    assert names == ["stream_weights", "temperature"]


def test_label_smoothing_spreads_a_share_over_all_classes():
    labels, logits = np.array([0]), np.log(np.array([[0.7, 0.2, 0.1]], np.float32))
    plain = float(TASK.loss(label_smoothing=0)(labels, logits))
    assert plain == pytest.approx(-math.log(0.7), rel=1e-5)
    smoothed = float(TASK.loss(label_smoothing=0.3)(labels, logits))
    expected = -(0.8 * math.log(0.7) + 0.1 * math.log(0.2) + 0.1 * math.log(0.1))
    assert smoothed == pytest.approx(expected, rel=1e-5)
    (metric,) = TASK.metrics()
    assert metric.name == TASK.training_metric == "accuracy"


def test_calibration_sets_the_temperature_of_the_model_and_the_threshold_of_the_task():
    task = Classification(("a", "b"), target_accuracy=0.9)
    model = head_model(task)
    probabilities, labels = one_confidence(98, 79, 0.99)
    targets = [task.class_names[label] for label in labels]
    fitted = task.calibrate(model, probabilities, targets, np.arange(98))
    temperature = fit_temperature(probabilities, labels, np.arange(98))
    assert task.calibration(model) == {"temperature": pytest.approx(temperature, rel=1e-6)}
    assert fitted.abstain_below is None  # 79 of 98 is below 0.9 at every confidence
    batch = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    calibrated = model.predict_on_batch(batch)
    with task.uncalibrated(model):
        assert task.calibration(model) == {"temperature": 1}
        before = model.predict_on_batch(batch).astype(np.float64)
    np.testing.assert_allclose(calibrated, apply_temperature(before, temperature), atol=1e-6)
    np.testing.assert_array_equal(model.predict_on_batch(batch), calibrated)


# Calibration


def one_confidence(n_videos, n_correct, confidence):
    """Two classes: every video is class 0, and is predicted with the same confidence."""
    first = np.where(np.arange(n_videos) < n_correct, confidence, 1 - confidence)
    return np.stack([first, 1 - first], axis=1), np.zeros(n_videos, np.int64)


def test_a_temperature_of_two_halves_the_log_odds():
    # The odds of 0.8 are 4 to 1; their root is 2 to 1.
    assert apply_temperature(np.array([[0.8, 0.2]]), 2.0)[0] == pytest.approx([2 / 3, 1 / 3])
    assert apply_temperature(np.array([[0.8, 0.2]]), 1.0)[0] == pytest.approx([0.8, 0.2])


def test_the_temperature_turns_confidence_into_accuracy():
    # Each of 79 correct videos counts as 99 / 100, each of 19 wrong ones as 1 / 100. The model
    # gives 0.99, odds of 99 to 1; a temperature of ln 99 / ln odds turns them into the share.
    probabilities, labels = one_confidence(98, 79, 0.99)
    share = (79 * 0.99 + 19 * 0.01) / 98
    expected = np.log(99) / np.log(share / (1 - share))
    temperature = fit_temperature(probabilities, labels, np.arange(98))
    assert temperature == pytest.approx(expected, rel=1e-3)


def test_an_underconfident_model_gets_a_temperature_below_one():
    probabilities, labels = one_confidence(98, 97, 0.6)
    assert fit_temperature(probabilities, labels, np.arange(98)) < 1


def test_a_model_without_a_mistake_is_not_made_certain():
    # 98 of 98 correct: smoothed, 99 of 100.
    probabilities, labels = one_confidence(98, 98, 0.8)
    temperature = fit_temperature(probabilities, labels, np.arange(98))
    assert apply_temperature(probabilities, temperature)[0, 0] == pytest.approx(0.99, abs=1e-4)


def test_the_temperature_is_fitted_to_videos_and_not_to_clips():
    # Fifty videos have one certain correct clip and one certain wrong one: their mean, 1/2, is
    # the same at every temperature, so the other videos decide.
    certain, labels = one_confidence(98, 79, 0.99)
    split = np.array([[0.999, 0.001], [0.001, 0.999]] * 50)
    videos = np.concatenate([np.arange(98), 98 + np.arange(100) // 2])
    alone = fit_temperature(certain, labels, np.arange(98))
    together = fit_temperature(np.concatenate([certain, split]), np.zeros(148, np.int64), videos)
    assert together == pytest.approx(alone, rel=0.05)


def test_abstention_keeps_as_many_videos_as_the_accuracy_allows():
    confidence = np.array([0.95, 0.9, 0.8, 0.7, 0.6])
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    labels = np.array([0, 0, 1, 0, 1])  # correct, correct, wrong, correct, wrong
    # Accuracy of the most confident 1 to 5: 1, 1, 2/3, 3/4, 3/5.
    assert fit_abstention(probabilities, labels, target_accuracy=0.9) == 0.9
    assert fit_abstention(probabilities, labels, target_accuracy=0.7) == 0.7
    assert fit_abstention(probabilities, labels, target_accuracy=0.6) == 0.6


def test_videos_of_one_confidence_are_kept_or_left_together():
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.8, 0.2]])
    assert fit_abstention(probabilities, np.array([0, 0, 1]), target_accuracy=0.9) == 0.9


def test_an_accuracy_out_of_reach_has_no_threshold():
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2]])
    assert fit_abstention(probabilities, np.array([1, 0]), target_accuracy=0.9) is None


def test_the_threshold_is_rounded_down():
    probabilities = np.array([[0.87654321, 0.12345679]])
    assert fit_abstention(probabilities, np.array([0]), target_accuracy=0.9) == 0.876543


# Classification: scores, review, serving


def test_the_outputs_of_a_video_are_the_mean_of_its_clips():
    outputs = np.array([[0.8, 0.2], [0.4, 0.6], [0.1, 0.9]])
    combined = TASK.combine_clips(outputs, np.array([0, 0, 1]))
    assert combined == pytest.approx(np.array([[0.6, 0.4], [0.1, 0.9]]))
    assert combined[1].tolist() == outputs[2].tolist()  # one clip: bit for bit


def test_limits_are_the_recalls_and_the_calibration_error():
    targets = ["jump", "jump", "run", "run"]
    outputs = np.array([[1.0, 0, 0], [0, 1, 0], [0, 1, 0], [0, 1, 0]])
    resampling = EvaluateSection().resampling(["a", "b", "c", "c"])
    values = TASK.limited_values(targets, outputs, resampling)
    assert values.keys() == TASK.limits.keys()
    unknown, jump, run = values["class_recall"]  # the unknown first, then the worst
    assert unknown == LimitedValue("recall of walk", None, None, videos=0, groups=0)
    assert unknown.text == "recall of walk unknown on 0 videos"
    assert (jump.name, jump.value, jump.videos, jump.groups) == ("recall of jump", 0.5, 2, 2)
    assert (run.value, run.videos, run.groups) == (1, 2, 1)
    assert run.interval == (pytest.approx(0.025), 1)
    assert run.text == "recall of run 1.000 [0.025, 1.000] on 2 videos"
    (error,) = values["calibration_error"]
    assert (error.value, error.videos, error.groups) == (0.25, 4, 3)
    assert error.interval[0] == 0


def test_the_charts_and_tables_have_the_names_of_their_files():
    targets, resampling = ["jump", "walk"], EvaluateSection().resampling(["a", "b"])
    charts = [chart.name for chart in TASK.charts(targets, OUTPUTS, ["a", "b"])]
    assert charts == ["precision_recall", "confusion", "reliability"]
    tables = [table.name for table in TASK.tables(targets, OUTPUTS, resampling)]
    assert tables == ["per_class", "confusions"]


def test_guesses_are_the_best_three_and_the_target():
    task = Classification(tuple("abcde"), target_accuracy=0.9)
    guesses = task.guesses("e", np.array([0.1, 0.5, 0.25, 0.1, 0.05]))
    assert [(guess.text, guess.is_target) for guess in guesses] == [
        ("b", False),
        ("c", False),
        ("a", False),
        ("e", True),
    ]
    assert [guess.text for guess in task.guesses("b", np.array([0.1, 0.5, 0.25, 0.1, 0.05]))] == [
        "b",
        "c",
        "a",
    ]


def test_confidence_margin_and_explained_output_are_those_of_the_best_class():
    assert TASK.confidence(OUTPUTS).tolist() == [0.7, 0.6]
    assert TASK.margins(OUTPUTS) == pytest.approx([0.5, 0.3])
    assert TASK.margins(np.array([[1.0]])).tolist() == [1.0]
    assert TASK.explained_outputs(OUTPUTS).tolist() == [0, 2]


def test_the_clip_with_the_largest_explained_output_is_shown():
    assert [TASK.shown_clip(OUTPUTS, explained) for explained in range(3)] == [0, 1, 1]


def test_an_answer_names_the_classes_in_the_order_of_the_model_or_the_best_first():
    assert TASK.answer(OUTPUTS[1], top_k=0) == {
        "label": "walk",
        "probability": 0.6,
        "probabilities": {"jump": 0.1, "run": 0.3, "walk": 0.6},
    }
    assert list(TASK.answer(OUTPUTS[1], top_k=2)["probabilities"]) == ["walk", "run"]
    assert TASK.answer(OUTPUTS[1], top_k=0).keys() == TASK.answer_types.keys()


def test_an_answer_is_confident_from_the_threshold_on():
    assert TASK.is_confident(OUTPUTS[0]) is None
    task = Classification(TASK.class_names, target_accuracy=0.9, abstain_below=0.7)
    assert [task.is_confident(output) for output in OUTPUTS] == [True, False]


def test_an_answer_as_text():
    answer = TASK.answer(OUTPUTS[1], top_k=0)
    assert TASK.answer_line(answer, shown=2) == ["walk 0.6000", "run 0.3000", "and 1 more"]
    assert TASK.answer_line(answer, shown=3) == ["walk 0.6000", "run 0.3000", "jump 0.1000"]
    assert TASK.answer_cells(answer) == {
        "predicted": "walk",
        "probability": "0.600000000",
        "p_jump": "0.100000000",
        "p_run": "0.300000000",
        "p_walk": "0.600000000",
    }


def test_answers_of_a_model_become_outputs_with_the_classes_of_the_targets():
    answers = [TASK.answer(output, top_k=0) for output in OUTPUTS]
    task, outputs = Classification.outputs_from_answers(answers, ["jump", "swim"])
    assert task.class_names == ("jump", "run", "swim", "walk")
    assert outputs.tolist() == [[0.7, 0.2, 0, 0.1], [0.1, 0.3, 0, 0.6]]


# Another task needs a class and two lines that register it


def test_another_task_implements_the_interface():
    register_brightness()
    section = TaskSection(type="brightness")
    targets = [
        targets_of("brightness").read({"value": cell}, where="labels.csv, line 2")
        for cell in ("0.25", "0.75", "0.5")
    ]
    task = Brightness.learn(targets, section)
    assert task_from_json(task_to_json(task)) == task == Brightness(mean=0.5)

    model = head_model(task)
    model.compile(loss=task.loss(label_smoothing=0), metrics=task.metrics())
    history = model.fit(np.ones((3, 4), np.float32), task.encode(targets), verbose=0).history
    assert task.training_metric in history
    outputs = model.predict_on_batch(np.ones((3, 4), np.float32)).astype(np.float64)
    assert outputs.shape == (3, 1)
    assert task.calibrate(model, outputs, targets, np.arange(3)) == task

    scores = task.scores(task.terms(targets, outputs).sum(axis=0))
    assert task.video_score in scores
    assert scores["closeness"] == pytest.approx(task.video_scores(targets, outputs).mean())

    answers = [task.answer(output, top_k=0) for output in outputs]
    assert answers[0].keys() == task.answer_types.keys()
    other, read = Brightness.outputs_from_answers(answers, targets)
    assert other.terms(targets, read) == pytest.approx(task.terms(targets, outputs))
    assert other.convert(read, task) == pytest.approx(outputs)
    assert task.answer_line({"value": 0.25}, shown=3) == ["0.2500"]


def test_an_invalid_target_of_another_task_names_its_row():
    register_brightness()
    with pytest.raises(PipelineError, match=r"labels.csv, line 2: value must be a number"):
        targets_of("brightness").read({"value": "dark"}, where="labels.csv, line 2")


def test_a_task_without_classes_refuses_swaps():
    Brightness(0.5).check_mirror([])
    with pytest.raises(PipelineError, match=r"flip_swaps: expected \[\], because task.type is"):
        Brightness(0.5).check_mirror([["left", "right"]])
