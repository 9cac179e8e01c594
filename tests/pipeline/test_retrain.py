"""Retraining in a team: a git remote, a DVC remote, an MLflow server, and fresh clones.

The classes are bright and dark, which a tiny model learns in seconds. The tests are chapters of one
story, in the order of the file.
"""

import csv
import json
import os
import random
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import yaml
from filelock import FileLock
from mlflow import MlflowClient

from pipeline.common.records import read_catalog
from pipeline.retraining.report import without_pictures
from pipeline.tracking.evaluations import log_evaluation
from pipeline.tracking.results import log_scores
from pipeline.video.writing import encode_mp4
from tests.pipeline.conftest import TINY, Workspace, new_checkout
from tests.servers import free_port, running_server

pytestmark = pytest.mark.long

LEVELS = {"bright": 180, "dark": 70}
# Added, removed, changed, now. A few earlier videos may change their split.
TWO_NEW_VIDEOS = re.compile(r"^\| dark \| 2 \| 0 \| [0-4] \| 18 \|$", re.MULTILINE)
SETTINGS = {
    "data": {"videos": "videos", "labels": "../labels.csv"},
    "model": {"streams": ["frames"], "temporal": {"recurrent": "none", "summary": "mean"}},
    "train": {"epochs": 12, "learning_rate": 0.02, "batch_size": 8, "threads": 1},
    "extract": {"frames": 4},
    "promote": {
        "metric": "accuracy",
        "min_gain": -0.3,
        "limits": {"class_recall": 0.7, "calibration_error": 0.5},
        "max_latency_ms": 60000,
        "min_groups": 5,
    },
}


@dataclass(frozen=True)
class Team:
    """What the clones share."""

    folder: Path
    environment: dict[str, str]

    def clone(self, name: str) -> "Clone":
        root = self.folder / name
        git(self.folder, "clone", "--quiet", str(self.folder / "origin.git"), name)
        git(root, "config", "user.name", "Test")
        git(root, "config", "user.email", "test@example.org")
        return Clone(root, self.environment)


@dataclass(frozen=True)
class Clone:
    """A checkout of one member of the team."""

    root: Path
    environment: dict[str, str]

    def run(self, *command: str, code: int | None = 0) -> str:
        done = subprocess.run(
            command,
            cwd=self.root,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        assert code is None or done.returncode == code, done.stdout
        return done.stdout

    def vidpipe(self, *arguments: str, code: int = 0) -> str:
        return self.run("vidpipe", *arguments, code=code)

    def push(self, message: str) -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", message)
        self.run("git", "push", "--quiet", "origin", "main")

    def add_videos(self, count: int, *, first: int) -> None:
        """Write so many videos of each class, their rows, and the DVC file; upload the videos."""
        with (self.root / "labels.csv").open("a") as table:
            for number in range(first, first + count):
                for label in LEVELS:
                    path = self.root / "videos" / label / f"{number:03d}.mp4"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(film(LEVELS[label], number))
                    table.write(f"{label}/{path.name},{label},{label} {number}\n")
        self.run("dvc", "add", "--quiet", "videos")
        self.run("dvc", "push", "--quiet", "videos.dvc")

    def json(self, path: str):
        return json.loads((self.root / path).read_text())


def film(level: int, seed: int) -> bytes:
    noise = np.random.default_rng(seed).integers(-30, 31, (8, 32, 32, 3))
    return encode_mp4((level + noise).astype(np.uint8), fps=10)


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def team(tmp_path_factory, mlflow_server):
    """A bare git remote with the project and 32 videos, which lie in a DVC remote."""
    folder = tmp_path_factory.mktemp("team")
    git(folder, "init", "--quiet", "--bare", "--initial-branch=main", "origin.git")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {
        **os.environ,
        "PATH": path,
        "MLFLOW_TRACKING_URI": mlflow_server,
        "CI": "true",
    }
    team = Team(folder, environment)
    author = team.clone("author")
    new_checkout(author.root)
    workspace = Workspace(author.root)
    workspace.set_params(**TINY)
    workspace.set_params(**SETTINGS)
    (author.root / "labels.csv").write_text("video,label,group\n")
    author.run("dvc", "remote", "add", "--default", "storage", str(folder / "storage"))
    author.add_videos(16, first=0)
    author.push("start")
    return team


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory):
    """A real server on a database file; it and all that it started are gone afterwards."""
    folder = tmp_path_factory.mktemp("mlflow")
    uri = f"http://127.0.0.1:{(port := free_port())}"
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
        "--workers", "1", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination", str(folder / "artifacts"),
    ]  # fmt: skip
    with running_server(command, cwd=folder, health=f"{uri}/health"):
        yield uri


@dataclass(frozen=True)
class Chapter:
    """A clone, and what the commands in it printed."""

    clone: Clone
    printed: str


