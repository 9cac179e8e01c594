import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score

from pipeline.common.errors import PipelineError
from pipeline.evaluation.settings import EvaluateSection
from pipeline.tasks.calibration import fit_threshold
from pipeline.tasks.multilabel import Multilabel
from pipeline.tasks.settings import TaskSection
from pipeline.tasks.targets import targets_of
from pipeline.tasks.task import task_from_json, task_to_json
from tests.architectures import head_model

TARGETS = ["", "run", "jump|run", "jump"]
TASK = Multilabel.learn(TARGETS, TaskSection(type="multilabel"))
OUTPUTS = np.array([[0.1, 0.2], [0.6, 0.9], [0.7, 0.4], [0.8, 0.3]])  # jump, run
RESAMPLING = EvaluateSection(bootstrap_samples=50).resampling(list("abcd"))


def read(cell):
    return targets_of("multilabel").read({"labels": cell}, where="labels.csv, line 2")


def test_labels_are_separated_by_a_bar_and_may_be_missing():
    assert read("run | jump") == "jump|run"
    assert read("") == ""
    with pytest.raises(PipelineError, match=r"line 2: labels must be names .* 'run\|\|jump'"):
        read("run||jump")
    with pytest.raises(PipelineError, match=r"line 2: labels must not contain a name twice"):
        read("run|run")


def test_the_label_names_are_learnt_in_alphabetical_order():
    assert TASK.label_names == ("jump", "run")
    assert TASK.summary() == "2 labels, any number a video: jump, run"
    assert task_from_json(task_to_json(TASK)) == TASK
    assert TASK.encode(TARGETS).tolist() == [[0, 0], [0, 1], [1, 1], [1, 0]]
    with pytest.raises(PipelineError, match=r"Label 'swim' is unknown .* among jump, run"):
        TASK.encode(["run|swim"])


def test_a_mirror_swaps_the_named_labels():
    task = Multilabel(("left", "right", "up"))
    task.check_mirror([["left", "right"]])
    mirrored = task.mirrored(np.array([[1.0, 0, 1]]), [["left", "right"]])
    assert mirrored.numpy().tolist() == [[0, 1, 1]]
    with pytest.raises(PipelineError, match=r"flip_swaps.*left, right, up.* Received: down"):
        task.check_mirror([["left", "down"]])


def test_balanced_weights_make_both_sides_of_a_label_count_the_same():
    targets = TASK.encode(["jump", "", "", ""])
    half = np.zeros((1, 2), np.float32)  # logits
    loss = TASK.loss(label_smoothing=0, balanced_on=targets)
    positive, negative = (float(loss(targets[[row]], half)) for row in (0, 1))
    # jump: weight 3 where it is present, 1 where not; run: no positive, 1 everywhere.
    assert positive / negative == pytest.approx((3 + 1) / 2)


def test_balanced_weights_keep_the_loss_of_a_label_that_every_video_has():
    targets = TASK.encode(["jump", "jump"])
    loss = TASK.loss(label_smoothing=0, balanced_on=targets)
    logits = np.array([[-1.4, -7.0]], np.float32)
    assert float(loss(TASK.encode(["jump"]), logits)) > 0.5


def test_a_threshold_has_the_highest_f1_and_is_near_one_half():
    is_actual = np.array([False, True, True, True])
    assert fit_threshold(np.array([0.1, 0.2, 0.3, 0.4]), is_actual) == pytest.approx(1 / 7)
    assert fit_threshold(np.array([0.1, 0.7, 0.8, 0.9]), is_actual) == 0.5
    assert fit_threshold(np.array([0.1, 0.2, 0.3, 0.4]), ~is_actual) == 0.5  # one positive


def test_calibration_moves_the_thresholds_to_one_half():
    task = Multilabel(("jump", "run"))
    model = head_model(task)
    batch = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    before = model.predict_on_batch(batch)
    outputs = np.array([[0.1, 0.9], [0.2, 0.9], [0.3, 0.9], [0.4, 0.1]])
    targets = ["run", "jump|run", "jump|run", "jump"]
    assert task.calibrate(model, outputs, targets, np.arange(4)) == task
    odds = before / (1 - before) / np.array([1 / 6, 1])  # the threshold of jump is 1 / 7
    np.testing.assert_allclose(model.predict_on_batch(batch), odds / (1 + odds), rtol=1e-4)
    with task.uncalibrated(model):
        np.testing.assert_allclose(model.predict_on_batch(batch), before, rtol=1e-5)


def test_the_scores_are_those_of_scikit_learn():
    scores = TASK.scores_with_intervals(TARGETS, OUTPUTS, RESAMPLING)
    actual, predicted = TASK.encode(TARGETS), OUTPUTS >= 0.5
    for name in ("micro", "macro"):
        assert scores[f"{name}_f1"].value == pytest.approx(
            f1_score(actual, predicted, average=name)
        )
    assert scores["mean_average_precision"].value == pytest.approx(
        average_precision_score(actual, OUTPUTS)
    )
    assert scores["subset_accuracy"].value == 0.5
    assert TASK.video_scores(TARGETS, OUTPUTS).tolist() == [1, 0, 0, 1]
    assert set(TASK.compared_metrics) <= scores.keys()
    assert all(0 <= score.interval[0] <= score.interval[1] <= 1 for score in scores.values())


