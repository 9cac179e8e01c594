"""Comparisons of made-up predictions, as a table and as a page."""

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from pipeline.base.errors import PipelineError
from pipeline.compare.comparison import (
    ChangedVideo,
    ParamDifference,
    compare,
    is_same_param,
    verdict,
)
from pipeline.compare.page import comparison_page
from pipeline.compare.sides import Side, find_side
from pipeline.compare.table import table
from pipeline.evaluation.paired import Difference
from pipeline.evaluation.predictions import Predictions
from pipeline.tracking.runs import training_run
from pipeline.tracking.scores import log_evaluation
from pipeline.tracking.store import connect
from tests.browser import visit

SAMPLING = {"samples": 200, "confidence": 0.9, "seed": 0}


def predictions(of_x, *, labels="xxyy", videos="abcd", class_names=("x", "y")):
    """One video a letter; ``of_x``: the probability of class x, the rest is class y's."""
    of_x = np.array(of_x)
    rest = np.zeros((len(of_x), len(class_names) - 2))
    return Predictions(
        videos=tuple(f"{name}.mp4" for name in videos),
        groups=("",) * len(of_x),
        labels=np.array([class_names.index(label) for label in labels]),
        probabilities=np.concatenate([np.stack([of_x, 1 - of_x], axis=1), rest], axis=1),
        class_names=class_names,
    )


OLD = Side(
    "the old <one>",
    predictions([0.9, 0.2, 0.3, 0.9]),  # right, wrong, right, wrong
    {"train.epochs": "3", "train.seed": "0", "report.bins": "20"},
)
NEW = Side(
    "the new one",
    predictions([0.4, 0.8, 0.1, 0.7]),  # wrong, right, right, wrong
    {"train.epochs": "5", "train.seed": "0", "train.warmup": "1"},
)


def difference(low, high):
    return Difference(0.5, 0.5, (low + high) / 2, low, high, 4)


# What differs


def test_videos_that_changed_are_listed_with_what_was_said_of_them():
    found = compare(OLD, NEW, **SAMPLING)
    assert found.became_wrong == (ChangedVideo("a.mp4", "x", "x", 0.9, "y", 0.6),)
    assert found.became_right == (ChangedVideo("b.mp4", "x", "y", 0.8, "x", 0.8),)
    assert (found.both_right, found.both_wrong, found.videos) == (1, 1, 4)
    assert found.differences["accuracy"].difference == 0


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("10", "10.0", True),
        ("1e-3", "0.001", True),
        ("10", "11", False),
        ("true", "true", True),
        ("lstm", "gru", False),
        ("0", None, False),
        (None, None, True),
    ],
)
def test_a_number_is_the_same_however_it_is_written(a, b, same):
    assert is_same_param(a, b) is same


def test_params_differ_only_in_sections_that_both_have():
    assert compare(OLD, NEW, **SAMPLING).params == (
        ParamDifference("train.epochs", "3", "5"),
        ParamDifference("train.warmup", None, "1"),
    )


def test_what_the_two_have_not_in_common_is_said():
    a = Side(
        "a",
        predictions([0.9, 0.9, 0.9], labels="xxz", videos="abe", class_names=("x", "y", "z")),
        {},
    )
    b = Side("b", predictions([0.9, 0.1], labels="xy", videos="ab"), {})
    assert compare(a, b, **SAMPLING).remarks == (
        "Not compared, because only A has them: 1 of its videos.",
        "Only A knows the classes z.",
        "With another label in B, which counts for both: 1 of the videos.",
    )
    assert compare(OLD, NEW, **SAMPLING).remarks == ()


@pytest.mark.parametrize(
    ("metric", "low", "high", "expected"),
    [
        ("accuracy", 0.1, 0.2, "B is better"),
        ("accuracy", -0.2, -0.1, "A is better"),
        ("log_loss", 0.1, 0.2, "A is better"),
        ("log_loss", -0.2, -0.1, "B is better"),
        ("accuracy", 0.0, 0.2, "not sure"),
        ("accuracy", -0.1, 0.1, "not sure"),
        ("accuracy", 0.0, 0.0, "the same"),
    ],
)
def test_a_verdict_needs_an_interval_without_0(metric, low, high, expected):
    assert verdict(metric, difference(low, high)) == expected


# How it is shown


def test_the_table():
    lines = table(compare(OLD, NEW, **SAMPLING)).splitlines()
    assert lines[:4] == [
        "A  the old <one>",
        "B  the new one",
        "",
        "On the 4 videos that both have:",
    ]
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
        "  video  is  A says  B says",
        "  a.mp4  x   x 0.90  y 0.60",
        "Became right: 1",
        "  video  is  A says  B says",
        "  b.mp4  x   y 0.80  x 0.80",
    ]


