"""The search of ``vidpipe tune``, with made predictions; tests/pipeline/test_tune.py trains."""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from optuna.trial import TrialState
from PIL import Image

from pipeline.common.errors import PipelineError
from pipeline.common.files import read_csv, read_json
from pipeline.common.params_text import set_values
from pipeline.evaluation.predictions import Predictions
from pipeline.params import Params, load_params, parse_params
from pipeline.retraining.fold_training import ClipFiles, ClipsReplacedError, ProcessDiedError
from pipeline.retraining.folds import Fold
from pipeline.retraining.held_out import FoldTask, HeldOut
from pipeline.retraining.search_space import is_valid, search_space, with_settings
from pipeline.retraining.tune import Budget, Search, open_study
from pipeline.retraining.tune_report import Decision, decide, trial_lines, write_report
from pipeline.tasks.classification import Classification
from pipeline.tracking.store import StoreUnreachableError
from tests.servers import free_port

PARAMS = load_params(Path("params.yaml"))
N_CLIPS = 200  # training clips of a fold
SPACE = search_space(PARAMS, n_clips=N_CLIPS)
PRESENT = SPACE.settings_of(PARAMS)
N_VIDEOS = 120
FOLDS = tuple(Fold((), (), tuple(range(start, N_VIDEOS, 3))) for start in range(3))
METRIC = "macro_f1"
DATABASE = Path("eval/tune/studies.db")

Accuracy = Callable[[Params], float]


class MadeTraining:
    """Predictions with a given accuracy, and what was trained."""

    def __init__(self, accuracy: Accuracy, *, interrupt_at: int | None = None) -> None:
        self.accuracy = accuracy
        self.interrupt_at = interrupt_at
        self.trained: list[tuple[Params, int]] = []  # settings and number of the fold

    def __call__(self, task: FoldTask) -> Predictions:
        if len(self.trained) == self.interrupt_at:
            raise KeyboardInterrupt
        self.trained.append((task.params, task.fold.test[0] + 1))
        indices = np.array(task.fold.test)
        # The same videos are easy for every model.
        ease = np.random.default_rng(0).permutation(N_VIDEOS)[indices] / N_VIDEOS
        is_right = ease < self.accuracy(task.params)
        target = indices // 2 % 2
        answer = np.where(is_right, target, 1 - target)
        return Predictions(
            videos=tuple(f"{index:03d}" for index in indices),
            groups=tuple(f"g{index // 4}" for index in indices),
            targets=tuple("ab"[each] for each in target),
            outputs=np.eye(2)[answer] * 0.8 + 0.1,
            task=Classification(("a", "b"), 1, 0.9),
        )


def held_out(training: MadeTraining, params: Params = PARAMS) -> HeldOut:
    return HeldOut(params, ClipFiles((), ()), FOLDS, Path("eval/tune/predictions/s"), training)


def run_search(
    training: MadeTraining,
    *,
    trials: int | None,
    minutes: float = 1,
    present=PRESENT,
    default=None,
    database: Path | None = None,
):
    """Search from ``present``; return the study and the decision."""
    study = open_study("s", database=database, is_minimized=False, seed=0)
    references = [present, *([default] if default else [])]
    judge = held_out(training)
    Search(study, SPACE, judge, METRIC).run(references, Budget(minutes, trials))
    return study, decide(study, judge, references, metric=METRIC)


def by_learning_rate(params: Params) -> float:
    return {0.0005: 0.6, 0.001: 0.75, 0.002: 0.55, 0.004: 0.55}[params.train.learning_rate]


def by_streams(params: Params) -> float:
    return 0.8 if params.model.streams == ["differences"] else 0.6


def best_at_present(params: Params) -> float:
    """The present settings are the best."""
    is_present = with_settings(PARAMS, SPACE.settings_of(params)) == PARAMS
    return 0.8 if is_present else 0.6


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


