"""What the variables of the Makefile become; make prints the commands and runs none."""

import os
import subprocess

import pytest


def make(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "--dry-run", "--no-print-directory", "INSTALLED=", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["retrain"], "python -m pipeline.retrain"),
        (["retrain", "PROMOTE=yes", "WAIT=no"], "python -m pipeline.retrain"),
        (["retrain", "PROMOTE=no", "WAIT=yes"], "python -m pipeline.retrain --judge --wait"),
        (["promote"], "python -m pipeline.promote"),
        (
            ["promote", "AGAIN=yes", "VERSION=3"],
            'python -m pipeline.promote --version "3" --again',
        ),
        (["predict", "TIMELINE=no"], 'python -m pipeline.predict -- "$VIDEO"'),
        (
            ["predict", "TIMELINE=yes", "CLIPS=2"],
            'python -m pipeline.predict --timeline --clips "2" -- "$VIDEO"',
        ),
        (["trace"], 'python -m pipeline.trace --version "champion"'),
        (["trace", "JSON=no", "FILES=few"], 'python -m pipeline.trace --version "champion"'),
        (
            ["trace", "VERSION=3", "JSON=yes", "FILES=all"],
            'python -m pipeline.trace --version "3" --files --json',
        ),
    ],
)
def test_switches(arguments, command):
    assert make(*arguments).stdout.replace("\\\n", " ").split() == command.split()


@pytest.mark.parametrize(
    ("target", "name", "value", "expected"),
    [
        ("retrain", "PROMOTE", "false", "no or yes"),
        ("retrain", "WAIT", "1", "yes or no"),
        ("promote", "AGAIN", "true", "yes or no"),
        ("predict", "TIMELINE", "1", "yes or no"),
        ("trace", "JSON", "true", "yes or no"),
        ("trace", "FILES", "yes", "all or few"),
    ],
)
def test_a_switch_takes_two_values_only(target, name, value, expected):
    done = make(target, f"{name}={value}")
    assert done.returncode == 2
    assert f"{name}: expected {expected}. Received: {value}." in done.stderr


@pytest.mark.parametrize("name", ["AGAIN", "BRANCH", "FILES", "JSON", "KEEP", "PROMOTE", "WAIT"])
def test_the_environment_means_something_else(name):
    targets = ("promote", "retrain", "trace", "rebuild", "ci-commit")
    assert make(*targets, **{name: "something"}).stdout == make(*targets).stdout
