"""The report of a retraining, its lock, and what a CI job does with the results."""

import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.base.errors import PipelineError
from pipeline.base.files import write_json
from pipeline.catalog.records import CatalogEntry
from pipeline.retraining import ci
from pipeline.retraining.data_changes import data_changes
from pipeline.retraining.progress import note, one_retraining
from pipeline.retraining.report import RetrainReport, without_pictures
from pipeline.retraining.repository import changed_stages


def row(video: str, label: str = "left", split: str = "train", sha256: str = "") -> CatalogEntry:
    return CatalogEntry(video, label, split, video, None, None, sha256 or video)


BEFORE = [row("a"), row("b"), row("c", "right"), row("d", "right")]
NOW = [row("a"), row("b", "right"), row("c", "right", sha256="other"), row("e", "up")]


def test_what_changed_is_counted_by_class():
    found = data_changes(BEFORE, NOW)
    assert found.added == ("e",)
    assert found.removed == ("d",)
    assert found.changed == {"b": "label left -> right", "c": "content"}
    assert found.by_class == {"left": (0, 0, 0, 1), "right": (0, 1, 2, 2), "up": (1, 0, 0, 1)}
    assert not data_changes(NOW, NOW)


def report(**changes) -> str:
    values = {
        "headline": "m version 2 passes the gate.",
        "commit": "1234567",
        "ran": ["catalog", "train"],
        "data": data_changes(BEFORE, NOW),
        "findings": [{"status": "warn", "name": "new classes", "sentence": "New: up|down."}],
        "metrics": {"accuracy": 0.75, "log_loss": 0.5},
        "committed_metrics": {"accuracy": 0.5},
        "gate": "# m version 2 passes\n\ntext\n",
        "pictures": {"Confusion": Path("plots/confusion.png")},
        "is_catalog_lost": False,
        "pushed": "Data is pushed.",
    }
    return RetrainReport(**{**values, **changes}).markdown()


def test_the_report_has_data_findings_metrics_gate_and_pictures():
    lines = report().splitlines()
    assert lines[0] == "# m version 2 passes the gate."
    assert "From commit `1234567`. Stages with another result: catalog, train." in lines[2]
    for line in (
        "| right | 0 | 1 | 2 | 2 |",
        "- `e`",
        "- `b`: label left -\\> right",
        "| **warning** | new classes | New: up\\|down. |",
        "| accuracy | 0.5 | 0.75 | +0.25 |",
        "| log loss |  | 0.5 |  |",
        "### m version 2 passes",
        "![Confusion](plots/confusion.png)",
    ):
        assert line in lines, line


def test_the_report_of_data_that_did_not_change():
    assert "The videos and their labels are those of the commit." in report(
        data=data_changes(NOW, NOW)
    )


def test_a_report_that_knows_nothing_of_the_commit_says_so():
    text = report(data=data_changes([], NOW), is_catalog_lost=True)
    assert "**The catalog of the commit is not to be had, so every video counts as added.**" in text