# The space.


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"train": {"warmup_epochs": 12, "epochs": 24}},
        {"train": {"fine_tuning": {"head_epochs": 20}, "epochs": 24}},
        {"model": {"cnn": {"backbone": "MobileNetV2"}}},
        {
            "model": {
                "cnn": {"pooling": "none"},
                "temporal": {"recurrent": "convlstm2d"},
                "frame_features": 0,
            }
        },
        {"extract": {"frames": 1}, "model": {"streams": ["frames"]}},
    ],
    ids=str,
)
def test_no_combination_of_the_space_contradicts_the_other_settings(changes):
    params = parse_params({"data": {"videos": "videos"}, **changes})
    space = search_space(params, n_clips=N_CLIPS)
    choices = [dimension.choices.values() for dimension in space.dimensions]
    for combination in itertools.product(*choices):
        settings = {key: value for one in combination for key, value in one.items()}
        assert is_valid(params, settings), settings


def test_the_default_is_in_the_space_and_a_tiny_rate_is_not():
    assert SPACE.trial_params(SPACE.default_settings()).keys() == SPACE.labels(PRESENT).keys()
    assert SPACE.trial_params({**PRESENT, "train.learning_rate": 1e-6}) == {}


def dimensions(n_clips: int = N_CLIPS, **changes: object) -> dict[str, list[str]]:
    """Return name -> labels of the space of params.yaml with changes by dotted key."""
    params = with_settings(PARAMS, {key.replace("__", "."): changes[key] for key in changes})
    found = search_space(params, n_clips=n_clips).dimensions
    return {dimension.name: list(dimension.choices) for dimension in found}


def test_steps_are_searched_where_they_change_the_number_of_epochs():
    assert dimensions(70)["steps"] == ["400", "800", "1600"]
    assert dimensions(580)["steps"] == ["800", "1600"]  # 24 epochs with 400 and with 800
    assert "steps" not in dimensions(1200)


def test_epochs_are_searched_for_a_large_set():
    assert dimensions(1200)["epochs"] == ["12", "auto", "48"]
    assert "epochs" not in dimensions(70)


def test_a_wrong_number_of_epochs_has_a_way_back():
    wrong = with_settings(PARAMS, {"train.epochs": 2})
    for n_clips in (70, 1200):
        space = search_space(wrong, n_clips=n_clips)
        assert space.settings_of(wrong)["train.epochs"] == 2
        assert with_settings(wrong, space.default_settings()).train.epochs == "auto"


def test_epochs_that_other_settings_need_stay():
    kept = dimensions(train__fine_tuning__head_epochs=50, train__epochs=100)
    assert not {"steps", "epochs"} & kept.keys()


def test_the_width_of_a_cnn_from_a_file_is_not_searched():
    found = dimensions(model__cnn__weights="data/weights/cnn.keras")
    assert "filters" not in found
    assert "pooling" in found


def test_augmentation_is_not_searched_where_cached_features_exclude_it():
    assert "augmentation" in dimensions(model__cnn__trainable="none", train__cache_features=False)
    assert "augmentation" not in dimensions(model__cnn__trainable="none")


def test_settings_change_their_keys_and_nothing_else():
    changed = with_settings(PARAMS, {"model.cnn.filters": [8], "train.augmentation.shift": 0.2})
    assert (changed.model.cnn.filters, changed.train.augmentation.shift) == ([8], 0.2)
    assert with_settings(changed, PRESENT) == PARAMS


# The search.


def test_the_present_settings_are_tried_first_and_then_the_default():
    training = MadeTraining(lambda params: 0.9 if params.train.learning_rate > 1e-4 else 0.5)
    wrong = {**PRESENT, "model.streams": ["frames"], "train.learning_rate": 1e-6}
    run_search(training, trials=2, present=wrong, default=PRESENT)
    assert [fold for _, fold in training.trained] == [1, 2, 3, 1, 2, 3]
    rates = [params.train.learning_rate for params, _ in training.trained]
    assert rates == [1e-6] * 3 + [0.002] * 3


def test_the_search_leaves_wrong_settings():
    training = MadeTraining(lambda params: 0.9 if params.train.learning_rate > 1e-4 else 0.5)
    wrong = {**PRESENT, "model.streams": ["frames"], "train.learning_rate": 1e-6}
    _, decision = run_search(training, trials=4, present=wrong, default=PRESENT)
    assert decision.chosen == PRESENT
    assert decision.sentence.startswith(
        "Chosen: the default. The default against the present settings: better, macro F1 0.900 and"
    )


