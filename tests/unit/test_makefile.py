"""The Makefile: its targets, and the commands that they run."""

import re
import subprocess
from pathlib import Path

import pytest


def make(*arguments: str) -> str:
    """Return what make prints; it runs nothing."""
    process = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", "INSTALLED=", *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    return process.stdout.strip()


def test_help_lists_every_target():
    listed = subprocess.run(
        ["make", "--no-print-directory", "help"], capture_output=True, text=True, check=True
    ).stdout
    targets = [line.split()[1] for line in listed.splitlines()]
    assert targets == [
        "help", "install", "install-cluster", "repro", "retrain", "ui", "test", "test-all", "lint",
        "lock", "clean",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("target", "command"),
    [
        ("repro", "vidpipe repro"),
        ("retrain", "vidpipe retrain"),
        ("test", 'python -m pytest -n 2 -m "not long"'),
        ("test-all", "python -m pytest -n 2"),
    ],
)
def test_a_target_runs_its_command(target, command):
    assert make(target) == command


def test_make_expands_no_text_of_a_user_but_the_path_of_python():
    """Make runs what a variable such as VIDEO='$(shell ...)' says; vidpipe takes such text."""
    expanded = set(re.findall(r"(?<!\$)\$[({]([A-Z_]+)", Path("Makefile").read_text()))
    assert expanded == {
        "CURDIR", "INSTALLED", "INSTALLED_CLUSTER", "MAKEFILE_LIST", "PATH", "PYTHON", "VENV",
    }  # fmt: skip