def test_a_label_that_is_neither_actual_nor_predicted_has_no_f1():
    task = Multilabel(("jump", "run", "swim"))
    outputs = np.concatenate([OUTPUTS, np.zeros((4, 1))], axis=1)
    scores = task.scores(task.terms(TARGETS, outputs).sum(axis=0))
    assert scores["macro_f1"] == TASK.scores(TASK.terms(TARGETS, OUTPUTS).sum(axis=0))["macro_f1"]


def test_the_gate_limits_the_recall_of_each_label():
    (values,) = TASK.limited_values(TARGETS, OUTPUTS, RESAMPLING).values()
    assert [(value.name, value.value, value.videos) for value in values] == [
        ("recall of run", 0.5, 2),
        ("recall of jump", 1, 2),
    ]


def test_labels_that_the_outputs_contradict_are_doubtful():
    rng = np.random.default_rng(0)
    actual = rng.random((60, 2)) < 0.5
    outputs = np.clip(np.where(actual, 0.95, 0.05) + rng.normal(0, 0.02, (60, 2)), 0.01, 0.99)
    targets = ["|".join(np.array(["jump", "run"])[row]) for row in actual]
    wrong = targets.copy()
    wrong[7] = "" if targets[7] else "jump|run"
    (issue,) = TASK.label_issues(wrong, outputs)
    assert issue.index == 7
    assert issue.suggested == (targets[7] or "no label")
    assert issue.quality < 0.1


def test_predictions_survive_a_csv_file():
    rows = [
        TASK.prediction_cells(target, output)
        for target, output in zip(TARGETS, OUTPUTS, strict=True)
    ]
    assert rows[2] == {
        "labels": "jump|run",
        "predicted": "jump",
        "correct": "false",
        "p_jump": "0.7",
        "p_run": "0.4",
    }
    task, targets, outputs = Multilabel.read_predictions(rows, where="predictions.csv")
    assert (task, targets, outputs.tolist()) == (TASK, TARGETS, OUTPUTS.tolist())


def test_guesses_are_the_most_probable_predicted_and_actual_labels():
    task = Multilabel(tuple("abcde"))
    guesses = task.guesses("e", np.array([0.9, 0.8, 0.7, 0.6, 0.1]))
    assert [(guess.text, guess.is_target) for guess in guesses] == [
        ("a", False),
        ("b", False),
        ("c", False),
        ("d", False),
        ("e", True),
    ]


def test_an_answer_has_the_predicted_labels_and_all_probabilities():
    answer = TASK.answer(OUTPUTS[1], top_k=0)
    assert answer == {"labels": ["jump", "run"], "probabilities": {"jump": 0.6, "run": 0.9}}
    assert answer.keys() == TASK.answer_types.keys()
    assert list(TASK.answer(OUTPUTS[1], top_k=1)["probabilities"]) == ["run"]
    assert TASK.answer_line(answer, shown=1) == ["jump 0.6000", "and 1 more"]
    assert TASK.answer_line(TASK.answer(OUTPUTS[0], top_k=0), shown=1) == ["no label"]
    assert TASK.answer_cells(answer)["predicted"] == "jump|run"


def test_two_models_are_compared_on_the_labels_of_both():
    other = Multilabel(("run", "swim"))
    union = TASK.union(other)
    assert union.label_names == ("jump", "run", "swim")
    assert other.convert(np.array([[0.3, 0.4]]), union).tolist() == [[0, 0.3, 0.4]]
    answers = [TASK.answer(output, top_k=0) for output in OUTPUTS]
    task, outputs = Multilabel.outputs_from_answers(answers, ["swim", "", "run", "jump"])
    assert task == union
    assert outputs[0].tolist() == [0.1, 0.2, 0]


def test_tables_and_charts_have_the_names_of_their_files():
    tables = TASK.tables(TARGETS, OUTPUTS, RESAMPLING)
    assert [table.name for table in tables] == ["per_class", "co_occurrence"]
    assert tables[1].rows == [{"label": "jump", "other": "run", "videos": "1", "predicted": "1"}]
    charts = TASK.charts(TARGETS, OUTPUTS, ["a.mp4"] * len(TARGETS))
    assert [chart.name for chart in charts] == ["precision_recall", "co_occurrence"]
    for chart in charts:
        chart.draw()


@pytest.mark.filterwarnings("error")
def test_resamples_without_any_label_are_left_out_silently():
    score = TASK.resampled_scores(["", "run", "", ""], OUTPUTS, RESAMPLING)[
        "mean_average_precision"
    ]
    assert score.value == 1
    is_defined = np.isfinite(score.resampled)
    assert 0 < is_defined.sum() < len(score.resampled)