def test_a_trial_that_is_clearly_better_is_chosen():
    study, decision = run_search(MadeTraining(by_learning_rate), trials=10)
    assert decision.chosen["train.learning_rate"] == 0.001
    (comparison,) = decision.comparisons
    assert comparison.is_better
    assert comparison.difference.low > 0
    assert study.best_value == pytest.approx(0.75, abs=0.02)


def test_the_present_settings_stay_when_the_gain_is_within_its_spread():
    """Three more of 120 videos are right."""
    better = MadeTraining(lambda params: 0.725 if params.train.learning_rate == 0.001 else 0.7)
    study, decision = run_search(better, trials=10)
    assert study.best_trial.user_attrs["settings"]["train.learning_rate"] == 0.001
    assert decision.chosen == PRESENT
    (comparison,) = decision.comparisons
    assert comparison.difference.difference > 0 > comparison.difference.low
    assert "not better by more than chance" in decision.sentence


def test_hopeless_trials_are_pruned_after_a_fold_but_not_the_first_settings():
    training = MadeTraining(lambda params: 0.9 if "differences" in params.model.streams else 0.55)
    worse = {**PRESENT, "model.streams": ["frames"]}
    study, _ = run_search(training, trials=10, present=worse, default=PRESENT)
    pruned = study.get_trials(states=(TrialState.PRUNED,))
    assert pruned
    for trial in pruned:
        assert trial.user_attrs["settings"]["model.streams"] == ["frames"]
        assert list(trial.intermediate_values) == [1]
    assert len(training.trained) < 10 * len(FOLDS)
    assert study.trials[0].state == TrialState.COMPLETE


def test_a_trial_is_pruned_by_its_present_score_although_its_first_fold_was_easy():
    """0.9 of the videos in its first fold are right, and 0.54 in the others; before, 0.8 in all."""

    def accuracy(params: Params) -> float:
        if params.train.learning_rate == 0.002:
            return 0.8
        return {1: 0.9, 2: 0.54, 3: 0.54}[training.trained[-1][1]]

    training = MadeTraining(accuracy)
    study, _ = run_search(training, trials=4)
    others = [
        trial
        for trial in study.trials
        if trial.user_attrs["settings"]["train.learning_rate"] != 0.002
    ]
    assert others
    for trial in others:
        assert trial.state == TrialState.PRUNED
        assert list(trial.intermediate_values) == [1, 2]


def test_an_interrupted_trial_is_failed_and_continues_at_its_missing_fold():
    """Also before the default, which was to follow."""
    default = {**PRESENT, "model.dropout": 0.4}
    first = MadeTraining(by_learning_rate, interrupt_at=1)  # in the second fold of trial 0
    with pytest.raises(KeyboardInterrupt):
        run_search(first, trials=3, default=default, database=DATABASE)
    second = MadeTraining(by_learning_rate)
    study, _ = run_search(second, trials=1, default=default, database=DATABASE)
    failed, again = study.trials
    assert (failed.state, again.state) == (TrialState.FAIL, TrialState.COMPLETE)
    assert again.user_attrs["settings"] == failed.user_attrs["settings"] == PRESENT
    assert again.params == failed.params != {}
    assert [fold for _, fold in second.trained] == [2, 3]


def test_a_continued_study_proposes_other_settings_than_its_first_trials():
    training = MadeTraining(lambda _: 0.7)
    for trials in range(1, 6):
        study, _ = run_search(training, trials=trials, database=DATABASE)
    proposed = [str(trial.params) for trial in study.trials]
    assert len(set(proposed)) == 5


def test_without_time_nothing_is_trained_and_the_earlier_trials_decide():
    run_search(MadeTraining(by_learning_rate), trials=10, database=DATABASE)
    training = MadeTraining(by_learning_rate)
    _, decision = run_search(training, trials=None, minutes=0, database=DATABASE)
    assert training.trained == []
    assert decision.chosen["train.learning_rate"] == 0.001


def test_without_a_complete_trial_there_is_no_choice():
    _, decision = run_search(MadeTraining(by_learning_rate), trials=None, minutes=0)
    assert decision.chosen is None
    assert "Run the command again with more --minutes" in decision.sentence


