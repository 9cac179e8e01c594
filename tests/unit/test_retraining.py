"""The steps of a retraining and their order, its report, its lock, and what CI does with it."""

import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from dvc.repo import Repo
from dvc.rwlock import rwlock
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.common.errors import PipelineError
from pipeline.common.files import write_json
from pipeline.common.findings import Finding
from pipeline.common.paths import CATALOG, METRICS, PROMOTION_REPORT, REGISTRATION
from pipeline.common.records import VideoRecord, write_catalog
from pipeline.params import load_params
from pipeline.registry.gate import OUTCOME, RULES
from pipeline.registry.promotion import gate_rules
from pipeline.retraining import ci
from pipeline.retraining.checks import DataCheck
from pipeline.retraining.dvc_data import changed_stages
from pipeline.retraining.report import RetrainReport, data_changes, without_pictures
from pipeline.retraining.repro import reproduce
from pipeline.retraining.retrain import (
    RetrainResult,
    Steps,
    last_state,
    note,
    one_retraining,
    retrain,
)
from pipeline.tasks.targets import targets_of
from pipeline.tracking.runs import MODEL_SHA256
from tests.registered import NAME

TARGETS = targets_of("classification")


def row(video: str, target: str = "left", split: str = "train", sha256: str = "") -> VideoRecord:
    return VideoRecord(video, target, split, video, sha256=sha256 or video)


def registration(version: int) -> dict[str, object]:
    return {"name": NAME, "version": version, "alias": "challenger", "model_sha256": "m"}


BEFORE = [row("a"), row("b"), row("c", "right"), row("d", "right")]
NOW = [row("a"), row("b", "right"), row("c", "right", sha256="other"), row("e", "up")]


# Order of the steps. The registry is real, the steps only record that they were called.


@dataclass
class Scene:
    """The state that the steps find, and the steps that were run."""

    client: object
    outdated: list[str] = field(default_factory=list)
    has_remote: bool = True
    is_unfit: bool = False
    can_push: bool = True
    outcome: str = "promoted"
    steps: list[str] = field(default_factory=list)

    def reproduce(self, targets) -> int:
        self.steps.append(" ".join(["repro", *targets]))
        return 0

    def check_data_set(self, _) -> DataCheck:
        self.steps.append("data check")
        status = "fail" if self.is_unfit else "ok"
        return DataCheck("Compared:", [Finding("splits", status, "Sentence.")])

    def promote(self, _, *, version, dry_run):
        self.steps.append(
            f"gate {version.removeprefix(f'{NAME}/')}{' --dry-run' if dry_run else ''}"
        )
        decision = SimpleNamespace(outcome="passed" if dry_run else self.outcome)
        return SimpleNamespace(decision=decision, lines=lambda: ["the gate's lines"])

    def push(self) -> None:
        if not self.can_push:
            raise PipelineError("the remote is full")
        self.steps.append("push")

    def tag(self, **tags: str) -> None:
        for key, value in tags.items():
            self.client.set_model_version_tag(NAME, "3", key, value)

    def judge(self, outcome: str, rules: str) -> None:
        self.tag(**{MODEL_SHA256: "m", OUTCOME: outcome, RULES: rules})

    def retrain(self, *, promote: bool = True, **options: bool) -> RetrainResult:
        self.steps.clear()
        steps = Steps(
            outdated_stages=lambda: self.outdated,
            has_remote=lambda: self.has_remote,
            pull=lambda: self.steps.append("pull"),
            push=self.push,
            reproduce=self.reproduce,
            check_data_set=self.check_data_set,
            promote=self.promote,
        )
        return retrain(promote=promote, steps=steps, **options)


@pytest.fixture
def scene(versions, tmp_path, monkeypatch) -> Scene:
    """A folder in which version 3 was registered."""
    params = yaml.safe_load(Path(__file__).parents[2].joinpath("params.yaml").read_text())
    params["register"]["name"] = NAME
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(yaml.safe_dump(params))
    write_json(REGISTRATION, registration(3))
    write_json(METRICS, {})
    PROMOTION_REPORT.write_text("# Gate\n")
    write_catalog(CATALOG, [row("a.mp4")])
    return Scene(versions)


