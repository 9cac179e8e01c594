"""The Makefile: its targets, and the commands that they run."""

import subprocess

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
        "help", "install", "repro", "retrain", "ui", "test", "test-all", "lint", "lock", "clean",
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
