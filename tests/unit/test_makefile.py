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


def interpreter(
    folder: Path, name: str, version: tuple[int, int], *, has_venv: bool = True
) -> None:
    """Write a shell script that answers as an interpreter of that version."""
    folder.mkdir(exist_ok=True)
    is_suitable = (3, 11) <= version < (3, 14) and has_venv
    script = f"""#!/bin/sh
case "$1" in
  -c) exit {int(not is_suitable)} ;;
  -V) echo Python {version[0]}.{version[1]}.0 ;;
  -m) echo {name} made the environment; exit 7 ;;
esac
"""
    path = folder / name
    path.write_text(script)
    path.chmod(0o755)


def install(folder: Path, **environment: str) -> str:
    """Return what ``make install`` prints with the interpreters in ``folder`` alone."""
    process = subprocess.run(
        ["make", "--no-print-directory", "INSTALLED=never", f"VENV={folder}/venv", "install"],
        env={"PATH": f"{folder}:/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode != 0  # the interpreters of this test fail after their message
    return process.stdout + process.stderr


def test_install_takes_the_newest_suitable_interpreter_and_names_it(tmp_path):
    for name, version in (("python3.13", (3, 10)), ("python3.12", (3, 12)), ("python3", (3, 15))):
        interpreter(tmp_path / "bin", name, version)
    output = install(tmp_path / "bin")
    assert f"Installing .venv with Python 3.12.0, {tmp_path}/bin/python3.12" in output
    assert "python3.12 made the environment" in output


def test_install_takes_the_interpreter_that_python_names(tmp_path):
    interpreter(tmp_path / "bin", "python3.13", (3, 13))
    interpreter(tmp_path / "my tools", "python", (3, 11))
    output = install(tmp_path / "bin", PYTHON=str(tmp_path / "my tools/python"))
    assert f"Installing .venv with Python 3.11.0, {tmp_path}/my tools/python" in output
    assert "python made the environment" in output


@pytest.mark.parametrize("has_venv", [True, False])
def test_install_without_a_suitable_interpreter_says_what_is_missing(tmp_path, has_venv):
    for name in ("python3.13", "python3.12", "python3.11", "python3"):
        interpreter(tmp_path / "bin", name, (3, 11 if not has_venv else 15), has_venv=has_venv)
    output = install(tmp_path / "bin")
    version = "3.15.0" if has_venv else "3.11.0"
    assert "error: expected Python 3.11, 3.12 or 3.13 with its module venv" in output
    assert f"Received: python3, Python {version}. Install one, or set PYTHON=" in output


def test_the_locks_pin_one_version_for_every_python():
    for name in ("requirements.txt", "requirements-cluster.txt"):
        pins = re.findall(r"^([\w.-]+)==(\S+)(.*)", Path(name).read_text(), re.MULTILINE)
        supported = [name for name, _, marker in pins if ">= '3.14'" not in marker]
        assert len(supported) == len(set(supported)) > 100
        assert not [pin for pin in pins if "'3.12'" in pin[2] or "'3.13'" in pin[2]]


def test_make_expands_no_text_of_a_user():
    """Make runs what a variable such as VIDEO='$(shell ...)' says; vidpipe takes such text."""
    expanded = set(re.findall(r"(?<!\$)\$[({]([A-Z_]+)", Path("Makefile").read_text()))
    assert expanded == {
        "CURDIR", "INSTALLED", "INSTALLED_CLUSTER", "MAKEFILE_LIST", "PATH", "VENV",
    }  # fmt: skip
