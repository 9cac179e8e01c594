"""Each mistake of docs/troubleshooting.md gives the message that the page has."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.video.writing import encode_mp4
from tests.disks import mounted_disk
from tests.pipeline.conftest import Workspace, commit, new_checkout

PAGE = Path(__file__).parents[2] / "docs/troubleshooting.md"
MESSAGES = dict(re.findall(r"^### ([^\n]+)\n\n```\n(.*?)\n```$", PAGE.read_text(), re.M | re.S))
FOLDER = "data/my-videos"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Workspace:
    """A committed project that names a folder of videos, which is missing."""
    root = tmp_path_factory.mktemp("checkout") / "repo"
    new_checkout(root)
    workspace = Workspace(root)
    workspace.set_params(data={"videos": FOLDER})
    (root / ".gitignore").open("a").write(f"/{FOLDER}/\n")
    commit(workspace, "start")
    return workspace


@pytest.fixture
def project(checkout, tmp_path) -> Workspace:
    shutil.copytree(checkout.root, tmp_path / "repo", symlinks=True)
    return Workspace(tmp_path / "repo")


def add(project: Workspace, video: str, *, seed: int = 0, frames: int = 20) -> None:
    """Add a video of random colours."""
    path = project.root / FOLDER / video
    path.parent.mkdir(parents=True, exist_ok=True)
    colours = np.random.default_rng(seed).integers(0, 255, (frames, 1, 1, 3), dtype=np.uint8)
    path.write_bytes(encode_mp4(np.broadcast_to(colours, (frames, 48, 64, 3)).copy(), fps=10))


def two_classes(project: Workspace) -> None:
    for number in range(16):
        label = "run" if number < 8 else "walk"
        add(project, f"{label}/{number % 8}.mp4", seed=number, frames=12 + number % 8)


def output_of(project: Workspace, *command: str) -> str:
    """Return what a command prints; it has no traceback."""
    output = project.run(*command, check=False).stdout
    assert "Traceback" not in output
    return output


def no_class_folder(project: Workspace) -> str:
    add(project, "0.mp4")
    assert MESSAGES["Videos that are in no class folder"] in output_of(
        project, "vidpipe", "init", FOLDER
    )
    return output_of(project, "vidpipe", "repro", "catalog")


def no_videos(project: Workspace) -> str:
    (project.root / FOLDER).mkdir()
    (project.root / FOLDER / "videos.zip").touch()
    return output_of(project, "vidpipe", "init", FOLDER)


def missing_folder(project: Workspace) -> str:
    project.set_params(data={"videos": "data/elsewhere"})
    return output_of(project, "vidpipe", "repro")


def known_data_set(project: Workspace) -> str:
    add(project, "0.mp4")
    (project.root / FOLDER / "metadata.csv").write_text("file_name,label\n0.mp4,a\n")
    return output_of(project, "vidpipe", "init", FOLDER)


def semicolons(project: Workspace) -> str:
    add(project, "run/0.mp4")
    (project.root / FOLDER / "labels.csv").write_text("video;label\nrun/0.mp4;run\n")
    assert MESSAGES["A table that a spreadsheet saved"] in output_of(
        project, "vidpipe", "init", FOLDER
    )
    return output_of(project, "vidpipe", "repro", "catalog")


def missing_suffix(project: Workspace) -> str:
    add(project, "run/0.mp4")
    (project.root / FOLDER / "labels.csv").write_text("video,label\nrun/0,run\nrun/1,run\n")
    return output_of(project, "vidpipe", "init", FOLDER)


def one_class(project: Workspace) -> str:
    for number in range(4):
        add(project, f"walk/{number}.mp4", seed=number)
    return output_of(project, "vidpipe", "repro", "catalog")


def three_videos(project: Workspace) -> str:
    for number, label in enumerate(("walk", "walk", "run")):
        add(project, f"{label}/{number}.mp4", seed=number)
    return output_of(project, "vidpipe", "repro", "catalog")


def copies(project: Workspace) -> str:
    for label in ("run", "walk"):
        for number in range(3):
            add(project, f"{label}/{number}.mp4", seed=number)
    return output_of(project, "vidpipe", "repro", "catalog")


def large_pictures(project: Workspace) -> str:
    two_classes(project)
    project.set_params(decode={"max_pixels": 1000})
    return output_of(project, "vidpipe", "repro", "decode")


def long_videos(project: Workspace) -> str:
    two_classes(project)
    project.set_params(decode={"max_seconds": 1.5})
    return output_of(project, "vidpipe", "repro", "decode")


def long_clips(project: Workspace) -> str:
    two_classes(project)
    project.set_params(extract={"frames": 99})
    return output_of(project, "vidpipe", "repro", "extract")


def damaged_file(project: Workspace) -> str:
    two_classes(project)
    (project.root / FOLDER / "walk/0.mp4").write_bytes(b"not a video")
    return output_of(project, "vidpipe", "repro", "decode")


def missing_package(project: Workspace) -> str:
    add(project, "walk/0.mp4")
    script = (
        "import sys\n"
        "sys.modules['rarfile'] = None  # its import fails\n"
        f"sys.argv = ['vidpipe', 'init', {FOLDER!r}]\n"
        "from pipeline.cli import main\n"
        "main()\n"
    )
    return output_of(project, sys.executable, "-c", script)


def no_git(project: Workspace) -> str:
    shutil.rmtree(project.root / ".git")
    two_classes(project)
    return output_of(project, "vidpipe", "repro")


def uncommitted(project: Workspace) -> str:
    two_classes(project)
    (project.root / "notes.txt").touch()
    return output_of(project, "vidpipe", "doctor")


def used_port(project: Workspace) -> str:
    script = (
        "import socket, subprocess\n"
        "with socket.create_server(('127.0.0.1', 5001)):\n"
        "    subprocess.run(['vidpipe', 'serve'])\n"
    )
    return output_of(project, sys.executable, "-c", script)


def unknown_key(project: Workspace) -> str:
    project.set_params(train={"epoch": 3})
    return output_of(project, "vidpipe", "check")


def unknown_stage(project: Workspace) -> str:
    return output_of(project, "vidpipe", "repro", "trian")


def bad_value(project: Workspace) -> str:
    project.set_params(train={"batch_size": 0})
    return output_of(project, "vidpipe", "check")


MISTAKES: dict[str, Callable[[Workspace], str]] = {
    "Videos that are in no class folder": no_class_folder,
    "No videos": no_videos,
    "A folder that does not exist": missing_folder,
    "A data set with annotation files of its own": known_data_set,
    "A table that a spreadsheet saved": semicolons,
    "A path that does not exist": missing_suffix,
    "One class": one_class,
    "Three videos": three_videos,
    "The same video in two classes": copies,
    "Very large pictures": large_pictures,
    "Very long videos": long_videos,
    "Clips that are longer than every video": long_clips,
    "Files that cannot be decoded": damaged_file,
    "An interrupted or outdated installation": missing_package,
    "A folder without git": no_git,
    "Uncommitted changes": uncommitted,
    "A port in use": used_port,
    "An unknown key": unknown_key,
    "A value out of range": bad_value,
    "An unknown stage": unknown_stage,
}
# Each in a test of its own; Ctrl-C in test_interrupted.py.
OTHERS = {"Another version of Python", "A read-only disk", "Ctrl-C"}


def test_every_message_of_the_page_is_tested():
    assert set(MESSAGES) == set(MISTAKES) | OTHERS


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gives_its_message(project, mistake):
    output = " ".join(MISTAKES[mistake](project).split())
    assert " ".join(MESSAGES[mistake].split()) in output


def test_another_version_of_python_gives_its_message(tmp_path):
    python = tmp_path / "python3.10"
    python.write_text('#!/bin/sh\n[ "$1" = -V ] && echo Python 3.10.0 && exit 0\nexit 1\n')
    python.chmod(0o755)
    process = subprocess.run(
        ["make", "install", "INSTALLED=never", f"VENV={tmp_path}/venv", "PYTHON=python3.10"],
        cwd=PAGE.parents[1],
        env={"PATH": f"/venv/bin:{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert MESSAGES["Another version of Python"] in process.stderr


def test_a_read_only_disk_gives_its_message(checkout, tmp_path):
    with mounted_disk(tmp_path / "disk", size="100m") as disk:
        shutil.copytree(checkout.root, disk / "repo", symlinks=True)
        workspace = Workspace(disk / "repo")
        add(workspace, "walk/0.mp4")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        assert MESSAGES["A read-only disk"] in output_of(workspace, "vidpipe", "repro")
        output = output_of(workspace, "vidpipe", "init", FOLDER)
        assert "Read-only file system. Move the project to a disk that can be written." in output
