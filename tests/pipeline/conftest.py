"""The whole pipeline on a tiny data set, in a git and DVC repository of its own."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

from data.demo.generate import write_demo_videos

REPOSITORY = Path(__file__).parents[2]
TINY = {
    "data": {"videos": "videos", "labels": "../labels.csv"},
    "catalog": {"val_share": 0.25, "test_share": 0.25},
    "decode": {"width": 16, "height": 16},
    "extract": {"frames": 8},
    "model": {"cnn": {"filters": [4, 4]}, "frame_features": 8, "temporal": {"units": [8]}},
    "train": {"epochs": 2},
    "evaluate": {"bootstrap_samples": 50},
    "serve": {"path_root": "videos"},
    "compute": {"workers": 1},
}
OUTPUTS = ("data/catalog", "data/frames", "data/report", "data/clips", "models", "eval")


@dataclass(frozen=True)
class Workspace:
    """A checkout in which the pipeline runs as users run it."""

    root: Path

    def run(
        self, *command: str, check: bool = True, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command; fail with all of its output unless it is expected to fail."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        variables = {**os.environ, "PATH": path, "CI": "true"}
        variables.pop("MLFLOW_TRACKING_URI", None)
        done = subprocess.run(
            command,
            cwd=self.root,
            env={**variables, **(environment or {})},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        if check:
            assert done.returncode == 0, done.stdout
        return done

    def stages_run(self, *command: str) -> list[str]:
        """Run a dvc command and return the stages that it ran, in order."""
        return re.findall(r"Running stage '([^']+)'", self.run(*command).stdout)

    def add_video(self, label: str, content: bytes) -> str:
        """Add one video to the data set; return its path in the videos folder."""
        number = len(list((self.root / "videos" / label).iterdir()))
        video = f"{label}/{number:03d}.mp4"
        (self.root / "videos" / video).write_bytes(content)
        with (self.root / "labels.csv").open("a") as table:
            table.write(f"{video},{label},{label} {number}\n")
        return video

    def set_params(self, **sections: dict[str, object]) -> None:
        path = self.root / "params.yaml"
        params = yaml.safe_load(path.read_text())
        merge(params, sections)
        path.write_text(yaml.safe_dump(params))

    def snapshot(self) -> dict[str, bytes]:
        """Return the content of every output of the pipeline."""
        return {
            str(path.relative_to(self.root)): path.read_bytes()
            for folder in OUTPUTS
            for path in (self.root / folder).rglob("*")
            if path.is_file()
        }


def merge(params: dict[str, object], changes: dict[str, object]) -> None:
    """Change the keys that ``changes`` has, at every depth, and leave the others."""
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(params.get(key), dict):
            merge(params[key], value)
        else:
            params[key] = value


def new_checkout(root: Path) -> None:
    """Copy the working tree into ``root``, without results."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        is_result = name.startswith(("eval/", "models/")) or name.endswith("dvc.lock")
        if (REPOSITORY / name).is_file() and not is_result:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, root / name)


def new_workspace(root: Path) -> Workspace:
    """Make ``root`` a repository with the project and 32 tiny videos."""
    new_checkout(root)
    workspace = Workspace(root)
    write_demo_videos(root / "videos", motions=("left", "right"), videos_per_class=16, seed=0)
    # Splits follow from the names of the groups, so they do not depend on the encoder.
    rows = [
        f"{label}/{number:03d}.mp4,{label},{label} {number}\n"
        for label in ("left", "right")
        for number in range(16)
    ]
    (root / "labels.csv").write_text("video,label,group\n" + "".join(rows))
    workspace.set_params(**TINY)
    (root / ".gitignore").open("a").write("/videos/\n")
    commit(workspace, "start")
    return workspace


def commit(workspace: Workspace, message: str) -> None:
    if not (workspace.root / ".git").exists():
        workspace.run("git", "init", "--quiet", "--initial-branch=main")
        workspace.run("git", "config", "user.name", "Test")
        workspace.run("git", "config", "user.email", "test@example.org")
    workspace.run("git", "add", "--all")
    workspace.run("git", "commit", "--quiet", "--message", message)


RUN_STAGES = """
from importlib import import_module

from pipeline.common.command import run_command

STAGES = ("catalog", "decode", "report", "extract", "train", "evaluate", "review", "register")
run_command(lambda: [import_module(f"pipeline.stages.{name}").main() for name in STAGES])
"""


def run_stages(root: Path, **changes: dict[str, object]) -> str:
    """Run all stages in one process on class folders in ``root / "videos"``; return the log.

    Args:
        changes: sections of params.yaml, on top of TINY.
    """
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    for change in (TINY, {"data": {"labels": ""}}, changes):
        merge(params, change)
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    environment.pop("MLFLOW_TRACKING_URI", None)
    done = subprocess.run(
        [sys.executable, "-c", RUN_STAGES],
        cwd=root,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> Workspace:
    """A workspace after its first `dvc repro`. Tests read it and do not change it.

    The processes of pytest-xdist share one: the first that needs it builds it.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    workspace = Workspace(shared / "built" / "repo")
    with FileLock(shared / "built.lock"):
        if not workspace.root.exists():
            new_workspace(workspace.root)
            assert workspace.stages_run("dvc", "repro") == [
                "catalog", "decode", "report", "extract", "train", "evaluate", "review", "register",
            ]  # fmt: skip
            commit(workspace, "first results")
    return workspace


@pytest.fixture
def workspace(built, tmp_path) -> Workspace:
    """A copy of the built workspace that a test may change, without its MLflow store."""
    without = shutil.ignore_patterns("mlflow.db", "mlartifacts")
    shutil.copytree(built.root, tmp_path / "repo", symlinks=True, ignore=without)
    return Workspace(tmp_path / "repo")