def test_present_settings_without_a_trial_are_not_replaced():
    run_search(MadeTraining(by_learning_rate), trials=3, database=DATABASE)
    edited = {**PRESENT, "train.learning_rate": 0.003}
    training = MadeTraining(by_learning_rate)
    _, decision = run_search(training, trials=None, minutes=0, present=edited, database=DATABASE)
    assert decision.chosen is None


def test_settings_that_cannot_be_trained_are_skipped():
    def accuracy(params: Params) -> float:
        if params.train.learning_rate == 0.004:
            raise PipelineError("the loss is not finite")
        return by_learning_rate(params)

    study, decision = run_search(MadeTraining(accuracy), trials=8)
    failed = [trial for trial in study.trials if "error" in trial.user_attrs]
    assert {trial.user_attrs["settings"]["train.learning_rate"] for trial in failed} == {0.004}
    assert decision.chosen["train.learning_rate"] == 0.001


def test_present_settings_that_cannot_be_trained_give_way_to_the_default_but_not_to_luck():
    def accuracy(params: Params) -> float:
        if params.train.learning_rate == 1e-6:
            raise PipelineError("the loss is not finite.")
        return by_learning_rate(params)

    wrong, training = {**PRESENT, "train.learning_rate": 1e-6}, MadeTraining(accuracy)
    _, decision = run_search(training, trials=3, present=wrong, default=PRESENT)
    assert decision.chosen == PRESENT
    assert "cannot be trained: the loss is not finite." in decision.sentence
    assert ".." not in decision.sentence
    _, decision = run_search(training, trials=6, present=wrong)
    assert decision.chosen is None
    assert "only after a comparison" in decision.sentence


def test_a_process_that_dies_on_the_present_settings_ends_the_call_and_is_tried_again():
    def dies(_: Params) -> float:
        raise ProcessDiedError("The process of a fold died with exit code -9.")

    with pytest.raises(ProcessDiedError):
        run_search(MadeTraining(dies), trials=5, database=DATABASE)
    study, decision = run_search(MadeTraining(by_learning_rate), trials=4, database=DATABASE)
    assert study.trials[0].state == TrialState.FAIL
    assert study.trials[1].user_attrs["settings"] == PRESENT
    assert decision.chosen is not None


def test_replaced_clips_end_the_search_and_leave_no_mark_on_the_settings():
    def accuracy(params: Params) -> float:
        if len(training.trained) > len(FOLDS):
            raise ClipsReplacedError("data/clips: another command replaced the clips.")
        return by_learning_rate(params)

    training = MadeTraining(accuracy)
    with pytest.raises(ClipsReplacedError):
        run_search(training, trials=5, database=DATABASE)
    assert len(training.trained) == len(FOLDS) + 1
    study, _ = run_search(MadeTraining(by_learning_rate), trials=3, database=DATABASE)
    assert not any("error" in trial.user_attrs for trial in study.trials)


