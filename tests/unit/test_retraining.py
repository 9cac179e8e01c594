"""The report of a retraining, its lock, its standing, and what a CI job does with the results."""

import subprocess
from pathlib import Path

import pytest

from pipeline.base.errors import PipelineError
from pipeline.base.files import write_json
from pipeline.catalog.records import CatalogEntry
from pipeline.retraining import ci
from pipeline.retraining.data_changes import data_changes
from pipeline.retraining.report import RetrainReport
from pipeline.retraining.repository import changed_stages, one_retraining


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
        "pushed": "Data and run-cache are pushed.",
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


@pytest.mark.usefixtures("clone")
def test_a_report_is_posted_only_of_a_retraining_that_was(tmp_path, monkeypatch):
    summary = tmp_path / "summary.md"
    environment = {"GITHUB_STEP_SUMMARY": str(summary), "PULL_REQUEST": "7"}
    assert ci.post_report(environment) == ["Nothing was retrained, so there is nothing to report."]
    Path(".dvc/tmp").mkdir(parents=True)
    Path(".dvc/tmp/retrained").touch()
    Path("eval/retrain.md").write_text("# Done\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ci.post_report(environment)[1] == "No comment: neither cml nor gh is installed."
    assert summary.read_text() == "# Done\n"
    gh = tmp_path / "gh"
    gh.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/said\n')
    gh.chmod(0o755)
    assert ci.post_report(environment)[1] == "The report is a comment on 7, made by gh."
    assert (tmp_path / "said").read_text() == "pr comment 7 --body-file eval/retrain.md\n"
    gh.rename(tmp_path / "cml")
    ci.post_report(environment)
    assert (tmp_path / "said").read_text() == (
        "comment update --target=pr/7 --publish eval/retrain.md\n"
    )


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
