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
from pipeline.retraining.fold_training import ClipFiles
from pipeline.retraining.folds import Fold
from pipeline.retraining.held_out import FoldTask, HeldOut
from pipeline.retraining.search_space import is_valid, search_space, with_settings
from pipeline.retraining.tune import Budget, Search, open_study
from pipeline.retraining.tune_report import Decision, decide, trial_lines, write_report
from pipeline.tasks.classification import Classification

PARAMS = load_params(Path("params.yaml"))
SPACE = search_space(PARAMS)
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
    space = search_space(params)
    choices = [dimension.choices.values() for dimension in space.dimensions]
    for combination in itertools.product(*choices):
        settings = {key: value for one in combination for key, value in one.items()}
        assert is_valid(params, settings), settings


def test_the_default_is_in_the_space_and_a_tiny_rate_is_not():
    assert SPACE.trial_params(SPACE.default_settings()).keys() == SPACE.labels(PRESENT).keys()
    assert SPACE.trial_params({**PRESENT, "train.learning_rate": 1e-6}) == {}


def test_steps_are_searched_only_while_they_decide_the_epochs():
    def names(**train: object) -> list[str]:
        params = with_settings(PARAMS, {f"train.{key}": train[key] for key in train})
        return [one.name for one in search_space(params).dimensions]

    assert "steps" in names()
    assert "steps" not in names(epochs=50)


def test_the_width_of_a_cnn_from_a_file_is_not_searched():
    params = with_settings(PARAMS, {"model.cnn.weights": "data/weights/cnn.keras"})
    names = [one.name for one in search_space(params).dimensions]
    assert "filters" not in names
    assert "pooling" in names


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
    for dimension in SPACE.dimensions:
        row = rows[dimension.name]
        for key in dimension.keys:
            assert key.rsplit(".", 1)[1] in row
        assert all(label.removesuffix(".0") in row for label in dimension.choices)