def test_an_outage_of_mlflow_ends_the_search_and_leaves_no_mark_on_the_settings(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    study = open_study("s", database=None, is_minimized=False, seed=0)
    search = Search(study, SPACE, held_out(MadeTraining(by_streams)), METRIC, parent_run="parent")
    with pytest.raises(StoreUnreachableError):
        search.run([PRESENT], Budget(1, 3))
    assert not any("error" in trial.user_attrs for trial in study.trials)


def test_the_best_of_several_trials_must_be_better_with_more_confidence():
    study, decision = run_search(MadeTraining(by_learning_rate), trials=10)
    others = {str(trial.user_attrs["settings"]) for trial in study.trials} - {str(PRESENT)}
    (comparison,) = decision.comparisons
    assert comparison.confidence == pytest.approx(1 - 0.05 / len(others))


def test_the_sentence_says_when_nothing_is_better_and_names_no_comparison_twice():
    _, decision = run_search(MadeTraining(best_at_present), trials=6)
    assert decision.sentence == "Chosen: the present settings. No trial has a better score."
    worse = {**PRESENT, "model.dropout": 0.4}
    _, decision = run_search(MadeTraining(lambda _: 0.7), trials=2, present=worse, default=PRESENT)
    assert [comparison.name for comparison in decision.comparisons] == ["the default"]


def test_an_error_of_all_settings_ends_the_search():
    def accuracy(_: Params) -> float:
        raise PipelineError("clip 1.mp4 has no real frame")

    with pytest.raises(PipelineError, match=r"1\.mp4"):
        run_search(MadeTraining(accuracy), trials=5)


def test_the_report_has_a_table_a_summary_and_a_picture():
    study, decision = run_search(MadeTraining(by_streams), trials=12)
    files = write_report(Path("eval/tune"), study, SPACE, decision, metric=METRIC)
    assert [file.name for file in files] == ["trials.csv", "summary.json", "search.png"]
    rows = read_csv(files[0])
    assert [row["trial"] for row in rows] == [str(number) for number in range(12)]
    assert rows[0]["learning_rate"] == "0.002"
    assert rows[0]["state"] == "complete"
    summary = read_json(files[1])
    assert summary["chosen"] == decision.chosen
    assert max(summary["importance"], key=summary["importance"].get) == "streams"
    assert sum(summary["importance"].values()) == pytest.approx(1)
    with Image.open(files[2]) as picture:
        assert picture.width > 1000  # two panels
    best = trial_lines(study, SPACE)[1].split()
    assert float(best[1]) == pytest.approx(study.best_value, abs=1e-4)


def test_the_report_tells_pruned_trials_from_settings_that_cannot_be_trained():
    def accuracy(params: Params) -> float:
        if params.model.streams == ["frames"]:
            raise PipelineError("the loss is not finite")
        return by_learning_rate(params)

    study, decision = run_search(MadeTraining(accuracy), trials=12)
    files = write_report(Path("eval/tune"), study, SPACE, decision, metric=METRIC)
    errors = {row["error"] for row in read_csv(files[0]) if row["state"] == "not trained"}
    assert errors == {"the loss is not finite"}
    n_failed = sum(row["state"] == "not trained" for row in read_csv(files[0]))
    assert f"{n_failed} not trained" in trial_lines(study, SPACE)[-1]


def test_a_report_of_nothing_has_no_picture():
    study = open_study("s", database=None, is_minimized=False, seed=0)
    decision = Decision(None, (), "No trial is complete.")
    files = write_report(Path("eval/tune"), study, SPACE, decision, metric=METRIC)
    assert [file.name for file in files] == ["trials.csv", "summary.json"]


# Editing params.yaml.


def test_set_values_keeps_comments_and_all_other_lines(tmp_path):
    path = tmp_path / "params.yaml"
    before = (Path(__file__).parents[2] / "params.yaml").read_text()
    path.write_text(before)
    values = {
        "model.cnn.filters": [32, 64, 64, 64],
        "model.temporal.bidirectional": True,
        "train.learning_rate": 0.004,
        "train.augmentation.shift": 0.0,
    }
    set_values(path, values)
    after = path.read_text()
    content = yaml.safe_load(after)
    for key, value in values.items():
        node = content
        for part in key.split("."):
            node = node[part]
        assert node == value
    lines = list(zip(before.splitlines(), after.splitlines(), strict=True))
    assert sum(old != new for old, new in lines) == len(values)
    assert all(old.partition("#")[2] == new.partition("#")[2] for old, new in lines)
    load_params(path)


def test_a_value_on_several_lines_is_refused_with_its_key(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("model:\n  cnn:\n    filters:\n      - 16\n")
    with pytest.raises(PipelineError, match=r"expected the key model\.cnn\.filters with its value"):
        set_values(path, {"model.cnn.filters": [8]})


def test_the_page_lists_the_keys_and_choices_of_the_space():
    page = (Path(__file__).parents[2] / "docs/tuning.md").read_text()
    rows = {line.split("`")[1]: line for line in page.splitlines() if line.startswith("| `")}
    for dimension in (*SPACE.dimensions, *search_space(PARAMS, n_clips=5000).dimensions):
        row = rows[dimension.name]
        for key in dimension.keys:
            assert key.rsplit(".", 1)[1] in row
        assert all(label.removesuffix(".0") in row for label in dimension.choices)