def test_of_many_videos_the_table_shows_some():
    many = [f"{number:02}" for number in range(25)]
    a = Side("a", predictions([0.9] * 25, labels="x" * 25, videos=many), {})
    b = Side("b", predictions([0.1] * 25, labels="x" * 25, videos=many), {})
    shown = table(compare(a, b, **SAMPLING))
    assert "Became wrong: 25" in shown
    assert "  and 5 more" in shown
    assert "19.mp4" in shown
    assert "20.mp4" not in shown
    assert "24.mp4" in comparison_page(compare(a, b, **SAMPLING))


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_in_a_browser(browser, tmp_path, colours, width):
    path = tmp_path / "compare.html"
    path.write_text(comparison_page(compare(OLD, NEW, **SAMPLING)), encoding="utf-8")
    with visit(browser, path.as_uri(), colours=colours, width=width) as seen:
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


# What can be compared


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
            side.predictions.write_csv(Path("eval/predictions.csv"))
            Path("params.yaml").write_text(f"train: {{epochs: {epochs}}}")
            git("add", "eval", "params.yaml")
            git("commit", "--message", f"Commit {number}")
        with training_run(params={"train": {"epochs": 7}}, dataset="d", name="the run") as run_id:
            settings = {"seed": 4}
            files = [Path("eval/predictions.csv")]
            log_evaluation(run_id, scores={}, intervals={}, settings=settings, files=files)
        for _ in range(2):
            with training_run(params={}, dataset="d", name="twin"):
                pass
        client = connect()
        client.create_registered_model("classifier")
        client.create_model_version("classifier", f"runs:/{run_id}/model", run_id)
        client.set_registered_model_alias("classifier", "champion", "1")
        Path("eval/predictions.csv").unlink()
        git("checkout", "HEAD~1", "--", "eval", "params.yaml")
        yield lambda asked: find_side(asked.format(run=run_id), model_name="classifier")


@pytest.mark.parametrize(
    ("asked", "of_a", "title", "params"),
    [
        ("workspace", 0.9, "workspace", {"train.epochs": "3"}),
        ("HEAD", 0.4, "Commit 1", {"train.epochs": "5"}),
        ("main~1", 0.9, "Commit 0", {"train.epochs": "3"}),
        ("{run}", 0.4, "run the run of 20", {"train.epochs": "7", "evaluate.seed": "4"}),
        ("runs:/{run}", 0.4, "run the run of 20", {"train.epochs": "7", "evaluate.seed": "4"}),
        ("the run", 0.4, "run the run of 20", {"train.epochs": "7", "evaluate.seed": "4"}),
        *(
            (name, 0.4, "classifier version 1 @champion, run the run",
             {"train.epochs": "7", "evaluate.seed": "4"})
            for name in ("classifier/1", "models:/classifier/1", "classifier@champion", "@champion")
        ),
    ],
)  # fmt: skip
def test_a_side_is_found_by_any_of_its_names(find, asked, of_a, title, params):
    side = find(asked)
    assert side.predictions.probabilities[0, 0] == pytest.approx(of_a)
    assert title in side.title
    assert side.params == params


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("nothing", r"expected workspace, a registered version .* Received: nothing"),
        ("--all", "Received: --all"),
        ("classifier/2", "Received: classifier/2"),
        ("models:/classifier/2", "has no models:/classifier/2"),
        ("@challenger", "has no @challenger"),
        ("f" * 32, "Received: ffff"),
        ("twin", "2 runs are named twin. Give the id of one: "),
    ],
)
def test_what_cannot_be_found_is_said(find, asked, message):
    with pytest.raises(PipelineError, match=message):
        find(asked)


def test_a_run_without_predictions_says_how_to_get_them(find):
    with training_run(params={}, dataset="d", name="bare") as run_id:
        pass
    with pytest.raises(PipelineError, match=f"Run {run_id} has no evaluation/predictions.csv"):
        find(run_id)


def test_predictions_that_dvc_keeps_are_read_from_its_cache(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    git("init")
    subprocess.run(["dvc", "init", "--quiet"], check=True)
    Path("params.yaml").write_text("")
    OLD.predictions.write_csv(Path("eval/predictions.csv"))
    subprocess.run(["dvc", "add", "--quiet", "eval/predictions.csv"], check=True)
    git("add", "--all")
    git("commit", "--message", "kept by DVC")
    Path("eval/predictions.csv").unlink()
    assert find_side("HEAD", model_name="c").predictions.videos[0] == "a.mp4"


def test_a_commit_without_predictions_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    git("init")
    git("commit", "--allow-empty", "--message", "empty")
    with pytest.raises(PipelineError, match=r"empty': neither git nor DVC has eval/pred"):
        find_side("HEAD", model_name="c")