@pytest.fixture
def rules(scene) -> str:  # noqa: ARG001  # params.yaml is there
    return gate_rules(load_params()).digest


def test_a_retraining_takes_its_steps_in_order(scene):
    scene.tag(**{MODEL_SHA256: "m"})
    scene.outdated = ["train"]
    assert scene.retrain() == RetrainResult(
        "passed", f"{NAME} version 3 is champion. See eval/retrain.md."
    )
    assert scene.steps == ["pull", "repro decode", "data check", "repro", "push", "gate 3"]
    assert last_state() == "reported"


def test_without_promotion_the_gate_only_judges(scene):
    scene.outdated = ["train"]
    assert scene.retrain(promote=False).sentence.startswith(f"{NAME} version 3 passes the gate.")
    assert scene.steps[-1] == "gate 3 --dry-run"


@pytest.mark.parametrize(
    ("outcome", "champion", "sentence"),
    [
        ("refused", "2", "was refused by the gate."),
        ("promoted", "3", "is champion."),
        ("promoted", "4", "was champion, and another version is now."),
    ],
)
def test_a_settled_model_is_left_alone(scene, rules, outcome, champion, sentence):
    scene.judge(outcome, rules)
    scene.client.set_registered_model_alias(NAME, "champion", champion)
    result = scene.retrain()
    assert result.outcome == "nothing to do"
    assert result.sentence.endswith(f"{NAME} version 3 {sentence}")
    assert scene.steps == []
    assert last_state() == "nothing"


def test_a_model_that_waits_is_promoted_only_on_request(scene, rules):
    scene.judge("passed", rules)
    assert "waits for: vidpipe promote 3" in scene.retrain(promote=False).sentence
    assert scene.retrain().outcome == "passed"
    assert scene.steps[-1] == "gate 3"


def test_a_model_that_other_rules_refused_is_judged_again(scene):
    scene.judge("refused", "other rules")
    assert scene.retrain().outcome == "passed"
    assert scene.steps[-1] == "gate 3"


def test_unfit_data_stops_before_training(scene):
    scene.tag(**{MODEL_SHA256: "m"})
    scene.is_unfit = True
    result = scene.retrain()
    assert result.outcome == "unfit data"
    assert scene.steps[-1] == "data check"
    assert "| **failed** | splits | Sentence. |" in Path("eval/retrain.md").read_text()


def test_unfit_data_is_trained_on_request_and_reported(scene):
    scene.is_unfit = True
    result = scene.retrain(ignore_data_check=True)
    assert result.outcome == "passed"
    assert scene.steps[-1] == "gate 3"
    assert "| **failed** | splits | Sentence. |" in Path("eval/retrain.md").read_text()


def test_a_failed_push_stops_before_the_gate_and_is_repeated(scene, rules):
    scene.outdated = ["train"]
    scene.can_push = False
    with pytest.raises(PipelineError, match="the remote is full"):
        scene.retrain()
    assert "gate 3" not in scene.steps
    assert last_state() == "working"
    scene.outdated, scene.can_push = [], True
    scene.judge("refused", rules)  # looks settled
    scene.retrain()
    assert scene.steps[-2:] == ["push", "gate 3"]
    assert scene.retrain().outcome == "nothing to do"


def test_an_error_before_the_first_step_leaves_nothing_to_repeat(scene, rules):
    scene.judge("refused", rules)
    params = Path("params.yaml").read_text()
    Path("params.yaml").write_text("data: 3")
    with pytest.raises(PipelineError):
        scene.retrain()
    assert last_state() == "looking"
    Path("params.yaml").write_text(params)
    assert scene.retrain().outcome == "nothing to do"


def test_without_a_remote_nothing_is_pulled_or_pushed(scene):
    scene.has_remote = False
    scene.outdated = ["train"]
    scene.retrain()
    assert not {"pull", "push"} & {*scene.steps}
    assert "DVC has no remote: nothing was pushed." in Path("eval/retrain.md").read_text()