def test_away_from_its_pictures_a_report_names_them():
    text = "text\n\n![Confusion](plots/confusion.png)\n\n[a link](docs/a.md)\n"
    assert without_pictures(text) == (
        "text\n\n`eval/plots/confusion.png`, in the artifact of the job.\n\n[a link](docs/a.md)\n"
    )


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A clone with a commit, in which results lie."""
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", "origin.git")
    git(tmp_path, "clone", "--quiet", "origin.git", "clone")
    root = tmp_path / "clone"
    (root / "dvc.lock").write_text("schema: '2.0'\nstages: {catalog: {cmd: a}, train: {cmd: b}}\n")
    (root / "eval").mkdir()
    (root / "models").mkdir()
    (root / "models/history.csv").touch()
    (root / "eval/metrics.json").write_text("{}")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "start")
    git(root, "push", "--quiet", "origin", "HEAD:main")
    monkeypatch.chdir(root)
    return root


def test_stages_that_are_not_as_committed(clone):
    assert changed_stages() == []
    (clone / "dvc.lock").write_text("stages: {catalog: {cmd: a}, train: {cmd: c}, new: {cmd: d}}")
    assert changed_stages() == ["train", "new"]


def test_results_are_committed_on_top_of_what_came_meanwhile(clone, tmp_path):
    other = tmp_path / "other"
    git(tmp_path, "clone", "--quiet", "origin.git", "other")
    (other / "code.py").touch()
    git(other, "add", "--all")
    git(other, "commit", "--quiet", "--message", "code")
    git(other, "push", "--quiet", "origin", "HEAD:main")
    write_json(clone / "eval/promotion.json", {"challenger": {"version": 2}, "outcome": "passed"})
    said = ci.commit_results("main")
    assert said == "Committed and pushed to main: Retrained: version 2 passed [skip ci]"
    assert git(tmp_path / "origin.git", "log", "--format=%s", "main").splitlines() == [
        "Retrained: version 2 passed [skip ci]", "code", "start",
    ]  # fmt: skip
    assert ci.commit_results("main") == "Nothing to commit."


def test_results_that_contradict_what_came_meanwhile_are_left_to_people(clone, tmp_path):
    other = tmp_path / "other"
    git(tmp_path, "clone", "--quiet", "origin.git", "other")
    for root, content in ((other, "theirs"), (clone, "ours")):
        (root / "eval/metrics.json").write_text(content)
    git(other, "commit", "--quiet", "--all", "--message", "theirs")
    git(other, "push", "--quiet", "origin", "HEAD:main")
    with pytest.raises(PipelineError, match=r"(?s)git pull failed: .*CONFLICT"):
        ci.commit_results("main")
    assert git(clone, "log", "--format=%s").splitlines() == ["Retrained [skip ci]", "start"]
    assert git(clone, "status", "--porcelain") == ""
    assert (clone / "eval/metrics.json").read_text() == "ours"


@pytest.mark.usefixtures("clone")
def test_a_report_is_posted_only_of_a_retraining_that_was(tmp_path, monkeypatch):
    summary = tmp_path / "summary.md"
    environment = {"GITHUB_STEP_SUMMARY": str(summary), "PULL_REQUEST": "7"}
    assert ci.post_report(environment) == ["Nothing was retrained, so there is nothing to report."]
    note("nothing")
    assert ci.post_report(environment) == ["Nothing was retrained, so there is nothing to report."]
    note("reported")
    Path("eval/retrain.md").write_text("# Done\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ci.post_report(environment)[1] == "No comment: neither cml nor gh is installed."
    assert summary.read_text() == "# Done\n"
    gh = tmp_path / "gh"
    gh.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/said\n/bin/cat "$5" > {tmp_path}/read\n')
    gh.chmod(0o755)
    assert ci.post_report(environment)[1] == "The report is a comment on 7, made by gh."
    assert (tmp_path / "said").read_text().startswith("pr comment 7 --body-file /")
    assert (tmp_path / "read").read_text() == "# Done\n"
    gh.rename(tmp_path / "cml")
    ci.post_report(environment)
    assert (tmp_path / "said").read_text() == (
        "comment update --target=pr/7 --publish eval/retrain.md\n"
    )


@pytest.mark.usefixtures("clone")
@pytest.mark.parametrize("state", ["looking", "working"])
def test_a_retraining_that_stopped_is_not_said_to_be_none(state, tmp_path):
    summary = tmp_path / "summary.md"
    note(state)
    sentence = "The retraining stopped with an error before its end: see the log of the job."
    assert ci.post_report({"GITHUB_STEP_SUMMARY": str(summary)}) == [
        sentence,
        "The report is in the summary of the job.",
    ]
    assert summary.read_text() == f"{sentence}\n"


def test_a_second_retraining_waits_if_it_is_to(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    caplog.set_level("INFO")
    done = []

    def second() -> None:
        with one_retraining(wait=True):
            done.append("second")

    with ThreadPoolExecutor() as pool:
        with one_retraining(wait=False):
            waiting = pool.submit(second)
            while "waiting for its end" not in caplog.text:
                time.sleep(0.01)
            done.append("first")
        waiting.result()
    assert done == ["first", "second"]


def test_a_second_retraining_does_not_begin(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with (
        one_retraining(wait=False),
        pytest.raises(PipelineError, match=r"Another retraining is at work in this folder\."),
        one_retraining(wait=False),
    ):
        pass
    with one_retraining(wait=False):
        pass