@pytest.fixture(scope="module")
def first(team):
    """The first retraining, and the commit of its results."""
    clone = team.clone("first")
    return Chapter(
        clone, clone.vidpipe("retrain") + clone.vidpipe("ci", "commit", "--branch", "main")
    )


def test_the_first_retraining_makes_the_first_champion(first):
    clone, printed = first.clone, first.printed
    assert "video-classifier version 1 is champion. See eval/retrain.md." in printed
    assert "There is no champion yet: checked without a comparison." in printed
    assert "32 videos to decode" in printed
    assert clone.json("eval/promotion.json")["outcome"] == "first champion"
    report = (clone.root / "eval/retrain.md").read_text()
    assert "| bright | 16 | 0 | 0 | 16 |" in report
    assert "## Gate" in report
    assert "![Confusion](plots/confusion.png)" in report
    assert "pushed to main: Retrained: version 1 first champion [skip ci]" in printed
    assert clone.run("git", "status", "--porcelain") == ""


@pytest.mark.usefixtures("first")
def test_nothing_to_do_in_a_fresh_clone_downloads_nothing(team):
    clone = team.clone("idle")
    assert "Nothing has changed since this model was trained and judged." in clone.vidpipe(
        "retrain"
    )
    assert not (clone.root / "videos").exists()
    assert not (clone.root / "data/frames").exists()
    assert "version=1\npromotable=false\n" in clone.vidpipe("ci", "outcome")
    assert "Nothing was retrained" in clone.vidpipe("ci", "report")


def test_a_second_retraining_stops_with_a_sentence(first):
    with FileLock(first.clone.root / ".dvc/tmp/retrain.lock"):
        printed = first.clone.vidpipe("retrain", code=1)
    assert "error: Another retraining is running in this folder." in printed


@pytest.fixture(scope="module")
def arrived(team, first):
    """The team, after four videos arrived in a clone of their own."""
    assert "pushed to main" in first.printed
    clone = team.clone("arriving")
    clone.run("dvc", "pull", "--quiet", "videos.dvc")
    clone.add_videos(2, first=16)
    clone.push("four videos")
    return team


@pytest.fixture(scope="module")
def second(arrived):
    """The second retraining, in a fresh clone; nobody has approved its model yet."""
    clone = arrived.clone("second")
    return Chapter(clone, clone.vidpipe("retrain", "--no-promote"))


def test_new_videos_are_decoded_alone_and_judged_in_a_fresh_clone(second):
    clone, printed = second.clone, second.printed
    assert "4 videos to decode, 32 kept from earlier runs" in printed
    assert "Compared with the 32 videos of video-classifier version 1, the champion:" in printed
    assert "video-classifier version 2 passes the gate." in printed
    report = (clone.root / "eval/retrain.md").read_text()
    assert TWO_NEW_VIDEOS.search(report)
    assert "- `bright/016.mp4`" in report
    assert clone.vidpipe("ci", "outcome") == "version=2\npromotable=true\n"


def test_the_report_goes_to_the_summary_of_the_job(second, tmp_path):
    clone = second.clone
    environment = {**clone.environment, "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md")}
    Clone(clone.root, environment).vidpipe("ci", "report")
    summary = (tmp_path / "summary.md").read_text()
    assert summary == without_pictures((clone.root / "eval/retrain.md").read_text())
    assert TWO_NEW_VIDEOS.search(summary)


@pytest.fixture(scope="module")
def promoted(team, second):
    """The promotion as GitLab's job: at the commit before, with what the retraining left."""
    second.clone.vidpipe("ci", "commit", "--branch", "main")
    job = team.clone("promoting")
    job.run("git", "checkout", "--quiet", "HEAD^")
    ci = yaml.safe_load((job.root / ".gitlab-ci.yml").read_text())
    for pattern in ci["retrain"]["artifacts"]["paths"]:
        for path in second.clone.root.glob(pattern):
            target = job.root / path.relative_to(second.clone.root)
            copy = shutil.copy if path.is_file() else partial(shutil.copytree, dirs_exist_ok=True)
            copy(path, target)
    return Chapter(job, job.vidpipe("ci", "pull") + job.vidpipe("promote", "2"))


def test_a_promotion_needs_the_videos_and_no_frames(promoted):
    assert "The videos and their catalog are on disk." in promoted.printed
    assert not (promoted.clone.root / "data/frames").exists()
    assert "version 2 is promoted" in promoted.printed
    assert len(read_catalog(promoted.clone.root / "data/catalog/catalog.csv")) == 36


def test_data_is_checked_by_hand_against_the_champion(promoted):
    printed = promoted.clone.vidpipe("data-check")
    assert "Compared with the 36 videos of video-classifier version 2, the champion:" in printed
    written = promoted.clone.json("eval/data_check.json")
    assert written["champion"] == 2
    assert {check["name"]: check["status"] for check in written["checks"]} == dict.fromkeys(
        (
            "spelling of labels", "duplicates", "new classes",
            "vanished classes", "class balance", "relabelled", "duration", "frame rate", "size",
            "shape", "brightness",
        ),
        "ok",
    )  # fmt: skip


