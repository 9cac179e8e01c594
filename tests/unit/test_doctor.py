"""``vidpipe doctor``: a line for each part of machine and project, with a remedy."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from pipeline.common.findings import Finding
from pipeline.common.params_text import set_values
from pipeline.setup.doctor import doctor_lines, examine

REPOSITORY = Path(__file__).parents[2]


Findings = dict[str, Finding]


def new_project(root: Path, store: Path) -> None:
    """Make ``root`` a committed project without videos, and the current folder."""
    for name in ("params.yaml", "requirements.txt", "dvc.yaml", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, root)
    for name in ("pipeline", "data/demo", "data/weights"):
        shutil.copytree(REPOSITORY / name, root / name, ignore=shutil.ignore_patterns("*.mp4"))
    shutil.copy(REPOSITORY / "data/decode_attempt.yaml", root / "data")
    shutil.copy(store, root / "mlflow.db")
    (root / ".gitignore").write_text("mlflow.db*\n__pycache__\n")
    os.chdir(root)
    identity = ["-c", "user.name=A", "-c", "user.email=a@b.c"]
    for command in (
        ["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"], ["git", "add", "-A"],
        ["git", *identity, "commit", "-qm", "Start"],
    ):  # fmt: skip
        subprocess.run(command, check=True)


@pytest.fixture(scope="module")
def environment() -> Iterator[pytest.MonkeyPatch]:
    """Undo changes of the current folder and of the environment after the module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(Path.cwd())
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield patch


def examined() -> Findings:
    return {finding.name: finding for finding in examine()}


@pytest.fixture(scope="module")
def sound(environment, tmp_path_factory, empty_database) -> Findings:  # noqa: ARG001
    new_project(tmp_path_factory.mktemp("sound"), empty_database)
    return examined()


@pytest.fixture(scope="module")
def broken_root(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("broken")


@pytest.fixture(scope="module")
def broken(environment, broken_root, empty_database) -> Findings:
    """Findings of a project in which several things are wrong."""
    root = broken_root
    new_project(root, empty_database)
    (root / "new.txt").touch()
    (root / "mlflow.db").unlink()
    set_values(root / "params.yaml", {"train.batch_size": 0})
    pins = (root / "requirements.txt").read_text()
    (root / "requirements.txt").write_text(pins.replace("\ntqdm==", "\ntqdm==0."))
    with environment.context() as patch, socket.socket() as other:
        patch.setitem(sys.modules, "psutil", None)  # its import fails
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):  # another program uses the port
            other.bind(("127.0.0.1", 5000))
            other.listen()
        return examined()


@pytest.fixture(scope="module")
def without_git(environment, tmp_path_factory, empty_database) -> Findings:
    """Findings of a project without git, with an MLflow server that does not answer."""
    root = tmp_path_factory.mktemp("without_git")
    new_project(root, empty_database)
    shutil.rmtree(root / ".git")
    with environment.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        return examined()


def test_a_sound_project_has_no_failure(sound):
    assert {name for name, finding in sound.items() if finding.status == "fail"} == set()
    assert sound["git"].status == "ok"
    assert sound["packages"].sentence.startswith("all ")
    assert "vidpipe repro would run catalog" in sound["DVC"].sentence
    assert "h264" in sound["codecs"].sentence


def test_every_finding_is_a_line(sound):
    lines = doctor_lines(list(sound.values()))
    assert len(lines) == len(sound) == 12
    assert [line.split()[0] for line in lines if "params.yaml" in line] == ["ok"]


def test_uncommitted_changes_are_a_warning(broken):
    assert broken["git"].status == "warn"
    assert "3 uncommitted changes," in broken["git"].sentence


def test_a_folder_without_git_is_a_failure_with_a_remedy(without_git):
    assert without_git["git"].status == "fail"
    assert "git init" in without_git["git"].sentence


def test_outside_a_project_the_remedy_is_to_go_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    findings = examined()
    assert findings["folder"].status == "fail"
    assert f"Run the command from the root of the project: cd {REPOSITORY}" in (
        findings["folder"].sentence
    )
    assert not {"git", "DVC", "MLflow"} & set(findings)


def test_a_bad_setting_is_named(broken):
    assert broken["params.yaml"].status == "fail"
    assert "train.batch_size" in broken["params.yaml"].sentence


def test_an_unreachable_mlflow_is_a_failure(without_git):
    assert without_git["MLflow"].status == "fail"
    assert "http://127.0.0.1:9" in without_git["MLflow"].sentence


def test_another_version_of_a_package_is_a_failure(broken):
    assert broken["packages"].status == "fail"
    assert "tqdm 4" in broken["packages"].sentence
    assert "make install" in broken["packages"].sentence


def test_a_missing_package_is_a_failure_and_the_other_lines_follow(broken):
    assert broken["memory"].status == "fail"
    assert "psutil is missing. Run: " in broken["memory"].sentence
    assert len(broken) == 12


def test_a_store_that_does_not_exist_is_not_created(broken, broken_root):
    assert broken["MLflow"].status == "ok"
    assert "created by the first training" in broken["MLflow"].sentence
    assert not (broken_root / "mlflow.db").exists()


def test_a_used_port_of_the_ui_is_a_warning(broken):
    assert broken["make ui"].status == "warn"
    assert "make ui PORT=5050" in broken["make ui"].sentence


@pytest.mark.skipif(os.geteuid() == 0, reason="this user may write everywhere")
def test_a_folder_that_cannot_be_written_is_a_failure(tmp_path, monkeypatch):
    shutil.copy(REPOSITORY / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    tmp_path.chmod(0o555)
    try:
        findings = examined()
    finally:
        tmp_path.chmod(0o755)
    assert findings["folder"].status == "fail"