def test_a_second_retraining_waits_on_request(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    caplog.set_level("INFO")
    order = []

    def second() -> None:
        with one_retraining(wait=True):
            order.append("second")

    with ThreadPoolExecutor() as pool:
        with one_retraining(wait=False):
            waiting = pool.submit(second)
            while "waiting until it ends" not in caplog.text:
                time.sleep(0.01)
            order.append("first")
        waiting.result()
    assert order == ["first", "second"]


def test_a_second_retraining_does_not_start(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with (
        one_retraining(wait=False),
        pytest.raises(PipelineError, match=r"Another retraining is running in this folder\."),
        one_retraining(wait=False),
    ):
        pass
    with one_retraining(wait=False):
        pass


# The registry after vidpipe repro. A stage copies eval/registration.json from another file.

REGISTER = "cp chosen eval/registration.json && echo run >> runs"


@pytest.fixture
def project(scene):
    """The client of the registry, in a DVC repository with a register stage."""
    repository = Path(__file__).parents[2]
    stages = yaml.safe_load((repository / "dvc.yaml").read_text())["stages"]
    stage = {**stages["register"], "cmd": REGISTER, "deps": ["chosen"], "params": ["register"]}
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": {"register": stage}}))
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["data"]["videos"] = "."
    Path("params.yaml").write_text(yaml.safe_dump(params))
    with closing(Repo.init(no_scm=True)):
        pass
    for number in "1234":
        scene.client.set_model_version_tag(NAME, number, MODEL_SHA256, "m")
    return scene.client


def run_stages(version: int) -> int:
    """Run the stages; return how often the register stage has run."""
    write_json(Path("chosen"), registration(version))
    assert reproduce() == 0
    return len(Path("runs").read_text().splitlines())


@pytest.mark.usefixtures("project")
def test_settings_and_stages_are_not_changed_while_stages_run():
    """The next stages would use the new settings, under the name of the old ones."""
    before = Path("params.yaml").read_text()
    with (
        closing(Repo()) as repo,
        rwlock(repo.tmp_dir, repo.fs, "dvc repro", [], [str(Path("models").absolute())], False),
    ):
        for command in (["init", "videos"], ["demo", "regression"], ["repro"]):
            done = CliRunner().invoke(app, command)
            assert f"are running, in process {os.getpid()}" in str(done.exception)
    assert Path("params.yaml").read_text() == before
    assert CliRunner().invoke(app, ["demo", "regression"]).exit_code == 0


@pytest.mark.usefixtures("project")
def test_a_model_that_is_back_is_registered_again_to_become_challenger():
    """DVC's run-cache has no result of the register stage."""
    assert [run_stages(version) for version in (1, 1, 2, 1)] == [1, 1, 2, 3]


@pytest.mark.parametrize("lost", ["version", "model"])
def test_a_version_that_the_store_lacks_is_registered_again(project, lost, caplog):
    caplog.set_level("INFO", "pipeline")
    assert run_stages(2) == 1
    if lost == "version":
        project.delete_model_version(NAME, "2")
    else:  # another store, which has another model under this number
        project.set_model_version_tag(NAME, "2", MODEL_SHA256, "other")
    assert run_stages(2) == 2
    assert f"does not have {NAME} version 2: registering again." in caplog.text


# The report.


def test_changes_are_counted_by_class():
    changes = data_changes(BEFORE, NOW, TARGETS)
    assert changes.added == ["e"]
    assert changes.removed == ["d"]
    assert changes.changed == {"b": "target left -> right", "c": "content"}
    assert changes.by_stratum == {"left": [0, 0, 0, 1], "right": [0, 1, 2, 2], "up": [1, 0, 0, 1]}
    assert not data_changes(NOW, NOW, TARGETS)


def report(**changes) -> str:
    values = {
        "headline": "m version 2 passes the gate.",
        "commit": "1234567",
        "ran": ["catalog", "train"],
        "data": data_changes(BEFORE, NOW, TARGETS),
        "findings": [Finding("new classes", "warn", "New: up|down.")],
        "metrics": {"accuracy": 0.75, "log_loss": 0.5},
        "committed_metrics": {"accuracy": 0.5},
        "gate": "# m version 2 passes\n\ntext\n",
        "pictures": {"Confusion": Path("plots/confusion.png")},
        "is_catalog_lost": False,
        "pushed": "Data is pushed.",
    }
    return RetrainReport(**{**values, **changes}).markdown()


def test_of_many_classes_the_report_has_those_with_most_changes():
    before = [row(f"{index:03}", f"class {index:03}") for index in range(300)]
    now = [*before, row("x", "class 250"), row("y", "class 250"), row("z", "class 299")]
    text = report(data=data_changes(before, now, TARGETS))
    table = [line for line in text.splitlines() if line.startswith("| class ")]
    assert table[:3] == [
        "| class 250 | 2 | 0 | 0 | 3 |",
        "| class 299 | 1 | 0 | 0 | 2 |",
        "| class 000 | 0 | 0 | 0 | 1 |",
    ]
    assert len(table) == 20
    assert "\nThe first 20 of 300 rows, most changes first.\n" in text


def test_the_report_has_data_findings_metrics_gate_and_pictures():
    lines = report().splitlines()
    assert lines[0] == "# m version 2 passes the gate."
    assert "From commit `1234567`. Stages with another result: catalog, train." in lines[2]
    for line in (
        "| right | 0 | 1 | 2 | 2 |",
        "- `e`",
        "- `b`: target left -\\> right",
        "| **warning** | new classes | New: up\\|down. |",
        "| accuracy | 0.5 | 0.75 | +0.25 |",
        "| log loss |  | 0.5 |  |",
        "### m version 2 passes",
        "![Confusion](plots/confusion.png)",
    ):
        assert line in lines, line


def test_the_report_of_data_that_did_not_change():
    text = report(data=data_changes(NOW, NOW, TARGETS))
    assert "The videos and their labels are those of the commit." in text


def test_a_report_without_the_catalog_of_the_commit_tells_it():
    text = report(data=data_changes([], NOW, TARGETS), is_catalog_lost=True)
    assert "every video counts as added" in text


HOSTILE = "[a](b) |<html>`x`\n# y\x85\u202ez"
ESCAPED = r"\[a\](b) \|\<html\>\`x\` \# y \\u202ez"


def test_names_do_not_become_markdown_anywhere_in_the_report():
    before = [replace(BEFORE[0], video=HOSTILE, target=HOSTILE, group=HOSTILE)]
    now = [replace(before[0], target="left", group="g"), replace(BEFORE[1], video=f"!{HOSTILE}")]
    text = report(
        headline=HOSTILE,
        data=data_changes(before, now, TARGETS),
        findings=[Finding(HOSTILE, "warn", HOSTILE)],
        metrics={HOSTILE: 0.5},
        pictures={HOSTILE: Path("plots/confusion.png")},
        pushed=HOSTILE,
    )
    lines = text.split("\n")
    for line in (
        f"# {ESCAPED}",
        f"| {ESCAPED} | 0 | 0 | 0 | 0 |",
        f"| **warning** | {ESCAPED} | {ESCAPED} |",
        f"| {ESCAPED} |  | 0.5 |  |",
        f"## {ESCAPED}",
        f"![{ESCAPED}](plots/confusion.png)",
        r"- `![a](b) ¦<html>'x' # y \u202ez`",
    ):
        assert line in lines, line
    assert text.splitlines() == lines[:-1]
    shown = without_pictures(text)
    assert "`eval/plots/confusion.png`, in the artifact of the job." in shown
    assert r"- `![a](b) ¦<html>'x' # y \u202ez`" in shown


def test_a_report_away_from_its_pictures_names_their_paths():
    text = "text\n\n![Confusion](plots/confusion.png)\n\n[a link](docs/a.md)\n"
    assert without_pictures(text) == (
        "text\n\n`eval/plots/confusion.png`, in the artifact of the job.\n\n[a link](docs/a.md)\n"
    )


# CI.


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
    process = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return process.stdout.strip()


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A clone with one commit, for results to lie in."""
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", "origin.git")
    git(tmp_path, "clone", "--quiet", "origin.git", "clone")
    root = tmp_path / "clone"
    (root / "dvc.lock").write_text("schema: '2.0'\nstages: {catalog: {cmd: a}, train: {cmd: b}}\n")
    (root / "eval").mkdir()
    (root / "models").mkdir()
    (root / "models/history.csv").touch()
    (root / "eval/metrics.json").write_text("{}")
    (root / "data").mkdir()
    (root / "data/decode_attempt.yaml").write_text("decode_attempt: 1\n")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "start")
    git(root, "push", "--quiet", "origin", "HEAD:main")
    monkeypatch.chdir(root)
    return root


def test_stages_that_differ_from_the_commit(clone):
    assert changed_stages() == []
    (clone / "dvc.lock").write_text("stages: {catalog: {cmd: a}, train: {cmd: c}, new: {cmd: d}}")
    assert changed_stages() == ["train", "new"]


def test_results_are_committed_on_top_of_a_branch_that_moved(clone, tmp_path):
    other = tmp_path / "other"
    git(tmp_path, "clone", "--quiet", "origin.git", "other")
    (other / "code.py").touch()
    git(other, "add", "--all")
    git(other, "commit", "--quiet", "--message", "code")
    git(other, "push", "--quiet", "origin", "HEAD:main")
    write_json(clone / "eval/promotion.json", {"challenger": {"version": 2}, "outcome": "passed"})
    (clone / "data/decode_attempt.yaml").write_text("decode_attempt: 2\n")
    sentence = ci.commit_results("main")
    assert sentence == "Committed and pushed to main: Retrained: version 2 passed [skip ci]"
    assert git(tmp_path / "origin.git", "log", "--format=%s", "main").splitlines() == [
        "Retrained: version 2 passed [skip ci]", "code", "start",
    ]  # fmt: skip
    attempt = git(tmp_path / "origin.git", "show", "main:data/decode_attempt.yaml")
    assert attempt.strip() == "decode_attempt: 2"
    assert ci.commit_results("main") == "Nothing to commit."


def test_results_in_conflict_with_the_branch_are_left_to_people(clone, tmp_path):
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
def test_only_a_retraining_that_ran_is_reported(tmp_path, monkeypatch):
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
    gh.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/command\n/bin/cat "$5" > {tmp_path}/body\n')
    gh.chmod(0o755)
    assert ci.post_report(environment)[1] == "The report is a comment on 7, posted by gh."
    assert (tmp_path / "command").read_text().startswith("pr comment 7 --body-file /")
    assert (tmp_path / "body").read_text() == "# Done\n"
    gh.rename(tmp_path / "cml")
    ci.post_report(environment)
    assert (tmp_path / "command").read_text() == (
        "comment update --target=pr/7 --publish eval/retrain.md\n"
    )


@pytest.mark.usefixtures("clone")
@pytest.mark.parametrize("state", ["looking", "working"])
def test_a_retraining_that_stopped_is_reported_as_stopped(state, tmp_path):
    summary = tmp_path / "summary.md"
    note(state)
    sentence = "The retraining stopped with an error before its end: see the log of the job."
    assert ci.post_report({"GITHUB_STEP_SUMMARY": str(summary)}) == [
        sentence,
        "The report is in the summary of the job.",
    ]
    assert summary.read_text() == f"{sentence}\n"


@pytest.mark.parametrize(("outcome", "promotable"), [("passed", "true"), ("refused", "false")])
def test_later_jobs_learn_the_version_and_whether_to_promote_it(scene, rules, outcome, promotable):
    scene.judge(outcome, rules)
    assert ci.outcome_lines(load_params()) == ["version=3", f"promotable={promotable}"]
