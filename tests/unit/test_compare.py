"""Comparisons of hand-made predictions, as text and as a page; the names of their sides."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.common.errors import PipelineError
from pipeline.common.paths import PREDICTIONS, TABLES
from pipeline.evaluation.predictions import Predictions
from pipeline.evaluation.settings import EvaluateSection
from pipeline.registry.compare import (
    ChangedParam,
    ChangedVideo,
    Side,
    compare,
    compare_sides,
    comparison_lines,
    write_comparison_page,
)
from pipeline.registry.sides import find_side
from pipeline.tasks.classification import Classification
from pipeline.tracking.evaluations import log_evaluation
from pipeline.tracking.runs import training_run
from pipeline.tracking.store import connect
from tests.browser import visit

SECTION = EvaluateSection(confidence=0.9, bootstrap_samples=200)


def predictions(of_x, *, labels="xxyy", videos="abcd", classes=("x", "y")):
    """One video a letter; ``of_x``: the probability of class x, the rest is that of class y."""
    of_x = np.array(of_x)
    rest = np.zeros((len(of_x), len(classes) - 2))
    return Predictions(
        videos=tuple(f"{name}.mp4" for name in videos),
        groups=("",) * len(of_x),
        targets=tuple(labels),
        outputs=np.concatenate([np.stack([of_x, 1 - of_x], axis=1), rest], axis=1),
        task=Classification(classes, target_accuracy=0.9),
    )


OLD = Side(
    "the old <one>",
    predictions([0.9, 0.2, 0.3, 0.9]),  # right, wrong, right, wrong
    {"train.epochs": "3", "train.seed": "0", "old_section.key": "20"},
)
NEW = Side(
    "the new one",
    predictions([0.4, 0.8, 0.1, 0.7]),  # wrong, right, right, wrong
    {"train.epochs": "5", "train.seed": "0", "train.warmup": "1"},
)


# Differences


def test_changed_videos_are_listed_with_both_answers():
    comparison = compare(OLD, NEW, SECTION)
    assert comparison.became_wrong == (ChangedVideo("a.mp4", "x", "x 0.9000", "y 0.6000"),)
    assert comparison.became_right == (ChangedVideo("b.mp4", "x", "y 0.8000", "x 0.8000"),)
    assert (comparison.both_right, comparison.both_wrong, comparison.n_videos) == (1, 1, 4)
    assert comparison.differences["accuracy"].difference == 0


def test_the_most_confident_changes_come_first():
    a = Side("a", predictions([0.1, 0.1], labels="xx", videos="ab"), {})
    b = Side("b", predictions([0.8, 0.9], labels="xx", videos="ab"), {})
    videos = [changed.video for changed in compare(a, b, SECTION).became_right]
    assert videos == ["b.mp4", "a.mp4"]


@pytest.mark.parametrize(
    ("a", "b", "is_same"),
    [
        ("10", "10.0", True),
        ("1e-3", "0.001", True),
        ("10", "11", False),
        ("true", "true", True),
        ("lstm", "gru", False),
    ],
)
def test_equal_numbers_are_equal_however_they_are_written(a, b, is_same):
    sides = [Side("", OLD.predictions, {"train.key": value}) for value in (a, b)]
    assert (compare(*sides, SECTION).params == ()) is is_same


def test_params_differ_only_in_sections_that_both_sides_have():
    assert compare(OLD, NEW, SECTION).params == (
        ChangedParam("train.epochs", "3", "5"),
        ChangedParam("train.warmup", None, "1"),
    )


def test_remarks_name_what_the_sides_do_not_have_in_common():
    a = Side(
        "a",
        predictions([0.9, 0.9, 0.9], labels="xxz", videos="abe", classes=("x", "y", "z")),
        {},
    )
    b = Side("b", predictions([0.9, 0.1], labels="xy", videos="ab"), {})
    assert compare(a, b, SECTION).remarks == (
        "Not compared, because only A has them: 1 of its videos.",
        "A knows 3 classes: x, y, z. B knows 2 classes: x, y.",
        "Videos with another target in B, which counts for both: 1.",
    )
    assert compare(OLD, NEW, SECTION).remarks == ()


def side_of(*of_x: float) -> Side:
    """Twelve videos of each class; x has these probabilities, repeated."""
    values = np.resize(of_x, 12)
    names = [f"{number:02}" for number in range(24)]
    outputs = np.concatenate([values, 1 - values])
    return Side("", predictions(outputs, labels="x" * 12 + "y" * 12, videos=names), {})


@pytest.mark.parametrize(
    ("a", "b", "metric", "expected"),
    [
        ((0.3,), (0.9,), "accuracy", "B is better"),
        ((0.9,), (0.3,), "accuracy", "A is better"),
        ((0.9,), (0.7,), "log_loss", "A is better"),
        ((0.7,), (0.9,), "log_loss", "B is better"),
        ((0.3, 0.9), (0.9, 0.3), "accuracy", "not sure"),
        ((0.9,), (0.8,), "accuracy", "not sure"),
        ((0.9,), (0.9,), "accuracy", "the same"),
    ],
)
def test_a_verdict_needs_an_interval_without_zero(a, b, metric, expected):
    comparison = compare(side_of(*a), side_of(*b), SECTION)
    assert comparison.verdict(metric) == expected


def test_few_groups_give_no_verdict_however_large_the_difference():
    a, b = (
        Side("", predictions([of_x] * 4, labels="xxxx", videos="abcd"), {}) for of_x in (0.1, 0.9)
    )
    assert compare(a, b, SECTION).verdict("accuracy") == "not sure"


# Text and page


def test_the_text():
    lines = comparison_lines(compare(OLD, NEW, SECTION))
    assert lines[:4] == ["A  the old <one>", "B  the new one", "", "On the 4 common videos:"]
    (accuracy,) = [line for line in lines if line.startswith("  accuracy")]
    assert accuracy.split()[:4] == ["accuracy", "0.5000", "0.5000", "+0.0000"]
    assert accuracy.endswith("not sure")
    assert "90% interval" in lines[4]
    assert lines[-12:] == [
        "Params that differ:",
        "                A  B",
        "  train.epochs  3  5",
        "  train.warmup  -  1",
        "",
        "Right in both: 1, wrong in both: 1.",
        "Became wrong: 1",
        "  video  target  A         B",
        "  a.mp4  x       x 0.9000  y 0.6000",
        "Became right: 1",
        "  video  target  A         B",
        "  b.mp4  x       y 0.8000  x 0.8000",
    ]


def test_the_text_shows_some_of_many_videos_and_the_page_all(tmp_path):
    many = [f"{number:02}" for number in range(25)]
    a = Side("a", predictions([0.9] * 25, labels="x" * 25, videos=many), {})
    b = Side("b", predictions([0.1] * 25, labels="x" * 25, videos=many), {})
    comparison = compare(a, b, SECTION)
    text = "\n".join(comparison_lines(comparison))
    assert "Became wrong: 25" in text
    assert "  and 5 more" in text
    assert "19.mp4" in text
    assert "20.mp4" not in text
    write_comparison_page(comparison, tmp_path / "compare.html")
    assert "24.mp4" in (tmp_path / "compare.html").read_text()


@pytest.mark.long
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_in_a_browser(browser, tmp_path, width):
    path = tmp_path / "compare.html"
    write_comparison_page(compare(OLD, NEW, SECTION), path)
    with visit(browser, path.as_uri(), width=width) as seen:
        assert [h2.inner_text() for h2 in seen.page.locator("h2").all()] == [
            "Scores", "Params that differ", "Videos that changed",
        ]  # fmt: skip
        assert seen.page.locator("dd").first.inner_text() == "the old <one>"
        assert seen.page.locator("svg.interval circle").count() == 4
        assert seen.page.get_by_role("img", name=re.compile("^accuracy: -")).is_visible()
        assert "a.mp4" in seen.page.locator("main").inner_text()
        assert not seen.scrolls_sideways()
        assert seen.errors == []
        assert seen.urls == [path.as_uri()]


# Sides


def git(*arguments):
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)


@pytest.fixture(scope="module")
def find(tmp_path_factory):
    """Find a side in a repository with two commits, a run, and a version of it."""
    folder = tmp_path_factory.mktemp("evaluated")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        git("init", "--initial-branch", "main")
        for number, (side, epochs) in enumerate([(OLD, 3), (NEW, 5)]):
            side.predictions.write_csv(PREDICTIONS)
            Path("params.yaml").write_text(f"train: {{epochs: {epochs}}}")
            git("add", "eval", "params.yaml")
            git("commit", "--message", f"Commit {number}")
        with training_run(params={"train": {"epochs": 7}}, dataset="d", name="the run") as run:
            settings = {"confidence": 0.9}
            log_evaluation(run.id, test_data="one", scores={}, settings=settings, files=[TABLES])
        for _ in range(2):
            with training_run(params={}, dataset="d", name="twin"):
                pass
        client = connect()
        client.create_registered_model("classifier")
        client.create_model_version("classifier", f"runs:/{run.id}/model", run.id)
        client.set_registered_model_alias("classifier", "champion", "1")
        PREDICTIONS.unlink()
        git("checkout", "HEAD~1", "--", "eval", "params.yaml")
        yield lambda text: find_side(text.format(run=run.id), name="classifier")


OF_RUN = {"train.epochs": "7", "evaluate.confidence": "0.9"}


@pytest.mark.parametrize(
    ("text", "first_output", "title", "params"),
    [
        ("workspace", 0.9, "workspace", {"train.epochs": "3"}),
        ("HEAD", 0.4, "Commit 1", {"train.epochs": "5"}),
        ("main~1", 0.9, "Commit 0", {"train.epochs": "3"}),
        ("{run}", 0.4, "run the run of 20", OF_RUN),
        ("runs:/{run}", 0.4, "run the run of 20", OF_RUN),
        ("the run", 0.4, "run the run of 20", OF_RUN),
        *(
            (name, 0.4, "classifier version 1 @champion, run the run", OF_RUN)
            for name in (
                "1",
                "classifier/1",
                "models:/classifier/1",
                "classifier@champion",
                "@champion",
            )
        ),
    ],
)
def test_a_side_has_several_names(find, text, first_output, title, params):
    side = find(text)
    assert side.predictions.outputs[0, 0] == pytest.approx(first_output)
    assert title in side.title
    assert side.params == params


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing", r"Expected workspace, a registered version .* Received: nothing"),
        ("--all", "Received: --all"),
        ("classifier/2", "Received: classifier/2"),
        ("models:/classifier/2", "has no version 'models:/classifier/2'"),
        ("@challenger", "has no version '@challenger'"),
        ("f" * 32, "Received: ffff"),
        ("twin", "2 runs have the name twin. Give the id of one: "),
    ],
)
def test_a_side_that_does_not_exist_is_an_error(find, text, message):
    with pytest.raises(PipelineError, match=message):
        find(text)


def test_a_run_without_predictions_is_an_error_with_a_remedy(find):
    with training_run(params={}, dataset="d", name="bare") as run:
        pass
    with pytest.raises(PipelineError, match=f"Run {run.id} has no evaluation: "):
        find(run.id)


def test_a_run_of_several_evaluations_is_compared_on_the_test_videos_of_the_other(find, tmp_path):
    def evaluate(name, *evaluations):
        with training_run(params={}, dataset="d", name=name) as run:
            for test_data, side in evaluations:
                side.predictions.write_csv(tmp_path / TABLES.name / PREDICTIONS.name)
                log_evaluation(
                    run.id,
                    test_data=test_data,
                    scores={},
                    settings={"confidence": 0.95},
                    files=[tmp_path / TABLES.name],
                )

    first_test_videos, new_test_videos = OLD, replace(NEW, predictions=NEW.predictions.rows([0]))
    evaluate("twice", ("first", first_test_videos), ("new", new_test_videos))
    evaluate("once", ("first", OLD))
    evaluate("elsewhere", ("other", OLD))
    assert find("twice").test_data == "new"
    for a, b in (("twice", "once"), ("once", "twice")):
        comparison = compare_sides(a, b, name="classifier", section=EvaluateSection())
        assert {comparison.a.test_data, comparison.b.test_data} == {"first"}
        assert comparison.n_videos == len(OLD.predictions.videos)
        titles = {comparison.a.title, comparison.b.title}
        assert sum(", evaluation of 20" in title for title in titles) == 1
    comparison = compare_sides("twice", "elsewhere", name="classifier", section=EvaluateSection())
    assert comparison.a.test_data == "new"


@pytest.mark.long
def test_predictions_that_dvc_keeps_are_read_from_its_cache(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    git("init")
    subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet"], check=True)
    Path("params.yaml").write_text("")
    OLD.predictions.write_csv(PREDICTIONS)
    subprocess.run([sys.executable, "-m", "dvc", "add", "--quiet", str(PREDICTIONS)], check=True)
    git("add", "--all")
    git("commit", "--message", "kept by DVC")
    PREDICTIONS.unlink()
    assert find_side("HEAD", name="c").predictions.videos[0] == "a.mp4"


def test_a_commit_without_predictions_is_an_error_with_a_remedy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    git("init")
    git("commit", "--allow-empty", "--message", "empty")
    with pytest.raises(PipelineError, match=r"empty': neither git nor DVC has its eval/tables/pre"):
        find_side("HEAD", name="c")