def evaluate_on_other_test_videos(team: Team, run_id: str) -> None:
    """Record scores that a rebuild must not compare with."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", team.environment["MLFLOW_TRACKING_URI"])
        scores = {"accuracy": 0.001}
        log_scores(run_id, scores)
        settings = {"confidence": 0.5, "bootstrap_samples": 9}
        log_evaluation(run_id, test_data="other", scores=scores, settings=settings, files=[])


@pytest.mark.usefixtures("promoted")
def test_a_version_can_be_traced_and_rebuilt_elsewhere(team):
    clone = team.clone("tracing")
    traced = json.loads(clone.vidpipe("show", "@champion", "--json"))
    assert traced["version"] == 2
    parent = clone.run("git", "rev-parse", "HEAD^").strip()  # HEAD has the results
    assert traced["git_commit"] == parent
    assert traced["git_dirty"] == "false"
    assert len(traced["data"]["frames"]["files"]) == 36 + 2  # index.csv and settings.json
    assert sum(sum(labels.values()) for labels in traced["videos"].values()) == 36
    evaluate_on_other_test_videos(team, traced["run_id"])
    printed = clone.vidpipe("rebuild", "2")
    assert f"@champion at commit {parent[:10]}: the same when rebuilt." in printed
    assert "Data: the recorded catalog, frames and clips, from DVC." in printed
    assert "Params of its run that differ" not in printed
    assert re.search(r"Metrics: (\d\d) of \1 equal\.", printed)
    assert "arrays equal to the last bit" in printed
    assert len(clone.run("git", "worktree", "list").splitlines()) == 1


@pytest.mark.usefixtures("promoted")
def test_data_that_nobody_has_is_built_again_and_differences_are_listed(team):
    clone = team.clone("rebuilding")
    traced = json.loads(clone.vidpipe("show", "2", "--json"))
    digest = traced["data"]["frames"]["digest"]
    listed = team.folder / "storage/files/md5" / digest[:2] / digest[2:]
    hidden = listed.rename(team.folder / "hidden")
    client = MlflowClient(team.environment["MLFLOW_TRACKING_URI"])
    evaluation = traced["evaluations"][-1]  # the first one
    scores = {**evaluation["scores"], "accuracy": 0.123}
    changed = {**evaluation, "scores": scores, "time": "2999-01-01T00:00:00Z"}
    client.log_dict(traced["run_id"], changed, "evaluation/changed/evaluation.json")
    try:
        printed = clone.vidpipe("rebuild", "2", code=3)
    finally:
        hidden.rename(listed)
    assert "4 videos to decode, 32 kept from earlier runs" in printed
    assert re.search(r"@champion at commit \w{10}: DIFFERENT when rebuilt\.", printed)
    assert "Data: built from the videos, equal to the record." in printed
    accuracy = evaluation["scores"]["accuracy"]
    assert f"    accuracy: 0.123 recorded, {accuracy:.6g} rebuilt" in printed
    assert "arrays equal to the last bit" in printed


@pytest.fixture(scope="module")
def poisoned(team, promoted):
    """A clone whose labels were shuffled."""
    assert "version 2 is promoted" in promoted.printed
    clone = team.clone("poisoned")
    path = clone.root / "labels.csv"
    rows = list(csv.DictReader(path.open()))
    labels = [row["label"] for row in rows]
    random.Random(1).shuffle(labels)
    for row, label in zip(rows, labels, strict=True):
        row["label"] = label
    with path.open("w", newline="") as out:
        writer = csv.DictWriter(out, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    clone.push("shuffled labels")
    return clone


def test_poisoned_data_is_found_before_training(poisoned):
    printed = poisoned.vidpipe("retrain", code=1)
    assert re.search(r"FAIL +relabelled", printed)
    assert "The data check failed: nothing is trained or judged." in printed
    assert "Running stage 'train'" not in printed


def test_poisoned_data_is_refused_by_the_gate_and_the_champion_stays(poisoned):
    printed = poisoned.vidpipe("retrain", "--ignore-data-check", code=3)
    assert re.search(r"FAIL +relabelled", printed)
    assert "video-classifier version 3 is refused by the gate." in printed
    assert "version 2 is champion" in poisoned.vidpipe("champions")
    printed = poisoned.vidpipe("retrain")
    assert "Nothing has changed" in printed
    assert "video-classifier version 3 was refused by the gate." in printed


def test_a_rollback_brings_the_first_champion_back(first, poisoned):
    assert "version 1 is champion again" in poisoned.vidpipe("rollback", "--reason", "for the test")
    assert "version 1 is champion" in first.clone.vidpipe("champions")
