"""``vidpipe doctor``: a line for each part of machine and project, with a remedy."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipeline.setup.doctor import doctor_lines, examine

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch, empty_database):
    """A committed project without videos, in the current folder."""
    for name in ("params.yaml", "requirements.txt", "dvc.yaml", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, tmp_path)
    for name in ("pipeline", "data/demo", "data/weights"):
        shutil.copytree(REPOSITORY / name, tmp_path / name, ignore=shutil.ignore_patterns("*.mp4"))
    shutil.copy(REPOSITORY / "data/decode_attempt.yaml", tmp_path / "data")
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    (tmp_path / ".gitignore").write_text("mlflow.db*\n__pycache__\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for variable in ("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"):
        monkeypatch.setenv(variable, "A")
    for variable in ("GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"):
        monkeypatch.setenv(variable, "a@b.c")
    for command in (
        ["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"], ["git", "add", "-A"],
        ["git", "commit", "-qm", "Start"],
    ):  # fmt: skip
        subprocess.run(command, check=True)
    return tmp_path


@pytest.fixture
def findings(project):  # noqa: ARG001  (made after it)
    return {finding.name: finding for finding in examine()}


def test_a_sound_project_has_no_failure(findings):
    assert {name for name, finding in findings.items() if finding.status == "fail"} == set()
    assert findings["git"].status == "ok"
    assert findings["packages"].sentence.startswith("all ")
    assert "vidpipe repro would run catalog" in findings["DVC"].sentence
    assert "h264" in findings["codecs"].sentence


def test_every_finding_is_a_line(findings):
    lines = doctor_lines(list(findings.values()))
    assert len(lines) == len(findings) == 12
    assert [line.split()[0] for line in lines if "params.yaml" in line] == ["ok"]


def status_and_sentence(name: str) -> tuple[str, str]:
    return next((one.status, one.sentence) for one in examine() if one.name == name)


def test_uncommitted_changes_are_a_warning(project):
    (project / "new.txt").touch()
    status, sentence = status_and_sentence("git")
    assert status == "warn"
    assert "1 uncommitted change," in sentence


def test_a_folder_without_git_is_a_failure_with_a_remedy(project):
    shutil.rmtree(project / ".git")
    status, sentence = status_and_sentence("git")
    assert (status, "git init" in sentence) == ("fail", True)


def test_outside_a_project_the_remedy_is_to_go_there(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    findings = {finding.name: finding for finding in examine()}
    assert findings["folder"].status == "fail"
    assert f"Run the command from the root of the project: cd {REPOSITORY}" in (
        findings["folder"].sentence
    )
    assert not {"git", "DVC", "MLflow"} & set(findings)


def test_a_bad_setting_is_named(project):
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["train"]["batch_size"] = 0
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    status, sentence = status_and_sentence("params.yaml")
    assert status == "fail"
    assert "train.batch_size" in sentence


def test_an_unreachable_mlflow_is_a_failure(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    status, sentence = status_and_sentence("MLflow")
    assert status == "fail"
    assert "http://127.0.0.1:9" in sentence


def test_another_version_of_a_package_is_a_failure(project):
    text = (project / "requirements.txt").read_text()
    (project / "requirements.txt").write_text(text.replace("\ntqdm==", "\ntqdm==0."))
    status, sentence = status_and_sentence("packages")
    assert status == "fail"
    assert "tqdm 4" in sentence
    assert "make install" in sentence


def test_a_missing_package_is_a_failure_and_the_other_lines_follow(monkeypatch):
    monkeypatch.setitem(sys.modules, "psutil", None)  # its import fails
    findings = {finding.name: finding for finding in examine()}
    assert findings["memory"].status == "fail"
    assert "psutil is missing. Run: " in findings["memory"].sentence
    assert len(findings) == 12


def test_no_store_is_created(project):
    (project / "mlflow.db").unlink()
    assert status_and_sentence("MLflow")[0] == "ok"
    assert not (project / "mlflow.db").exists()


def test_a_used_port_of_the_ui_is_a_warning():
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            other.bind(("127.0.0.1", 5000))
        except OSError:
            pytest.skip("port 5000 is in use by another program")
        other.listen()
        status, sentence = status_and_sentence("make ui")
    assert status == "warn"
    assert "make ui PORT=5050" in sentence


def test_a_folder_that_cannot_be_written_is_a_failure(project):
    if os.geteuid() == 0:
        pytest.skip("this user may write everywhere")
    project.chmod(0o555)
    try:
        status, _ = status_and_sentence("folder")
    finally:
        project.chmod(0o755)
    assert status == "fail"
